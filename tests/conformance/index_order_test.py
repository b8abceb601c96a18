"""What indices of torch.ops.cenote count: index_order of max, min, median, mode and of unpooling.

CENOTE_TORCH_LIBRARY names the library.
"""

import math
import os
import unittest

import torch

torch.ops.load_library(os.environ["CENOTE_TORCH_LIBRARY"])
OPS = torch.ops.cenote
ORDERS = ("plane", "tensor", "tensor_column_major")


def counted(indices, spatial, order):
    """Positions inside planes, counted in the given order: ONNX MaxPool's Indices, storage_order 0 and 1."""
    size = math.prod(spatial)
    if order == "plane":
        return indices
    rest, column_major, step = indices, torch.zeros_like(indices), size
    for length in reversed(spatial):
        step //= length
        column_major += rest.remainder(length) * step
        rest = rest.div(length, rounding_mode="floor")
    inside = column_major if order == "tensor_column_major" else indices
    planes = torch.arange(indices.shape[0] * indices.shape[1])
    return inside + size * planes.view(*indices.shape[:2], *[1] * len(spatial))


def inputs():
    generator = torch.Generator().manual_seed(2)
    for rank, layout in ((1, None), (2, None), (2, torch.channels_last), (3, None), (3, torch.channels_last_3d)):
        x = torch.randn(2, 5, *[6, 5, 4][:rank], generator=generator)
        yield rank, x if layout is None else x.contiguous(memory_format=layout)


class IndexOrder(unittest.TestCase):
    def test_indices_count_as_asked(self):
        for rank, x in inputs():
            for kind in ("max", "min", "median", "mode"):
                op = getattr(OPS, f"{kind}_pool{rank}d_with_indices")
                y, positions = op(x, [2] * rank, [1] * rank)
                for order in ORDERS:
                    with self.subTest(f"{kind}{rank}d {order}"):
                        values, indices = op(x, [2] * rank, [1] * rank, index_order=order)
                        self.assertTrue(torch.equal(values, y))
                        self.assertTrue(torch.equal(indices, counted(positions, x.shape[2:], order)))

    def test_gradients_do_not_depend_on_it(self):
        for rank, x in inputs():
            x = x.requires_grad_()
            expected = None
            for order in ORDERS:
                for name in (f"max_pool{rank}d", f"max_pool{rank}d_with_indices"):
                    y = getattr(OPS, name)(x, [2] * rank, [1] * rank, index_order=order)
                    y = y[0] if isinstance(y, tuple) else y
                    (gradient,) = torch.autograd.grad(y.square().sum(), x)
                    expected = gradient if expected is None else expected
                    self.assertTrue(torch.equal(gradient, expected), f"{name} {order}")

    def test_unpooling_reads_what_pooling_wrote(self):
        for rank, x in inputs():
            pool, unpool = getattr(OPS, f"max_pool{rank}d_with_indices"), getattr(OPS, f"max_unpool{rank}d")
            sizes = list(x.shape[2:])
            y, positions = pool(x, [2] * rank)
            expected = unpool(y, positions, [2] * rank, output_size=sizes)
            for order in ORDERS:
                _, indices = pool(x, [2] * rank, index_order=order)
                found = unpool(y, indices, [2] * rank, output_size=sizes, index_order=order)
                self.assertTrue(torch.equal(found, expected), f"{rank}d {order}")

    def test_errors(self):
        x = torch.rand(1, 2, 4, 4)
        with self.assertRaisesRegex(ValueError, "index_order must be one of plane, tensor, tensor_column_major"):
            OPS.max_pool2d(x, [2, 2], index_order="rows")
        with self.assertRaisesRegex(ValueError, "their own planes"):
            OPS.max_unpool2d(x, torch.full((1, 2, 4, 4), 3), [2, 2], index_order="tensor")


if __name__ == "__main__":
    unittest.main()
