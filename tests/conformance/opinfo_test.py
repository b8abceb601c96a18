"""The samples that torch makes to test its own pooling ops, run through cenote's operators.

torch.testing keeps an OpInfo for every op: inputs that must work and inputs that must fail. Every OpInfo with
"pool" in its name is taken here, in every dtype that it claims on the CPU. Values, indices, first and second
derivatives are compared with torch's. What is not compared stands in SKIPPED or DEVIATIONS with the reason, and
every count is pinned. lp_pool has no OpInfo; its cases are made here. CENOTE_TORCH_LIBRARY names the library.
"""
import itertools
import math
import os
import re
import sys
import types
import unittest
from collections import Counter

if "expecttest" not in sys.modules:  # torch.testing imports it for a base class that is not used here
    sys.modules["expecttest"] = types.SimpleNamespace(TestCase=unittest.TestCase)

import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as functional
from torch.testing import make_tensor
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import SampleInput

torch.ops.load_library(os.environ["CENOTE_TORCH_LIBRARY"])
CENOTE = torch.ops.cenote
SEED = 20

# Other versions of torch make other samples; the comparisons hold for them, the counts below do not.
COUNTED = torch.__version__.startswith("2.13.")

# Why samples are not compared.
OUTSIDE = "random samples outside of [0, 1), which cenote refuses"
NO_INT16 = "int16 is not a dtype of cenote, which must say so"

# How many samples torch has, over all dtypes; what becomes of them; and the same for the cases of lp_pool.
SAMPLES = {
    "nn.functional.adaptive_avg_pool1d": 24,
    "nn.functional.adaptive_avg_pool2d": 40,
    "nn.functional.adaptive_avg_pool3d": 48,
    "nn.functional.adaptive_max_pool1d": 32,
    "nn.functional.adaptive_max_pool2d": 96,
    "nn.functional.adaptive_max_pool3d": 80,
    "nn.functional.avg_pool1d": 45,
    "nn.functional.avg_pool2d": 35,
    "nn.functional.avg_pool3d": 24,
    "nn.functional.fractional_max_pool2d": 148,
    "nn.functional.fractional_max_pool3d": 192,
    "nn.functional.max_pool1d": 3456,
    "nn.functional.max_pool2d": 12960,
    "nn.functional.max_pool3d": 5184,
    "max_pool2d_with_indices_backward": 5760,
    "nn.functional.max_unpool1d": 576,
    "nn.functional.max_unpool1d.grad": 56,
    "nn.functional.max_unpool2d": 1152,
    "nn.functional.max_unpool2d.grad": 91,
    "nn.functional.max_unpool3d": 384,
    "nn.functional.max_unpool3d.grad": 51,
}
COMPARED = {"values": 28414, "indices": 10064, "gradients": 20326, "second gradients": 20326, "tangents": 20326}
SKIPPED = {OUTSIDE: 4, NO_INT16: 2016}
LP_COMPARED = {"values": 324, "gradients": 324, "tangents": 324, "second gradients": 324}
LP_SKIPPED = {}

# How many error inputs torch has, and those that cenote takes, by op and number, with what it makes of them.
ERRORS = 70
KEEPS_SIZE = "output_size -1 keeps the size of the axis, as None does, which operators cannot take"
DEVIATIONS = {
    ("nn.functional.adaptive_avg_pool1d", 1): ((1, 1, 1), KEEPS_SIZE),
    ("nn.functional.adaptive_avg_pool2d", 2): ((1, 1, 1, 0), KEEPS_SIZE),
    ("nn.functional.adaptive_avg_pool3d", 2): ((1, 1, 1, 0, 2), KEEPS_SIZE),
    ("nn.functional.adaptive_max_pool1d", 1): ((1, 1, 1), KEEPS_SIZE),
    ("nn.functional.adaptive_max_pool2d", 2): ((1, 1, 1, 0), KEEPS_SIZE),
    ("nn.functional.adaptive_max_pool3d", 2): ((1, 1, 1, 0, 2), KEEPS_SIZE),
}


def or_list(value):
    """cenote's operators spell "the kernel" as an empty list, as torch's operators do."""
    return [] if value is None else value


def max_pool(rank):
    values, both = getattr(CENOTE, f"max_pool{rank}d"), getattr(CENOTE, f"max_pool{rank}d_with_indices")

    def pool(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        op = both if return_indices else values
        return op(x, kernel_size, or_list(stride), padding, dilation, ceil_mode)
    return pool


def max_pool2d_backward(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """torch's sample function: the gradient of ones. return_indices means nothing to it."""
    del return_indices
    arguments = (kernel_size, or_list(stride), padding, dilation, ceil_mode)
    y, indices = CENOTE.max_pool2d_with_indices(x, *arguments)
    return CENOTE.max_pool2d_backward(torch.ones_like(y), indices, x.shape, *arguments)


def avg_pool(rank):
    op = getattr(CENOTE, f"avg_pool{rank}d")

    def pool(x, kernel_size, stride=None, *arguments, **keywords):
        return op(x, kernel_size, or_list(stride), *arguments, **keywords)
    return pool


def lp_pool(rank):
    op = getattr(CENOTE, f"lp_pool{rank}d")

    def pool(x, norm_type, kernel_size, stride=None):
        return op(x, norm_type, kernel_size, or_list(stride))
    return pool


def adaptive(kind, rank):
    values = getattr(CENOTE, f"adaptive_{kind}_pool{rank}d")
    both = getattr(CENOTE, f"adaptive_{kind}_pool{rank}d_with_indices", None)

    def pool(x, output_size, return_indices=False):
        sizes = output_size if isinstance(output_size, (tuple, list)) else [output_size]
        return (both if return_indices else values)(x, [-1 if size is None else size for size in sizes])
    return pool


def max_unpool(rank):
    op = getattr(CENOTE, f"max_unpool{rank}d")

    def unpool(x, indices, kernel_size, stride=None, padding=0, output_size=None):
        return op(x, indices, kernel_size, or_list(stride), padding, output_size)
    return unpool


def fractional(rank):
    values = getattr(CENOTE, f"fractional_max_pool{rank}d")
    both = getattr(CENOTE, f"fractional_max_pool{rank}d_with_indices")

    def pool(x, kernel_size, *arguments, return_indices=False, **keywords):
        return (both if return_indices else values)(x, kernel_size, *arguments, **keywords)
    return pool


TWINS = {"max_pool2d_with_indices_backward": max_pool2d_backward}
for dims in (1, 2, 3):
    TWINS[f"nn.functional.max_pool{dims}d"] = max_pool(dims)
    TWINS[f"nn.functional.avg_pool{dims}d"] = avg_pool(dims)
    TWINS[f"nn.functional.adaptive_max_pool{dims}d"] = adaptive("max", dims)
    TWINS[f"nn.functional.adaptive_avg_pool{dims}d"] = adaptive("avg", dims)
    TWINS[f"nn.functional.max_unpool{dims}d"] = max_unpool(dims)
    if dims > 1:
        TWINS[f"nn.functional.fractional_max_pool{dims}d"] = fractional(dims)

ENTRIES = {f"{op.name}{op.variant_test_name and '.' + op.variant_test_name}": op for op in op_db if "pool" in op.name}


def first(result):
    return result[0] if isinstance(result, tuple) else result


def gradient(y, x, weights, **options):
    """The derivative, zeros where y does not depend on x."""
    if not y.requires_grad:
        return torch.zeros_like(x)
    return torch.autograd.grad(y, x, weights, allow_unused=True, materialize_grads=True, **options)[0]


class Comparison:
    """One sample of one op: torch's function beside cenote's. Results must be equal: maxima, and what only copies."""

    def __init__(self, test, op, twin, sample):
        self.test, self.sample, self.op = test, sample, op
        self.mine = lambda x: twin(x, *sample.args, **sample.kwargs)

    def theirs(self, x):
        return self.op(x, *self.sample.args, **self.sample.kwargs)

    def weights(self, like):
        """Numbers whose sums are exact in every dtype."""
        return torch.randint(-4, 5, like.shape).to(like.dtype)

    def bound(self, theirs, magnitude):
        """How far results may be apart; `magnitude` gives what theirs would be for absolute values."""
        del theirs, magnitude
        return 0

    def check(self, what, mine, theirs, magnitude):
        self.test.assertEqual((mine.dtype, mine.shape), (theirs.dtype, theirs.shape), self.sample)
        if theirs.is_floating_point():
            same = bool(((mine.double() - theirs.double()).abs() <= self.bound(theirs, magnitude)).all())
        else:
            same = torch.equal(mine, theirs)
        self.require(same, what, mine, theirs)
        self.test.compared[what] += 1

    def require(self, same, what, mine, theirs):
        if not same:  # the text takes longer than the comparison
            self.test.fail(f"{what} of {self.sample}\nmine: {mine}\ntheirs: {theirs}")

    def values(self):
        x = self.sample.input
        mine, theirs = self.mine(x), self.theirs(x)
        self.check("values", first(mine), first(theirs), lambda: self.theirs(x.abs().double()))
        self.test.assertEqual(isinstance(mine, tuple), isinstance(theirs, tuple))
        if isinstance(theirs, tuple):
            self.require(torch.equal(mine[1], theirs[1]), "indices", mine[1], theirs[1])
            self.test.compared["indices"] += 1

    def first_gradient(self, pool, weights):
        x = self.sample.input.detach().requires_grad_()
        return gradient(first(pool(x)), x, weights)

    def gradients(self):
        weights = self.weights(first(self.theirs(self.sample.input)))
        self.check("gradients", self.first_gradient(self.mine, weights), self.first_gradient(self.theirs, weights),
                   lambda: self.first_gradient(self.theirs, weights.abs()))

    def second_gradient(self, pool, weights, directions):
        """The derivatives of <directions, gradient> by x and by the weights."""
        x, weights = self.sample.input.detach().requires_grad_(), weights.clone().requires_grad_()
        grad_x = gradient(first(pool(x)), x, weights, create_graph=True)
        return gradient(grad_x, x, directions, retain_graph=True), gradient(grad_x, weights, directions)

    def second_gradients(self):
        weights, directions = self.weights(first(self.theirs(self.sample.input))), self.weights(self.sample.input)
        mine = self.second_gradient(self.mine, weights, directions)
        theirs = self.second_gradient(self.theirs, weights, directions)
        self.require(torch.equal(mine[0], theirs[0]), "second derivative by x", mine[0], theirs[0])
        self.check("second gradients", mine[1], theirs[1],
                   lambda: self.second_gradient(self.theirs, weights, directions.abs())[1])

    def forward_derivatives(self):
        """Those of forward mode."""
        directions = self.directions()
        self.check("tangents", self.tangent(self.mine, directions), self.tangent(self.theirs, directions),
                   lambda: self.tangent(self.theirs, directions.abs()))

    def directions(self):
        return self.weights(self.sample.input)

    def tangent(self, pool, directions):
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(self.sample.input, directions)
            primal, tangent = forward_ad.unpack_dual(first(pool(dual)))
            return torch.zeros_like(primal) if tangent is None else tangent  # None: nothing depends on x


class SeededComparison(Comparison):
    """Both draw the same numbers from torch's generator."""

    def __init__(self, test, op, twin, sample):
        super().__init__(test, op, twin, sample)
        unseeded = self.mine
        self.mine = lambda x: self.seeded(unseeded, x)

    def theirs(self, x):
        return self.seeded(super().theirs, x)

    def seeded(self, pool, x):
        torch.manual_seed(SEED)
        return pool(x)


class SumComparison(Comparison):
    """Averages may differ by the rounding errors of two sums of n terms, each at most n eps times the sum of
    absolute values, and by the rounding of both results. torch adds f16 and bf16 in the type itself in places
    (adaptive_avg_pool3d), so here it computes what is expected of them in f64.
    """

    def theirs(self, x):
        return super().theirs(x.double()).to(x.dtype) if x.dtype.itemsize == 2 else super().theirs(x)

    @property
    def rank(self):
        return int(re.search(r"(\d)d", self.op.__name__)[1])

    def rounding(self, dtype):
        plane = math.prod(self.sample.input.shape[-self.rank:])  # no sample pools into more than 4 times as many
        wide = torch.promote_types(dtype, torch.float32)
        return torch.finfo(dtype).eps + 2 * (4 * plane + 16) * torch.finfo(wide).eps

    def bound(self, theirs, magnitude):
        return self.rounding(theirs.dtype) * magnitude().double().abs()


class LpComparison(SumComparison):
    """Roots of sums of powers. All terms and weights of a sum have one sign, so that errors are relative."""

    def weights(self, like):
        return super().weights(like).abs() + 1

    def directions(self):
        """So that all terms of a derivative have one sign."""
        return super().directions() * torch.where(self.sample.input < 0, -1, 1)

    def second_gradients(self):
        """Where torch's own are finite, which at x = 0 they are not always."""
        weights, directions = self.weights(first(self.theirs(self.sample.input))), self.directions()
        mine = self.second_gradient(self.mine, weights, directions)
        theirs = self.second_gradient(self.theirs, weights, directions)
        curvature = self.curvature(weights, directions)
        for what, a, b, magnitude in zip(("second derivative by x", "by the gradient"), mine, theirs,
                                         (curvature, theirs[1].double().abs())):
            self.test.assertEqual((a.dtype, a.shape), (b.dtype, b.shape), self.sample)
            finite = b.isfinite()
            self.test.assertGreater(finite.double().mean(), 0.5)
            bound = self.power_rounding(a.dtype) * magnitude + self.last_rounding(b)
            self.require(bool(((a.double() - b.double()).abs() <= bound)[finite].all()), what, a, b)
        self.test.compared["second gradients"] += 1

    def curvature(self, weights, directions):
        """The magnitudes of the terms of the second derivative by x: with window sums S and their transpose S',

            y = S(|x|^p)^(1/p),  grad_x = sign(x) |x|^(p - 1) S'(weights y^(1 - p))

        changes along v by (p - 1) times the difference of these two.
        """
        p, kernel, stride = self.sample.args
        x, v = self.sample.input.double().abs(), directions.double().abs()
        if p in (1, math.inf):
            return torch.zeros_like(x)
        average = getattr(functional, f"avg_pool{self.rank}d")

        def sums(z):
            return average(z, kernel, stride) * kernel**self.rank

        def transposed(z):
            zero = torch.zeros_like(x, requires_grad=True)
            return gradient(sums(zero), zero, z)

        y, g = sums(x**p)**(1 / p), weights.double()
        along, across = x**(p - 2) * v, x**(p - 1)
        return (p - 1) * (along * transposed(g * y**(1 - p))
                          + across * transposed(g * y**(1 - 2 * p) * sums(across * v)))

    def power_rounding(self, dtype):
        """Of either side, relative to the magnitude of a term: its factors are powers, with exponents of at most
        2 p together, of sums of n terms, the exponents rounded as well; n windows are added up.
        """
        p, kernel, _ = self.sample.args
        exponents = 2 if math.isinf(p) else 2 * p + 2
        wide = torch.promote_types(dtype, torch.float32)
        return 2 * exponents * (kernel**self.rank + 16) * torch.finfo(wide).eps

    def last_rounding(self, result):
        """To f16 or bf16, or to the last digit."""
        info = torch.finfo(result.dtype)
        return info.eps * (result.double().abs() + info.tiny)

    def bound(self, theirs, magnitude):
        return self.rounding(theirs.dtype) * theirs.double().abs()


class OpInfoTest(unittest.TestCase):
    """Totals are compared at the end of each test, so that no sample gets lost."""

    maxDiff = None

    def setUp(self):
        self.compared, self.skipped = Counter(), Counter()

    def run_sample(self, name, dtype, sample):
        kind, op = SumComparison if "avg" in name else Comparison, ENTRIES[name].op
        if "fractional" in name:  # whose own op seeds the generator in every call
            kind, op = SeededComparison, getattr(functional, name.removeprefix("nn.functional."))
        one = kind(self, op, TWINS[ENTRIES[name].name], sample)
        samples = sample.kwargs.get("_random_samples")
        if samples is not None and not ((samples >= 0) & (samples < 1)).all():
            with self.assertRaisesRegex(ValueError, "samples must lie in"):
                one.mine(sample.input)
            self.skipped[OUTSIDE] += 1
            return
        if dtype == torch.int16:
            with self.assertRaisesRegex(ValueError, "must be f32, f64, f16, bf16, i8, u8, i32 or i64, got Short"):
                one.mine(sample.input)
            self.skipped[NO_INT16] += 1
            return
        one.values()
        if dtype.is_floating_point:
            one.gradients()
            one.second_gradients()
            one.forward_derivatives()

    def test_samples(self):
        samples = Counter()
        for name, entry in ENTRIES.items():
            for dtype in sorted(entry.dtypes, key=str):
                torch.manual_seed(SEED)
                for sample in list(entry.sample_inputs("cpu", dtype, requires_grad=False)):
                    samples[name] += 1
                    with self.subTest(name, dtype=dtype):
                        self.run_sample(name, dtype, sample)
        if COUNTED:
            self.assertEqual((samples, self.compared, self.skipped), (SAMPLES, COMPARED, SKIPPED))

    def test_lp_pool(self):
        """torch.nn.functional.lp_pool, where it computes a norm: for x >= 0 or an even exponent, without ceil_mode."""
        torch.manual_seed(SEED)
        windows = [(2, None), (3, 1), (3, 2)]
        exponents = [(1, 0.1), (1.5, 0), (2, 0), (3, 0), (4, 0), (math.inf, 0), (2, -4), (4, -4), (6, -4)]
        dtypes = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
        for rank, (kernel, stride), (p, lowest), dtype in itertools.product((1, 2, 3), windows, exponents, dtypes):
            with self.subTest(rank=rank, kernel=kernel, stride=stride, p=p, lowest=lowest, dtype=dtype):
                x = make_tensor((2, 3, 7, 6, 5)[:2 + rank], dtype=dtype, device="cpu", low=lowest, high=4)
                if lowest == 0:
                    x[..., ::3] = 0  # never fills a window, for which torch's gradient is NaN
                one = LpComparison(self, getattr(functional, f"lp_pool{rank}d"), lp_pool(rank),
                                   SampleInput(x, args=(p, kernel, stride)))
                one.values()
                one.gradients()
                one.forward_derivatives()
                one.second_gradients()
        self.assertEqual((self.compared, self.skipped), (LP_COMPARED, LP_SKIPPED))

    def test_error_inputs(self):
        """What torch refuses, cenote refuses with a text of its own that names the op."""
        count, taken = 0, {}
        for name, entry in ENTRIES.items():
            for number, error in enumerate(entry.error_inputs("cpu") if entry.error_inputs_func else ()):
                count += 1
                x, arguments, keywords = (getattr(error.sample_input, field) for field in ("input", "args", "kwargs"))
                with self.subTest(name, number=number):
                    with self.assertRaisesRegex(error.error_type, error.error_regex):
                        entry.op(x, *arguments, **keywords)
                    if (name, number) in DEVIATIONS:
                        y = TWINS[entry.name](x, *arguments, **keywords)
                        taken[name, number] = tuple(y.shape)
                        continue
                    with self.assertRaisesRegex(ValueError, re.escape(f"[{name.removeprefix('nn.functional.')}] ")):
                        TWINS[entry.name](x, *arguments, **keywords)
        if COUNTED:
            self.assertEqual((count, taken), (ERRORS, {key: sizes for key, (sizes, _) in DEVIATIONS.items()}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    unittest.main()
