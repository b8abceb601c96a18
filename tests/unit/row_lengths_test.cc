// Rows of every length up to some vectors: loops take them as blocks of planes, as tiles, vector by vector or
// whole, and all of them must agree with the reference, with NaN and infinities too, and write nothing else.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "cenote/runtime.h"
#include "cenote/window.h"
#include "conformance/replay.h"
#include "support/tensors.h"

namespace cenote {
namespace {

using cenote_test::GuardedTensor;
using cenote_test::integers_of;
using cenote_test::LayoutKind;
using cenote_test::TargetGuard;
using cenote_test::values_of;
using Values = std::vector<double>;

struct Case {
  DType dtype;
  std::int64_t kernel, stride, padding;
  bool ceil_mode;
};

void PrintTo(const Case& one, std::ostream* out) {
  *out << name_of(one.dtype) << " kernel " << one.kernel << " stride " << one.stride << " padding "
       << one.padding << (one.ceil_mode ? " ceil" : "");
}

constexpr std::int64_t kLongest = 67;
const Dims kPlanes{2, 9};  // more than one vector of f32 has lanes, together

Dims sizes_of(std::int64_t columns) { return {kPlanes[0], kPlanes[1], 6, columns}; }

/// Small multiples of 1/4, whose sums are exact; among them, if `special`, infinities and NaN.
GuardedTensor filled(DType dtype, const Dims& sizes, bool special) {
  const std::int64_t count = element_count(sizes);
  Values values(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i)
    values[static_cast<std::size_t>(i)] = static_cast<double>(i * 7919 % 127 - 63) / 4;
  if (special) {
    values[static_cast<std::size_t>(count / 7)] = std::numeric_limits<double>::infinity();
    values[static_cast<std::size_t>(count / 5)] = -std::numeric_limits<double>::infinity();
    values[static_cast<std::size_t>(count / 2)] = std::numeric_limits<double>::quiet_NaN();
    values[static_cast<std::size_t>(count - 1)] = std::numeric_limits<double>::quiet_NaN();
  }
  GuardedTensor tensor(dtype, sizes, LayoutKind::kChannelsFirst, 2, 1);
  cenote_test::assign(tensor, values);
  return tensor;
}

void expect_same(const Values& got, const Values& expected, double relative, const std::string& what) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    const bool same = std::isnan(expected[i]) ? std::isnan(got[i])
                      : std::isinf(expected[i])
                          ? got[i] == expected[i]
                          : std::abs(got[i] - expected[i]) <= relative * std::abs(expected[i]);
    ASSERT_TRUE(same) << what << " element " << i << ": " << got[i] << " instead of " << expected[i];
  }
}

class RowLengths : public ::testing::TestWithParam<Case> {
 protected:
  /// `op` writes a tensor of these sizes, on the reference and on every target.
  template <class Op>
  void compare(const std::string& what, DType dtype, const Dims& sizes, double relative, const Op& op) {
    const auto result_on = [&](const std::string& name) {
      const TargetGuard target(name);
      const GuardedTensor out(dtype, sizes, LayoutKind::kChannelsFirst, 2, 3);
      op(out.view());
      EXPECT_TRUE(out.guards_intact()) << what << " on " << name;
      return values_of(out);
    };
    const Values expected = result_on("reference");
    for (const std::string& name : cpu_targets())
      expect_same(result_on(name), expected, relative, what + " on " + name);
  }
};

TEST_P(RowLengths, AgreeWithTheReference) {
  const auto& [dtype, kernel, stride, padding, ceil_mode] = GetParam();
  const MaxPoolOptions max{.kernel = kernel, .stride = stride, .padding = padding, .ceil_mode = ceil_mode};
  const AvgPoolOptions avg{.kernel = kernel,
                           .stride = stride,
                           .padding = padding,
                           .ceil_mode = ceil_mode,
                           .count_include_pad = false};
  const double rounding = dtype == DType::f64 ? 1e-14 : dtype == DType::f32 ? 1e-6 : 0x1p-8;
  for (std::int64_t columns = kernel; columns <= kLongest; ++columns) {
    const Dims sizes = sizes_of(columns);
    const Dims y_sizes = max_pool2d_shape(sizes, max);
    const std::string of_row = " of " + std::to_string(columns) + " columns";
    for (const bool special : {false, true}) {
      const GuardedTensor x = filled(dtype, sizes, special);
      compare("max" + of_row, dtype, y_sizes, 0, [&](const TensorView& y) { max_pool2d_into(y, x, max); });
      compare("avg" + of_row, dtype, y_sizes, rounding,
              [&](const TensorView& y) { avg_pool2d_into(y, x, avg); });
      compare("taps" + of_row, DType::u8, y_sizes, 0, [&](const TensorView& taps) {
        const GuardedTensor y(dtype, y_sizes, LayoutKind::kChannelsFirst, 2, 2);
        max_pool2d_into(y, x, max, &taps);
      });
    }
    const GuardedTensor x = filled(dtype, sizes, false), grad_y = filled(dtype, y_sizes, false);
    const GuardedTensor y(dtype, y_sizes, LayoutKind::kChannelsFirst, 2, 2);
    const GuardedTensor taps(DType::u8, y_sizes, LayoutKind::kChannelsFirst, 2, 4);
    max_pool2d_into(y, x, max, &taps.view());
    compare("max backward" + of_row, dtype, sizes, rounding,
            [&](const TensorView& grad_x) { max_pool2d_backward_into(grad_x, grad_y, taps, max); });
  }
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    for (const std::int64_t kernel : {2, 3}) {
      for (const std::int64_t stride : {1, 2}) {
        for (const std::int64_t padding : {0, 1})
          all.push_back({dtype, kernel, stride, padding, stride == 2});
      }
    }
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Cases, RowLengths, ::testing::ValuesIn(cases()));

}  // namespace
}  // namespace cenote
