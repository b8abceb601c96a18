// Tensors as cenote sees them: a pointer, a dtype, sizes and strides.
//
// Views own nothing and allocate nothing. `Tensor` is a small owning buffer for those who have none.
// Strides count elements, not bytes, and may describe any layout; channels-first and channels-last
// contiguous tensors are the fast ones.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>

#include "cenote/error.h"
#include "cenote/export.h"
#include "cenote/half.h"

namespace cenote {

/// Element types. All but u16 are pooled; i64 also holds indices, u8 and u16 compact taps.
enum class DType : std::uint8_t { f32, f64, i64, u8, u16, f16, bf16, i8, i32 };

/// Bytes of one element.
CENOTE_EXPORT std::size_t size_of(DType dtype);
/// "f32", "f64", "i64", "u8", "u16", "f16", "bf16", "i8" or "i32".
CENOTE_EXPORT const char* name_of(DType dtype);
/// f64, f32, f16 or bf16.
CENOTE_EXPORT bool is_floating(DType dtype);

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<std::int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct DTypeOf<std::uint8_t> {
  static constexpr DType value = DType::u8;
};
template <>
struct DTypeOf<std::uint16_t> {
  static constexpr DType value = DType::u16;
};
template <>
struct DTypeOf<Float16> {
  static constexpr DType value = DType::f16;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct DTypeOf<std::int8_t> {
  static constexpr DType value = DType::i8;
};
template <>
struct DTypeOf<std::int32_t> {
  static constexpr DType value = DType::i32;
};

/// Up to kMaxRank integers, one per dimension; used for sizes, strides and per-axis options.
class CENOTE_EXPORT Dims {
 public:
  static constexpr int kMaxRank = 8;

  Dims() = default;
  // NOLINTNEXTLINE(google-explicit-constructor)
  constexpr Dims(std::int64_t value) : rank_(1) { values_[0] = value; }
  Dims(std::initializer_list<std::int64_t> values) : Dims(values.begin(), values.size()) {}
  /// Throws Error when there are more than kMaxRank values.
  Dims(const std::int64_t* values, std::size_t count);

  int size() const { return rank_; }
  bool empty() const { return rank_ == 0; }
  std::int64_t& operator[](int axis) { return values_[static_cast<std::size_t>(axis)]; }
  std::int64_t operator[](int axis) const { return values_[static_cast<std::size_t>(axis)]; }
  const std::int64_t* begin() const { return values_.data(); }
  const std::int64_t* end() const { return values_.data() + rank_; }
  void push_back(std::int64_t value);

  bool operator==(const Dims& other) const {
    if (rank_ != other.rank_) return false;
    for (int axis = 0; axis < rank_; ++axis) {  // few values: a call to compare memory would take longer
      if ((*this)[axis] != other[axis]) return false;
    }
    return true;
  }

 private:
  std::array<std::int64_t, kMaxRank> values_{};
  int rank_ = 0;
};

/// "[2, 3, 5]"
CENOTE_EXPORT std::string to_string(const Dims& dims);
/// Number of elements. Throws Error when a size is negative or the product passes 2^63 - 1.
CENOTE_EXPORT std::int64_t element_count(const Dims& sizes);

enum class Layout : std::uint8_t {
  kChannelsFirst,  // [N, C, spatial...] as written
  kChannelsLast,   // sizes stay [N, C, spatial...], C has stride 1
};

/// Strides of a dense tensor. For kChannelsLast, `channel_axis` names the dimension with stride 1
/// (1 with a batch dimension, 0 without).
CENOTE_EXPORT Dims dense_strides(const Dims& sizes, Layout layout = Layout::kChannelsFirst,
                                 int channel_axis = 1);

/// A read-only view. `data` may be null only when there are no elements.
struct CENOTE_EXPORT ConstTensorView {
  const void* data = nullptr;
  DType dtype = DType::f32;
  Dims sizes;
  Dims strides;  // in elements

  ConstTensorView() = default;
  ConstTensorView(const void* first, DType element, const Dims& size_values, const Dims& stride_values)
      : data(first), dtype(element), sizes(size_values), strides(stride_values) {}
  template <class T>
  ConstTensorView(const T* first, const Dims& size_values)
      : ConstTensorView(first, DTypeOf<T>::value, size_values, dense_strides(size_values)) {}
  template <class T>
  ConstTensorView(const T* first, const Dims& size_values, const Dims& stride_values)
      : ConstTensorView(first, DTypeOf<T>::value, size_values, stride_values) {}
};

/// A writable view.
struct CENOTE_EXPORT TensorView {
  void* data = nullptr;
  DType dtype = DType::f32;
  Dims sizes;
  Dims strides;  // in elements

  TensorView() = default;
  TensorView(void* first, DType element, const Dims& size_values, const Dims& stride_values)
      : data(first), dtype(element), sizes(size_values), strides(stride_values) {}
  template <class T>
  TensorView(T* first, const Dims& size_values)
      : TensorView(first, DTypeOf<T>::value, size_values, dense_strides(size_values)) {}
  template <class T>
  TensorView(T* first, const Dims& size_values, const Dims& stride_values)
      : TensorView(first, DTypeOf<T>::value, size_values, stride_values) {}

  operator ConstTensorView() const { return {data, dtype, sizes, strides}; }  // NOLINT
};

/// An owning, 64-byte aligned, uninitialised tensor. Movable; copies share nothing (copy is explicit
/// through views). Throws Error when the size overflows, std::bad_alloc when memory is short.
class CENOTE_EXPORT Tensor {
 public:
  Tensor() = default;
  Tensor(DType dtype, const Dims& sizes, Layout layout = Layout::kChannelsFirst, int channel_axis = 1);
  Tensor(DType dtype, const Dims& sizes, const Dims& strides);

  DType dtype() const { return view_.dtype; }
  const Dims& sizes() const { return view_.sizes; }
  const Dims& strides() const { return view_.strides; }
  std::int64_t size() const { return element_count(view_.sizes); }
  const TensorView& view() const { return view_; }

  /// First element. Throws Error when T is not the tensor's dtype.
  template <class T>
  T* data() const {
    require_dtype(DTypeOf<T>::value);
    return static_cast<T*>(view_.data);
  }

  operator TensorView() const { return view_; }       // NOLINT(google-explicit-constructor)
  operator ConstTensorView() const { return view_; }  // NOLINT(google-explicit-constructor)

 private:
  void require_dtype(DType expected) const;

  std::shared_ptr<void> storage_;
  TensorView view_;
};

}  // namespace cenote
