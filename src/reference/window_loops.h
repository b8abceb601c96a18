// The reference loops that all families share: max and average over the taps of one window per output,
// and their gradients. A family says where its windows lie by a callable window_of(output position).
//
// Everything is computed in double (i64 in i64), tap after tap in row-major order, and rounded once.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "reference/element_access.h"

namespace cenote::reference {

/// Positions begin, begin + step, ... of a window along one axis; some may lie outside the input.
struct AxisTaps {
  std::int64_t begin = 0;
  std::int64_t step = 1;
  std::int64_t count = 1;

  /// How many of the taps lie before `limit`.
  std::int64_t count_below(std::int64_t limit) const {
    if (limit <= begin) return 0;
    return std::min(count, (limit - begin - 1) / step + 1);
  }
};

struct Window {
  std::array<AxisTaps, 3> axis;  // D, H, W
  Array5 tap_grid{};             // [2..4]: sizes by which compact taps are numbered; at least the counts
};

inline double tap_count(const Window& taps) {
  double count = 1;
  for (const AxisTaps& along : taps.axis) count *= static_cast<double>(along.count);
  return count;
}

/// Calls visit(position, tap number) for the taps inside the input, row-major.
template <class Visit>
void for_each_tap(const Window& taps, const Array5& input_size, const Array5& output, const Visit& visit) {
  std::array<std::int64_t, 3> first{};
  std::array<std::int64_t, 3> last{};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    first[axis] = taps.axis[axis].count_below(0);
    last[axis] = taps.axis[axis].count_below(input_size[axis + 2]);
  }
  const auto [d, h, w] = taps.axis;
  for (std::int64_t id = first[0]; id < last[0]; ++id) {
    for (std::int64_t ih = first[1]; ih < last[1]; ++ih) {
      for (std::int64_t iw = first[2]; iw < last[2]; ++iw) {
        const std::int64_t tap = (id * taps.tap_grid[3] + ih) * taps.tap_grid[4] + iw;
        const std::array<std::int64_t, 3> at{d.begin + id * d.step, h.begin + ih * h.step,
                                             w.begin + iw * w.step};
        visit(Array5{output[0], output[1], at[0], at[1], at[2]}, tap);
      }
    }
  }
}

inline std::int64_t plane_position(const Array5& size, const Array5& position) {
  return (position[2] * size[3] + position[3]) * size[4] + position[4];
}

inline bool is_nan(double value) { return std::isnan(value); }
inline bool is_nan(std::int64_t) { return false; }

/// y = max over the window. The first of equal values wins, and so does the last NaN.
template <class Value, class WindowOf>
void max_values(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x, const WindowOf& window_of) {
  using Limits = std::numeric_limits<Value>;
  const auto pool_one = [&](const Array5& output) {
    Value best = Limits::has_infinity ? -Limits::infinity() : Limits::lowest();
    std::int64_t record = kNoElement;
    bool seeded = false;
    for_each_tap(window_of(output), x.size, output, [&](const Array5& position, std::int64_t tap) {
      const auto value = load<Value>(x, position);
      if (seeded && !(value > best) && !is_nan(value)) return;
      best = value;
      seeded = true;
      record = indices != nullptr && indices->dtype != DType::i64 ? tap : plane_position(x.size, position);
    });
    store(y, output, best);
    if (indices != nullptr) store_record(*indices, output, record);
  };
  for_each_plane(y.size, [&](std::int64_t n, std::int64_t c) { for_each_in_plane(y.size, n, c, pool_one); });
}

template <class WindowOf>
void max_forward(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x, const WindowOf& window_of) {
  if (x.dtype == DType::i64) return max_values<std::int64_t>(y, indices, x, window_of);
  max_values<double>(y, indices, x, window_of);
}

/// Plane position of a compact tap; kNoElement when the window has no such tap inside the input.
inline std::int64_t position_of_tap(const Window& taps, const Array5& input_size, std::int64_t tap) {
  if (tap == kNoElement) return kNoElement;
  const std::int64_t rows = taps.tap_grid[3];
  const std::int64_t columns = taps.tap_grid[4];
  const std::array<std::int64_t, 3> number{tap / columns / rows, tap / columns % rows, tap % columns};
  Array5 position{};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (number[axis] >= taps.axis[axis].count) return kNoElement;
    const std::int64_t at = taps.axis[axis].begin + number[axis] * taps.axis[axis].step;
    if (at < 0 || at >= input_size[axis + 2]) return kNoElement;
    position[axis + 2] = at;
  }
  return plane_position(input_size, position);
}

/// The first i64 index that names no element of its plane of `input_size`.
inline std::optional<std::int64_t> find_bad_index(const ConstTensor5& indices, const Array5& input_size) {
  std::optional<std::int64_t> bad;
  if (indices.dtype != DType::i64) return bad;
  const std::int64_t plane = input_size[2] * input_size[3] * input_size[4];
  for_each_plane(indices.size, [&](std::int64_t n, std::int64_t c) {
    for_each_in_plane(indices.size, n, c, [&](const Array5& output) {
      const std::int64_t index = load_record(indices, output);
      if (!bad && (index < kNoElement || index >= plane)) bad = index;
    });
  });
  return bad;
}

/// Writes every plane of grad_x as the sum of what add_gradients(n, c, sums) adds to its elements.
template <class AddGradients>
void write_gradients(const Tensor5& grad_x, const AddGradients& add_gradients) {
  std::vector<double> sums(static_cast<std::size_t>(grad_x.size[2] * grad_x.size[3] * grad_x.size[4]));
  for_each_plane(grad_x.size, [&](std::int64_t n, std::int64_t c) {
    std::fill(sums.begin(), sums.end(), 0.0);
    add_gradients(n, c, sums);
    for_each_in_plane(grad_x.size, n, c, [&](const Array5& input) {
      store(grad_x, input, sums[static_cast<std::size_t>(plane_position(grad_x.size, input))]);
    });
  });
}

/// Each gradient goes to the recorded element, or nowhere. A bad index is returned before any write.
template <class WindowOf>
std::optional<std::int64_t> max_gradient(const Tensor5& grad_x, const ConstTensor5& grad_y,
                                         const ConstTensor5& indices, const WindowOf& window_of) {
  if (const auto bad = find_bad_index(indices, grad_x.size)) return bad;
  write_gradients(grad_x, [&](std::int64_t n, std::int64_t c, std::vector<double>& sums) {
    for_each_in_plane(grad_y.size, n, c, [&](const Array5& output) {
      std::int64_t index = load_record(indices, output);
      if (indices.dtype != DType::i64) index = position_of_tap(window_of(output), grad_x.size, index);
      if (index != kNoElement) sums[static_cast<std::size_t>(index)] += load<double>(grad_y, output);
    });
  });
  return std::nullopt;
}

inline double add(double a, double b) { return a + b; }
/// Wraps around, as integer tensors do.
inline std::int64_t add(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}

/// A divisor as whole as the integers it divides, and as large as a product of sizes.
using Whole = long double;

inline double quotient(double sum, Whole divisor) { return sum / static_cast<double>(divisor); }

/// Towards zero; what leaves 64 bits wraps around.
inline std::int64_t quotient(std::int64_t sum, Whole divisor) {
  if (divisor >= 0x1p63L) return 0;
  const auto whole = static_cast<std::int64_t>(divisor);
  return whole == -1 ? static_cast<std::int64_t>(-static_cast<std::uint64_t>(sum)) : sum / whole;
}

/// y = sum of the taps inside the input / divisor_of(window), 0 when there are none.
template <class Value, class WindowOf, class DivisorOf>
void avg_values(const Tensor5& y, const ConstTensor5& x, const WindowOf& window_of,
                const DivisorOf& divisor_of) {
  const auto pool_one = [&](const Array5& output) {
    const Window taps = window_of(output);
    Value sum = 0;
    bool empty = true;
    for_each_tap(taps, x.size, output, [&](const Array5& position, std::int64_t) {
      sum = add(sum, load<Value>(x, position));
      empty = false;
    });
    store(y, output, empty ? Value{0} : quotient(sum, divisor_of(taps)));
  };
  for_each_plane(y.size, [&](std::int64_t n, std::int64_t c) { for_each_in_plane(y.size, n, c, pool_one); });
}

template <class WindowOf, class DivisorOf>
void avg_forward(const Tensor5& y, const ConstTensor5& x, const WindowOf& window_of,
                 const DivisorOf& divisor_of) {
  if (x.dtype == DType::i64) return avg_values<std::int64_t>(y, x, window_of, divisor_of);
  avg_values<double>(y, x, window_of, divisor_of);
}

/// Each tap inside the input gets gradient / divisor_of(window).
template <class WindowOf, class DivisorOf>
void avg_gradient(const Tensor5& grad_x, const ConstTensor5& grad_y, const WindowOf& window_of,
                  const DivisorOf& divisor_of) {
  write_gradients(grad_x, [&](std::int64_t n, std::int64_t c, std::vector<double>& sums) {
    for_each_in_plane(grad_y.size, n, c, [&](const Array5& output) {
      const Window taps = window_of(output);
      const double share = quotient(load<double>(grad_y, output), divisor_of(taps));
      for_each_tap(taps, grad_x.size, output, [&](const Array5& position, std::int64_t) {
        sums[static_cast<std::size_t>(plane_position(grad_x.size, position))] += share;
      });
    });
  });
}

}  // namespace cenote::reference
