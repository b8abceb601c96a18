// Guarded buffers and element access for the tests; see tensors.h.
#include "support/tensors.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <stdexcept>

namespace cenote_test {
namespace {

constexpr std::uint8_t kGuardByte = 0xA5;
constexpr std::int64_t kGuardElements = 16;

/// Calls visit(offset in elements) for every element in row-major order.
template <class Visit>
void for_each_offset(const cenote::Dims& sizes, const cenote::Dims& strides, const Visit& visit, int axis = 0,
                     std::int64_t offset = 0) {
  if (axis == sizes.size()) {
    visit(offset);
    return;
  }
  const std::int64_t stride = strides[axis];
  if (axis + 1 == sizes.size()) {  // the common case, without a call per element
    for (std::int64_t i = 0; i < sizes[axis]; ++i) visit(offset + i * stride);
    return;
  }
  for (std::int64_t i = 0; i < sizes[axis]; ++i) {
    for_each_offset(sizes, strides, visit, axis + 1, offset + i * stride);
  }
}

cenote::Dims random_strides(const cenote::Dims& sizes, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int> order(static_cast<std::size_t>(sizes.size()));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  cenote::Dims strides = sizes;
  std::int64_t next = 1 + static_cast<std::int64_t>(random() % 3);
  for (const int axis : order) {
    if (sizes[axis] == 1) {
      // Frameworks give such axes any stride; nothing may depend on it.
      strides[axis] = static_cast<std::int64_t>(random() % 9);
      continue;
    }
    strides[axis] = next;
    next = next * std::max<std::int64_t>(sizes[axis], 1) + static_cast<std::int64_t>(random() % 3);
  }
  return strides;
}

std::int64_t extent_of(const cenote::Dims& sizes, const cenote::Dims& strides) {
  std::int64_t last = 0;
  for (int axis = 0; axis < sizes.size(); ++axis)
    last += std::max<std::int64_t>(sizes[axis] - 1, 0) * strides[axis];
  return last + 1;
}

}  // namespace

const char* name_of(LayoutKind layout) {
  switch (layout) {
    case LayoutKind::kChannelsFirst:
      return "channels_first";
    case LayoutKind::kChannelsLast:
      return "channels_last";
    case LayoutKind::kStrided:
      return "strided";
  }
  return "unknown";
}

void GuardedTensor::allocate(std::int64_t extent, std::int64_t lead) {
  const std::size_t bytes =
      static_cast<std::size_t>(lead + extent + kGuardElements) * cenote::size_of(view_.dtype);
  storage_.resize(bytes / sizeof(std::uint64_t) + 1);
  std::memset(storage_.data(), kGuardByte, storage_.size() * sizeof(std::uint64_t));
  view_.data = reinterpret_cast<std::uint8_t*>(storage_.data()) +
               static_cast<std::size_t>(lead) * cenote::size_of(view_.dtype);
}

GuardedTensor::GuardedTensor(cenote::DType dtype, const cenote::Dims& sizes, LayoutKind layout,
                             int spatial_rank, std::uint64_t seed) {
  view_.dtype = dtype;
  view_.sizes = sizes;
  if (layout == LayoutKind::kStrided) {
    view_.strides = random_strides(sizes, seed);
  } else if (layout == LayoutKind::kChannelsLast) {
    view_.strides = dense_strides(sizes, cenote::Layout::kChannelsLast, sizes.size() - spatial_rank - 1);
  } else {
    view_.strides = dense_strides(sizes);
  }
  allocate(extent_of(sizes, view_.strides), kGuardElements + static_cast<std::int64_t>(seed % 4));
}

GuardedTensor::GuardedTensor(cenote::DType dtype, const cenote::Dims& sizes,
                             const std::vector<double>& values)
    : GuardedTensor(dtype, sizes, LayoutKind::kChannelsFirst, 0, 0) {
  assign(view_, values);
}

bool GuardedTensor::guards_intact() const {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(storage_.data());
  const std::int64_t start = static_cast<const std::uint8_t*>(view_.data) - bytes;
  const auto width = static_cast<std::int64_t>(cenote::size_of(view_.dtype));
  // The elements of a copy are overwritten by the pattern: then all of it must hold the pattern.
  std::vector<std::uint8_t> copy(bytes, bytes + storage_.size() * sizeof(std::uint64_t));
  for_each_offset(view_.sizes, view_.strides, [&](std::int64_t offset) {
    std::memset(copy.data() + start + offset * width, kGuardByte, static_cast<std::size_t>(width));
  });
  return std::all_of(copy.begin(), copy.end(), [](std::uint8_t byte) { return byte == kGuardByte; });
}

/// Calls visit(pointer to the element at `offset`), typed.
template <class Visit>
void visit_element(const cenote::ConstTensorView& view, std::int64_t offset, const Visit& visit) {
  const auto at = [&]<class T>(const T* first) { visit(first + offset); };
  switch (view.dtype) {
    case cenote::DType::f32:
      return at(static_cast<const float*>(view.data));
    case cenote::DType::f64:
      return at(static_cast<const double*>(view.data));
    case cenote::DType::f16:
      return at(static_cast<const cenote::Float16*>(view.data));
    case cenote::DType::bf16:
      return at(static_cast<const cenote::BFloat16*>(view.data));
    case cenote::DType::i8:
      return at(static_cast<const std::int8_t*>(view.data));
    case cenote::DType::u8:
      return at(static_cast<const std::uint8_t*>(view.data));
    case cenote::DType::u16:
      return at(static_cast<const std::uint16_t*>(view.data));
    case cenote::DType::i32:
      return at(static_cast<const std::int32_t*>(view.data));
    case cenote::DType::i64:
      return at(static_cast<const std::int64_t*>(view.data));
  }
}

template <class T>
constexpr bool kIsHalf = std::is_same_v<T, cenote::Float16> || std::is_same_v<T, cenote::BFloat16>;

template <class Value>
std::vector<Value> read_all(const cenote::ConstTensorView& view) {
  std::vector<Value> values;
  values.reserve(static_cast<std::size_t>(cenote::element_count(view.sizes)));
  for_each_offset(view.sizes, view.strides, [&](std::int64_t offset) {
    visit_element(view, offset, [&]<class T>(const T* element) {
      if constexpr (kIsHalf<T>) {
        values.push_back(static_cast<Value>(static_cast<float>(*element)));
      } else {
        values.push_back(static_cast<Value>(*element));
      }
    });
  });
  return values;
}

std::vector<double> values_of(const cenote::ConstTensorView& view) { return read_all<double>(view); }

std::vector<std::int64_t> integers_of(const cenote::ConstTensorView& view) {
  if (is_floating(view.dtype)) throw std::logic_error("integers_of reads integers");
  return read_all<std::int64_t>(view);
}

template <class Value>
void assign_all(const cenote::TensorView& view, const std::vector<Value>& values) {
  if (static_cast<std::int64_t>(values.size()) != cenote::element_count(view.sizes)) {
    throw std::logic_error("assign needs one value per element");
  }
  std::size_t next = 0;
  for_each_offset(view.sizes, view.strides, [&](std::int64_t offset) {
    const Value value = values[next++];
    visit_element(view, offset, [&]<class T>(const T* element) {
      auto* const to = const_cast<T*>(element);
      if constexpr (kIsHalf<T>) {
        *to = T(static_cast<float>(value));
      } else {
        *to = static_cast<T>(value);
      }
    });
  });
}

void assign(const cenote::TensorView& view, const std::vector<double>& values) { assign_all(view, values); }

void assign(const cenote::TensorView& view, const std::vector<std::int64_t>& values) {
  assign_all(view, values);
}

std::vector<double> iota(std::int64_t count) {
  std::vector<double> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), 0.0);
  return values;
}

}  // namespace cenote_test
