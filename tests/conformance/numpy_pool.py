"""Pooling by its definition, in NumPy and Python's integers: the oracle of tests that ask no other library.

A plan lists the windows of a plane, output by output: the flat positions of the real elements in row-major
order, and how many positions count for an average. x is [N, C, spatial...]. Not fast, and not meant to be.
"""
import itertools
from collections import namedtuple

import numpy as np

Plan = namedtuple("Plan", "sizes out_sizes windows")  # windows: [(positions, counted)]


def output_size(n, k, s, p, q, d, ceil_mode):
    """Windows that start inside the input or its begin padding; below 1 there is none."""
    span = n + p + q - d * (k - 1) - 1
    out = (span + (s - 1 if ceil_mode else 0)) // s + 1
    return out - 1 if ceil_mode and (out - 1) * s >= n + p else out


def join_axes(sizes, axes):
    """The windows of a plane from those of its axes: [[(positions, counted)] per output] per axis."""
    windows = []
    for parts in itertools.product(*axes):
        positions, counted = np.zeros(1, np.int64), 1
        for size, (along, number) in zip(sizes, parts):
            positions = (positions[:, None] * size + np.array(along, np.int64)).reshape(-1)
            counted *= number
        windows.append((positions, counted))
    return Plan(tuple(sizes), tuple(len(axis) for axis in axes), windows)


def per_axis(value, rank):
    return list(value) if isinstance(value, (tuple, list)) else [value] * rank


def window_plan(sizes, kernel, stride=None, padding=0, dilation=1, ceil_mode=False, padding_end=None):
    axes = []
    rank = len(sizes)
    stride = kernel if stride is None else stride
    padding_end = padding if padding_end is None else padding_end
    for n, k, s, p, q, d in zip(sizes, *(per_axis(v, rank) for v in (kernel, stride, padding, padding_end, dilation))):
        axis = []
        for o in range(output_size(n, k, s, p, q, d, ceil_mode)):
            taps = [o * s - p + i * d for i in range(k)]
            axis.append(([t for t in taps if 0 <= t < n], sum(t < n + q for t in taps)))
        axes.append(axis)
    return join_axes(sizes, axes)


def adaptive_plan(sizes, output_sizes):
    axes = []
    for n, m in zip(sizes, per_axis(output_sizes, len(sizes))):
        bounds = [(o * n // m, -(-(o + 1) * n // m)) for o in range(m)]
        axes.append([(list(range(begin, end)), end - begin) for begin, end in bounds])
    return join_axes(sizes, axes)


def planes(x):
    return x.reshape(*x.shape[:2], -1)


def extreme(x, plan, sign=1):
    """Maxima and their positions; minima for sign -1. A NaN wins, the last one gives the position."""
    y = np.empty((*x.shape[:2], len(plan.windows)), x.dtype)
    where = np.full(y.shape, -1, np.int64)
    y[...] = (-np.inf if sign > 0 else np.inf) if x.dtype.kind == "f" else (
        np.iinfo(x.dtype).min if sign > 0 else np.iinfo(x.dtype).max)
    for o, (positions, _) in enumerate(plan.windows):
        if len(positions) == 0:
            continue
        taps = planes(x)[..., positions]
        best = taps.argmax(-1) if sign > 0 else taps.argmin(-1)
        nan = np.isnan(taps)
        last_nan = len(positions) - 1 - nan[..., ::-1].argmax(-1)
        best = np.where(nan.any(-1), last_nan, best)
        y[..., o] = np.take_along_axis(taps, best[..., None], -1)[..., 0]
        where[..., o] = positions[best]
    shape = (*x.shape[:2], *plan.out_sizes)
    return y.reshape(shape), where.reshape(shape)


def divisor(window, count_include_pad, divisor_override):
    positions, counted = window
    return divisor_override or (counted if count_include_pad else len(positions)) or 1


def average(x, plan, count_include_pad=True, divisor_override=None):
    """Means; sums for a divisor_override of 1. Of integers rounded towards zero."""
    y = np.zeros((*x.shape[:2], len(plan.windows)), np.float64)
    for o, window in enumerate(plan.windows):
        y[..., o] = planes(x)[..., window[0]].sum(-1) / divisor(window, count_include_pad, divisor_override)
    y = y if x.dtype.kind == "f" else np.trunc(y).astype(x.dtype)
    return y.reshape(*x.shape[:2], *plan.out_sizes)


def average_backward(grad_y, plan, count_include_pad=True, divisor_override=None):
    grad_x = np.zeros((*grad_y.shape[:2], int(np.prod(plan.sizes))), np.float64)
    for o, window in enumerate(plan.windows):
        share = planes(grad_y)[..., o, None] / divisor(window, count_include_pad, divisor_override)
        grad_x[..., window[0]] += share
    return grad_x.reshape(*grad_y.shape[:2], *plan.sizes)


def norm(x, plan, p):
    y = np.zeros((*x.shape[:2], len(plan.windows)), np.float64)
    for o, (positions, _) in enumerate(plan.windows):
        y[..., o] = (np.abs(planes(x)[..., positions]) ** p).sum(-1) ** (1 / p)
    return y.reshape(*x.shape[:2], *plan.out_sizes)


def norm_backward(grad_y, x, plan, p):
    """sign(x) |x|^(p - 1) y^(1 - p) per window, 0 where the window is 0."""
    flat, y = planes(x), planes(norm(x, plan, p))
    grad_x = np.zeros(flat.shape, np.float64)
    for o, (positions, _) in enumerate(plan.windows):
        taps, root = flat[..., positions], y[..., o, None]
        slope = np.sign(taps) * (np.abs(taps) / np.where(root == 0, 1, root)) ** (p - 1)
        grad_x[..., positions] += planes(grad_y)[..., o, None] * slope
    return grad_x.reshape(x.shape)


def scatter(values, where, sizes):
    """Adds each value at its position of the plane; position -1 is nowhere."""
    result = np.zeros((*values.shape[:2], int(np.prod(sizes))), np.float64)
    flat, positions = values.reshape(*values.shape[:2], -1), where.reshape(*values.shape[:2], -1)
    for n, c, i in np.ndindex(flat.shape):
        if positions[n, c, i] >= 0:
            result[n, c, positions[n, c, i]] += flat[n, c, i]
    return result.reshape(*values.shape[:2], *sizes)
