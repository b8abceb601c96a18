// Laws of medians and modes: they pick an element, which splits its window in half or is the most frequent of
// it, and change with the elements as any selection does.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

#include "conformance/smooth_bounds.h"
#include "property/draw_case.h"

namespace cenote_test {
namespace {

struct Selected {
  std::vector<double> y;
  std::vector<std::int64_t> indices;
};

Selected select(const Case& one, const std::vector<double>& values) {
  const int rank = one.op->spatial_rank;
  const GuardedTensor x(one.dtype, one.sizes, one.layout, rank, one.seed);
  assign(x, values);
  const cenote::Dims y_sizes = one.op->shape(one.sizes, one.arguments);
  const GuardedTensor y(one.dtype, y_sizes, one.layout, rank, one.seed + 1);
  const GuardedTensor indices(cenote::DType::i64, y_sizes, one.layout, rank, one.seed + 2);
  one.op->forward(y, &indices.view(), x, one.arguments);
  return {values_of(y), integers_of(indices)};
}

/// Calls visit(y, index, elements of the window, x of its plane) for every output.
template <class Visit>
void for_each_output(const Case& one, const std::vector<double>& x, const Visit& visit) {
  const Selected selected = select(one, x);
  const auto planes = static_cast<std::size_t>(one.sizes[0] * one.sizes[1]);
  const std::size_t inputs = x.size() / planes;
  const std::vector<std::vector<std::size_t>> windows = windows_of(one);
  RC_ASSERT(windows.size() * planes == selected.y.size());
  for (std::size_t i = 0; i < selected.y.size(); ++i) {
    const double* const plane = x.data() + i / windows.size() * inputs;
    std::vector<double> elements;
    for (const std::size_t position : windows[i % windows.size()]) elements.push_back(plane[position]);
    visit(selected.y[i], selected.indices[i], elements, plane);
  }
}

RC_GTEST_PROP(SelectLaws, PicksTheElementThatTheIndexNames, ()) {
  const Case one = draw_select_case();
  const TargetGuard target(draw_target());
  const std::vector<double> x = random_values(Fill::kSmallIntegers, one.sizes);
  for_each_output(one, x,
                  [](double y, std::int64_t index, const std::vector<double>& elements, const double* plane) {
                    if (elements.empty()) {
                      RC_ASSERT(index == -1 && y == 0);
                    } else {
                      RC_ASSERT(index >= 0 && plane[index] == y);
                    }
                  });
}

RC_GTEST_PROP(SelectLaws, MediansSplitTheirWindows, ()) {
  Case one = draw_select_case();
  RC_PRE(one.op->name.starts_with("median_"));
  const TargetGuard target(draw_target());
  const std::vector<double> x = random_values(Fill::kSmallIntegers, one.sizes);
  for_each_output(one, x, [](double y, std::int64_t, const std::vector<double>& elements, const double*) {
    if (elements.empty()) return;
    const auto rank = (static_cast<std::ptrdiff_t>(elements.size()) - 1) / 2;
    const auto below = std::count_if(elements.begin(), elements.end(), [&](double e) { return e < y; });
    const auto up_to = std::count_if(elements.begin(), elements.end(), [&](double e) { return e <= y; });
    RC_ASSERT(below <= rank && rank < up_to);
  });
}

RC_GTEST_PROP(SelectLaws, ModesAreMostFrequentAndFirst, ()) {
  Case one = draw_select_case();
  RC_PRE(one.op->name.starts_with("mode_"));
  const TargetGuard target(draw_target());
  const std::vector<double> x = random_values(Fill::kSmallIntegers, one.sizes);
  for_each_output(one, x, [](double y, std::int64_t, const std::vector<double>& elements, const double*) {
    if (elements.empty()) return;
    const auto most = std::count(elements.begin(), elements.end(), y);
    for (const double other : elements) {
      RC_ASSERT(std::count(elements.begin(), elements.end(), other) <= most);
      if (other == y) break;  // those that come before it are less frequent
      RC_ASSERT(std::count(elements.begin(), elements.end(), other) < most);
    }
  });
}

RC_GTEST_PROP(SelectLaws, CommuteWithIncreasingMaps, ()) {
  const Case one = draw_select_case();
  const TargetGuard target(draw_target());
  std::vector<double> x = random_values(Fill::kSmallIntegers, one.sizes);
  const Selected before = select(one, x);
  for (double& value : x) value = 2 * value + 1;
  const Selected after = select(one, x);
  RC_ASSERT(after.indices == before.indices);
  for (std::size_t i = 0; i < before.y.size(); ++i)
    RC_ASSERT(after.y[i] == (before.indices[i] == -1 ? 0 : 2 * before.y[i] + 1));
}

}  // namespace
}  // namespace cenote_test
