// What the last call of a thread was about, so that the next one like it need not be checked again.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "ops/tensor_check.h"

namespace cenote {

/// A view by reference, or none.
struct ViewRef {
  template <class View>
  explicit ViewRef(const View* view)
      : data(view == nullptr ? nullptr : view->data),
        dtype(view == nullptr ? DType::f32 : view->dtype),
        sizes(view == nullptr ? nullptr : &view->sizes),
        strides(view == nullptr ? nullptr : &view->strides) {}

  std::uintptr_t address() const { return reinterpret_cast<std::uintptr_t>(data); }

  const void* data;
  DType dtype;
  const Dims* sizes;  // null: no view
  const Dims* strides;
};

/// The last call of a thread that passed its checks, where its tensors are dense and not empty, and what it
/// means: whatever follows from options, dtypes, sizes and strides. Tensors come in the same order each time.
template <class Options, class Meaning>
class LastCall {
 public:
  static constexpr std::size_t kTensors = 3;
  using Views = std::array<ViewRef, kTensors>;

  /// Whether a call differs only in where its tensors lie, and they lie where they may: aligned, and apart.
  bool is_like(const OpName& op, const Options& options, const Views& views) const {
    if (op_ != op.name.data() || !(options_ == options)) return false;
    for (std::size_t i = 0; i < kTensors; ++i) {
      if (!tensors_[i].is_like(views[i])) return false;
      for (std::size_t j = 0; j < i; ++j) {
        if (tensors_[i].overlaps(tensors_[j], views[i], views[j])) return false;
      }
    }
    return true;
  }
  /// Remembers a call that passed its checks.
  void keep(const OpName& op, const Options& options, const Views& views, const Meaning& meaning) {
    op_ = nullptr;
    for (std::size_t i = 0; i < kTensors; ++i) {
      if (!tensors_[i].keep(op, views[i])) return;
    }
    op_ = op.name.data();
    options_ = options;
    meaning_ = meaning;
  }
  /// A copy, since what is run may itself call ops.
  Meaning meaning() const { return meaning_; }

 private:
  /// A dense tensor but for where it lies, or none.
  struct Shape {
    bool is_like(const ViewRef& view) const {
      if (view.sizes == nullptr) return bytes == 0;
      return bytes > 0 && view.dtype == dtype && view.data != nullptr && (view.address() & misaligned) == 0 &&
             *view.sizes == sizes && *view.strides == strides;
    }
    bool overlaps(const Shape& other, const ViewRef& view, const ViewRef& other_view) const {
      if (bytes == 0 || other.bytes == 0) return false;
      return view.address() - other_view.address() < other.bytes ||
             other_view.address() - view.address() < bytes;
    }
    /// Whether it is dense and has elements.
    bool keep(const OpName& op, const ViewRef& view) {
      bytes = 0;
      if (view.sizes == nullptr) return true;
      dtype = view.dtype;
      sizes = *view.sizes;
      strides = *view.strides;
      misaligned = size_of(dtype) - 1;
      bytes = static_cast<std::uintptr_t>(dense_bytes(op, dtype, sizes, strides));
      return bytes > 0;
    }

    DType dtype = DType::f32;
    Dims sizes;
    Dims strides;
    std::uintptr_t misaligned = 0;  // bits of an address that must not be set
    std::uintptr_t bytes = 0;       // 0: none
  };

  const char* op_ = nullptr;
  Options options_{};
  std::array<Shape, kTensors> tensors_{};
  Meaning meaning_{};
};

/// What a forward call means: check() says, unless the call is like the last one of this thread. `indices`
/// may be null; Meaning::place(y, indices, x) moves what was meant to other tensors.
template <class Meaning, class Options, class Check>
Meaning checked_call(const OpName& op, const TensorView& y, const TensorView* indices,
                     const ConstTensorView& x, const Options& options, const Check& check) {
  static constinit thread_local LastCall<Options, Meaning> last;
  const std::array views{ViewRef(&y), ViewRef(indices), ViewRef(&x)};
  if (last.is_like(op, options, views)) {
    Meaning meaning = last.meaning();
    meaning.place(y, indices, x);
    return meaning;
  }
  const Meaning meaning = check();
  last.keep(op, options, views, meaning);
  return meaning;
}

}  // namespace cenote
