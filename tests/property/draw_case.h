// Draws configurations for the laws with RapidCheck, which prints its seed and shrinks what fails.
#pragma once

#include <rapidcheck.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "cenote/adaptive.h"
#include "cenote/error.h"
#include "cenote/runtime.h"
#include "conformance/cases.h"
#include "conformance/replay.h"

namespace cenote_test {

/// A whole number from low to high, both included.
inline std::int64_t draw(std::int64_t low, std::int64_t high) { return *rc::gen::inRange(low, high + 1); }

template <class DrawOne>
cenote::Dims draw_axes(int count, const DrawOne& draw_one) {
  cenote::Dims values;
  for (int axis = 0; axis < count; ++axis) values.push_back(draw_one(axis));
  return values;
}

inline cenote::Dims draw_sizes(int spatial_rank) {
  constexpr std::int64_t kLargest[] = {70, 20, 8};
  cenote::Dims sizes{draw(1, 3), draw(1, 20)};
  for (int axis = 0; axis < spatial_rank; ++axis) sizes.push_back(draw(1, kLargest[spatial_rank - 1]));
  return sizes;
}

inline void draw_window(Case& one) {
  const int rank = one.op->spatial_rank;
  cenote::OpArguments& arguments = one.arguments;
  arguments.kernel = draw_axes(rank, [](int) { return draw(1, 5); });
  arguments.stride = draw_axes(rank, [](int) { return draw(1, 4); });
  arguments.dilation = draw_axes(rank, [](int) { return draw(1, 3); });
  const auto padding = [&](int axis) {
    return draw(0, (arguments.dilation[axis] * (arguments.kernel[axis] - 1) + 1) / 2);
  };
  arguments.padding = draw_axes(rank, padding);
  arguments.padding_end = draw_axes(rank, padding);
  arguments.ceil_mode = *rc::gen::arbitrary<bool>();
}

inline void draw_fractional(Case& one) {
  const int rank = one.op->spatial_rank;
  cenote::OpArguments& arguments = one.arguments;
  const auto size = [&](int axis) { return one.sizes[2 + axis]; };
  arguments.kernel =
      draw_axes(rank, [&](int axis) { return draw(1, std::min<std::int64_t>(size(axis), 5)); });
  arguments.output_size =
      draw_axes(rank, [&](int axis) { return draw(1, size(axis) - arguments.kernel[axis] + 1); });
  arguments.seed = *rc::gen::arbitrary<std::uint64_t>();
}

inline void draw_smooth(Case& one) {
  cenote::OpArguments& arguments = one.arguments;
  if (one.op->parameters & cenote::kTakesNormType)
    arguments.norm_type =
        *rc::gen::element<double>(0.5, 1, 2, 2.5, 3, 17, std::numeric_limits<double>::infinity());
  if (one.op->parameters & cenote::kTakesSharpness)
    arguments.sharpness = *rc::gen::element<double>(0.5, 1, 3.25, 10, 20);
  if (one.op->parameters & cenote::kTakesGem) {
    arguments.p.assign(static_cast<std::size_t>(*rc::gen::arbitrary<bool>() ? 1 : one.sizes[1]), 0);
    for (double& p : arguments.p) p = *rc::gen::element<double>(0.5, 1, 2, 3, 7.5);
    arguments.eps = *rc::gen::element<double>(1e-6, 0.125);
  }
}

/// Any valid configuration of one of these ops.
inline Case draw_case_of(const std::vector<const cenote::OpInfo*>& rows) {
  Case one;
  one.op = *rc::gen::elementOf(rows);
  one.dtype = cenote::DType::f64;
  one.layout = *rc::gen::elementOf(std::vector<LayoutKind>(std::begin(kLayoutKinds), std::end(kLayoutKinds)));
  one.seed = *rc::gen::arbitrary<std::uint64_t>();
  one.sizes = draw_sizes(one.op->spatial_rank);
  if (one.op->parameters & cenote::kTakesWindow) draw_window(one);
  if (one.op->parameters & cenote::kTakesSamples) draw_fractional(one);
  draw_smooth(one);
  if (one.op->parameters & cenote::kTakesDivisor) {
    one.arguments.count_include_pad = *rc::gen::arbitrary<bool>();
    if (*rc::gen::arbitrary<bool>())
      one.arguments.divisor_override = *rc::gen::element<std::int64_t>(1, 3, -2);
  }
  if (one.op->parameters & cenote::kTakesOutputSize) {
    one.arguments.output_size = draw_axes(one.op->spatial_rank, [](int) { return draw(1, 9); });
  }
  bool valid = true;
  try {
    one.op->shape(one.sizes, one.arguments);
  } catch (const cenote::Error&) {
    valid = false;
  }
  RC_PRE(valid);
  return one;
}

/// Ops that select by rank or frequency: median and mode.
inline bool selects(const cenote::OpInfo& op) {
  return op.name.starts_with("median_") || op.name.starts_with("mode_");
}

inline Case draw_select_case() {
  std::vector<const cenote::OpInfo*> rows;
  for (const cenote::OpInfo& op : cenote::ops())
    if (selects(op)) rows.push_back(&op);
  return draw_case_of(rows);
}

/// Any valid configuration of any pooling whose record is (for maxima and minima) or is not (for avg) needed.
inline Case draw_case(bool records_indices) {
  std::vector<const cenote::OpInfo*> rows;
  for (const cenote::OpInfo& op : cenote::ops()) {
    const bool linear = !op.reads_indices && !op.gradient_reads_x && !selects(op);
    if (op.records_indices == records_indices && linear) rows.push_back(&op);
  }
  return draw_case_of(rows);
}

/// Of an op whose gradient reads x and whose name contains one of these.
inline Case draw_smooth_case(const std::vector<std::string>& kinds) {
  std::vector<const cenote::OpInfo*> rows;
  for (const cenote::OpInfo& op : cenote::ops()) {
    const auto is_in_name = [&](const std::string& kind) {
      return op.name.find(kind) != std::string_view::npos;
    };
    if (op.gradient_reads_x && std::any_of(kinds.begin(), kinds.end(), is_in_name)) rows.push_back(&op);
  }
  return draw_case_of(rows);
}

inline std::string draw_target() { return *rc::gen::elementOf(cenote::cpu_targets()); }

/// y for x = `values`, both in row-major order; x lies in the layout of the case.
inline std::vector<double> pool(const Case& one, const std::vector<double>& values) {
  const GuardedTensor x(one.dtype, one.sizes, one.layout, one.op->spatial_rank, one.seed);
  assign(x, values);
  const cenote::Dims y_sizes = one.op->shape(one.sizes, one.arguments);
  const GuardedTensor y(one.dtype, y_sizes, one.layout, one.op->spatial_rank, one.seed + 1);
  one.op->forward(y, nullptr, x, one.arguments);
  return values_of(y);
}

inline std::vector<double> random_values(Fill fill, const cenote::Dims& sizes) {
  return make_values(fill, element_count(sizes), *rc::gen::arbitrary<std::uint64_t>());
}

/// The planes (one per batch entry and channel) in another order.
inline std::vector<double> permute_planes(const std::vector<double>& values,
                                          const std::vector<std::size_t>& order) {
  const std::size_t plane = values.size() / order.size();
  std::vector<double> permuted;
  for (const std::size_t from : order) {
    permuted.insert(permuted.end(), values.begin() + static_cast<std::ptrdiff_t>(from * plane),
                    values.begin() + static_cast<std::ptrdiff_t>((from + 1) * plane));
  }
  return permuted;
}

/// A random order of the planes of a batched tensor.
inline std::vector<std::size_t> draw_plane_order(const cenote::Dims& sizes) {
  std::vector<std::size_t> order(static_cast<std::size_t>(sizes[0] * sizes[1]));
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  for (std::size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1], order[static_cast<std::size_t>(draw(0, static_cast<std::int64_t>(i) - 1))]);
  }
  return order;
}

/// |a - b| <= tolerance for every element.
inline bool close(const std::vector<double>& a, const std::vector<double>& b, double tolerance) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!(std::abs(a[i] - b[i]) <= tolerance)) return false;
  }
  return true;
}

}  // namespace cenote_test
