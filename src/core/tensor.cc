// Dims, sizes and strides, and the owning Tensor.
#include "cenote/tensor.h"

#include <algorithm>
#include <limits>
#include <sstream>
#include <utility>

#include "core/aligned.h"
#include "core/check.h"

namespace cenote {

namespace {

std::shared_ptr<void> allocate(std::int64_t elements, DType dtype) {
  const auto width = static_cast<std::int64_t>(size_of(dtype));
  const auto bytes = static_cast<std::size_t>(checked_multiply(elements, width, "Tensor", "size in bytes"));
  if (bytes == 0) return nullptr;
  auto block = std::make_shared_for_overwrite<std::byte[]>(bytes + kAlignment);
  void* const first = align_up(block.get());
  return {std::move(block), first};
}

/// Elements from the first to one past the last that the strides reach.
std::int64_t span_of(const Dims& sizes, const Dims& strides) {
  require(sizes.size() == strides.size(), "Tensor", "strides must have one value per size, got ",
          strides.size(), " for ", sizes.size());
  if (element_count(sizes) == 0) return 0;
  std::int64_t last = 0;
  for (int axis = 0; axis < sizes.size(); ++axis) {
    require(strides[axis] >= 0, "Tensor", "strides[", axis, "] must be >= 0, got ", strides[axis]);
    last = checked_add(last, checked_multiply(sizes[axis] - 1, strides[axis], "Tensor", "extent"), "Tensor",
                       "extent");
  }
  return checked_add(last, 1, "Tensor", "extent");
}

}  // namespace

std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::f16:
    case DType::bf16:
    case DType::u16:
      return 2;
    case DType::i8:
    case DType::u8:
      return 1;
  }
  fail(ErrorCode::kInvalidArgument, "size_of", "dtype must be a DType, got ", static_cast<int>(dtype));
}

const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::f64:
      return "f64";
    case DType::i64:
      return "i64";
    case DType::u8:
      return "u8";
    case DType::u16:
      return "u16";
    case DType::f16:
      return "f16";
    case DType::bf16:
      return "bf16";
    case DType::i8:
      return "i8";
    case DType::i32:
      return "i32";
  }
  fail(ErrorCode::kInvalidArgument, "name_of", "dtype must be a DType, got ", static_cast<int>(dtype));
}

bool is_floating(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f64 || dtype == DType::f16 || dtype == DType::bf16;
}

Dims::Dims(const std::int64_t* values, std::size_t count) {
  require(count <= kMaxRank, "Dims", "rank must be <= ", kMaxRank, ", got ", count);
  std::copy_n(values, count, values_.begin());
  rank_ = static_cast<int>(count);
}

void Dims::push_back(std::int64_t value) {
  require(rank_ < kMaxRank, "Dims", "rank must be <= ", kMaxRank, ", got ", rank_ + 1);
  values_[static_cast<std::size_t>(rank_++)] = value;
}

std::string to_string(const Dims& dims) {
  std::ostringstream text;
  text << '[';
  for (int axis = 0; axis < dims.size(); ++axis) text << (axis > 0 ? ", " : "") << dims[axis];
  text << ']';
  return text.str();
}

std::int64_t element_count(const Dims& sizes) {
  std::int64_t count = 1;
  bool empty = false;
  for (int axis = 0; axis < sizes.size(); ++axis) {
    require(sizes[axis] >= 0, "element_count", "sizes[", axis, "] must be >= 0, got ", sizes[axis]);
    empty = empty || sizes[axis] == 0;
  }
  if (empty) return 0;
  for (const std::int64_t size : sizes)
    count = checked_multiply(count, size, "element_count", "number of elements");
  return count;
}

Dims dense_strides(const Dims& sizes, Layout layout, int channel_axis) {
  Dims strides = sizes;
  std::int64_t next = 1;
  const auto place = [&](int axis) {
    strides[axis] = next;
    next =
        checked_multiply(next, std::max<std::int64_t>(sizes[axis], 1), "dense_strides", "number of elements");
  };
  const bool channels_last = layout == Layout::kChannelsLast;
  if (channels_last) {
    require(channel_axis >= 0 && channel_axis < sizes.size(), "dense_strides",
            "channel_axis must name one of ", sizes.size(), " dimensions, got ", channel_axis);
    place(channel_axis);
  }
  for (int axis = sizes.size() - 1; axis >= 0; --axis) {
    if (!channels_last || axis != channel_axis) place(axis);
  }
  return strides;
}

Tensor::Tensor(DType dtype, const Dims& sizes, Layout layout, int channel_axis)
    : Tensor(dtype, sizes, dense_strides(sizes, layout, channel_axis)) {}

Tensor::Tensor(DType dtype, const Dims& sizes, const Dims& strides)
    : storage_(allocate(span_of(sizes, strides), dtype)), view_(storage_.get(), dtype, sizes, strides) {}

void Tensor::require_dtype(DType expected) const {
  require(view_.dtype == expected, "Tensor", "data<T>() must match the dtype ", name_of(view_.dtype),
          ", got ", name_of(expected));
}

}  // namespace cenote
