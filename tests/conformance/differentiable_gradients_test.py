"""Derivatives of all orders through torch: the expressions behind second derivatives and tangents at the edges of
the numbers and in every floating type, and every way in which torch composes derivatives.

CENOTE_TORCH_LIBRARY names the library.
"""

import math
import os
import unittest
import warnings

import torch
from torch.autograd import forward_ad

torch.ops.load_library(os.environ["CENOTE_TORCH_LIBRARY"])
OPS = torch.ops.cenote
INF, NAN = math.inf, math.nan
TOLERANCES = {torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float32: 2e-6, torch.float64: 1e-12}

# Op, its arguments after the input, and the elements of one window.
WINDOWS = {
    "std of large halves": ("global_std_pool1d", (), torch.float16, [100, 400, 900]),
    "std whose squares overflow": ("global_std_pool1d", (), torch.float32, [1e25, 2e25, 3e25]),
    "std whose squares vanish": ("global_std_pool1d", (), torch.float32, [1e-30, 2e-30, 4e-30]),
    "std beside a NaN": ("global_std_pool1d", (), torch.float32, [NAN, 1, 2]),
    "gem whose cubes overflow": ("global_gem_pool1d", ([3.0], 1e-6), torch.float32, [1e25, 2e25, 3e25]),
    "lse of large halves": ("lse_pool1d", (3,), torch.float16, [7000, 6000, 100]),
    "lse beside -inf": ("lse_pool1d", (3,), torch.float64, [-INF, 1, 2]),
    "lse of -inf": ("lse_pool1d", (3,), torch.float64, [-INF] * 3),
    "soft beside -inf": ("soft_pool1d", (3,), torch.float64, [-INF, 1, 2]),
    "soft of -inf": ("soft_pool1d", (3,), torch.float64, [-INF] * 3),
    "lp 1 beside inf": ("lp_pool1d", (1.0, 3), torch.float32, [INF, 1, 2]),
    "lp 3 beside a NaN": ("lp_pool1d", (3.0, 3), torch.float32, [NAN, 1, 2]),
    "catavgmax of two NaN": ("global_catavgmax_pool1d", (), torch.float32, [1, NAN, NAN]),
    "avgmax of two NaN": ("global_avgmax_pool1d", (), torch.float32, [1, NAN, NAN]),
}


def gradient(function, x):
    x = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(function(x).sum(), x)
    return found


def gradient_from_tangents(function, x):
    """The same from forward mode, which differentiates the expression of torch's operators: one element at a
    time."""
    found = torch.empty_like(x)
    for i in range(x.numel()):
        direction = torch.zeros_like(x)
        direction.view(-1)[i] = 1
        with forward_ad.dual_level():
            y = function(forward_ad.make_dual(x, direction))
            found.view(-1)[i] = forward_ad.unpack_dual(y).tangent.sum()
    return found


class Expressions(unittest.TestCase):
    """First derivatives of the expressions are those of the kernels."""

    def check(self, op, x, arguments, **options):
        def function(x):
            return getattr(OPS, op)(x, *arguments, **options)

        bound = TOLERANCES[x.dtype]
        torch.testing.assert_close(
            gradient_from_tangents(function, x), gradient(function, x), rtol=bound, atol=bound, equal_nan=True
        )

    def test_edges(self):
        for name, (op, arguments, dtype, window) in WINDOWS.items():
            with self.subTest(name):
                self.check(op, torch.tensor([[window]], dtype=dtype), arguments)

    def test_every_type(self):
        generator = torch.Generator().manual_seed(3)
        for dtype in TOLERANCES:
            x = (torch.rand(2, 3, 6, generator=generator) + 0.5).to(dtype)
            for op, arguments in {
                "lp_pool1d": (3.0, 2),
                "lse_pool1d": (3,),
                "soft_pool1d": (3,),
                "adaptive_lp_pool1d": (2.0, 4),
                "global_lp_pool1d": (2.5,),
                "global_lse_pool1d": (),
                "global_gem_pool1d": ([3.0], 1e-6),
                "global_std_pool1d": (),
                "global_avgmax_pool1d": (),
                "global_catavgmax_pool1d": (),
            }.items():
                with self.subTest(f"{op} {dtype}"):
                    self.check(op, x, arguments)

    def test_windows_far_larger_than_the_input(self):
        x = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
        for kernel in (2**20, 2**40):
            self.check("lp_pool1d", x, (3.0, kernel), stride=1, padding=kernel // 2)
            self.check("lse_pool1d", x, (kernel,), stride=1, padding=kernel // 2)

    def test_a_learned_power(self):
        for dtype in TOLERANCES:
            x = (torch.arange(12.0).reshape(1, 2, 6) / 8 + 0.5).to(dtype)
            p = torch.tensor([3.0])
            for function, at in (
                (lambda x: OPS.global_gem_pool1d(x, p), x),
                (lambda p: OPS.global_gem_pool1d(x, p).float(), p),
            ):
                bound = TOLERANCES[dtype]
                torch.testing.assert_close(
                    gradient_from_tangents(function, at), gradient(function, at), rtol=bound, atol=bound
                )


def functions():
    """Every kind of op as a function of x [2, 3, 5, 6], by name."""
    p = torch.tensor([1.5, 3.0, 4.0], dtype=torch.float64)
    indices = OPS.max_pool2d_with_indices(torch.rand(2, 3, 10, 12), [2, 2])[1]
    return {
        "max": lambda x: OPS.max_pool2d(x, [3, 2], [2, 1], [1, 1]),
        "max with indices": lambda x: OPS.max_pool2d_with_indices(x, [3, 2], [2, 1], [1, 1])[0],
        "max in the order of the tensor": lambda x: OPS.max_pool2d(x, [2, 2], index_order="tensor"),
        "max in column-major order": lambda x: OPS.max_pool2d_with_indices(
            x, [3, 2], [2, 1], index_order="tensor_column_major"
        )[0],
        "median": lambda x: OPS.median_pool2d(x, [3, 3], [2, 2]),
        "avg": lambda x: OPS.avg_pool2d(x, [3, 2], [2, 1], [1, 1]),
        "sum": lambda x: OPS.sum_pool2d(x, [2, 2]),
        "adaptive max": lambda x: OPS.adaptive_max_pool2d(x, [3, 4]),
        "adaptive avg": lambda x: OPS.adaptive_avg_pool2d(x, [3, 4]),
        "adaptive lp": lambda x: OPS.adaptive_lp_pool2d(x, 3.0, [3, 4]),
        "lp": lambda x: OPS.lp_pool2d(x, 2.5, [3, 2], [2, 1]),
        "lse": lambda x: OPS.lse_pool2d(x, [3, 2], [2, 1], [1, 1], sharpness=2.0),
        "soft": lambda x: OPS.soft_pool2d(x, [3, 2], [2, 1]),
        "unpool": lambda x: OPS.max_unpool2d(x, indices, [2, 2]),
        "unpool in the order of the tensor": lambda x: OPS.max_unpool2d(
            x, indices + torch.arange(6).view(2, 3, 1, 1) * 120, [2, 2], index_order="tensor"
        ),
        "global lp": lambda x: OPS.global_lp_pool2d(x, 3.0),
        "global gem": lambda x: OPS.global_gem_pool2d(x.abs() + 0.1),
        "global gem of a tensor": lambda x: OPS.global_gem_pool2d(x.abs() + 0.1, p),
        "global std": OPS.global_std_pool2d,
        "global avgmax": OPS.global_avgmax_pool2d,
        "global catavgmax": OPS.global_catavgmax_pool2d,
    }


class Derivatives(unittest.TestCase):
    """First and second derivatives by every way through torch."""

    def setUp(self):
        generator = torch.Generator().manual_seed(5)
        # Apart from each other and from 0, so that small steps change no choice.
        elements = torch.randperm(180, generator=generator).reshape(2, 3, 5, 6).double()
        self.x = elements / 60 - 1.503
        self.direction = torch.randn(2, 3, 5, 6, dtype=torch.float64, generator=generator)

    def test_against_differences(self):
        for name, function in functions().items():
            with self.subTest(name):
                x = self.x.clone().requires_grad_()
                torch.autograd.gradcheck(function, x, eps=1e-6, check_forward_ad=True, fast_mode=True)
                torch.autograd.gradgradcheck(function, x, check_fwd_over_rev=True, fast_mode=True)

    def test_against_differences_of_a_learned_power(self):
        p = torch.tensor([1.5, 3.0, 4.0], dtype=torch.float64, requires_grad=True)
        x = (self.x.abs() + 0.1).requires_grad_()
        for inputs in ((x, p), (x.detach(), p), (x, p.detach())):
            torch.autograd.gradcheck(OPS.global_gem_pool2d, inputs, check_forward_ad=True)
            torch.autograd.gradgradcheck(OPS.global_gem_pool2d, inputs, check_fwd_over_rev=True)

    def test_transforms_of_torch_func_agree(self):
        for name, function in functions().items():
            with self.subTest(name), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # vmap calls the ops once for each of its elements

                def loss(x, function=function):
                    return function(x).sin().sum()

                x, v = self.x, (self.direction,)
                _, expected = torch.autograd.functional.hvp(loss, x, self.direction)
                products = {
                    "forward over reverse": torch.func.jvp(torch.func.grad(loss), (x,), v)[1],
                    "reverse over forward": torch.func.grad(
                        lambda x: torch.func.jvp(loss, (x,), v)[1]
                    )(x),
                    "reverse over reverse": torch.func.vjp(torch.func.grad(loss), x)[1](self.direction)[0],
                }
                for way, found in products.items():
                    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9, msg=way)
                torch.testing.assert_close(torch.func.jacrev(function)(x), torch.func.jacfwd(function)(x))

    def test_dual_tensors_that_are_recorded(self):
        for name, function in functions().items():
            with self.subTest(name):

                def loss(x, function=function):
                    return function(x).sin().sum()

                _, expected = torch.autograd.functional.hvp(loss, self.x, self.direction)
                x = self.x.clone().requires_grad_()
                with forward_ad.dual_level():
                    dual = forward_ad.make_dual(x, self.direction)
                    (found,) = torch.autograd.grad(loss(dual), dual)
                    tangent = forward_ad.unpack_dual(found).tangent
                torch.testing.assert_close(tangent, expected)
                self.assertFalse(tangent.requires_grad)

    def test_third_derivatives(self):
        def slopes(x):
            return torch.func.grad(lambda x: OPS.lp_pool2d(x, 3.0, [2, 2]).sum())(x)

        x = self.x.clone().requires_grad_()
        torch.autograd.gradgradcheck(slopes, x, fast_mode=True)

    def test_a_second_backward_needs_retain_graph(self):
        for name in ("max", "lp", "global gem of a tensor"):
            y = functions()[name](self.x.clone().requires_grad_()).sum()
            y.backward()
            with self.assertRaisesRegex(RuntimeError, "a second time"):
                y.backward()

    def test_compiled(self):
        for name, function in functions().items():
            with self.subTest(name):
                torch.compiler.reset()
                compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
                x = self.x.clone().requires_grad_()
                (found,) = torch.autograd.grad(compiled(x).sum(), x)
                torch.testing.assert_close(found, gradient(function, self.x))


if __name__ == "__main__":
    unittest.main()
