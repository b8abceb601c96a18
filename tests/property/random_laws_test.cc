// Laws of pooling that draws random numbers: windows lie where the numbers say, each plane has its own, and
// nothing else changes them.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

#include "cenote/random.h"
#include "property/draw_case.h"

namespace cenote_test {
namespace {

Case draw_fractional_case() {
  Case one =
      draw_case_of({cenote::find_op("fractional_max_pool2d"), cenote::find_op("fractional_max_pool3d")});
  one.dtype =
      *rc::gen::element(cenote::DType::f32, cenote::DType::f64, cenote::DType::f16, cenote::DType::bf16);
  return one;
}

cenote::Tensor samples_of(const Case& one) {
  return fractional_max_pool_samples(one.sizes, one.op->spatial_rank, one.dtype, one.arguments.seed);
}

std::vector<std::int64_t> indices_of(const Case& one, const std::vector<double>& values) {
  const GuardedTensor x(one.dtype, one.sizes, one.layout, one.op->spatial_rank, one.seed);
  assign(x, values);
  const cenote::Dims y_sizes = one.op->shape(one.sizes, one.arguments);
  const GuardedTensor y(one.dtype, y_sizes, one.layout, one.op->spatial_rank, one.seed + 1);
  const GuardedTensor indices(cenote::DType::i64, y_sizes, one.layout, one.op->spatial_rank, one.seed + 2);
  one.op->forward(y, &indices.view(), x, one.arguments);
  return integers_of(indices);
}

/// Where every window begins: with equal elements the first one of each wins.
std::vector<std::int64_t> begins_of(const Case& one) {
  return indices_of(one, std::vector<double>(static_cast<std::size_t>(element_count(one.sizes)), 1.0));
}

RC_GTEST_PROP(FractionalLaws, WindowsGoFromTheFirstElementToTheLast, ()) {
  const Case one = draw_fractional_case();
  const TargetGuard target(draw_target());
  const cenote::Dims y_sizes = one.op->shape(one.sizes, one.arguments);
  const std::vector<std::int64_t> begins = begins_of(one);
  for (std::size_t i = 0; i < begins.size(); ++i) {
    auto output = static_cast<std::int64_t>(i);
    std::int64_t begin = begins[i];
    for (int axis = one.op->spatial_rank - 1; axis >= 0; --axis) {
      const std::int64_t outs = y_sizes[2 + axis];
      const std::int64_t last = one.sizes[2 + axis] - one.arguments.kernel[axis];
      const std::int64_t at = begin % one.sizes[2 + axis];
      const std::int64_t o = output % outs;
      RC_ASSERT(at >= 0 && at <= last);
      if (o == 0 && outs > 1) RC_ASSERT(at == 0);
      if (o == outs - 1) RC_ASSERT(at == last);
      begin /= one.sizes[2 + axis];
      output /= outs;
    }
  }
}

RC_GTEST_PROP(FractionalLaws, LaterOutputsBeginNoEarlier, ()) {
  const Case one = draw_fractional_case();
  const TargetGuard target(draw_target());
  const cenote::Dims y_sizes = one.op->shape(one.sizes, one.arguments);
  const std::int64_t outs = y_sizes[y_sizes.size() - 1];
  const std::vector<std::int64_t> begins = begins_of(one);
  for (std::size_t i = 1; i < begins.size(); ++i) {
    if (static_cast<std::int64_t>(i) % outs != 0) RC_ASSERT(begins[i] >= begins[i - 1]);
  }
}

RC_GTEST_PROP(FractionalLaws, OneElementPerWindowAndAllOutputsIsTheInput, ()) {
  Case one = draw_fractional_case();
  one.dtype = cenote::DType::f64;
  one.arguments.kernel = 1;
  one.arguments.output_size = draw_axes(one.op->spatial_rank, [&](int axis) { return one.sizes[2 + axis]; });
  const TargetGuard target(draw_target());
  const std::vector<double> x = random_values(Fill::kNormal, one.sizes);
  RC_ASSERT(pool(one, x) == x);
}

RC_GTEST_PROP(FractionalLaws, ASeedIsTheSamplesThatItDraws, ()) {
  const Case one = draw_fractional_case();
  const TargetGuard target(draw_target());
  const std::vector<double> x = random_values(Fill::kSmallIntegers, one.sizes);
  const cenote::Tensor samples = samples_of(one);
  Case given = one;
  given.arguments.samples = samples;
  given.arguments.seed = one.arguments.seed + 1;
  RC_ASSERT(indices_of(given, x) == indices_of(one, x));
}

RC_GTEST_PROP(FractionalLaws, TheLayoutChangesNothing, ()) {
  const Case one = draw_fractional_case();
  const TargetGuard target(draw_target());
  const std::vector<double> x = random_values(Fill::kWithNan, one.sizes);
  Case other = one;
  other.layout = LayoutKind::kChannelsFirst;
  RC_ASSERT(indices_of(other, x) == indices_of(one, x));
}

RC_GTEST_PROP(FractionalLaws, PlanesMoveWithTheirSamples, ()) {
  const Case one = draw_fractional_case();
  const TargetGuard target(draw_target());
  const std::vector<double> x = random_values(Fill::kSmallIntegers, one.sizes);
  const std::vector<std::size_t> order = draw_plane_order(one.sizes);
  const cenote::Tensor samples = samples_of(one);
  const cenote::Tensor moved(one.dtype, samples.sizes());
  assign(moved, permute_planes(values_of(samples), order));
  Case given = one;
  given.arguments.samples = moved;
  RC_ASSERT(pool(given, permute_planes(x, order)) == permute_planes(pool(one, x), order));
}

}  // namespace
}  // namespace cenote_test
