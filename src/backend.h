// The table of function pointers between the ops, which check, and the loops, which trust.
// One block per family; the pointers of a backend are all set, but for those of WideIntegerBackend.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "cenote/window.h"
#include "core/tensor5.h"

namespace cenote {

using WindowAxes = std::array<WindowAxis, 3>;  // D, H, W

/// How an average divides: by `override_value` unless that is 0.
struct Divisor {
  bool count_include_pad = true;
  std::int64_t override_value = 0;
};

// `indices`, where it is a pointer, may be null; its dtype is i64 (position in the plane), u8 or u16 (tap
// in the window). max_backward returns an i64 index that lies outside its plane, if there is one.

struct WindowBackend {
  void (*max)(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x, const WindowAxes& axes);
  std::optional<std::int64_t> (*max_backward)(const Tensor5& grad_x, const ConstTensor5& grad_y,
                                              const ConstTensor5& indices, const WindowAxes& axes);
  void (*avg)(const Tensor5& y, const ConstTensor5& x, const WindowAxes& axes, const Divisor& divisor);
  void (*avg_backward)(const Tensor5& grad_x, const ConstTensor5& grad_y, const WindowAxes& axes,
                       const Divisor& divisor);
};

/// Windows over f16, bf16, i8 and u8 as they lie in memory, and gradients of f16 and bf16. False for what is
/// left to loops that take f32 or f64, in working memory; nothing is written then. Null in the reference.
struct NarrowBackend {
  bool (*max)(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x, const WindowAxes& axes);
  bool (*avg)(const Tensor5& y, const ConstTensor5& x, const WindowAxes& axes, const Divisor& divisor);
  bool (*max_backward)(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                       const WindowAxes& axes);
  bool (*avg_backward)(const Tensor5& grad_x, const ConstTensor5& grad_y, const WindowAxes& axes,
                       const Divisor& divisor);
};

/// The window of an output follows from the sizes of x and y.
struct AdaptiveBackend {
  void (*max)(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x);
  std::optional<std::int64_t> (*max_backward)(const Tensor5& grad_x, const ConstTensor5& grad_y,
                                              const ConstTensor5& indices);
  void (*avg)(const Tensor5& y, const ConstTensor5& x);
  void (*avg_backward)(const Tensor5& grad_x, const ConstTensor5& grad_y);
};

/// y has size 1 in D, H and W.
struct GlobalBackend {
  void (*max)(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x);
  std::optional<std::int64_t> (*max_backward)(const Tensor5& grad_x, const ConstTensor5& grad_y,
                                              const ConstTensor5& indices);
  void (*avg)(const Tensor5& y, const ConstTensor5& x);
  void (*avg_backward)(const Tensor5& grad_x, const ConstTensor5& grad_y);
};

/// `indices` are i64 positions in the plane of y. Both return the first index, row-major, that lies outside
/// of it, if there is one; what they write then is not specified, but lies inside their tensor.
struct UnpoolBackend {
  std::optional<std::int64_t> (*max)(const Tensor5& y, const ConstTensor5& x, const ConstTensor5& indices);
  std::optional<std::int64_t> (*max_backward)(const Tensor5& grad_x, const ConstTensor5& grad_y,
                                              const ConstTensor5& indices);
};

/// One element of each window, by rank or by frequency. The gradient is that of the window's max_backward.
struct SelectBackend {
  void (*median)(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x, const WindowAxes& axes);
  void (*mode)(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x, const WindowAxes& axes);
};

/// Kinds of pooling whose gradient depends on the elements.
enum class SmoothKind : std::uint8_t {
  kLp,            // (sum |x|^p)^(1/p); p = inf: max |x|
  kLogSumExp,     // (1 / r) log mean exp(r x)
  kSoft,          // sum w x / sum w, w = exp(t x)
  kGem,           // (mean max(x, floor)^p)^(1/p)
  kGemParameter,  // the derivative of GeM with respect to p; has no gradient itself
  kStd,           // sqrt(mean (x - mean)^2)
  kAvgMax,        // (mean + maximum) / 2
};

struct SmoothRule {
  SmoothKind kind;
  std::span<const double> parameters;  // p, r or t: one, or one per channel
  double floor = 0;                    // of GeM
};

/// `window` is null for adaptive windows, which follow from the sizes; global ones are adaptive with one
/// output.
struct SmoothBackend {
  void (*forward)(const SmoothRule& rule, const Tensor5& y, const ConstTensor5& x, const WindowAxes* window);
  void (*backward)(const SmoothRule& rule, const Tensor5& grad_x, const ConstTensor5& grad_y,
                   const ConstTensor5& x, const WindowAxes* window);
};

/// Windows of fractional pooling. In the arithmetic of `dtype`, window i of an axis begins at
/// int((i + u) a) - int(u a), a = (in - kernel) / (out - 1), but not beyond in - kernel, where the last one
/// begins.
struct FractionalRule {
  std::array<std::int64_t, 3> kernel;  // D, H, W
  DType dtype;
  std::int64_t channels;      // planes of one image
  std::span<const double> u;  // three per plane, for D, H, W; numbers of `dtype`
};

/// The gradient is that of adaptive max from i64 indices.
struct RandomBackend {
  void (*fractional_max)(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x,
                         const FractionalRule& rule);
};

/// From one pooled dtype to another, one of them f32 or f64, rounding as pooling does: to nearest for
/// floating types, towards zero and to the ends of the range for integers. `reverse` reverses the order: -x.
/// The reference also takes a dtype to itself, integers by their complement.
struct ConvertBackend {
  void (*convert)(const Tensor5& to, const ConstTensor5& from, bool reverse);
};

/// How f64 loops pool i64, for targets that do not take any dtype; null in the reference.
struct WideIntegerBackend {
  /// The bits that are set in x, or in ~x where x is negative, of any element; the sign stands for those of
  /// the ends of the range, the least and the largest i64.
  std::uint64_t (*magnitudes)(const ConstTensor5& x);
  /// From i64 to f64 numbers that stand in the same order, or back, for elements of at most 62 bits and the
  /// ends of the range, which become infinities. `reverse` reverses the order. 0, which stands for no
  /// element, comes back as 0.
  void (*convert)(const Tensor5& to, const ConstTensor5& from, bool reverse);
};

/// How i64 positions count through a whole tensor: plane after plane, inside of each row-major, or
/// column-major as with storage_order 1 of ONNX.
struct TensorOrder {
  std::array<std::int64_t, 3> size;  // D, H, W of a plane
  bool column_major;

  std::int64_t positions() const { return size[0] * size[1] * size[2]; }
};

/// Whether -1, the index of a window without an element, is legal.
enum class NoElement { kLegal, kRefused };

/// Between positions in the plane of a channel and those in the whole tensor; -1 stays. to_planes returns an
/// index that is not legal, if it met one. Both take planes of less than 2^52 positions, the reference any.
struct IndexOrderBackend {
  void (*to_tensor)(const Tensor5& to, const ConstTensor5& from, const TensorOrder& order);
  std::optional<std::int64_t> (*to_planes)(const Tensor5& to, const ConstTensor5& from,
                                           const TensorOrder& order, NoElement none);
};

struct Backend {
  WindowBackend window;
  NarrowBackend narrow;
  AdaptiveBackend adaptive;
  GlobalBackend global;
  UnpoolBackend unpool;
  SmoothBackend smooth;
  SelectBackend select;
  RandomBackend random;
  ConvertBackend convert;
  WideIntegerBackend wide_integer;
  IndexOrderBackend index_order;
  bool any_dtype;  // else the families take f32 and f64 alone
};

/// The loops of the CPU target in use.
const Backend& backend();
/// The reference loops, whatever the target.
const Backend& reference_backend();

namespace reference {
extern const WindowBackend window;
extern const AdaptiveBackend adaptive;
extern const GlobalBackend global;
extern const UnpoolBackend unpool;
extern const SmoothBackend smooth;
extern const SelectBackend select;
extern const RandomBackend random;
extern const ConvertBackend convert;
extern const IndexOrderBackend index_order;
}  // namespace reference

namespace cpu {
// The tables of the Highway target in use.
const WindowBackend& window();
const NarrowBackend& narrow();
const AdaptiveBackend& adaptive();
const GlobalBackend& global();
const UnpoolBackend& unpool();
const SmoothBackend& smooth();
const SelectBackend& select();
const RandomBackend& random();
const ConvertBackend& convert();
const WideIntegerBackend& wide_integer();
const IndexOrderBackend& index_order();
}  // namespace cpu

}  // namespace cenote
