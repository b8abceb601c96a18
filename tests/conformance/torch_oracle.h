// What torch itself makes of a conformance case: values, indices, gradients.
//
// `direct` calls torch's own op. Where torch has no such op or must not be called (see why_not_direct),
// `expressed` builds the result from torch's ops on an explicitly padded input: for max, a pooling without
// padding whose indices are moved back; for avg, sums of strided slices divided by counts. The
// expressions cover every case, so each direct case checks them as well. `whole` is for i64 elements that
// double does not hold. Cases come in their plain form (plain_form.h).
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/nn/functional/pooling.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "conformance/cases.h"
#include "conformance/torch_fractional.h"
#include "conformance/torch_select.h"
#include "conformance/torch_smooth.h"

namespace cenote_test {

inline at::ScalarType scalar_type_of(cenote::DType dtype) {
  switch (dtype) {
    case cenote::DType::f32:
      return at::kFloat;
    case cenote::DType::f64:
      return at::kDouble;
    case cenote::DType::f16:
      return at::kHalf;
    case cenote::DType::bf16:
      return at::kBFloat16;
    case cenote::DType::i8:
      return at::kChar;
    case cenote::DType::u8:
      return at::kByte;
    case cenote::DType::u16:
      return at::kUInt16;
    case cenote::DType::i32:
      return at::kInt;
    case cenote::DType::i64:
      return at::kLong;
  }
  throw std::logic_error("a dtype without a torch name");
}

/// One spatial axis of a case, all options expanded.
struct AxisOptions {
  std::int64_t size, out, kernel, stride, begin, end, dilation;

  /// From the first tap of the first window to the last tap of the last one.
  std::int64_t reach() const { return (out - 1) * stride + dilation * (kernel - 1) + 1; }
};

/// One thread of torch: its unpooling keeps the last of several elements of one position only if no other
/// thread writes there.
class OneTorchThread {
 public:
  OneTorchThread() : before_(at::get_num_threads()) { at::set_num_threads(1); }
  ~OneTorchThread() { at::set_num_threads(before_); }
  OneTorchThread(const OneTorchThread&) = delete;
  OneTorchThread& operator=(const OneTorchThread&) = delete;

 private:
  int before_;
};

struct TorchResult {
  at::Tensor y;
  at::Tensor indices;  // undefined for avg
  at::Tensor grad_x;
};

class TorchOracle {
 public:
  /// `x`, `grad_y` and, for an op that reads them, the indices are dense.
  TorchOracle(const Case& one, const at::Tensor& x, const at::Tensor& grad_y,
              const at::Tensor& read_indices = {})
      : case_(one),
        op_(*one.op),
        rank_(op_.spatial_rank),
        minimum_(op_.name.starts_with("min_")),
        x_(minimum_ ? -x : x),
        grad_y_(grad_y),
        read_indices_(read_indices) {
    // A sum is an average that divides by 1.
    if (op_.name.starts_with("sum_")) case_.arguments.divisor_override = 1;
    const cenote::Dims y_sizes = op_.shape(one.sizes, one.arguments);
    for (int axis = 0; axis < rank_; ++axis) axes_.push_back(axis_options(axis, y_sizes));
  }

  /// Empty when torch's own op does the case, else the reason why not.
  std::string why_not_direct() const {
    if (op_.gradient_reads_x) return why_not_direct_smooth();
    if (selects()) return "torch has no such op";
    if (takes_samples()) return TorchFractional(case_, scalar_type_of(case_.dtype)).why_not_direct();
    if ((op_.parameters & cenote::kTakesWindow) == 0) return "";
    const bool avg = !op_.records_indices;
    for (const AxisOptions& axis : axes_) {
      if (axis.begin != axis.end) return "padding differs at begin and end";
      if (avg && axis.dilation != 1) return "avg with dilation";
      if (has_empty_window(axis)) return "torch writes outside the plane for windows without an element";
      if (axis.begin > axis.kernel / 2) return "torch wants padding <= kernel / 2, whatever the dilation";
      if (avg && rank_ == 3 && axis.size < axis.kernel) return "avg_pool3d wants input >= kernel";
    }
    return "";
  }

  TorchResult direct() const {
    if (op_.gradient_reads_x) {
      return differentiate(x_.to(at::kDouble), [&](const at::Tensor& x) {
        return std::make_tuple(direct_lp(x.abs()), at::Tensor());
      });
    }
    if (takes_samples()) return direct_fractional();
    if (op_.reads_indices) {
      const OneTorchThread in_order;
      return differentiate(
          x_, [&](const at::Tensor& x) { return std::make_tuple(direct_unpool(x), at::Tensor()); });
    }
    if (op_.records_indices)
      return signed_result(differentiate(x_, [&](const at::Tensor& x) { return direct_max(x); }));
    return differentiate(x_,
                         [&](const at::Tensor& x) { return std::make_tuple(direct_avg(x), at::Tensor()); });
  }

  /// Of i64, in integers.
  TorchResult whole() const {
    if (op_.reads_indices) {
      // What unpooling only copies, in halves that double holds.
      const at::Tensor high = x_.div(kHalf, "floor");
      const at::Tensor low = x_ - high * kHalf;
      const OneTorchThread in_order;
      const auto unpooled = [&](const at::Tensor& half) {
        return direct_unpool(half.to(at::kDouble)).to(at::kLong);
      };
      return {unpooled(high) * kHalf + unpooled(low), {}, {}};
    }
    const TorchSelect windows(case_);
    if (op_.records_indices) {
      const auto [y, indices] = windows.pool(minimum_ ? -x_ : x_);
      return {y, indices, {}};
    }
    const auto [sums, counts] = windows.sums(x_);
    const cenote::OpArguments& from = case_.arguments;
    if (from.divisor_override) return {sums.div(*from.divisor_override, "trunc"), {}, {}};
    const bool windowed = (op_.parameters & cenote::kTakesWindow) != 0;
    const at::Tensor divisors = windowed ? window_sums(countable()).to(at::kLong) : counts;
    return {sums.div(divisors.clamp_min(1), "trunc"), {}, {}};
  }

  /// Windows, fractional ones too, and the ops whose gradient reads x. In double but for max.
  TorchResult expressed() const {
    if (op_.gradient_reads_x) {
      const TorchSmooth smooth(case_);
      return differentiate(x_.to(at::kDouble), [&](const at::Tensor& x) {
        return std::make_tuple(smooth.pool(x), at::Tensor());
      });
    }
    if (selects()) {
      const auto [y, indices] = TorchSelect(case_).pool(x_);
      return {y, indices, routed(indices)};
    }
    if (takes_samples()) {
      const auto [y, indices] = TorchFractional(case_, scalar_type_of(case_.dtype)).pool(x_);
      return {y, indices, routed(indices)};
    }
    if (op_.records_indices) return signed_result(expressed_max());
    return differentiate(x_.to(at::kDouble), [&](const at::Tensor& x) {
      return std::make_tuple(expressed_avg(x), at::Tensor());
    });
  }

 private:
  static constexpr std::int64_t kHalf = std::int64_t{1} << 32;

  /// Medians and modes.
  bool selects() const { return op_.name.starts_with("median_") || op_.name.starts_with("mode_"); }

  static std::int64_t value_at(const cenote::Dims& values, int axis, std::int64_t otherwise) {
    if (values.empty()) return otherwise;
    return values[values.size() == 1 ? 0 : axis];
  }

  AxisOptions axis_options(int axis, const cenote::Dims& y_sizes) const {
    const int place = y_sizes.size() - rank_ + axis;
    const cenote::OpArguments& from = case_.arguments;
    AxisOptions to{};
    to.size = case_.sizes[place];
    to.out = y_sizes[place];
    to.kernel = value_at(from.kernel, axis, 1);
    to.stride = value_at(from.stride, axis, to.kernel);
    to.begin = value_at(from.padding, axis, 0);
    to.end = value_at(from.padding_end, axis, to.begin);
    to.dilation = value_at(from.dilation, axis, 1);
    return to;
  }

  /// torch's lp_pool takes powers of x, so it gets |x|; it has no scale, and multiplies windows that
  /// ceil_mode cut off.
  std::string why_not_direct_smooth() const {
    const bool lp = op_.name.starts_with("lp_pool") && rank_ < 3;
    if (!lp || std::isinf(case_.arguments.norm_type)) return "torch has no such op";
    if (case_.fill == Fill::kLargeMagnitudes) return "torch's lp_pool overflows";
    for (const AxisOptions& axis : axes_) {
      if (axis.begin != 0 || axis.end != 0) return "torch's lp_pool has no padding";
      if (axis.dilation != 1) return "torch's lp_pool has no dilation";
    }
    return case_.arguments.ceil_mode ? "torch's lp_pool multiplies what ceil_mode cuts off" : "";
  }

  at::Tensor direct_lp(const at::Tensor& x) const {
    namespace functional = torch::nn::functional;
    const double p = case_.arguments.norm_type;
    const AxisOptions& first = axes_.front();
    if (rank_ == 1)
      return functional::lp_pool1d(x, functional::LPPool1dFuncOptions(p, first.kernel).stride(first.stride));
    const AxisOptions& last = axes_.back();
    return functional::lp_pool2d(x, functional::LPPool2dFuncOptions(p, {first.kernel, last.kernel})
                                        .stride({{first.stride, last.stride}}));
  }

  static bool has_empty_window(const AxisOptions& axis) {
    for (std::int64_t o = 0; o < axis.out; ++o) {
      bool empty = true;
      for (std::int64_t tap = 0; tap < axis.kernel; ++tap) {
        const std::int64_t at = o * axis.stride - axis.begin + tap * axis.dilation;
        empty = empty && (at < 0 || at >= axis.size);
      }
      if (empty) return true;
    }
    return false;
  }

  std::vector<std::int64_t> all(std::int64_t AxisOptions::* member) const {
    std::vector<std::int64_t> values;
    values.reserve(axes_.size());
    for (const AxisOptions& axis : axes_) values.push_back(axis.*member);
    return values;
  }

  /// Values, indices, and the gradient by torch's autograd.
  template <class Forward>
  TorchResult differentiate(const at::Tensor& x, const Forward& forward) const {
    const at::Tensor leaf = x.detach().clone().requires_grad_();
    const auto [y, indices] = forward(leaf);
    y.backward(grad_y_.to(y.scalar_type()));
    return {y.detach(), indices, leaf.grad()};
  }

  bool takes_samples() const { return (op_.parameters & cenote::kTakesSamples) != 0; }

  /// In the dtype of the case, in which torch places the windows; its 16-bit gradients also add up in it, so
  /// that those are routed here.
  TorchResult direct_fractional() const {
    const at::Tensor x = x_.to(scalar_type_of(case_.dtype));
    const TorchFractional fractional(case_, x.scalar_type());
    const auto kernel = all(&AxisOptions::kernel);
    const auto out = all(&AxisOptions::out);
    const auto pool = [&](const at::Tensor& input) {
      return rank_ == 2 ? at::fractional_max_pool2d(input, kernel, out, fractional.samples())
                        : at::fractional_max_pool3d(input, kernel, out, fractional.samples());
    };
    if (x.scalar_type() == x_.scalar_type()) return differentiate(x, pool);
    const auto [y, indices] = pool(x);
    return {y, indices, routed(indices)};
  }

  at::Tensor direct_unpool(const at::Tensor& x) const {
    auto out = all(&AxisOptions::out);
    if (rank_ == 3) {
      return at::max_unpool3d(x, read_indices_, out, all(&AxisOptions::stride), all(&AxisOptions::begin));
    }
    if (rank_ == 2) return at::max_unpool2d(x, read_indices_, out);
    out.push_back(1);  // torch's 1-D function does the same
    return at::max_unpool2d(x.unsqueeze(-1), read_indices_.unsqueeze(-1), out).squeeze(-1);
  }

  std::tuple<at::Tensor, at::Tensor> direct_max(const at::Tensor& x) const {
    const auto out = all(&AxisOptions::out);
    if ((op_.parameters & cenote::kTakesWindow) == 0) {
      if (rank_ == 1) return at::adaptive_max_pool1d(x, out);
      return rank_ == 2 ? at::adaptive_max_pool2d(x, out) : at::adaptive_max_pool3d(x, out);
    }
    return pool_max(x, all(&AxisOptions::begin), case_.arguments.ceil_mode);
  }

  std::tuple<at::Tensor, at::Tensor> pool_max(const at::Tensor& x, const std::vector<std::int64_t>& padding,
                                              bool ceil_mode) const {
    const auto kernel = all(&AxisOptions::kernel);
    const auto stride = all(&AxisOptions::stride);
    const auto dilation = all(&AxisOptions::dilation);
    if (rank_ == 1) return at::max_pool1d_with_indices(x, kernel, stride, padding, dilation, ceil_mode);
    if (rank_ == 2) return at::max_pool2d_with_indices(x, kernel, stride, padding, dilation, ceil_mode);
    return at::max_pool3d_with_indices(x, kernel, stride, padding, dilation, ceil_mode);
  }

  at::Tensor direct_avg(const at::Tensor& x) const {
    const auto out = all(&AxisOptions::out);
    if ((op_.parameters & cenote::kTakesWindow) == 0) {
      if (rank_ == 1) return at::adaptive_avg_pool1d(x, out);
      return rank_ == 2 ? at::adaptive_avg_pool2d(x, out) : at::adaptive_avg_pool3d(x, out);
    }
    auto kernel = all(&AxisOptions::kernel);
    auto stride = all(&AxisOptions::stride);
    auto padding = all(&AxisOptions::begin);
    const cenote::OpArguments& from = case_.arguments;
    if (rank_ == 3) {
      return at::avg_pool3d(x, kernel, stride, padding, from.ceil_mode, from.count_include_pad,
                            from.divisor_override);
    }
    if (rank_ == 2) {
      return at::avg_pool2d(x, kernel, stride, padding, from.ceil_mode, from.count_include_pad,
                            from.divisor_override);
    }
    if (!from.divisor_override) {
      return at::avg_pool1d(x, kernel, stride, padding, from.ceil_mode, from.count_include_pad);
    }
    // torch's 1-D op has no divisor_override; as 2-D of height 1 it has.
    kernel.insert(kernel.begin(), 1);
    stride.insert(stride.begin(), 1);
    padding.insert(padding.begin(), 0);
    return at::avg_pool2d(x.unsqueeze(-2), kernel, stride, padding, from.ceil_mode, from.count_include_pad,
                          from.divisor_override)
        .squeeze(-2);
  }

  /// x with `begin` cells of `value` before it, up to the last tap of the last window, which may lie before
  /// the end of x.
  at::Tensor padded(const at::Tensor& x, double value) const {
    std::vector<std::int64_t> cells;
    for (auto axis = axes_.rbegin(); axis != axes_.rend(); ++axis) {
      cells.push_back(axis->begin);
      cells.push_back(std::max<std::int64_t>(axis->reach() - axis->begin - axis->size, 0));
    }
    at::Tensor z = at::constant_pad_nd(x, cells, value);
    for (int i = 0; i < rank_; ++i) z = z.narrow(i - rank_, 0, axes_[static_cast<std::size_t>(i)].reach());
    return z;
  }

  // Padding is -inf, and must lose to a real -inf; so the real ones are lifted to the lowest finite number,
  // which no case contains otherwise, and lowered again at the end.
  TorchResult expressed_max() const {
    const double infinity = std::numeric_limits<double>::infinity();
    const double lowest = x_.scalar_type() == at::kFloat
                              ? static_cast<double>(std::numeric_limits<float>::lowest())
                              : std::numeric_limits<double>::lowest();
    const at::Tensor lifted = at::where(x_ == -infinity, x_.new_full({}, lowest), x_);
    const std::vector<std::int64_t> no_padding(axes_.size(), 0);
    const auto [y, padded_indices] = pool_max(padded(lifted, -infinity), no_padding, false);
    const at::Tensor indices = moved_back(padded_indices);
    return {y.masked_fill(y == lowest, -infinity), indices, routed(indices)};
  }

  /// grad_y added up at the indices; none at -1.
  at::Tensor routed(const at::Tensor& indices) const {
    const at::Tensor flat = indices.flatten(-rank_);
    const at::Tensor gradient = grad_y_.flatten(-rank_).masked_fill(flat < 0, 0);
    return at::zeros_like(x_)
        .flatten(-rank_)
        .scatter_add(-1, flat.clamp_min(0), gradient)
        .reshape(x_.sizes());
  }

  /// Indices into the padded plane as indices into the plane of x; -1 for a padding cell.
  at::Tensor moved_back(const at::Tensor& padded_indices) const {
    at::Tensor rest = padded_indices;
    at::Tensor result = at::zeros_like(rest);
    at::Tensor outside = at::zeros_like(rest, at::kBool);
    std::int64_t step = 1;
    for (auto axis = axes_.rbegin(); axis != axes_.rend(); ++axis) {
      const at::Tensor place = rest.remainder(axis->reach()) - axis->begin;
      outside = outside.logical_or(place < 0).logical_or(place >= axis->size);
      result = result + place * step;
      rest = rest.div(axis->reach(), "floor");
      step *= axis->size;
    }
    return result.masked_fill(outside, -1);
  }

  /// Sums over the windows of an input that is padded already: axis by axis, tap by tap.
  at::Tensor window_sums(at::Tensor z) const {
    for (int i = 0; i < rank_; ++i) {
      const AxisOptions& axis = axes_[static_cast<std::size_t>(i)];
      at::Tensor sum;
      for (std::int64_t tap = 0; tap < axis.kernel; ++tap) {
        const std::int64_t start = tap * axis.dilation;
        const at::Tensor term =
            z.slice(i - rank_, start, start + (axis.out - 1) * axis.stride + 1, axis.stride);
        sum = sum.defined() ? sum + term : term;
      }
      z = sum;
    }
    return z;
  }

  at::Tensor expressed_avg(const at::Tensor& x) const {
    const at::Tensor sums = window_sums(padded(x, 0));
    const cenote::OpArguments& from = case_.arguments;
    if (from.divisor_override) return sums / static_cast<double>(*from.divisor_override);
    const at::Tensor counts = window_sums(countable());
    return at::where(counts == 0, at::zeros_like(sums), sums / counts.clamp_min(1));
  }

  /// 1 at the padded positions that count in the divisor, 0 elsewhere.
  at::Tensor countable() const {
    at::Tensor cells = at::ones(all(&AxisOptions::size), at::kDouble);
    if (!case_.arguments.count_include_pad) return padded(cells, 0);
    cells = padded(cells, 1);
    for (int i = 0; i < rank_; ++i) {
      const AxisOptions& axis = axes_[static_cast<std::size_t>(i)];
      const std::int64_t counted = axis.begin + axis.size + axis.end;
      if (axis.reach() > counted) cells.slice(i, counted, axis.reach()).zero_();
    }
    return cells;
  }

  /// A minimum is the negative maximum of the negative x. Its gradient changes sign twice.
  TorchResult signed_result(TorchResult result) const {
    if (minimum_) result.y = -result.y;
    return result;
  }

  Case case_;
  const cenote::OpInfo& op_;
  int rank_;
  bool minimum_;
  at::Tensor x_;
  at::Tensor grad_y_;
  at::Tensor read_indices_;
  std::vector<AxisOptions> axes_;
};

}  // namespace cenote_test
