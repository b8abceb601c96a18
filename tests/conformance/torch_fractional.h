// Fractional max pooling by torch's arithmetic: the windows are placed by tensors of the dtype of the case,
// and the elements of each are gathered beside one another.
#pragma once

#include <ATen/ATen.h>

#include <cstring>
#include <tuple>
#include <vector>

#include "cenote/random.h"
#include "conformance/cases.h"

namespace cenote_test {

class TorchFractional {
 public:
  TorchFractional(const Case& one, at::ScalarType type)
      : rank_(one.op->spatial_rank), y_sizes_(one.op->shape(one.sizes, one.arguments)) {
    const cenote::Tensor drawn = fractional_max_pool_samples(one.sizes, rank_, one.dtype, one.arguments.seed);
    const cenote::Dims& planes = drawn.sizes();
    samples_ = at::empty({planes[0], planes[1], planes[2]}, type);
    std::memcpy(samples_.data_ptr(), drawn.view().data, samples_.nbytes());
    positions_ = at::zeros({planes[0], planes[1], 1, 1}, at::kLong);
    for (int axis = 0; axis < rank_; ++axis) {
      const cenote::Dims& kernel = one.arguments.kernel;
      const int place = one.sizes.size() - rank_ + axis;
      add_axis(samples_.select(-1, rank_ == 2 ? 1 - axis : axis).unsqueeze(-1), one.sizes[place],
               y_sizes_[place], kernel[kernel.size() == 1 ? 0 : axis]);
    }
  }

  /// [N, C, rank]
  const at::Tensor& samples() const { return samples_; }
  /// Why torch's own op must not be asked; empty when it may.
  const char* why_not_direct() const { return why_not_direct_; }

  /// y and its indices for x, which is dense.
  std::tuple<at::Tensor, at::Tensor> pool(const at::Tensor& x) const {
    const at::Tensor flat = x.flatten(-rank_);
    const at::Tensor planes = flat.dim() == 3 ? flat : flat.unsqueeze(0);
    const at::Tensor e = planes.gather(-1, positions_.flatten(-2)).reshape(positions_.sizes());
    const at::Tensor first = (e == e.amax(-1, true)).to(at::kInt).argmax(-1, true);
    const at::Tensor nan = e.isnan();
    const at::Tensor last_nan = e.size(-1) - 1 - nan.flip(-1).to(at::kInt).argmax(-1, true);
    const at::Tensor place = at::where(nan.any(-1, true), last_nan, first);
    const at::IntArrayRef shape(y_sizes_.begin(), y_sizes_.end());
    return {e.gather(-1, place).reshape(shape), positions_.gather(-1, place).reshape(shape)};
  }

 private:
  /// From the windows of the axes before: those of this one vary fastest, and so do its taps.
  void add_axis(const at::Tensor& u, std::int64_t size, std::int64_t outs, std::int64_t kernel) {
    const std::int64_t last = size - kernel;
    if (rank_ == 3 && outs + kernel - 1 == size) why_not_direct_ = "torch wants one element more in 3-D";
    at::Tensor starts = at::full_like(u, last, at::kLong);
    if (outs > 1) {
      const at::Tensor a = at::full({}, last, u.options()).div(at::full({}, outs - 1, u.options()));
      const at::Tensor i = at::arange(outs - 1, at::kLong).to(u.scalar_type());
      const at::Tensor inner = ((i + u) * a).to(at::kLong) - (u * a).to(at::kLong);
      if (inner.numel() > 0 && inner.max().item<std::int64_t>() > last)
        why_not_direct_ = "torch fails where rounding moves a window beyond the end";
      starts = at::cat({inner.clamp_max(last), starts}, -1);
    }
    const at::Tensor taps = starts.unsqueeze(-1) + at::arange(kernel, at::kLong);  // [N, C, outs, kernel]
    positions_ = (positions_.unsqueeze(3).unsqueeze(5) * size + taps.unsqueeze(2).unsqueeze(4))
                     .flatten(4, 5)
                     .flatten(2, 3);
  }

  int rank_;
  cenote::Dims y_sizes_;
  at::Tensor samples_;
  at::Tensor positions_;  // [N, C, outputs, taps]
  const char* why_not_direct_ = "";
};

}  // namespace cenote_test
