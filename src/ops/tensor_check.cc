// The checks behind tensor_check.h. Nothing here reads or writes an element.
#include "ops/tensor_check.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/check.h"

namespace cenote {

namespace {

__extension__ using Wide = __int128;  // for addresses plus extents

/// Whether there are no elements, of sizes >= 0.
bool has_zero(const Dims& sizes) { return std::find(sizes.begin(), sizes.end(), 0) != sizes.end(); }

/// Bytes from data + low to data + high hold every element of a view.
struct Extent {
  std::int64_t low = 0;
  std::int64_t high = 0;
};

Extent extent_of(const OpName& named, std::string_view argument, const ConstTensorView& view) {
  if (const std::int64_t bytes = dense_bytes(named, view.dtype, view.sizes, view.strides); bytes > 0)
    return {0, bytes};
  const std::string_view op = named.name;
  const auto width = static_cast<std::int64_t>(size_of(view.dtype));
  Extent extent;
  for (int axis = 0; axis < view.sizes.size(); ++axis) {
    const std::int64_t bytes = checked_multiply(view.strides[axis], width, op, "extent of ", argument);
    const std::int64_t reach = checked_multiply(view.sizes[axis] - 1, bytes, op, "extent of ", argument);
    std::int64_t& end = reach < 0 ? extent.low : extent.high;
    end = checked_add(end, reach, op, "extent of ", argument);
  }
  extent.high = checked_add(extent.high, width, op, "extent of ", argument);
  checked_add(extent.high, -(extent.low + 1), op, "extent of ", argument);
  return extent;
}

void check_memory(const OpName& op, std::string_view argument, const ConstTensorView& view) {
  const auto address = reinterpret_cast<std::uintptr_t>(view.data);
  require(view.data != nullptr, op.name, argument, " data must not be null for sizes ", view.sizes);
  require(address % size_of(view.dtype) == 0, op.name, argument, " data must be aligned to ",
          size_of(view.dtype), " bytes, got address ", view.data);
  extent_of(op, argument, view);
}

/// Every element has its own address: sorted by stride, each dimension steps over all smaller ones.
/// This is PyTorch's rule too; it refuses a few exotic layouts that would be legal.
void check_not_self_overlapping(const OpName& named, std::string_view argument, const TensorView& view) {
  if (dense_bytes(named, view.dtype, view.sizes, view.strides) > 0) return;
  const std::string_view op = named.name;
  std::array<std::pair<std::int64_t, std::int64_t>, Dims::kMaxRank> dimensions;  // |stride|, size
  auto* end = dimensions.begin();
  for (int axis = view.sizes.size() - 1; axis >= 0; --axis) {
    if (view.sizes[axis] <= 1) continue;
    const std::pair dimension{std::abs(view.strides[axis]), view.sizes[axis]};
    auto* place = end++;
    for (; place != dimensions.begin() && dimension < place[-1]; --place) *place = place[-1];
    *place = dimension;
  }
  std::int64_t reach = 0;
  for (const auto* dimension = dimensions.begin(); dimension != end; ++dimension) {
    const auto& [stride, size] = *dimension;
    require(stride > reach, op, argument, " must store every element at its own address, got sizes ",
            view.sizes, " with strides ", view.strides);
    reach += stride * (size - 1);
  }
}

/// The bytes that a view touches, seen modulo `period`: a start and a length. Dimensions that step by
/// whole periods do not move the start.
struct Residue {
  std::int64_t start;
  std::int64_t length;
};

Residue residue_of(const ConstTensorView& view, std::int64_t period) {
  const auto width = static_cast<std::int64_t>(size_of(view.dtype));
  std::int64_t low = 0;
  std::int64_t high = width;
  for (int axis = 0; axis < view.sizes.size(); ++axis) {
    const std::int64_t stride = view.strides[axis] * width;
    if (stride % period == 0) continue;
    (stride < 0 ? low : high) += stride * (view.sizes[axis] - 1);
  }
  const auto address = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(view.data) %
                                                 static_cast<std::uintptr_t>(period));
  return {((address + low % period) % period + period) % period, high - low};
}

bool disjoint_modulo(const ConstTensorView& a, const ConstTensorView& b, std::int64_t period) {
  const Residue first = residue_of(a, period);
  const Residue second = residue_of(b, period);
  const std::int64_t ahead = (second.start - first.start + period) % period;
  return first.length <= ahead && second.length <= period - ahead;
}

/// Exact for disjoint address ranges and for slices of one common buffer (say, channels of a channels-last
/// tensor); otherwise views whose ranges intersect count as overlapping.
bool may_overlap(const OpName& op, const ConstTensorView& a, const ConstTensorView& b) {
  const Extent first = extent_of(op, "view", a);
  const Extent second = extent_of(op, "view", b);
  const auto base_a = static_cast<Wide>(reinterpret_cast<std::uintptr_t>(a.data));
  const auto base_b = static_cast<Wide>(reinterpret_cast<std::uintptr_t>(b.data));
  if (base_a + first.high <= base_b + second.low || base_b + second.high <= base_a + first.low) return false;
  for (const ConstTensorView* view : {&a, &b}) {
    for (int axis = 0; axis < view->sizes.size(); ++axis) {
      const std::int64_t period =
          std::abs(view->strides[axis] * static_cast<std::int64_t>(size_of(view->dtype)));
      if (view->sizes[axis] > 1 && period > 0 && disjoint_modulo(a, b, period)) return false;
    }
  }
  return true;
}

template <class Void>
BasicTensor5<Void> to_tensor5(const OpName& op, Void* data, DType dtype, const Dims& sizes,
                              const Dims& strides) {
  BasicTensor5<Void> tensor;
  tensor.data = data;
  tensor.dtype = dtype;
  const int rank = sizes.size();
  const int leading = rank - op.spatial_rank;  // 1: C; 2: N, C
  for (int axis = 0; axis < rank; ++axis) {
    const int place = axis < leading ? axis + 2 - leading : axis + 5 - rank;
    tensor.size[static_cast<std::size_t>(place)] = sizes[axis];
    tensor.stride[static_cast<std::size_t>(place)] = sizes[axis] > 1 ? strides[axis] : 0;
  }
  return tensor;
}

/// Where a spatial axis of an op lies among D, H and W.
std::size_t spatial_place(const OpName& op, int axis) {
  const int place = 3 - op.spatial_rank + axis;
  return static_cast<std::size_t>(place);
}

}  // namespace

std::int64_t dense_bytes(const OpName& op, DType dtype, const Dims& sizes, const Dims& strides) {
  const int rank = sizes.size();
  const auto bytes = [&](bool channels_last) -> std::int64_t {
    std::int64_t step = 1;
    const auto next = [&](int axis) {
      const std::int64_t size = sizes[axis];
      return (size == 1 || strides[axis] == step) && !__builtin_mul_overflow(step, size, &step);
    };
    const int channel = channels_last ? rank - op.spatial_rank - 1 : -1;
    if (channels_last && (channel < 0 || !next(channel))) return 0;
    for (int axis = rank - 1; axis >= 0; --axis) {
      if (axis != channel && !next(axis)) return 0;
    }
    return __builtin_mul_overflow(step, static_cast<std::int64_t>(size_of(dtype)), &step) ? 0 : step;
  };
  const std::int64_t first = bytes(false);
  return first > 0 ? first : bytes(true);
}

void check_input_sizes(const OpName& op, const Dims& sizes) {
  const int rank = sizes.size();
  require(rank == op.spatial_rank + 1 || rank == op.spatial_rank + 2, op.name, "x must have rank ",
          op.spatial_rank + 1, " (without batch) or ", op.spatial_rank + 2, ", got sizes ", sizes);
  for (int axis = 0; axis < rank; ++axis) {
    const bool batch = rank == op.spatial_rank + 2 && axis == 0;
    require(sizes[axis] >= (batch ? 0 : 1), op.name, "x sizes[", axis, "] must be ", batch ? ">= 0" : "> 0",
            ", got sizes ", sizes);
  }
  // The batch may be empty, so its size says nothing about the other products.
  std::int64_t count = 1;
  for (const std::int64_t size : sizes) {
    if (size > 0) count = checked_multiply(count, size, op.name, "number of elements of x");
  }
}

std::array<std::int64_t, 3> spatial_sizes(const OpName& op, const Dims& sizes) {
  std::array<std::int64_t, 3> spatial{1, 1, 1};
  for (int axis = 0; axis < op.spatial_rank; ++axis) {
    spatial[spatial_place(op, axis)] = sizes[sizes.size() - op.spatial_rank + axis];
  }
  return spatial;
}

Dims with_spatial_sizes(const OpName& op, const Dims& sizes, const std::array<std::int64_t, 3>& spatial) {
  Dims result = sizes;
  std::int64_t count = 1;
  for (int axis = 0; axis < op.spatial_rank; ++axis) {
    result[sizes.size() - op.spatial_rank + axis] = spatial[spatial_place(op, axis)];
  }
  for (const std::int64_t size : result) {
    if (size > 0) count = checked_multiply(count, size, op.name, "number of elements of y");
  }
  constexpr std::int64_t kWidest = 8;  // bytes of f64, and of i64 indices
  if (!has_zero(result))
    checked_multiply(count, kWidest, op.name, "size in bytes of y ", result, ", ", kWidest, " per element,");
  return result;
}

std::array<std::int64_t, 3> per_axis(const OpName& op, std::string_view argument, const Dims& values,
                                     std::int64_t missing) {
  require(values.size() == 1 || values.size() == op.spatial_rank, op.name, argument, " must have 1 or ",
          op.spatial_rank, " values, got ", values);
  std::array<std::int64_t, 3> result{missing, missing, missing};
  for (int axis = 0; axis < op.spatial_rank; ++axis) {
    result[spatial_place(op, axis)] = values[values.size() == 1 ? 0 : axis];
  }
  return result;
}

ConstTensor5 read_argument(const OpName& op, std::string_view argument, const ConstTensorView& view) {
  require(view.strides.size() == view.sizes.size(), op.name, argument,
          " strides must have one value per size, got ", view.strides, " for sizes ", view.sizes);
  if (element_count(view.sizes) > 0) check_memory(op, argument, view);
  return to_tensor5(op, view.data, view.dtype, view.sizes, view.strides);
}

Tensor5 written_argument(const OpName& op, std::string_view argument, const TensorView& view,
                         const Dims& sizes) {
  check_sizes(op, argument, view.sizes, sizes);
  read_argument(op, argument, view);
  if (!has_zero(view.sizes)) check_not_self_overlapping(op, argument, view);
  return to_tensor5(op, view.data, view.dtype, view.sizes, view.strides);
}

void check_sizes(const OpName& op, std::string_view argument, const Dims& sizes, const Dims& expected) {
  require(sizes == expected, op.name, argument, " must have sizes ", expected, ", got ", sizes);
}

void check_pooled_dtype(const OpName& op, std::string_view argument, DType dtype) {
  require(dtype != DType::u16, op.name, argument,
          " dtype must be f32, f64, f16, bf16, i8, u8, i32 or i64, got ", dtype);
}

void check_floating_dtype(const OpName& op, std::string_view argument, DType dtype) {
  require(is_floating(dtype), op.name, argument, " dtype must be f32, f64, f16 or bf16, got ", dtype);
}

void check_same_dtype(const OpName& op, std::string_view argument, DType dtype, DType expected) {
  require(dtype == expected, op.name, argument, " dtype must be ", expected, ", got ", dtype);
}

void check_no_overlap(const OpName& op, std::string_view argument, const TensorView& written,
                      std::string_view other_argument, const ConstTensorView& other) {
  if (has_zero(written.sizes) || has_zero(other.sizes)) return;
  require(!may_overlap(op, written, other), op.name, argument, " must not share memory with ",
          other_argument);
}

void check_indices_dtype(const OpName& op, DType dtype, DType tap_dtype) {
  const bool taps = (dtype == DType::u8 || dtype == DType::u16) && tap_dtype != DType::i64;
  const bool fits = dtype == DType::i64 || (taps && size_of(dtype) >= size_of(tap_dtype));
  require(fits, op.name, "indices dtype must be i64", tap_dtype == DType::i64 ? "" : " or ",
          tap_dtype == DType::i64  ? ""
          : tap_dtype == DType::u8 ? "u8 or u16 (taps)"
                                   : "u16 (taps)",
          ", got ", dtype);
}

DType tap_dtype_of(std::int64_t taps) {
  if (taps < 0xFF) return DType::u8;
  return taps < 0xFFFF ? DType::u16 : DType::i64;
}

bool is_channels_last(const OpName& op, const Dims& sizes, const Dims& strides) {
  const int channel = sizes.size() - op.spatial_rank - 1;
  if (sizes[channel] == 1 || strides[channel] != 1) return false;
  for (int axis = channel + 1; axis < sizes.size(); ++axis) {
    if (sizes[axis] > 1 && std::abs(strides[axis]) < sizes[channel]) return false;
  }
  return true;
}

Tensor output_like(const OpName& op, DType dtype, const Dims& sizes, const ConstTensorView& like) {
  const bool channels_last = is_channels_last(op, like.sizes, like.strides);
  return {dtype, sizes, channels_last ? Layout::kChannelsLast : Layout::kChannelsFirst,
          sizes.size() - op.spatial_rank - 1};
}

void check_bad_index(const OpName& op, const std::optional<std::int64_t>& bad_index, const Dims& x_sizes) {
  if (!bad_index) return;
  const auto spatial = spatial_sizes(op, x_sizes);
  fail(ErrorCode::kInvalidArgument, op.name, "indices must lie in [0, ", spatial[0] * spatial[1] * spatial[2],
       ") or be -1, got ", *bad_index);
}

}  // namespace cenote
