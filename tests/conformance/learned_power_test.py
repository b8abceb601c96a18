"""GeM with a power that is learned: torch.ops.cenote.global_gem_pool{1,2,3}d with a tensor for p.

CENOTE_TORCH_LIBRARY names the library.
"""

import os
import unittest

import torch

torch.ops.load_library(os.environ["CENOTE_TORCH_LIBRARY"])
OPS = {rank: getattr(torch.ops.cenote, f"global_gem_pool{rank}d") for rank in (1, 2, 3)}


def definition(x, p, eps, rank):
    """Radenovic et al., 2018."""
    if p.numel() > 1:
        p = p.reshape([-1] + [1] * rank)
    axes = tuple(range(-rank, 0))
    return x.clamp_min(eps).pow(p).mean(axes, keepdim=True).pow(1 / p)


def inputs(rank, channels, per_channel):
    generator = torch.Generator().manual_seed(rank)
    x = torch.randn(2, channels, *[4, 3, 5][:rank], dtype=torch.float64, generator=generator)
    p = 1.5 + 3 * torch.rand(channels if per_channel else 1, dtype=torch.float64, generator=generator)
    return x.requires_grad_(), p.requires_grad_()


class LearnedPower(unittest.TestCase):
    def test_values_and_gradients_equal_the_definition(self):
        for rank, op in OPS.items():
            for per_channel in (False, True):
                x, p = inputs(rank, 6, per_channel)
                y, expected = op(x, p, 0.01), definition(x, p, 0.01, rank)
                torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
                gradient = torch.randn_like(y)
                got = torch.autograd.grad(y, (x, p), gradient)
                wanted = torch.autograd.grad(expected, (x, p), gradient)
                torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)

    def test_first_and_second_derivatives(self):
        for rank, op in OPS.items():
            x, p = inputs(rank, 3, per_channel=rank == 2)
            self.assertTrue(torch.autograd.gradcheck(lambda x, p: op(x, p, 0.1), (x, p)))
            self.assertTrue(torch.autograd.gradgradcheck(lambda x, p: op(x, p, 0.1), (x, p)))

    def test_p_alone_may_want_a_gradient(self):
        x, p = inputs(2, 6, per_channel=True)
        (gradient,) = torch.autograd.grad(OPS[2](x.detach(), p).sum(), p)
        (expected,) = torch.autograd.grad(definition(x.detach(), p, 1e-6, 2).sum(), p)
        torch.testing.assert_close(gradient, expected)

    def test_channels_last_and_half_precision(self):
        x = torch.rand(2, 16, 6, 5, generator=torch.Generator().manual_seed(0))
        p = torch.tensor(3.0, requires_grad=True)
        for dtype, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 1e-2)):
            cast = x.to(dtype, memory_format=torch.channels_last).requires_grad_()
            y = OPS[2](cast, p)
            self.assertEqual(y.dtype, dtype)
            expected = definition(cast.detach().float(), p, 1e-6, 2)
            torch.testing.assert_close(y.float(), expected, rtol=tolerance, atol=tolerance)
            y.float().sum().backward()
            self.assertEqual(cast.grad.dtype, dtype)
            self.assertEqual(p.grad.shape, p.shape)

    def test_a_number_still_works_and_meta_gives_shapes(self):
        x = torch.rand(2, 4, 3, 3)
        torch.testing.assert_close(OPS[2](x, [3.0]), OPS[2](x, torch.tensor([3.0])))
        meta = OPS[2](x.to("meta"), torch.tensor([3.0], device="meta"))
        self.assertEqual(meta.shape, (2, 4, 1, 1))

    def test_a_step_lowers_the_loss(self):
        x = torch.rand(4, 8, 7, 7, generator=torch.Generator().manual_seed(1))
        target = definition(x, torch.tensor(5.0), 1e-6, 2)
        p = torch.nn.Parameter(torch.tensor([2.0]))
        optimiser = torch.optim.Adam([p], lr=0.1)
        for _ in range(100):
            optimiser.zero_grad()
            (OPS[2](x, p) - target).square().mean().backward()
            optimiser.step()
        self.assertAlmostEqual(p.item(), 5.0, delta=0.05)

    def test_errors(self):
        x = torch.rand(1, 3, 4, 4)
        for p, text in (
            (torch.tensor([1, 2, 3]), "floating"),
            (torch.ones(3, 1), "number or a list"),
            (torch.ones(2), "p"),
            (torch.tensor([-1.0]), "p"),
            (torch.ones(0), "p"),
        ):
            with self.assertRaisesRegex(ValueError, text):
                OPS[2](x, p)


if __name__ == "__main__":
    unittest.main()
