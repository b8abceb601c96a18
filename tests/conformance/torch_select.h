// Medians and modes by torch's sorting and counting: the elements of each window are gathered beside one
// another.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <tuple>
#include <vector>

#include "conformance/smooth_bounds.h"

namespace cenote_test {

class TorchSelect {
 public:
  explicit TorchSelect(const Case& one)
      : median_(one.op->name.starts_with("median_")),
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
    const at::Tensor planes = x.flatten(-rank_);
    std::vector<std::int64_t> sizes = planes.sizes().vec();
    sizes.back() = positions_.size(0);
    sizes.push_back(positions_.size(1));
    const at::Tensor e = planes.index_select(-1, positions_.clamp_min(0).flatten()).reshape(sizes);
    const at::Tensor nan = e.isnan().logical_and(real);
    const at::Tensor chosen = at::where(nan.any(-1, true), nan, median_ ? medians(e, real) : modes(e, real));
    // The first of several equal elements, as argmax documents.
    const at::Tensor place = chosen.to(at::kInt).argmax(-1, true);
    const at::Tensor none = chosen.any(-1).logical_not();
    const at::Tensor y = e.gather(-1, place).squeeze(-1).masked_fill(none, 0);
    const at::Tensor at = positions_.expand(e.sizes()).gather(-1, place).squeeze(-1).masked_fill(none, -1);
    const at::IntArrayRef shape(y_sizes_.begin(), y_sizes_.end());
    return {y.reshape(shape), at.reshape(shape)};
  }

 private:
  static at::Tensor medians(const at::Tensor& e, const at::Tensor& real) {
    const at::Tensor filled = e.masked_fill(real.logical_not(), std::numeric_limits<double>::infinity());
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

  bool median_;
  int rank_;
  cenote::Dims y_sizes_;
  at::Tensor positions_;  // [outputs, taps], -1 where the window has no element
};

}  // namespace cenote_test
