// pool_output_size: values worked out by hand, and all small configurations against a definition that
// shares no arithmetic with it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "cenote/window.h"
#include "support/errors.h"

namespace cenote {
namespace {

using cenote_test::expect_invalid;
using cenote_test::expect_overflow;

TEST(PoolOutputSize, HandComputed) {
  struct Row {
    std::int64_t size;
    WindowAxis axis;  // kernel, stride, padding_begin, padding_end, dilation
    std::int64_t floor;
    std::int64_t ceil;
  };
  const Row rows[] = {
      {4, {3, 2, 0, 0, 1}, 1, 2},     // a half-filled last window
      {2, {1, 2, 0, 0, 1}, 1, 1},     // ceil would start a window beyond the input
      {2, {3, 3, 1, 1, 1}, 1, 1},     // ... or in the end padding
      {32, {5, 3, 0, 0, 2}, 8, 9},    // dilated
      {28, {3, 1, 2, 2, 1}, 30, 30},  // more padding than half a kernel is plain arithmetic here
      {1, {2, 2, 1, 1, 2}, 1, 1},     // both taps in the padding
      {112, {3, 2, 1, 1, 1}, 56, 57}, {7, {2, 2, 0, 1, 1}, 4, 4},  // padding at the end alone
      {7, {2, 2, 1, 0, 1}, 4, 4},                                  // and at the begin alone
      {6, {2, 4, 0, 0, 1}, 2, 2},     {5, {7, 1, 0, 0, 1}, 0, 0},  // the window does not fit
      {5, {7, 3, 0, 0, 1}, 0, 1},                                  // ceil gives it one output
      {10, {3, 2, 0, 0, 3}, 2, 3},
  };
  for (const Row& row : rows) {
    EXPECT_EQ(pool_output_size(row.size, row.axis), row.floor) << "size " << row.size;
    EXPECT_EQ(pool_output_size(row.size, row.axis, true), row.ceil) << "size " << row.size;
  }
}

/// Floor: windows are counted one by one while the whole window lies inside the padded input.
std::int64_t count_whole_windows(std::int64_t size, const WindowAxis& axis) {
  std::int64_t count = 0;
  for (std::int64_t start = -axis.padding_begin;; start += axis.stride) {
    std::int64_t last_tap = start;
    for (std::int64_t tap = 1; tap < axis.kernel; ++tap) last_tap += axis.dilation;
    if (last_tap >= size + axis.padding_end) return count;
    ++count;
  }
}

/// Ceil: one more when fewer than a stride of further elements would complete it, unless it would start in
/// the end padding or beyond.
std::int64_t count_ceil_windows(std::int64_t size, const WindowAxis& axis) {
  std::int64_t count = 0;
  for (std::int64_t further = 0; further < axis.stride; ++further) {
    WindowAxis enlarged = axis;
    enlarged.padding_end += further;
    count = std::max(count, count_whole_windows(size, enlarged));
  }
  const std::int64_t last_start = (count - 1) * axis.stride - axis.padding_begin;
  return count > 0 && last_start >= size ? count - 1 : count;
}

TEST(PoolOutputSize, AllSmallConfigurations) {
  int checked = 0;
  for (std::int64_t size = 1; size <= 9; ++size) {
    for (std::int64_t kernel = 1; kernel <= 5; ++kernel) {
      for (std::int64_t stride = 1; stride <= 4; ++stride) {
        for (std::int64_t dilation = 1; dilation <= 3; ++dilation) {
          const std::int64_t limit = (dilation * (kernel - 1) + 1) / 2;
          for (std::int64_t begin = 0; begin <= limit; ++begin) {
            for (std::int64_t end = 0; end <= limit; ++end) {
              const WindowAxis axis{kernel, stride, begin, end, dilation};
              ASSERT_EQ(pool_output_size(size, axis), count_whole_windows(size, axis))
                  << size << " k" << kernel << " s" << stride << " p" << begin << "," << end << " d"
                  << dilation;
              ASSERT_EQ(pool_output_size(size, axis, true), count_ceil_windows(size, axis))
                  << size << " k" << kernel << " s" << stride << " p" << begin << "," << end << " d"
                  << dilation;
              ++checked;
            }
          }
        }
      }
    }
  }
  EXPECT_GT(checked, 5000);
}

TEST(PoolOutputSize, LargeSizesDoNotWrap) {
  constexpr std::int64_t kHuge = std::int64_t{1} << 62;
  EXPECT_EQ(pool_output_size(kHuge, {2, 2, 0, 0, 1}), kHuge / 2);
  EXPECT_EQ(pool_output_size((std::int64_t{1} << 31) + 1, {1, 1, 0, 0, 1}), (std::int64_t{1} << 31) + 1);
  constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(pool_output_size(kLargest, {1, 1, 0, 0, 1}, true), kLargest);
  expect_overflow([] { pool_output_size(kLargest, {1, 1, 1, 1, 1}); }, {"[pool_output_size]", "padded size"});
  expect_overflow([] { pool_output_size(8, {kHuge, 1, 0, 0, 4}); }, {"[pool_output_size]", "dilated kernel"});
}

TEST(PoolOutputSize, BadArguments) {
  expect_invalid([] { pool_output_size(-1, {}); }, {"[pool_output_size]", "size", "-1"});
  expect_invalid([] { pool_output_size(8, {0, 1, 0, 0, 1}); }, {"kernel", "> 0", "got 0"});
  expect_invalid([] { pool_output_size(8, {1, 0, 0, 0, 1}); }, {"stride", "> 0", "got 0"});
  expect_invalid([] { pool_output_size(8, {1, 1, -1, 0, 1}); }, {"padding", ">= 0", "got -1"});
  expect_invalid([] { pool_output_size(8, {1, 1, 0, -2, 1}); }, {"padding_end", ">= 0", "got -2"});
  expect_invalid([] { pool_output_size(8, {1, 1, 0, 0, 0}); }, {"dilation", "> 0", "got 0"});
}

}  // namespace
}  // namespace cenote
