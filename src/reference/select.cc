// Pooling that selects an element of each window by rank or by frequency: a NaN first of all, then the lower
// median or the mode; of equal elements the first. A window without elements gives 0.
#include <algorithm>
#include <vector>

#include "backend.h"
#include "reference/window_loops.h"
#include "reference/windows.h"

namespace cenote::reference {
namespace {

/// Place in `x`, which is not empty, of the element of rank floor((n - 1) / 2).
template <class Value>
std::size_t median_of(const std::vector<Value>& x) {
  std::vector<Value> sorted = x;
  std::sort(sorted.begin(), sorted.end());
  const Value median = sorted[(sorted.size() - 1) / 2];
  return static_cast<std::size_t>(std::find(x.begin(), x.end(), median) - x.begin());
}

/// Place of the most frequent value, of equally frequent ones that which comes first.
template <class Value>
std::size_t mode_of(const std::vector<Value>& x) {
  std::size_t best = 0;
  std::ptrdiff_t most = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto count = std::count(x.begin(), x.end(), x[i]);
    if (count <= most) continue;
    most = count;
    best = i;
  }
  return best;
}

/// place_of(elements) chooses where there is no NaN.
template <class Value, class PlaceOf>
void select_values(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x, const WindowAxes& axes,
                   const PlaceOf& place_of) {
  const SlidingWindows window_of(axes);
  const bool wants_taps = indices != nullptr && indices->dtype != DType::i64;
  const auto pool_one = [&](const Array5& output) {
    std::vector<Value> elements;
    std::vector<std::int64_t> records;
    for_each_tap(window_of(output), x.size, output, [&](const Array5& position, std::int64_t tap) {
      elements.push_back(load<Value>(x, position));
      records.push_back(wants_taps ? tap : plane_position(x.size, position));
    });
    const auto nan =
        std::find_if(elements.begin(), elements.end(), [](Value value) { return is_nan(value); });
    const std::size_t place = elements.empty()        ? 0
                              : nan != elements.end() ? static_cast<std::size_t>(nan - elements.begin())
                                                      : place_of(elements);
    store(y, output, elements.empty() ? Value{0} : elements[place]);
    if (indices != nullptr) store_record(*indices, output, elements.empty() ? kNoElement : records[place]);
  };
  for_each_plane(y.size, [&](std::int64_t n, std::int64_t c) { for_each_in_plane(y.size, n, c, pool_one); });
}

void median(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x, const WindowAxes& axes) {
  if (x.dtype == DType::i64) return select_values<std::int64_t>(y, indices, x, axes, median_of<std::int64_t>);
  select_values<double>(y, indices, x, axes, median_of<double>);
}

void mode(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x, const WindowAxes& axes) {
  if (x.dtype == DType::i64) return select_values<std::int64_t>(y, indices, x, axes, mode_of<std::int64_t>);
  select_values<double>(y, indices, x, axes, mode_of<double>);
}

}  // namespace

const SelectBackend select{median, mode};

}  // namespace cenote::reference
