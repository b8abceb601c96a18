// Laws of unpooling, all exact: it undoes the pooling that gave the indices, the last of those that name one
// position stays, its backward is the adjoint and, without duplicates, its inverse.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <numeric>

#include "property/draw_case.h"

namespace cenote_test {
namespace {

/// Kernel, stride and padding with any request that the rule allows.
Case draw_unpool_case() {
  const int rank = static_cast<int>(draw(1, 3));
  Case one;
  one.op = cenote::find_op("max_unpool" + std::to_string(rank) + "d");
  one.dtype = cenote::DType::f64;
  one.layout = *rc::gen::elementOf(std::vector<LayoutKind>(std::begin(kLayoutKinds), std::end(kLayoutKinds)));
  one.seed = *rc::gen::arbitrary<std::uint64_t>() >> 16;
  one.sizes = draw_sizes(rank);
  cenote::OpArguments& arguments = one.arguments;
  arguments.kernel = draw_axes(rank, [](int) { return draw(1, 4); });
  arguments.stride = draw_axes(rank, [](int) { return draw(1, 4); });
  arguments.padding = draw_axes(rank, [&](int axis) { return draw(0, arguments.kernel[axis] / 2); });
  arguments.output_size = draw_axes(rank, [&](int axis) {
    const std::int64_t usual = (one.sizes[2 + axis] - 1) * arguments.stride[axis] + arguments.kernel[axis] -
                               2 * arguments.padding[axis];
    return std::max<std::int64_t>(1, usual + draw(1 - arguments.stride[axis], arguments.stride[axis] - 1));
  });
  bool valid = true;
  try {
    one.op->shape(one.sizes, one.arguments);
  } catch (const cenote::Error&) {
    valid = false;  // the rule leaves no size of 1 or more
  }
  RC_PRE(valid);
  return one;
}

GuardedTensor filled(const Case& one, const cenote::Dims& sizes, const std::vector<double>& values) {
  GuardedTensor tensor(one.dtype, sizes, one.layout, one.op->spatial_rank, one.seed);
  assign(tensor, values);
  return tensor;
}

std::vector<double> unpool(const Case& one, const std::vector<double>& x, const GuardedTensor& indices) {
  const cenote::Dims y_sizes = one.op->shape(one.sizes, one.arguments);
  const GuardedTensor y(one.dtype, y_sizes, one.layout, one.op->spatial_rank, one.seed + 1);
  one.op->forward(y, &indices.view(), filled(one, one.sizes, x), one.arguments);
  return values_of(y);
}

std::vector<double> unpool_backward(const Case& one, const std::vector<double>& gradient,
                                    const GuardedTensor& indices) {
  const cenote::Dims y_sizes = one.op->shape(one.sizes, one.arguments);
  const GuardedTensor grad_x(one.dtype, one.sizes, one.layout, one.op->spatial_rank, one.seed + 2);
  const cenote::ConstTensorView record = indices;
  one.op->backward(grad_x, filled(one, y_sizes, gradient), &record, one.arguments);
  return values_of(grad_x);
}

std::size_t planes_of(const Case& one) { return static_cast<std::size_t>(one.sizes[0] * one.sizes[1]); }

RC_GTEST_PROP(UnpoolLaws, TheLastOfAPositionStays, ()) {
  const Case one = draw_unpool_case();
  const TargetGuard target(draw_target());
  const std::vector<double> x = random_values(Fill::kNormal, one.sizes);
  const GuardedTensor indices = make_indices(one, one.layout);
  const std::vector<double> y = unpool(one, x, indices);
  const std::vector<std::int64_t> places = integers_of(indices);
  const std::size_t sources = x.size() / planes_of(one);
  const std::size_t positions = y.size() / planes_of(one);
  std::vector<double> expected(y.size(), 0.0);
  for (std::size_t i = 0; i < x.size(); ++i) {
    expected[i / sources * positions + static_cast<std::size_t>(places[i])] = x[i];
  }
  RC_ASSERT(y == expected);
}

RC_GTEST_PROP(UnpoolLaws, BackwardReadsWhereForwardWrites, ()) {
  const Case one = draw_unpool_case();
  const TargetGuard target(draw_target());
  const std::vector<double> g = random_values(Fill::kNormal, one.op->shape(one.sizes, one.arguments));
  const GuardedTensor indices = make_indices(one, one.layout);
  const std::vector<double> grad_x = unpool_backward(one, g, indices);
  const std::vector<std::int64_t> places = integers_of(indices);
  const std::size_t sources = grad_x.size() / planes_of(one);
  const std::size_t positions = g.size() / planes_of(one);
  for (std::size_t i = 0; i < grad_x.size(); ++i) {
    RC_ASSERT(grad_x[i] == g[i / sources * positions + static_cast<std::size_t>(places[i])]);
  }
}

RC_GTEST_PROP(UnpoolLaws, WithoutDuplicatesBackwardIsAdjointAndInverse, ()) {
  const Case one = draw_unpool_case();
  const cenote::Dims y_sizes = one.op->shape(one.sizes, one.arguments);
  RC_PRE(element_count(one.sizes) <= element_count(y_sizes));
  const TargetGuard target(draw_target());
  const std::vector<double> x = random_values(Fill::kSmallIntegers, one.sizes);
  const std::vector<double> g = random_values(Fill::kSmallIntegers, y_sizes);
  const GuardedTensor indices = make_distinct_indices(one, one.layout);
  const std::vector<double> y = unpool(one, x, indices);
  const std::vector<double> grad_x = unpool_backward(one, g, indices);
  // Small integers: the sums are exact.
  RC_ASSERT(std::inner_product(y.begin(), y.end(), g.begin(), 0.0) ==
            std::inner_product(x.begin(), x.end(), grad_x.begin(), 0.0));
  RC_ASSERT(unpool_backward(one, y, indices) == x);
}

/// A pooling whose windows lie side by side within the input, and the unpooling that undoes it.
struct Pair {
  Case pool;
  Case unpool;
};

Pair draw_pair() {
  const int rank = static_cast<int>(draw(1, 3));
  Pair pair;
  pair.pool.op = cenote::find_op("max_pool" + std::to_string(rank) + "d");
  pair.pool.dtype = cenote::DType::f64;
  pair.pool.layout =
      *rc::gen::elementOf(std::vector<LayoutKind>(std::begin(kLayoutKinds), std::end(kLayoutKinds)));
  pair.pool.seed = *rc::gen::arbitrary<std::uint64_t>() >> 16;
  pair.pool.arguments.kernel = draw_axes(rank, [](int) { return draw(1, 4); });
  pair.pool.sizes = draw_sizes(rank);
  for (int axis = 0; axis < rank; ++axis) pair.pool.sizes[2 + axis] += pair.pool.arguments.kernel[axis];
  pair.unpool = pair.pool;
  pair.unpool.op = cenote::find_op("max_unpool" + std::to_string(rank) + "d");
  pair.unpool.sizes = pair.pool.op->shape(pair.pool.sizes, pair.pool.arguments);
  // What pooling cut off at the end is less than a stride: every such size may be asked for.
  for (int axis = 0; axis < rank; ++axis) {
    pair.unpool.arguments.output_size.push_back(pair.pool.sizes[2 + axis]);
  }
  return pair;
}

RC_GTEST_PROP(UnpoolLaws, UndoesThePoolingOfTheSameOptions, ()) {
  const Pair pair = draw_pair();
  const Case& one = pair.pool;
  const TargetGuard target(draw_target());
  std::vector<double> x = random_values(Fill::kSmallIntegers, one.sizes);
  for (double& value : x) value += 3;  // positive, so that the zeros of unpooling never win
  const GuardedTensor y(one.dtype, pair.unpool.sizes, one.layout, one.op->spatial_rank, one.seed + 3);
  const GuardedTensor indices(cenote::DType::i64, pair.unpool.sizes, one.layout, one.op->spatial_rank,
                              one.seed + 4);
  one.op->forward(y, &indices.view(), filled(one, one.sizes, x), one.arguments);
  const std::vector<double> pooled = values_of(y);
  const std::vector<double> restored = unpool(pair.unpool, pooled, indices);
  RC_ASSERT(restored.size() == x.size());
  for (std::size_t i = 0; i < x.size(); ++i) RC_ASSERT(restored[i] == x[i] || restored[i] == 0);
  RC_ASSERT(pool(one, restored) == pooled);
}

}  // namespace
}  // namespace cenote_test
