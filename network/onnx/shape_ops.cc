// Reshape, Squeeze and Unsqueeze compute new sizes from axes or a shape, given as an attribute in old
// versions and as an input in new ones.
#include "network/onnx/shape_ops.h"

#include <array>
#include <cstring>

#include "network/error_text.h"
#include "network/onnx/attributes.h"

namespace cenote::network::onnx {
namespace {

using Integers = std::vector<std::int64_t>;

Value with_sizes(const Value& x, const Dims& sizes) { return {x.type, sizes, x.bytes}; }

std::optional<Integers> axes_of(const Call& call) {
  return call.op.max_inputs == 1 ? ints_attribute(call, "axes") : ints_input(call, 1, "axes");
}

/// One flag per dimension of a tensor of this rank; negative axes count from the end.
std::array<bool, Dims::kMaxRank> flag_axes(const Call& call, const Integers& axes, int rank) {
  std::array<bool, Dims::kMaxRank> flags{};
  for (const std::int64_t axis : axes) {
    if (axis < -rank || axis >= rank) {
      fail(ErrorCode::kBadFile, "[{}] axes must lie in {}..{}, got {}", call.name(), -rank, rank - 1, axis);
    }
    bool& flag = flags[static_cast<std::size_t>(axis < 0 ? axis + rank : axis)];
    if (flag) fail(ErrorCode::kBadFile, "[{}] axes name axis {} twice", call.name(), axis);
    flag = true;
  }
  return flags;
}

/// The sizes with 0 replaced by the size of the input; -1 is left. Their product without -1 is in `count`.
Dims requested_sizes(const Call& call, const Integers& shape, bool allow_zero, std::int64_t& count,
                     int& open_axis) {
  const Dims& from = call.inputs[0]->sizes;
  Dims sizes;
  for (std::int64_t size : shape) {
    const int axis = sizes.size();
    if (size < -1 || (size == -1 && open_axis >= 0)) {
      fail(ErrorCode::kBadFile, "[{}] shape must hold sizes >= 0 and at most one -1, got [{}]", call.name(),
           fmt::join(shape, ", "));
    }
    if (size == 0 && !allow_zero) {
      if (axis >= from.size()) {
        fail(ErrorCode::kBadFile, "[{}] shape[{}] is 0, but the input has rank {}", call.name(), axis,
             from.size());
      }
      size = from[axis];
    }
    if (size == -1) {
      open_axis = axis;
    } else if (__builtin_mul_overflow(count, size, &count)) {
      fail(ErrorCode::kBadFile, "[{}] the product of shape passes 64 bits", call.name());
    }
    sizes.push_back(size);
  }
  return sizes;
}

template <class T>
Value numbers(const Call& call, ElementType type, const Dims& sizes, const T* from) {
  std::vector<std::byte> bytes(call.budget.take_value(call.name(), type, sizes));
  if (!bytes.empty()) std::memcpy(bytes.data(), from, bytes.size());
  return make_value(type, sizes, std::move(bytes));
}

struct ConstantOf {
  Value operator()(const Value& value) const { return value; }
  Value operator()(const std::int64_t& value) const { return numbers(call, ElementType::kI64, {}, &value); }
  Value operator()(const float& value) const { return numbers(call, ElementType::kF32, {}, &value); }
  Value operator()(const Integers& values) const {
    return numbers(call, ElementType::kI64, static_cast<std::int64_t>(values.size()), values.data());
  }
  Value operator()(const std::vector<float>& values) const {
    return numbers(call, ElementType::kF32, static_cast<std::int64_t>(values.size()), values.data());
  }
  template <class Other>
  Value operator()(const Other&) const {
    fail(ErrorCode::kUnsupported, "Constant: strings and sparse tensors are not read");
  }

  const Call& call;
};

}  // namespace

std::vector<Value> constant(const Call& call) {
  if (call.node.attributes.size() != 1) {
    fail(ErrorCode::kBadFile, "[{}] it takes exactly one attribute, got {}", call.name(),
         call.node.attributes.size());
  }
  return {std::visit(ConstantOf{call}, call.node.attributes.begin()->second)};
}

std::vector<Value> identity(const Call& call) { return {*call.inputs[0]}; }

std::vector<Value> reshape(const Call& call) {
  const Value& x = *call.inputs[0];
  const auto shape = call.op.max_inputs == 1 ? ints_attribute(call, "shape") : ints_input(call, 1, "shape");
  if (!shape) fail(ErrorCode::kBadFile, "[{}] shape is required", call.name());
  if (shape->size() > Dims::kMaxRank) {
    fail(ErrorCode::kUnsupported, "Reshape to rank {}, at most {} is supported", shape->size(),
         Dims::kMaxRank);
  }
  std::int64_t count = 1;
  int open_axis = -1;
  Dims sizes = requested_sizes(call, *shape, bool_attribute(call, "allowzero"), count, open_axis);
  if (open_axis >= 0 && count > 0 && x.count() % count == 0) {
    sizes[open_axis] = x.count() / count;
    count = x.count();
  }
  if (count != x.count() || (open_axis >= 0 && sizes[open_axis] < 0)) {
    fail(ErrorCode::kBadFile, "[{}] shape [{}] does not fit sizes {}", call.name(), fmt::join(*shape, ", "),
         to_string(x.sizes));
  }
  return {with_sizes(x, sizes)};
}

std::vector<Value> squeeze(const Call& call) {
  const Value& x = *call.inputs[0];
  const auto axes = axes_of(call);
  const auto named = flag_axes(call, axes.value_or(Integers()), x.sizes.size());
  Dims sizes;
  for (int axis = 0; axis < x.sizes.size(); ++axis) {
    const bool is_named = named[static_cast<std::size_t>(axis)];
    if (is_named && x.sizes[axis] != 1) {
      fail(ErrorCode::kBadFile, "[{}] axis {} must have size 1, got sizes {}", call.name(), axis,
           to_string(x.sizes));
    }
    const bool removed = axes ? is_named : x.sizes[axis] == 1;
    if (!removed) sizes.push_back(x.sizes[axis]);
  }
  return {with_sizes(x, sizes)};
}

std::vector<Value> unsqueeze(const Call& call) {
  const Value& x = *call.inputs[0];
  const auto axes = axes_of(call);
  if (!axes) fail(ErrorCode::kBadFile, "[{}] axes are required", call.name());
  const std::size_t rank = static_cast<std::size_t>(x.sizes.size()) + axes->size();
  if (rank > Dims::kMaxRank) {
    fail(ErrorCode::kUnsupported, "Unsqueeze to rank {}, at most {} is supported", rank, Dims::kMaxRank);
  }
  const auto added = flag_axes(call, *axes, static_cast<int>(rank));
  Dims sizes;
  int from = 0;
  for (std::size_t axis = 0; axis < rank; ++axis) sizes.push_back(added[axis] ? 1 : x.sizes[from++]);
  return {with_sizes(x, sizes)};
}

}  // namespace cenote::network::onnx
