"""The gradients that torch may differentiate again (create_graph) are those that it may not, at the edges of
the numbers and in every floating type.

CENOTE_TORCH_LIBRARY names the library.
"""

import math
import os
import unittest

import torch

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


def gradient(op, x, arguments, options, create_graph):
    x = x.clone().requires_grad_()
    y = getattr(OPS, op)(x, *arguments, **options)
    (found,) = torch.autograd.grad(y.sum(), x, create_graph=create_graph)
    return found.detach()


class DifferentiableGradients(unittest.TestCase):
    def check(self, op, x, arguments, **options):
        plain = gradient(op, x, arguments, options, create_graph=False)
        again = gradient(op, x, arguments, options, create_graph=True)
        bound = TOLERANCES[x.dtype]
        torch.testing.assert_close(again, plain, rtol=bound, atol=bound, equal_nan=True)

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

    def test_a_learned_power_with_either_gradient(self):
        for dtype in TOLERANCES:
            x = (torch.arange(12.0).reshape(1, 2, 6) / 8 + 0.5).to(dtype)
            p = torch.tensor([3.0])
            for wanted in ("x", "p"):
                inputs = {"x": x.clone(), "p": p.clone()}
                inputs[wanted].requires_grad_()
                y = OPS.global_gem_pool1d(inputs["x"], inputs["p"]).sum()
                (plain,) = torch.autograd.grad(y, inputs[wanted], retain_graph=True)
                (again,) = torch.autograd.grad(y, inputs[wanted], create_graph=True)
                bound = TOLERANCES[dtype]
                torch.testing.assert_close(again.detach(), plain, rtol=bound, atol=bound)


if __name__ == "__main__":
    unittest.main()
