// Runs one case; see replay.h.
#include "conformance/replay.h"

#include <cmath>
#include <limits>
#include <memory>
#include <optional>

#include "cenote/runtime.h"
#include "conformance/plain_form.h"

namespace cenote_test {
namespace {

using cenote::Dims;
using cenote::DType;

/// A case with its tensors; every run of the op gets fresh, guarded outputs.
class Replay {
 public:
  Replay(const Case& one, LayoutKind layout, GuardedTensor x, const std::vector<double>& gradient)
      : case_(one),
        layout_(layout),
        y_sizes_(one.op->shape(one.sizes, one.arguments)),
        x_(std::move(x)),
        differentiable_(is_floating(x_.view().dtype)),
        grad_y_(make(differentiable_ ? x_.view().dtype : DType::f32, y_sizes_)) {
    assign(grad_y_, gradient);
    if (one.op->reads_indices) {
      read_indices_ = make_indices(one, layout);
      read_before_ = integers_of(*read_indices_);
    }
  }

  std::vector<double> forward(GuardedTensor* record) {
    GuardedTensor y = make(x_.view().dtype, y_sizes_);
    if (read_indices_) record = &*read_indices_;
    const cenote::TensorView* indices = record == nullptr ? nullptr : &record->view();
    case_.op->forward(y, indices, x_, arguments_for(record));
    intact_ = intact_ && y.guards_intact() && (record == nullptr || record->guards_intact());
    intact_ = intact_ && (!read_indices_ || integers_of(*read_indices_) == read_before_);
    if (x_.view().dtype == DType::i64) {
      const std::vector<std::int64_t> integers = integers_of(y);
      whole_.insert(whole_.end(), integers.begin(), integers.end());
    }
    return values_of(y);
  }

  /// Nothing for integers.
  std::vector<double> backward(const GuardedTensor* record) {
    if (!differentiable_) return {};
    GuardedTensor grad_x = make(x_.view().dtype, case_.sizes);
    std::optional<cenote::ConstTensorView> indices;
    if (read_indices_) record = &*read_indices_;
    if (record != nullptr) indices = *record;
    const cenote::ConstTensorView x = x_;
    const cenote::ConstTensorView* kept = case_.op->gradient_reads_x ? &x : indices ? &*indices : nullptr;
    case_.op->backward(grad_x, grad_y_, kept, arguments_for(record));
    intact_ = intact_ && grad_x.guards_intact();
    return values_of(grad_x);
  }

  GuardedTensor make_record(DType dtype) { return make(dtype, y_sizes_); }
  const std::vector<std::int64_t>& whole() const { return whole_; }
  bool intact() const { return intact_; }

 private:
  /// Compact taps have no index order.
  cenote::OpArguments arguments_for(const GuardedTensor* record) const {
    cenote::OpArguments arguments = case_.arguments;
    if (record != nullptr && record->view().dtype != DType::i64)
      arguments.index_order = cenote::IndexOrder::kPlane;
    return arguments;
  }

  GuardedTensor make(DType dtype, const Dims& sizes) {
    return {dtype, sizes, layout_, case_.op->spatial_rank, case_.seed + ++made_};
  }

  const Case& case_;
  LayoutKind layout_;
  std::uint64_t made_ = 0;
  Dims y_sizes_;
  GuardedTensor x_;
  bool differentiable_;
  GuardedTensor grad_y_;
  std::optional<GuardedTensor> read_indices_;  // for the ops that read them
  std::vector<std::int64_t> read_before_;
  std::vector<std::int64_t> whole_;
  bool intact_ = true;
};

Outcome run(Replay& replay, const Case& one) {
  Outcome outcome;
  outcome.y = replay.forward(nullptr);
  if (one.op->records_indices) {
    GuardedTensor indices = replay.make_record(DType::i64);
    outcome.y_with_indices = replay.forward(&indices);
    outcome.indices = integers_of(indices);
    outcome.grad_x = replay.backward(&indices);
    const DType tap_dtype = one.op->tap_dtype(one.sizes, one.arguments);
    GuardedTensor taps = replay.make_record(tap_dtype);
    outcome.y_with_taps = replay.forward(&taps);
    outcome.taps = integers_of(taps);
    outcome.grad_x_from_taps = replay.backward(&taps);
    if (tap_dtype == DType::u8) {
      GuardedTensor wide_taps = replay.make_record(DType::u16);
      replay.forward(&wide_taps);
      outcome.wide_taps = integers_of(wide_taps);
      outcome.grad_x_from_wide_taps = replay.backward(&wide_taps);
    }
  } else {
    outcome.grad_x = replay.backward(nullptr);
  }
  outcome.whole = replay.whole();
  outcome.guards_intact = replay.intact();
  return outcome;
}

std::vector<double> gradient_of(const Case& one) {
  return values_of(one.op->records_indices ? make_exact_output_gradient(one) : make_output_gradient(one));
}

}  // namespace

Outcome replay(const Case& one, LayoutKind layout) {
  Replay replay(one, layout, make_input(one, layout), gradient_of(one));
  return run(replay, one);
}

Outcome replay_meaning(const Case& one) {
  const TargetGuard target("reference");
  const Case plain = plain_form(one);
  if (one.arguments.quantization) {
    Outcome outcome;
    outcome.y = Replay(plain, LayoutKind::kChannelsFirst,
                       GuardedTensor(plain.dtype, one.sizes, real_input(one)), gradient_of(one))
                    .forward(nullptr);
    return outcome;
  }
  Outcome outcome = replay(plain, LayoutKind::kChannelsFirst);
  const auto reorder = [&](std::vector<std::int64_t>& positions) {
    positions = in_index_order(positions, one.sizes, one.op->spatial_rank, one.arguments.index_order);
  };
  reorder(outcome.indices);
  // Windows with more taps than compact records hold.
  if (one.op->records_indices && one.op->tap_dtype(one.sizes, one.arguments) == DType::i64)
    reorder(outcome.taps);
  return outcome;
}

Outcome replay_magnitudes(const Case& one) {
  const TargetGuard target("reference");
  std::vector<double> magnitudes = real_input(one);
  for (double& value : magnitudes) value = std::abs(value);
  std::vector<double> gradient = gradient_of(one);
  for (double& value : gradient) value = std::abs(value);
  Case positive = plain_form(one);
  positive.dtype = DType::f64;
  if (one.arguments.divisor_override) {
    positive.arguments.divisor_override = std::abs(*one.arguments.divisor_override);
  }
  Replay replay(positive, LayoutKind::kChannelsFirst, GuardedTensor(DType::f64, one.sizes, magnitudes),
                gradient);
  return run(replay, positive);
}

TargetGuard::TargetGuard(const std::string& target) : previous_(cenote::cpu_target()) {
  cenote::set_cpu_target(target);
}

TargetGuard::~TargetGuard() { cenote::set_cpu_target(previous_); }

Precision precision_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return {std::numeric_limits<double>::epsilon(), std::numeric_limits<double>::min()};
    case DType::f32:
      return {std::numeric_limits<float>::epsilon(), std::numeric_limits<float>::min()};
    case DType::f16:
      return {0x1p-10, 0x1p-14};
    case DType::bf16:
      return {0x1p-7, std::numeric_limits<float>::min()};
    default:
      return {0, 0};
  }
}

}  // namespace cenote_test
