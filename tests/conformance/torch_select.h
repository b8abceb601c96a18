// Medians and modes by torch's sorting and counting, and what i64 elements that double does not hold need in
// integers: the elements of each window are gathered beside one another.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <string_view>
#include <tuple>
#include <vector>

#include "conformance/smooth_bounds.h"

namespace cenote_test {

class TorchSelect {
 public:
  explicit TorchSelect(const Case& one)
      : choice_(choice_of(one.op->name)),
        rank_(one.op->spatial_rank),
        y_sizes_(one.op->shape(one.sizes, one.arguments)) {
    const std::vector<std::vector<std::size_t>> windows = windows_of(one);
    std::size_t most = 1;
    for (const auto& window : windows) most = std::max(most, window.size());
    std::vector<std::int64_t> positions;
    for (const auto& window : windows) {
      for (std::size_t i = 0; i < most; ++i)
        positions.push_back(i < window.size() ? static_cast<std::int64_t>(window[i]) : -1);
    }
    positions_ = at::tensor(positions, at::kLong).reshape({static_cast<std::int64_t>(windows.size()), -1});
  }

  /// y and its indices for x, which is dense.
  std::tuple<at::Tensor, at::Tensor> pool(const at::Tensor& x) const {
    const at::Tensor real = positions_ >= 0;
    const at::Tensor e = gathered(x);
    const at::Tensor nan = e.isnan().logical_and(real);
    const at::Tensor chosen = at::where(nan.any(-1, true), nan, chosen_of(e, real));
    // The first of several equal elements, as argmax documents.
    const at::Tensor place = chosen.to(at::kInt).argmax(-1, true);
    const at::Tensor none = chosen.any(-1).logical_not();
    const at::Tensor y = e.gather(-1, place).squeeze(-1).masked_fill(none, value_of_none(e));
    const at::Tensor at = positions_.expand(e.sizes()).gather(-1, place).squeeze(-1).masked_fill(none, -1);
    return {y.reshape(y_shape()), at.reshape(y_shape())};
  }

  /// Sums of integers and how many elements each has.
  std::tuple<at::Tensor, at::Tensor> sums(const at::Tensor& x) const {
    const at::Tensor real = positions_ >= 0;
    const at::Tensor sum = gathered(x).masked_fill(real.logical_not(), 0).sum(-1).reshape(y_shape());
    std::vector<std::int64_t> plane(y_sizes_.end() - rank_, y_sizes_.end());
    return {sum, real.sum(-1).reshape(plane)};
  }

 private:
  enum class Choice { kMedian, kMode, kLargest, kSmallest };
  static Choice choice_of(std::string_view op) {
    if (op.starts_with("median_")) return Choice::kMedian;
    if (op.starts_with("mode_")) return Choice::kMode;
    return op.starts_with("min_") ? Choice::kSmallest : Choice::kLargest;
  }

  at::IntArrayRef y_shape() const { return {y_sizes_.begin(), y_sizes_.end()}; }

  /// [..., outputs, taps]
  at::Tensor gathered(const at::Tensor& x) const {
    const at::Tensor planes = x.flatten(-rank_);
    std::vector<std::int64_t> sizes = planes.sizes().vec();
    sizes.back() = positions_.size(0);
    sizes.push_back(positions_.size(1));
    return planes.index_select(-1, positions_.clamp_min(0).flatten()).reshape(sizes);
  }

  at::Tensor chosen_of(const at::Tensor& e, const at::Tensor& real) const {
    const at::Tensor padding = real.logical_not();
    switch (choice_) {
      case Choice::kMedian:
        return medians(e, real);
      case Choice::kMode:
        return modes(e, real);
      case Choice::kLargest:
        return (e == e.masked_fill(padding, lowest(e)).amax(-1, true)).logical_and(real);
      case Choice::kSmallest:
        return (e == e.masked_fill(padding, highest(e)).amin(-1, true)).logical_and(real);
    }
    return {};
  }

  static c10::Scalar highest(const at::Tensor& e) {
    if (e.is_floating_point()) return std::numeric_limits<double>::infinity();
    return std::numeric_limits<std::int64_t>::max();
  }
  static c10::Scalar lowest(const at::Tensor& e) {
    if (e.is_floating_point()) return -std::numeric_limits<double>::infinity();
    return std::numeric_limits<std::int64_t>::min();
  }
  c10::Scalar value_of_none(const at::Tensor& e) const {
    if (choice_ == Choice::kLargest) return lowest(e);
    return choice_ == Choice::kSmallest ? highest(e) : c10::Scalar(0);
  }

  static at::Tensor medians(const at::Tensor& e, const at::Tensor& real) {
    const at::Tensor filled = e.masked_fill(real.logical_not(), highest(e));
    const at::Tensor sorted = std::get<0>(filled.sort(-1));
    const at::Tensor rank = (real.sum(-1) - 1).clamp_min(0).div(2, "floor").unsqueeze(-1);
    std::vector<std::int64_t> sizes = e.sizes().vec();
    sizes.back() = 1;
    return (e == sorted.gather(-1, rank.expand(sizes))).logical_and(real);
  }

  static at::Tensor modes(const at::Tensor& e, const at::Tensor& real) {
    at::Tensor counts = at::zeros_like(e);
    for (std::int64_t j = 0; j < e.size(-1); ++j)
      counts += (e == e.select(-1, j).unsqueeze(-1)).logical_and(real.select(-1, j).unsqueeze(-1));
    counts = counts.masked_fill(real.logical_not(), 0);
    return (counts == counts.amax(-1, true)).logical_and(real);
  }

  Choice choice_;
  int rank_;
  cenote::Dims y_sizes_;
  at::Tensor positions_;  // [outputs, taps], -1 where the window has no element
};

}  // namespace cenote_test
