"""Bugs that other pooling libraries had, one test each: cenote must not have them.

A test is named after what went wrong and cites the public report; docs/peers_bugs.md lists all of them, and those
that do not concern cenote. Expected values come from numpy_pool.py. CENOTE_TORCH_LIBRARY names the library.
"""
import itertools
import math
import os
import re
import unittest
from pathlib import Path

import numpy as np
import torch

import numpy_pool as oracle

torch.ops.load_library(os.environ["CENOTE_TORCH_LIBRARY"])
CENOTE = torch.ops.cenote
DOCUMENT = Path(__file__).resolve().parents[2] / "docs/peers_bugs.md"
LARGE_TENSORS = Path(__file__).resolve().with_name("large_tensors_test.cc")
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
INTEGERS = (torch.int8, torch.uint8, torch.int32, torch.int64)
LARGE = (2**31 - 1, 2**31, 2**32 + 1, 2**62, 2**63 - 1)
LAST = {1: None, 2: torch.channels_last, 3: torch.channels_last_3d}


def op(name):
    return getattr(CENOTE, name)


def integers(*sizes, seed=1, dtype=torch.float64, low=-20, high=20):
    """Random whole numbers: their sums are exact."""
    return torch.from_numpy(np.random.default_rng(seed).integers(low, high, sizes)).to(dtype)


def array(tensor):
    """The elements as NumPy's widest type of their kind."""
    tensor = tensor.detach()
    return tensor.double().numpy() if tensor.is_floating_point() else tensor.long().numpy()


def gradient(y, x, weights):
    return torch.autograd.grad(y, x, weights)[0]


class BugTest(unittest.TestCase):
    def equal(self, mine, expected):
        np.testing.assert_array_equal(array(mine), expected)

    def close(self, mine, expected):
        """Up to the rounding of one division and of what is computed in the type."""
        eps = torch.finfo(mine.dtype).eps
        np.testing.assert_allclose(array(mine), expected, rtol=8 * eps, atol=8 * eps)

    def equal_pair(self, mine, expected):
        self.equal(mine[0], expected[0])
        self.equal(mine[1], expected[1])

    def refused(self, function, *arguments, text="", **keywords):
        with self.assertRaisesRegex((ValueError, RuntimeError), text or r"^\["):
            function(*arguments, **keywords)


class Arguments(BugTest):
    def check_window(self, x, kernel, stride, padding, dilation, ceil_mode=False):
        """Legal arguments pool right, others are refused; True when they were legal."""
        n, limit = x.shape[-1], (dilation * (kernel - 1) + 1) // 2
        legal = min(kernel, stride, dilation) >= 1 and 0 <= padding <= limit
        if not legal or oracle.output_size(n, kernel, stride, padding, padding, dilation, ceil_mode) < 1:
            self.refused(CENOTE.max_pool1d, x, kernel, stride, padding, dilation, ceil_mode)
            self.refused(CENOTE.avg_pool1d, x, kernel, stride, padding, ceil_mode, dilation=[dilation])
            return False
        plan = oracle.window_plan((n,), kernel, stride, padding, dilation, ceil_mode)
        self.equal_pair(CENOTE.max_pool1d_with_indices(x, kernel, stride, padding, dilation, ceil_mode),
                        oracle.extreme(array(x), plan))
        self.close(CENOTE.avg_pool1d(x, kernel, stride, padding, ceil_mode, dilation=[dilation]),
                   oracle.average(array(x), plan))
        return True

    def test_parameters_at_the_limits_of_integers_do_not_crash(self):
        """pytorch#142454, pytorch#136719, pytorch#73190"""
        x = integers(1, 2, 6)
        legal = 0
        for large, name in itertools.product(LARGE, ("kernel", "stride", "padding", "dilation")):
            for sign, kernel in itertools.product((1, -1), (1, 2)):
                arguments = {"kernel": kernel, "stride": 1, "padding": 0, "dilation": 1, name: sign * large}
                with self.subTest(**arguments):
                    legal += self.check_window(x, **arguments)
        self.assertEqual(legal, 15)  # each large stride with both kernels, each large dilation with kernel 1

    def test_dilation_of_int32_max_reads_nothing_outside(self):
        """pytorch#189664: both taps of each window lie outside, but for one pair at the ends"""
        x = integers(1, 3, 7)
        for dilation in (2**31 - 1, 2**31 - 2, 2**40):
            with self.subTest(dilation):
                self.assertTrue(self.check_window(x, 2, 1, dilation // 2, dilation))

    def test_dilation_beyond_the_input_reads_nothing_outside(self):
        """XNNPACK PR 10457, PR 10454, PR 10616, PR 10646, PR 10782, PR 10835"""
        for n, dilation, stride in itertools.product(range(1, 9), range(2, 20), (1, 3)):
            with self.subTest(n=n, dilation=dilation, stride=stride):
                self.check_window(integers(1, 5, n), 2, stride, (dilation + 1) // 2, dilation)
                self.check_window(integers(1, 5, n), 3, stride, dilation, dilation)

    def test_random_arguments_of_a_fuzzer_pool_right_or_fail(self):
        """pytorch#145070, pytorch#145077"""
        random = np.random.default_rng(3)
        legal = 0
        for _ in range(2000):
            numbers = random.integers((1, -1, -1, -1, -1), (12, 6, 6, 6, 6))
            n, kernel, stride, padding, dilation = (int(number) for number in numbers)
            with self.subTest(n=n, kernel=kernel, stride=stride, padding=padding, dilation=dilation):
                legal += self.check_window(integers(1, 2, n), kernel, stride, padding, dilation, bool(n % 2))
        self.assertGreater(legal, 200)

    def test_stride_beyond_int32_is_not_truncated(self):
        """pytorch#147613: 2^32 + 1 taken for 1 would give more than one output"""
        x = integers(1, 2, 5, 6, 7)
        for rank in (1, 2, 3):
            part = x.reshape(1, 2 * 5**(rank < 3) * 6**(rank < 2), *x.shape[5 - rank:])
            plan = oracle.window_plan(tuple(part.shape[2:]), 2, 2**32 + 1)
            with self.subTest(rank):
                self.equal(op(f"max_pool{rank}d")(part, 2, 2**32 + 1), oracle.extreme(array(part), plan)[0])
                self.close(op(f"avg_pool{rank}d")(part, 2, 2**32 + 1), oracle.average(array(part), plan))

    def test_huge_output_size_is_refused_before_memory_is_asked_for(self):
        """pytorch#50960, pytorch#42582, pytorch#73183, pytorch#91553"""
        for kind, rank, size in itertools.product(("max", "avg"), (1, 2, 3), (2**61, 2**63 - 1)):
            with self.subTest(kind=kind, rank=rank, size=size):
                self.refused(op(f"adaptive_{kind}_pool{rank}d"), torch.ones((1, 1) + (2,) * rank), [size] * rank,
                             text="overflow|63 bits")

    def test_empty_output_size_is_refused(self):
        """pytorch#42509, pytorch#42578"""
        for kind, rank in itertools.product(("max", "avg"), (1, 2, 3)):
            with self.subTest(kind=kind, rank=rank):
                self.refused(op(f"adaptive_{kind}_pool{rank}d"), torch.ones((1, 1) + (2,) * rank), [],
                             text="output_size must have")

    def test_max_pool1d_checks_the_same_with_and_without_gradient(self):
        """pytorch#85712, pytorch#99412"""
        for arguments in ((0,), (2, 0), (2, 2, -1), (2, 2, 2), (2, 2, 0, 0), (9,)):
            texts = []
            for requires_grad in (False, True):
                with self.assertRaises(ValueError) as caught:
                    CENOTE.max_pool1d(torch.ones(1, 1, 5, requires_grad=requires_grad), *arguments)
                texts.append(str(caught.exception))
            with self.subTest(arguments):
                self.assertTrue(texts[0].startswith("[max_pool1d] "))
                self.assertEqual(texts[0], texts[1])

    def test_output_sizes_do_not_pass_through_floating_point(self):
        """pytorch#13386: sizes that f32 and f64 cannot hold"""
        for n, kernel, stride, ceil_mode in itertools.product((2**24 + 1, 2**53 + 1), (1, 3), (1, 2, 7), (False, True)):
            with self.subTest(n=n, kernel=kernel, stride=stride, ceil_mode=ceil_mode):
                y = CENOTE.max_pool1d(torch.empty(1, 1, n, device="meta"), kernel, stride, 0, 1, ceil_mode)
                self.assertEqual(y.shape[-1], oracle.output_size(n, kernel, stride, 0, 0, 1, ceil_mode))

    def test_norm_type_zero_is_refused(self):
        """pytorch#91593, pytorch#134841"""
        for rank, p in itertools.product((1, 2, 3), (0.0, -0.0, -2.0, math.nan)):
            with self.subTest(rank=rank, p=p):
                self.refused(op(f"lp_pool{rank}d"), torch.ones((1, 1) + (4,) * rank), p, 2, text="norm_type")


class WindowSizes(BugTest):
    def test_ceil_mode_drops_a_window_that_starts_in_the_end_padding(self):
        """pytorch#45357, pytorch#57178, pytorch#46929, openvino#33369, TVM PR 18641, onnxruntime#16351, onnx#4958"""
        for n, k, s, d in itertools.product(range(1, 9), range(1, 5), range(1, 6), (1, 2)):
            for p in range((d * (k - 1) + 1) // 2 + 1):
                reach = d * (k - 1) + 1
                if n + 2 * p < reach:
                    continue
                # Windows that start early enough, each but the first because the one before left something over.
                expected = sum(o * s < n + p and (o == 0 or (o - 1) * s + reach < n + 2 * p) for o in range(40))
                with self.subTest(n=n, k=k, s=s, p=p, d=d):
                    x = integers(1, 2, n)
                    mine = CENOTE.max_pool1d_with_indices(x, k, s, p, d, True)
                    self.assertEqual(mine[0].shape[-1], expected)
                    self.equal_pair(mine, oracle.extreme(array(x), oracle.window_plan((n,), k, s, p, d, True)))

    def test_average_with_ceil_mode_and_padding_has_no_nan(self):
        """pytorch#36977, onnxruntime#16350, onnxruntime#15446"""
        x = integers(1, 2, 7, 6)
        for k, s, counted in itertools.product((2, 3, 4), (1, 2, 3, 5), (False, True)):
            plan = oracle.window_plan((7, 6), k, s, k // 2, 1, True)
            with self.subTest(k=k, s=s, counted=counted):
                expected = oracle.average(array(x), plan, counted)
                self.assertFalse(np.isnan(expected).any())
                self.close(CENOTE.avg_pool2d(x, k, s, k // 2, True, counted), expected)

    def test_padding_beyond_the_ceil_edge_does_not_count(self):
        """onnxruntime#16203, pytorch#183528, pytorch#71549, pytorch#116420, pytorch#131272, openvino PR 30842"""
        x = integers(1, 1, 8, 8, 8)
        for s, d in itertools.product((2, 3), (1, 2)):
            plan = oracle.window_plan((8, 8, 8), 3, s, 1, d, True)
            with self.subTest(s=s, d=d):
                self.close(CENOTE.avg_pool3d(x, 3, s, 1, True, dilation=d), oracle.average(array(x), plan))

    def test_average_backward_divides_as_the_forward_does(self):
        """pytorch#198119: ceil_mode windows at the edge were divided by the whole kernel"""
        for counted, p in itertools.product((False, True), (0, 1)):
            x = integers(1, 2, 8, 7).requires_grad_()
            plan = oracle.window_plan((8, 7), 3, 2, p, 1, True)
            y = CENOTE.avg_pool2d(x, 3, 2, p, True, counted)
            weights = integers(*y.shape, seed=2)
            with self.subTest(counted=counted, p=p):
                self.close(gradient(y, x, weights), oracle.average_backward(array(weights), plan, counted))

    def test_average_backward_is_right_for_channels_last_with_padding(self):
        """pytorch#188344, pytorch#107201"""
        for channels, p, counted in itertools.product((1, 3, 17, 64), (1, 2), (False, True)):
            x = integers(2, channels, 7, 9).to(memory_format=torch.channels_last).requires_grad_()
            plan = oracle.window_plan((7, 9), 5, 2, p)
            y = CENOTE.avg_pool2d(x, 5, 2, p, False, counted)
            weights = integers(*y.shape, seed=2)
            with self.subTest(channels=channels, p=p, counted=counted):
                self.close(gradient(y, x, weights), oracle.average_backward(array(weights), plan, counted))

    def test_average_takes_asymmetric_padding_with_dilation(self):
        """onnxruntime PR 29631"""
        x = integers(1, 2, 9, 8)
        for counted, d in itertools.product((False, True), (1, 2)):
            plan = oracle.window_plan((9, 8), 3, 2, (0, 1), d, False, (1, 0))
            with self.subTest(counted=counted, d=d):
                self.close(CENOTE.avg_pool2d(x, 3, 2, (0, 1), False, counted, padding_end=(1, 0), dilation=d),
                           oracle.average(array(x), plan, counted))

    def test_max_takes_dilation_with_padding_at_the_begin(self):
        """onnxruntime#29637: values and indices were wrong"""
        x = integers(2, 3, 9, 8)
        for d, ceil_mode in itertools.product((2, 3), (False, True)):
            plan = oracle.window_plan((9, 8), 3, 2, (2, 1), d, ceil_mode, (0, 0))
            with self.subTest(d=d, ceil_mode=ceil_mode):
                self.equal_pair(CENOTE.max_pool2d_with_indices(x, 3, 2, (2, 1), d, ceil_mode, padding_end=(0, 0)),
                                oracle.extreme(array(x), plan))

    def test_max_takes_padding_at_one_end_only(self):
        """pytorch#3867, pytorch#71362, oneDNN#26: "same" padding of even kernels"""
        for n, k in itertools.product((5, 8), (2, 4)):
            x = integers(1, 3, n, n, low=-20, high=-1)
            plan = oracle.window_plan((n, n), k, 1, k // 2 - 1, 1, False, k // 2)
            with self.subTest(n=n, k=k):
                self.assertEqual(plan.out_sizes, (n, n))
                self.equal_pair(CENOTE.max_pool2d_with_indices(x, k, 1, k // 2 - 1, padding_end=k // 2),
                                oracle.extreme(array(x), plan))

    def test_averages_and_norms_can_be_dilated(self):
        """pytorch#14907, pytorch#37717"""
        x = integers(1, 2, 9, 8)
        plan = oracle.window_plan((9, 8), 3, 1, 0, 2)
        self.close(CENOTE.avg_pool2d(x, 3, 1, dilation=2), oracle.average(array(x), plan))
        self.close(CENOTE.lp_pool2d(x, 3.0, 3, 1, dilation=2), oracle.norm(array(x), plan, 3))

    def test_kernel_below_stride_does_not_crash(self):
        """ncnn#116"""
        for rank, k, s in itertools.product((1, 2, 3), (1, 2), (3, 5)):
            x = integers(1, 2, *(8, 7, 9)[:rank])
            plan = oracle.window_plan(tuple(x.shape[2:]), k, s)
            with self.subTest(rank=rank, k=k, s=s):
                self.equal_pair(op(f"max_pool{rank}d_with_indices")(x, k, s), oracle.extreme(array(x), plan))
                self.close(op(f"avg_pool{rank}d")(x, k, s), oracle.average(array(x), plan))

    def test_1d_average_with_padding_equals_2d_of_one_row(self):
        """ggml: ops 1-D left padding out of the divisor, 2-D counted it"""
        x = integers(2, 3, 11)
        for counted in (False, True):
            expected = oracle.average(array(x), oracle.window_plan((11,), 3, 2, 1), counted)
            with self.subTest(counted):
                self.close(CENOTE.avg_pool1d(x, 3, 2, 1, False, counted), expected)
                rows = CENOTE.avg_pool2d(x[:, :, None], (1, 3), (1, 2), (0, 1), False, counted)
                self.close(rows[:, :, 0], expected)

    def test_windows_of_hundreds_of_elements_are_right(self):
        """onnxruntime#3548"""
        for sizes, k, d in (((700,), 512, 1), ((70, 66), 64, 1), ((40, 66), 9, 4), ((18, 17, 16), 15, 1)):
            x = integers(1, 2, *sizes)
            plan = oracle.window_plan(sizes, k, 1, 0, d)
            with self.subTest(sizes=sizes, k=k):
                rank = len(sizes)
                self.equal_pair(op(f"max_pool{rank}d_with_indices")(x, k, 1, 0, d), oracle.extreme(array(x), plan))
                self.close(op(f"avg_pool{rank}d")(x, k, 1, dilation=d), oracle.average(array(x), plan))


class Values(BugTest):
    def test_nan_in_any_lane_reaches_its_output_and_no_other(self):
        """tensorflow#125965"""
        for channels in range(1, 66):
            for name, lane in itertools.product(("max", "min", "avg", "sum"), {0, channels // 2, channels - 1}):
                x = torch.zeros(1, channels, 3, 3).to(memory_format=torch.channels_last)
                x[0, lane, 1, 1] = math.nan
                expected = np.zeros((1, channels, 2, 2))
                expected[0, lane] = math.nan
                with self.subTest(channels=channels, name=name, lane=lane):
                    self.equal(op(f"{name}_pool2d")(x, 2, 1), expected)
        for width in range(1, 66):
            x = torch.zeros(1, 1, 1, width)
            x[..., width // 2] = math.nan
            with self.subTest(width=width):
                expected = oracle.extreme(array(x), oracle.window_plan((1, width), (1, 3), 1, (0, 1)))
                self.equal_pair(CENOTE.max_pool2d_with_indices(x, (1, 3), 1, (0, 1)), expected)

    def test_all_nan_and_all_infinite_windows_keep_their_value_and_an_index(self):
        """openvino#35935, openvino#36239, intel-extension-for-pytorch#37: they gave -FLT_MAX"""
        for value, dtype, last in itertools.product((math.nan, -math.inf, math.inf), FLOATS, (False, True)):
            x = torch.full((1, 9, 6, 5), value, dtype=dtype)
            x = x.to(memory_format=torch.channels_last) if last else x
            for name, sign in (("max", 1), ("min", -1)):
                expected = oracle.extreme(array(x), oracle.window_plan((6, 5), 3, 2, 1), sign)
                with self.subTest(value=value, dtype=dtype, last=last, name=name):
                    self.equal_pair(op(f"{name}_pool2d_with_indices")(x, 3, 2, 1), expected)
                    whole = oracle.extreme(array(x), oracle.adaptive_plan((6, 5), 1), sign)
                    if name == "max":
                        self.equal_pair(CENOTE.global_max_pool2d_with_indices(x), whole)

    def test_lowest_values_still_have_an_index(self):
        """onnxruntime, CUDA kernel: zeros of uint8, -inf and NaN left index -1 and a read out of bounds"""
        for dtype in (*INTEGERS, *FLOATS):
            lowest = -math.inf if dtype in FLOATS else torch.iinfo(dtype).min
            x = torch.full((1, 3, 7, 6), lowest, dtype=dtype)
            y, where = CENOTE.max_pool2d_with_indices(x, 3, 2, 1)
            with self.subTest(dtype):
                expected = oracle.extreme(np.zeros(x.shape), oracle.window_plan((7, 6), 3, 2, 1))[1]
                self.equal(where, expected)
                self.equal(y, np.full(expected.shape, lowest))

    def test_negative_integers_do_not_become_zero_in_channels_last(self):
        """pytorch#109586"""
        for channels, dtype in itertools.product(range(1, 66), (torch.int8, torch.int32, torch.int64)):
            x = integers(1, channels, 4, 3, dtype=dtype, low=-100, high=-1).to(memory_format=torch.channels_last)
            with self.subTest(channels=channels, dtype=dtype):
                self.equal_pair(CENOTE.max_pool2d_with_indices(x, 2, 1, 1),
                                oracle.extreme(array(x), oracle.window_plan((4, 3), 2, 1, 1)))

    def test_bytes_in_channels_last_have_indices_beyond_127(self):
        """executorch PR21820"""
        for dtype in (torch.int8, torch.uint8):
            x = integers(2, 5, 20, 18, dtype=dtype, low=0, high=127).to(memory_format=torch.channels_last)
            expected = oracle.extreme(array(x), oracle.window_plan((20, 18), 3, 2, 1))
            with self.subTest(dtype):
                self.assertGreater(expected[1].max(), 255)
                self.equal_pair(CENOTE.max_pool2d_with_indices(x, 3, 2, 1), expected)

    def test_mean_of_bfloat16_does_not_stop_growing(self):
        """pytorch#139242: a sum of ones in bf16 ends at 256"""
        for dtype, last in itertools.product((torch.bfloat16, torch.float16), (False, True)):
            x = torch.ones(1, 3, 64, 64, dtype=dtype)
            x[:, 1] = 0.5
            x = x.to(memory_format=torch.channels_last) if last else x
            expected = np.array([1, 0.5, 1]).reshape(1, 3, 1, 1)
            with self.subTest(dtype=dtype, last=last):
                self.equal(CENOTE.avg_pool2d(x, 64), expected)
                self.equal(CENOTE.adaptive_avg_pool2d(x, 1), expected)
                self.equal(CENOTE.global_avg_pool2d(x), expected)
                self.equal(CENOTE.sum_pool2d(x, 64), expected * 4096)

    def test_norms_of_negative_numbers_are_not_nan(self):
        """pytorch#184037, pytorch PR187207"""
        x = integers(1, 2, 8, 7).requires_grad_()
        for p, padding in itertools.product((1.0, 1.5, 2.0, 2.5, 3.0), (0, 1)):
            plan = oracle.window_plan((8, 7), 3, 2, padding)
            y = CENOTE.lp_pool2d(x, p, 3, 2, padding=padding)
            weights = integers(*y.shape, seed=2)
            with self.subTest(p=p, padding=padding):
                np.testing.assert_allclose(array(y), oracle.norm(array(x), plan, p), rtol=1e-12)
                expected = oracle.norm_backward(array(weights), array(x), plan, p)
                np.testing.assert_allclose(array(gradient(y, x, weights)), expected, rtol=1e-12, atol=1e-12)

    def test_gradient_of_the_norm_of_zeros_is_zero(self):
        """pytorch#6765: it was NaN"""
        for p in (1.0, 1.5, 2.0, 3.0):
            x = torch.zeros(1, 2, 6, dtype=torch.float64)
            x[0, 0, 4] = -3
            x.requires_grad_()
            expected = np.zeros((1, 2, 6))
            expected[0, 0, 4] = -1
            with self.subTest(p):
                self.equal(gradient(CENOTE.lp_pool1d(x, p, 2), x, torch.ones(1, 2, 3).double()), expected)


class Dtypes(BugTest):
    def test_no_dtype_is_missing(self):
        """pytorch#107412, pytorch#33086, pytorch#139115, pytorch#136110"""
        for rank, dtype in itertools.product((1, 2, 3), (*FLOATS, *INTEGERS)):
            x = integers(1, 2, *(6, 5, 4)[:rank], dtype=dtype, low=0, high=9)
            plan = oracle.window_plan(tuple(x.shape[2:]), 2, 1)
            with self.subTest(rank=rank, dtype=dtype):
                for name, sign in (("max", 1), ("min", -1)):
                    mine = op(f"{name}_pool{rank}d_with_indices")(x, 2, 1)
                    self.equal_pair(mine, oracle.extreme(array(x), plan, sign))
                self.equal(op(f"avg_pool{rank}d")(x, 2, 1), oracle.average(array(x), plan))
                self.equal(op(f"sum_pool{rank}d")(x, 2, 1), oracle.average(array(x), plan, divisor_override=1))
                whole = oracle.adaptive_plan(tuple(x.shape[2:]), 1)
                self.equal(op(f"global_max_pool{rank}d")(x), oracle.extreme(array(x), whole)[0])
                positions = op(f"max_pool{rank}d_with_indices")(x, 2)[1]
                values = x.flatten(2).gather(2, positions.flatten(2)).reshape(positions.shape)
                back = op(f"max_unpool{rank}d")(values, positions, 2, 2, 0, list(x.shape[2:]))
                self.equal(back, oracle.scatter(array(values), array(positions), x.shape[2:]))

    def test_3d_averages_of_half_precision_work_in_channels_last(self):
        """pytorch PR176393, pytorch PR60619"""
        for dtype, channels in itertools.product((torch.float16, torch.bfloat16), (1, 3, 8, 33)):
            x = integers(2, channels, 5, 6, 4, dtype=dtype).to(memory_format=torch.channels_last_3d).requires_grad_()
            y = CENOTE.avg_pool3d(x, 2, 2, 1)
            plan = oracle.window_plan((5, 6, 4), 2, 2, 1)
            with self.subTest(dtype=dtype, channels=channels):
                self.equal(y, oracle.average(array(x), plan))
                weights = integers(*y.shape, dtype=dtype, seed=2)
                self.equal(gradient(y, x, weights), oracle.average_backward(array(weights), plan))


class Layouts(BugTest):
    def test_channels_last_3d_stays_channels_last(self):
        """pytorch#59168, pytorch#93500"""
        x = integers(2, 5, 6, 5, 4).contiguous(memory_format=torch.channels_last_3d).requires_grad_()
        plan, halves = oracle.window_plan((6, 5, 4), 3, 2, 1), oracle.adaptive_plan((6, 5, 4), 2)
        for y, expected in ((CENOTE.max_pool3d(x, 3, 2, 1), oracle.extreme(array(x), plan)[0]),
                            (CENOTE.avg_pool3d(x, 3, 2, 1), oracle.average(array(x), plan)),
                            (CENOTE.adaptive_avg_pool3d(x, 2), oracle.average(array(x), halves))):
            with self.subTest(y.grad_fn.name()):
                self.assertTrue(y.is_contiguous(memory_format=torch.channels_last_3d))
                grad_x = gradient(y, x, torch.ones_like(y))
                self.assertTrue(grad_x.is_contiguous(memory_format=torch.channels_last_3d))
                self.close(y, expected)

    def test_averages_with_ceil_mode_agree_in_both_layouts(self):
        """ARM ComputeLibrary#1113"""
        x = integers(2, 19, 9, 8)
        for counted in (False, True):
            expected = oracle.average(array(x), oracle.window_plan((9, 8), 2, 2, 1, 1, True), counted)
            for form in (torch.contiguous_format, torch.channels_last):
                with self.subTest(counted=counted, form=form):
                    y = CENOTE.avg_pool2d(x.contiguous(memory_format=form), 2, 2, 1, True, counted)
                    self.close(y, expected)

    def test_adaptive_max_is_right_in_channels_last(self):
        """pytorch#67239"""
        for channels in (1, 2, 7, 32, 65):
            x = integers(2, channels, 9, 7).to(memory_format=torch.channels_last)
            with self.subTest(channels):
                self.equal_pair(CENOTE.adaptive_max_pool2d_with_indices(x, (4, 3)),
                                oracle.extreme(array(x), oracle.adaptive_plan((9, 7), (4, 3))))

    def test_adaptive_pooling_takes_every_layout(self):
        """ncnn PR 2546"""
        for rank in (1, 2, 3):
            whole = integers(2, 6, *(9, 8, 7)[:rank])
            forms = {"first": whole, "last": whole.movedim(1, -1).contiguous().movedim(-1, 1),
                     "strided": whole.repeat_interleave(2, -1)[..., ::2], "transposed": whole.transpose(0, 1)}
            for (form, x), output in itertools.product(forms.items(), (1, 3, 5, 11)):
                plan = oracle.adaptive_plan(tuple(x.shape[2:]), output)
                with self.subTest(rank=rank, form=form, output=output):
                    self.close(op(f"adaptive_avg_pool{rank}d")(x, [output]), oracle.average(array(x), plan))
                    self.equal_pair(op(f"adaptive_max_pool{rank}d_with_indices")(x, [output]),
                                    oracle.extreme(array(x), plan))


class Adaptive(BugTest):
    def test_window_bounds_do_not_overflow_32_bits(self):
        """pytorch#176784, pytorch PR177040: input size times output size beyond 2^31"""
        n, m = 70001, 40009
        x = integers(1, 1, n, low=-9999, high=9999)
        begins = np.array([o * n // m for o in range(m)])
        ends = np.array([-(-(o + 1) * n // m) for o in range(m)])
        sums = np.concatenate([[0], np.cumsum(array(x)[0, 0])])
        self.close(CENOTE.adaptive_avg_pool1d(x, [m]), ((sums[ends] - sums[begins]) / (ends - begins))[None, None])
        maxima = [array(x)[0, 0, begin:end].max() for begin, end in zip(begins, ends)]
        self.equal(CENOTE.adaptive_max_pool1d(x, [m]), np.array(maxima)[None, None])

    def test_lengths_that_float_cannot_hold_have_right_windows(self):
        """pytorch#81409: 2^24 + 1 elements crashed"""
        n = 2**24 + 1
        x = (torch.arange(n, dtype=torch.int32) % 101).to(torch.int8).reshape(1, 1, n)
        for m in (3, 7, 4097):
            begins, ends = [o * n // m for o in range(m)], [-(-(o + 1) * n // m) for o in range(m)]
            values = array(x[0, 0, begins[-1]:])
            y, where = CENOTE.adaptive_max_pool1d_with_indices(x, [m])
            with self.subTest(m):
                self.assertEqual(values.max(), 100)
                self.equal(y, np.full((1, 1, m), 100))
                self.equal(where, np.array([begin + (100 - begin) % 101 for begin in begins])[None, None])
                self.assertTrue(all(at < end for at, end in zip(where.flatten().tolist(), ends)))

    def test_random_sizes_stay_inside_the_input(self):
        """pytorch#145349"""
        random = np.random.default_rng(5)
        for _ in range(150):
            h, w, oh, ow, channels = (int(v) for v in random.integers(1, 20, 5))
            x = integers(1, channels, h, w).requires_grad_()
            plan = oracle.adaptive_plan((h, w), (oh, ow))
            with self.subTest(h=h, w=w, oh=oh, ow=ow):
                y = CENOTE.adaptive_avg_pool2d(x, (oh, ow))
                self.close(y, oracle.average(array(x), plan))
                weights = integers(*y.shape, seed=2)
                np.testing.assert_allclose(array(gradient(y, x, weights)),
                                           oracle.average_backward(array(weights), plan), rtol=1e-12, atol=1e-12)

    def test_average_backward_gives_the_same_bits_in_every_run(self):
        """pytorch#50198, pytorch#84860, pytorch#149130"""
        weights = torch.from_numpy(np.random.default_rng(6).standard_normal((4, 16, 13, 11))).float()
        expected = oracle.average_backward(array(weights), oracle.adaptive_plan((24, 20), (13, 11)))
        threads = torch.get_num_threads()
        self.addCleanup(torch.set_num_threads, threads)
        for form in (torch.contiguous_format, torch.channels_last):
            x = torch.zeros(4, 16, 24, 20).contiguous(memory_format=form).requires_grad_()
            y = CENOTE.adaptive_avg_pool2d(x, (13, 11))
            runs = []
            for run in range(20):
                torch.set_num_threads(1 + run % 4)
                runs.append(torch.autograd.grad(y, x, weights, retain_graph=True)[0])
            with self.subTest(form):
                np.testing.assert_allclose(array(runs[0]), expected, rtol=1e-5, atol=1e-6)
                self.assertTrue(all(torch.equal(runs[0], run) for run in runs))


class Indices(BugTest):
    def test_backward_takes_any_valid_indices(self):
        """pytorch#122024: indices that no forward pass wrote"""
        random = np.random.default_rng(7)
        for form in (torch.contiguous_format, torch.channels_last):
            where = torch.from_numpy(random.integers(0, 8 * 7, (2, 5, 4, 3))).contiguous(memory_format=form)
            weights = integers(2, 5, 4, 3).contiguous(memory_format=form)
            with self.subTest(form):
                grad_x = CENOTE.max_pool2d_backward(weights, where, (2, 5, 8, 7), 2)
                self.equal(grad_x, oracle.scatter(array(weights), array(where), (8, 7)))

    def test_training_keeps_one_byte_per_output(self):
        """pytorch#41099, pytorch#85485, pytorch#103785: the input and eight bytes per output were kept"""
        x = integers(2, 3, 16, 15).requires_grad_()
        kept = []

        def pack(tensor):
            kept.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            y = CENOTE.max_pool2d(x, 3, 2, 1)
        self.assertEqual(kept, [y.numel()])
        weights = integers(*y.shape, seed=2)
        where = oracle.extreme(array(x), oracle.window_plan((16, 15), 3, 2, 1))[1]
        expected = oracle.scatter(array(weights), where, (16, 15))
        self.equal(gradient(y, x, weights), expected)
        wide = CENOTE.max_pool2d_backward(weights, torch.from_numpy(where), x.shape, 3, 2, 1)
        self.equal(wide, expected)

    def test_planes_beyond_2_to_the_31_have_right_indices(self):
        """pytorch#167253, pytorch#129785, pytorch#113833, pytorch#84018: a view of one row stands for the plane"""
        rows, columns = 2**17, 2**15
        x = (torch.arange(columns) % 127).float().as_strided((1, 1, rows, columns), (0, 0, 0, 1))
        y, where = CENOTE.max_pool2d_with_indices(x, 1, (rows - 1, columns - 1))
        self.equal(y, np.array([0, (columns - 1) % 127] * 2).reshape(1, 1, 2, 2))
        last = rows * columns - 1
        self.equal(where, np.array([0, columns - 1, last - columns + 1, last]).reshape(1, 1, 2, 2))

    def test_unpooling_reads_all_64_bits_of_an_index(self):
        """pytorch#197409: 2^32 + 1 was taken for 1"""
        x = torch.tensor([[[3.0, 4.0]]])
        self.equal(CENOTE.max_unpool1d(x, torch.tensor([[[1, 2]]]), 2), np.array([[[0, 3, 4, 0]]]))
        for bad in (2**32 + 1, -2**32 + 1, 2**63 - 1, -2**63, 4, -1):
            with self.subTest(bad):
                self.refused(CENOTE.max_unpool1d, x, torch.tensor([[[1, bad]]]), 2, text=re.escape(str(bad)))

    def test_unpooling_refuses_bad_arguments(self):
        """pytorch#107539"""
        x, where = torch.ones(1, 1, 2, 2), torch.tensor([[[[0, 2], [8, 10]]]])
        self.equal(CENOTE.max_unpool2d(x, where, 2),
                   np.array([[[[1, 0, 1, 0], [0] * 4, [1, 0, 1, 0], [0] * 4]]]))
        for arguments in ((0,), (2, 0), (2, -1), (2, 2, -1), (2, 2, 3), (2, 2**62), (2**62, 2**62), (2, 2, 0, []),
                          (2, 2, 0, [9, 9]), (2, 2, 0, [-4, 4]), (2, 2, 0, [1, 1, 1, 4, 4])):
            with self.subTest(arguments):
                self.refused(CENOTE.max_unpool2d, x, where, *arguments, text=r"\[max_unpool2d\]")
        for bad in (where.int(), where[..., :1], where.double(), where[0]):
            with self.subTest(bad.shape, dtype=bad.dtype):
                self.refused(CENOTE.max_unpool2d, x, bad, 2, text="indices")


class Fractional(BugTest):
    SIZES = {2: (7, 9), 3: (5, 6, 7)}

    def operators(self):
        for rank, sizes in self.SIZES.items():
            yield rank, sizes, op(f"fractional_max_pool{rank}d"), op(f"fractional_max_pool{rank}d_with_indices")

    def plan(self, sizes, kernel, outputs, u):
        """The windows of one plane; u in the order of the axes."""
        axes = []
        for n, m, of_axis in zip(sizes, oracle.per_axis(outputs, len(sizes)), u):
            a = (n - kernel) / max(m - 1, 1)
            begins = [int((i + of_axis) * a) - int(of_axis * a) for i in range(m - 1)] + [n - kernel]
            axes.append([(list(range(begin, begin + kernel)), kernel) for begin in begins])
        return oracle.join_axes(sizes, axes)

    def test_fractional_pooling_refuses_bad_arguments(self):
        """pytorch#50967, pytorch#73624: segmentation faults, and arguments that one check refuses and another takes"""
        for rank, sizes, pool, _ in self.operators():
            x = torch.zeros(2, 3, *sizes)
            u = torch.zeros(2, 3, rank)
            bad = [((0,), {"output_size": 2}), ((-1,), {"output_size": 2}), ((2,), {"output_size": 0}),
                   ((2,), {"output_size": -3}), ((2,), {"output_size": min(sizes)}), ((2,), {}),
                   ((2,), {"output_size": 2, "output_ratio": 0.5}), ((2,), {"output_ratio": 0.0}),
                   ((2,), {"output_ratio": 1.0}), ((2,), {"output_ratio": -0.5}), ((2,), {"output_ratio": math.nan}),
                   ((2,), {"output_ratio": 0.01}), (([2] * (rank + 1),), {"output_size": 2})]
            bad += [((large,), {"output_size": 2}) for large in LARGE] + [((1,), {"output_size": n}) for n in LARGE]
            bad += [((2,), {"output_size": 2, "_random_samples": samples}) for samples in (
                u[:1], u[:, :2], u[..., :1], u[0], u.double(), u + 1, u - 1, u * math.nan, u[:, :, None])]
            for arguments, keywords in bad:
                with self.subTest(rank=rank, arguments=arguments, **keywords):
                    self.refused(pool, x, *arguments, **keywords)
            for empty in (x[:, :0], x[..., :0], x[0, 0], x[None]):
                with self.subTest(rank=rank, sizes=tuple(empty.shape)):
                    self.refused(pool, empty, 1, output_size=1)
            self.assertEqual(pool(x[:0], 2, output_size=2).shape, (0, 3, *[2] * rank))

    def test_fractional_windows_of_nan_and_infinities_keep_their_value_and_an_index(self):
        """pytorch#39044: -inf gave no index, and NaN was lost"""
        for rank, sizes, _, pool in self.operators():
            u = (0.25, 0.5, 0.75)[:rank]
            plan = self.plan(sizes, 2, 3, u)
            samples = torch.tensor(u[::-1] if rank == 2 else u, dtype=torch.float64).reshape(1, 1, rank)
            one_nan = integers(1, 1, *sizes)
            one_nan.view(-1)[17] = math.nan
            for x in (torch.full((1, 1, *sizes), -math.inf), torch.full((1, 1, *sizes), math.nan), one_nan):
                with self.subTest(rank=rank):
                    x = x.double()
                    y, indices = pool(x, 2, output_size=3, _random_samples=samples)
                    self.equal_pair((y, indices), oracle.extreme(array(x), plan))

    def test_derivatives_of_fractional_pooling_in_3d_are_right(self):
        """pytorch#69322: their first and second derivatives were marked as wrong"""
        for rank, sizes, pool, _ in self.operators():
            x = torch.randperm(2 * math.prod(sizes)).double().reshape(1, 2, *sizes).requires_grad_()
            samples = torch.rand(1, 2, rank, dtype=torch.float64)
            with self.subTest(rank=rank):
                def function(x):
                    return pool(x, 2, output_size=3, _random_samples=samples)
                self.assertTrue(torch.autograd.gradcheck(function, x, eps=0.25, check_forward_ad=True))
                self.assertTrue(torch.autograd.gradgradcheck(function, x, eps=0.25))


class Compiled(BugTest):
    """torch.compile up to the code generator, which sees cenote's operators as they are."""

    def check(self, function, x, expected, expected_gradient):
        compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
        y = compiled(x)
        self.equal(y, expected)
        self.equal(gradient(y, x, torch.ones_like(y)), expected_gradient)

    def test_compiling_takes_large_and_dilated_windows(self):
        """pytorch#136332, pytorch#93384"""
        x = integers(1, 2, 40, 38).requires_grad_()
        plan = oracle.window_plan((40, 38), 27, 3, 0)
        y, where = oracle.extreme(array(x), plan)
        self.check(lambda x: CENOTE.max_pool2d(x, 27, 3), x, y, oracle.scatter(np.ones(y.shape), where, (40, 38)))
        plan = oracle.window_plan((40, 38), 2, 1, 0, 9)
        y = oracle.average(array(x), plan)
        self.check(lambda x: CENOTE.avg_pool2d(x, 2, 1, dilation=9), x, y,
                   oracle.average_backward(np.ones(y.shape), plan))

    def test_compiling_adaptive_averages_keeps_values_and_dtype(self):
        """pytorch#180848, pytorch#144310"""
        for dtype in (torch.float64, torch.bfloat16):
            x = integers(1, 2, 8, 6, dtype=dtype).requires_grad_()
            plan = oracle.adaptive_plan((8, 6), (4, 3))
            y = 2 * oracle.average(array(x), plan)
            with self.subTest(dtype):
                self.check(lambda x: CENOTE.adaptive_avg_pool2d(x, (4, 3)) * 2, x, y,
                           2 * oracle.average_backward(np.ones(y.shape), plan))
                self.assertEqual(CENOTE.adaptive_avg_pool2d(x, (4, 3)).dtype, dtype)


class Document(unittest.TestCase):
    def test_document_lists_every_test(self):
        """docs/peers_bugs.md names the tests of this file and of large tensors, all of them and no others."""
        loader = unittest.defaultTestLoader
        classes = (Arguments, WindowSizes, Values, Dtypes, Layouts, Adaptive, Indices, Fractional, Compiled)
        written = {name for case in classes for name in loader.getTestCaseNames(case)}
        written |= {f"LargeTensors.{name}"
                    for name in re.findall(r"TEST\(LargeTensors, (\w+)\)", LARGE_TENSORS.read_text())}
        self.assertEqual(set(re.findall(r"`(test_\w+|LargeTensors\.\w+)`", DOCUMENT.read_text())), written)


if __name__ == "__main__":
    unittest.main()
