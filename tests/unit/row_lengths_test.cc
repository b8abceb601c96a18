// Rows of every length, and pixels of every number of channels, up to some vectors: loops take them as blocks
// of planes, as tiles, vector by vector or whole, and all of them must agree with the reference, with NaN and
// infinities too, and write nothing else.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "cenote/global.h"
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

const Dims kPlanes{2, 9};  // more than one vector of f32 has lanes, together

/// Of windows that overlap all up to some vectors, of others those about which their vectors end.
std::vector<std::int64_t> row_lengths(const Case& one) {
  std::vector<std::int64_t> lengths;
  if (one.stride <= 2) {
    for (std::int64_t columns = one.kernel; columns <= 67; ++columns) lengths.push_back(columns);
    for (const std::int64_t columns : {75, 97, 112, 120, 121, 147, 160, 161}) lengths.push_back(columns);
    return lengths;
  }
  for (const std::int64_t outputs : {1, 2, 7, 8, 9, 15, 16, 17, 33}) {
    for (const std::int64_t more : {-1, 0, 1}) {
      if (outputs * one.stride + more >= one.kernel) lengths.push_back(outputs * one.stride + more);
    }
  }
  return lengths;
}

/// Small multiples of 1/4, whose sums are exact; among them, if `special`, infinities and NaN.
GuardedTensor filled(DType dtype, const Dims& sizes, bool special,
                     LayoutKind layout = LayoutKind::kChannelsFirst) {
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
  GuardedTensor tensor(dtype, sizes, layout, 2, 1);
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

/// `op` writes a tensor of these sizes, on the reference and on every target.
template <class Op>
void compare(const std::string& what, DType dtype, const Dims& sizes, double relative, LayoutKind layout,
             const Op& op) {
  const auto result_on = [&](const std::string& name) {
    const TargetGuard target(name);
    const GuardedTensor out(dtype, sizes, layout, sizes.size() - 2, 3);
    op(out.view());
    EXPECT_TRUE(out.guards_intact()) << what << " on " << name;
    return values_of(out);
  };
  const Values expected = result_on("reference");
  for (const std::string& name : cpu_targets())
    expect_same(result_on(name), expected, relative, what + " on " + name);
}

double rounding_of(DType dtype) { return dtype == DType::f64 ? 1e-14 : dtype == DType::f32 ? 1e-6 : 0x1p-8; }

/// All passes over tensors of these sizes.
void compare_passes(const std::string& of, const Case& one, const Dims& sizes, LayoutKind layout) {
  const auto& [dtype, kernel, stride, padding, ceil_mode] = one;
  // Large windows are of few rows.
  const auto rows = [](std::int64_t columns) { return std::min<std::int64_t>(columns, 3); };
  const Dims kernels{rows(kernel), kernel}, strides{rows(stride), stride},
      paddings{std::min<std::int64_t>(padding, 1), padding};
  const MaxPoolOptions max{.kernel = kernels, .stride = strides, .padding = paddings, .ceil_mode = ceil_mode};
  const AvgPoolOptions avg{.kernel = kernels,
                           .stride = strides,
                           .padding = paddings,
                           .ceil_mode = ceil_mode,
                           .count_include_pad = false};
  const Dims y_sizes = max_pool2d_shape(sizes, max);
  const double rounding = rounding_of(dtype);
  for (const bool special : {false, true}) {
    const GuardedTensor x = filled(dtype, sizes, special, layout);
    compare("max" + of, dtype, y_sizes, 0, layout, [&](const TensorView& y) { max_pool2d_into(y, x, max); });
    compare("avg" + of, dtype, y_sizes, rounding, layout,
            [&](const TensorView& y) { avg_pool2d_into(y, x, avg); });
    compare("taps" + of, DType::u8, y_sizes, 0, layout, [&](const TensorView& taps) {
      const GuardedTensor y(dtype, y_sizes, layout, 2, 2);
      max_pool2d_into(y, x, max, &taps);
    });
  }
  const GuardedTensor x = filled(dtype, sizes, false, layout), grad_y = filled(dtype, y_sizes, false, layout);
  const GuardedTensor y(dtype, y_sizes, layout, 2, 2);
  const GuardedTensor taps(DType::u8, y_sizes, layout, 2, 4);
  max_pool2d_into(y, x, max, &taps.view());
  compare("max backward" + of, dtype, sizes, rounding, layout,
          [&](const TensorView& grad_x) { max_pool2d_backward_into(grad_x, grad_y, taps, max); });
  // Sums of quotients of both signs, which may cancel: of their absolute values.
  Values magnitudes = values_of(grad_y);
  for (double& value : magnitudes) value = std::abs(value);
  cenote_test::assign(grad_y, magnitudes);
  compare("avg backward" + of, dtype, sizes, 4 * rounding, layout,
          [&](const TensorView& grad_x) { avg_pool2d_backward_into(grad_x, grad_y, avg); });
}

/// Maxima and averages of the same windows.
void compare_forward(const std::string& of, DType dtype, const Dims& sizes, LayoutKind layout,
                     const MaxPoolOptions& max, const AvgPoolOptions& avg) {
  const Dims y_sizes = max_pool2d_shape(sizes, max);
  for (const bool special : {false, true}) {
    const GuardedTensor x = filled(dtype, sizes, special, layout);
    compare("max" + of, dtype, y_sizes, 0, layout, [&](const TensorView& y) { max_pool2d_into(y, x, max); });
    compare("avg" + of, dtype, y_sizes, 2 * rounding_of(dtype), layout,
            [&](const TensorView& y) { avg_pool2d_into(y, x, avg); });
  }
}

class RowLengths : public ::testing::TestWithParam<Case> {};
class ChannelCounts : public ::testing::TestWithParam<Case> {};

TEST_P(RowLengths, AgreeWithTheReference) {
  for (const std::int64_t columns : row_lengths(GetParam())) {
    compare_passes(" of " + std::to_string(columns) + " columns", GetParam(),
                   {kPlanes[0], kPlanes[1], 6, columns}, LayoutKind::kChannelsFirst);
  }
}

TEST_P(ChannelCounts, AgreeWithTheReference) {
  for (const std::int64_t channels : {2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 33, 40, 64, 65, 72, 100}) {
    for (const std::int64_t columns : {7, 37}) {
      if (columns > 7 && channels > 5) continue;  // whose pixels are no lanes of one vector
      compare_passes(" of " + std::to_string(channels) + " channels", GetParam(), {2, channels, 5, columns},
                     LayoutKind::kChannelsLast);
    }
  }
}

TEST_P(RowLengths, PlanesOfFewRowsAgreeWithTheReference) {
  const Case& one = GetParam();
  for (const std::int64_t columns : {9, 14, 28}) {
    if (columns < one.kernel) continue;
    for (std::int64_t rows = 1; rows <= 9; ++rows) {
      if (rows + 2 * std::min<std::int64_t>(one.padding, 1) < std::min<std::int64_t>(one.kernel, 3)) continue;
      compare_passes(" of " + std::to_string(rows) + " x " + std::to_string(columns), one,
                     {kPlanes[0], kPlanes[1], rows, columns}, LayoutKind::kChannelsFirst);
    }
  }
}

TEST(ByteRows, AgreeWithTheReference) {
  std::vector<std::int64_t> lengths;
  for (std::int64_t columns = 1; columns <= 70; ++columns) lengths.push_back(columns);
  for (const std::int64_t columns : {127, 128, 224, 225, 1024, 1025}) lengths.push_back(columns);
  for (const DType dtype : {DType::u8, DType::i8}) {
    for (const std::int64_t columns : lengths) {
      for (const std::int64_t kernel : {2, 3}) {
        for (const std::int64_t stride : {1, 2}) {
          const MaxPoolOptions max{
              .kernel = kernel, .stride = stride, .padding = 1, .ceil_mode = columns % 2 == 0};
          const Dims sizes{kPlanes[0], kPlanes[1], 5, columns};
          const GuardedTensor x(dtype, sizes, LayoutKind::kChannelsFirst, 2, 1);
          Values values(static_cast<std::size_t>(element_count(sizes)));
          for (std::size_t i = 0; i < values.size(); ++i)
            values[i] = static_cast<double>(i * 7919 % 256) - (dtype == DType::i8 ? 128 : 0);
          cenote_test::assign(x, values);
          compare(std::to_string(kernel) + " stride " + std::to_string(stride) + " of " +
                      std::to_string(columns) + " columns",
                  dtype, max_pool2d_shape(sizes, max), 0, LayoutKind::kChannelsFirst,
                  [&](const TensorView& y) { max_pool2d_into(y, x, max); });
        }
      }
    }
  }
}

/// Windows of dilated rows, whose outputs are no multiple of what lies between their elements.
TEST(DilatedRows, AgreeWithTheReference) {
  const MaxPoolOptions max{.kernel = {4, 5}, .stride = 1, .dilation = {1, 2}};
  const AvgPoolOptions avg{.kernel = {4, 5}, .stride = 1, .dilation = {1, 2}};
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (const std::int64_t channels : {2, 4, 8, 16, 20, 32, 64}) {
      const Dims sizes{1, channels, 5, 33};
      const Dims y_sizes = max_pool2d_shape(sizes, max);
      const std::string of = " of " + std::to_string(channels) + " channels";
      for (const LayoutKind layout : {LayoutKind::kChannelsFirst, LayoutKind::kChannelsLast}) {
        const GuardedTensor x = filled(dtype, sizes, false, layout);
        compare("max" + of, dtype, y_sizes, 0, layout,
                [&](const TensorView& y) { max_pool2d_into(y, x, max); });
        compare("avg" + of, dtype, y_sizes, rounding_of(dtype), layout,
                [&](const TensorView& y) { avg_pool2d_into(y, x, avg); });
      }
    }
  }
}

/// Windows of stride 1 that are as tall as wide, over planes whose rows fill up to some vectors.
TEST(LargeWindows, AgreeWithTheReference) {
  struct Window {
    std::int64_t kernel, padding, dilation;
  };
  const Window windows[] = {{1, 0, 1},  {2, 1, 5},  {3, 2, 2},   {3, 1, 7},  {4, 2, 1},
                            {5, 2, 1},  {5, 0, 3},  {6, 1, 1},   {7, 3, 2},  {9, 4, 1},
                            {13, 6, 1}, {17, 8, 1}, {32, 16, 1}, {47, 23, 1}};
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const auto& [kernel, padding, dilation] : windows) {
      const MaxPoolOptions max{.kernel = kernel, .stride = 1, .padding = padding, .dilation = dilation};
      const AvgPoolOptions avg{.kernel = kernel,
                               .stride = 1,
                               .padding = padding,
                               .dilation = dilation,
                               .count_include_pad = padding % 2 == 0};
      const std::int64_t reach = dilation * (kernel - 1) + 1 - 2 * padding;
      for (const std::int64_t columns : {8, 13, 16, 17, 31, 33, 50, 64, 79, 90, 97}) {
        const std::int64_t rows = std::max<std::int64_t>(columns % 11 + 4, reach);
        if (columns < reach) continue;
        const Dims sizes{1, 3, rows, columns};
        const std::string of = " kernel " + std::to_string(kernel) + " dilation " + std::to_string(dilation) +
                               " of " + std::to_string(rows) + " x " + std::to_string(columns);
        compare_forward(of, dtype, sizes, LayoutKind::kChannelsFirst, max, avg);
      }
    }
  }
}

TEST(LargeWindows, OverPixelsAgreeWithTheReference) {
  struct Window {
    Dims kernel, padding, dilation;
  };
  const Window windows[] = {{{3, 3}, {1, 1}, {2, 2}},  {{3, 5}, {0, 2}, {1, 1}},   {{4, 4}, {2, 1}, {1, 1}},
                            {{5, 3}, {2, 1}, {2, 3}},  {{13, 13}, {6, 6}, {1, 1}}, {{24, 4}, {12, 0}, {1, 1}},
                            {{4, 25}, {2, 12}, {1, 1}}};
  const Dims planes[] = {{9, 9}, {3, 33}, {50, 8}};
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const auto& [kernel, padding, dilation] : windows) {
      const MaxPoolOptions max{.kernel = kernel, .stride = 1, .padding = padding, .dilation = dilation};
      const AvgPoolOptions avg{.kernel = kernel,
                               .stride = 1,
                               .padding = padding,
                               .dilation = dilation,
                               .count_include_pad = padding[1] % 2 == 0};
      for (const Dims& plane : planes) {
        const auto fits = [&](int i) { return plane[i] + 2 * padding[i] > dilation[i] * (kernel[i] - 1); };
        if (!fits(0) || !fits(1)) continue;
        for (const std::int64_t channels : {16, 33, 130}) {
          const Dims sizes{1, channels, plane[0], plane[1]};
          const std::string of = " kernel " + std::to_string(kernel[0]) + "x" + std::to_string(kernel[1]) +
                                 " of " + std::to_string(plane[0]) + "x" + std::to_string(plane[1]) + ", " +
                                 std::to_string(channels) + " channels";
          compare_forward(of, dtype, sizes, LayoutKind::kChannelsLast, max, avg);
        }
      }
    }
  }
}

TEST(SlicesTogether, AgreeWithTheReference) {
  struct Depth {
    std::int64_t in, kernel, padding;
  };
  const Depth depths[] = {{1, 3, 1}, {2, 2, 0},  {3, 3, 1}, {7, 3, 1},
                          {9, 2, 1}, {24, 4, 2}, {8, 5, 0}, {9, 6, 3}};
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const auto& [in, kernel, padding] : depths) {
      for (const std::int64_t square : {1, 2, 3, 5}) {
        const MaxPoolOptions max{.kernel = Dims{kernel, square, square},
                                 .stride = 1,
                                 .padding = Dims{padding, square / 2, square / 2}};
        for (const std::int64_t columns : {8, 13, 17, 28, 61}) {
          const Dims sizes{1, 3, in, 4 + columns % 7, columns};
          const Dims y_sizes = max_pool3d_shape(sizes, max);
          const std::string of = "max of " + std::to_string(in) + " slices, kernel " +
                                 std::to_string(kernel) + "x" + std::to_string(square) + ", " +
                                 std::to_string(columns) + " columns";
          for (const bool special : {false, true}) {
            const GuardedTensor x = filled(dtype, sizes, special);
            compare(of, dtype, y_sizes, 0, LayoutKind::kChannelsFirst,
                    [&](const TensorView& y) { max_pool3d_into(y, x, max); });
          }
        }
      }
    }
  }
}

/// Windows of one slice, where slices can be seen as channels or images, or cannot: of one channel or image,
/// too.
TEST(SlicesAlone, AgreeWithTheReference) {
  for (const LayoutKind layout : cenote_test::kLayoutKinds) {
    for (const Dims& sizes :
         {Dims{2, 3, 4, 9, 13}, Dims{1, 5, 3, 8, 8}, Dims{3, 1, 2, 9, 17}, Dims{1, 1, 5, 7, 7}}) {
      for (const Dims& kernel : {Dims{1, 3, 3}, Dims{1, 2, 2}, Dims{1, sizes[3], sizes[4]}}) {
        const Dims stride{1, std::min<std::int64_t>(kernel[1], 2), std::min<std::int64_t>(kernel[2], 2)};
        const MaxPoolOptions max{.kernel = kernel, .stride = stride};
        const AvgPoolOptions avg{.kernel = kernel, .stride = stride};
        const Dims y_sizes = max_pool3d_shape(sizes, max);
        const std::string of = " of " + to_string(sizes) + ", kernel " + to_string(kernel);
        const GuardedTensor x(DType::f32, sizes, layout, 3, 1), grad_y(DType::f32, y_sizes, layout, 3, 2);
        for (const GuardedTensor* tensor : {&x, &grad_y}) {
          Values values = cenote_test::iota(element_count(tensor->view().sizes));
          for (double& value : values)
            value = static_cast<double>(static_cast<std::int64_t>(value) * 7919 % 127);
          cenote_test::assign(*tensor, values);
        }
        compare("max" + of, DType::f32, y_sizes, 0, layout,
                [&](const TensorView& y) { max_pool3d_into(y, x, max); });
        compare("indices" + of, DType::i64, y_sizes, 0, layout, [&](const TensorView& indices) {
          const GuardedTensor y(DType::f32, y_sizes, layout, 3, 3);
          max_pool3d_into(y, x, max, &indices);
        });
        compare("avg" + of, DType::f32, y_sizes, 1e-6, layout,
                [&](const TensorView& y) { avg_pool3d_into(y, x, avg); });
        compare("avg backward" + of, DType::f32, sizes, 4e-6, layout,
                [&](const TensorView& grad_x) { avg_pool3d_backward_into(grad_x, grad_y, avg); });
      }
    }
  }
}

/// Gradients of windows over slices, no two of which read the same one.
TEST(SlicesApart, GradientsAgreeWithTheReference) {
  struct Depth {
    std::int64_t in, kernel, stride, padding;
  };
  const Depth depths[] = {{1, 1, 1, 0}, {3, 1, 2, 0}, {4, 2, 2, 0}, {5, 2, 2, 1}, {7, 2, 3, 0}, {6, 3, 3, 1}};
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const Depth& d : depths) {
      for (const std::int64_t kernel : {2, 3}) {
        for (const std::int64_t padding : {0, 1}) {
          const Dims kernels{d.kernel, kernel, kernel}, strides{d.stride, 2, 2},
              pads{d.padding, padding, padding};
          const MaxPoolOptions max{.kernel = kernels, .stride = strides, .padding = pads};
          const AvgPoolOptions avg{
              .kernel = kernels, .stride = strides, .padding = pads, .count_include_pad = false};
          for (const std::int64_t columns : {9, 16, 33, 61}) {
            const Dims sizes{2, 3, d.in, columns % 8 + kernel, columns};
            const Dims y_sizes = max_pool3d_shape(sizes, max);
            const std::string of = " backward " + to_string(kernels) + " of " + to_string(sizes);
            const GuardedTensor x = filled(dtype, sizes, false),
                                y(dtype, y_sizes, LayoutKind::kChannelsFirst, 2, 2);
            const GuardedTensor taps(DType::u8, y_sizes, LayoutKind::kChannelsFirst, 2, 4);
            max_pool3d_into(y, x, max, &taps.view());
            const GuardedTensor grad_y = filled(dtype, y_sizes, false);
            compare("max" + of, dtype, sizes, rounding_of(dtype), LayoutKind::kChannelsFirst,
                    [&](const TensorView& grad_x) { max_pool3d_backward_into(grad_x, grad_y, taps, max); });
            Values magnitudes = values_of(grad_y);
            for (double& value : magnitudes) value = std::abs(value);
            cenote_test::assign(grad_y, magnitudes);
            compare("avg" + of, dtype, sizes, 4 * rounding_of(dtype), LayoutKind::kChannelsFirst,
                    [&](const TensorView& grad_x) { avg_pool3d_backward_into(grad_x, grad_y, avg); });
          }
        }
      }
    }
  }
}

TEST(PlaneSizes, GlobalPoolingAgreesWithTheReference) {
  std::vector<std::int64_t> sizes;
  for (std::int64_t size = 1; size <= 70; ++size) sizes.push_back(size);
  for (std::int64_t size = 120; size <= 520; size += 8) sizes.insert(sizes.end(), {size - 1, size, size + 1});
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (const LayoutKind layout : {LayoutKind::kChannelsFirst, LayoutKind::kChannelsLast}) {
      for (const std::int64_t size : sizes) {
        const std::string of = " of " + std::to_string(size) + " elements";
        for (const bool special : {false, true}) {
          const GuardedTensor x = filled(dtype, {kPlanes[0], kPlanes[1], 1, size}, special, layout);
          const Dims y_sizes{kPlanes[0], kPlanes[1], 1, 1};
          compare("max" + of, dtype, y_sizes, 0, layout,
                  [&](const TensorView& y) { global_max_pool2d_into(y, x); });
          compare("avg" + of, dtype, y_sizes, rounding_of(dtype), layout,
                  [&](const TensorView& y) { global_avg_pool2d_into(y, x); });
        }
      }
    }
  }
}

std::vector<Case> overlapping() {
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
INSTANTIATE_TEST_SUITE_P(Overlapping, RowLengths, ::testing::ValuesIn(overlapping()));
INSTANTIATE_TEST_SUITE_P(Overlapping, ChannelCounts, ::testing::ValuesIn(overlapping()));

std::vector<Case> side_by_side() {
  std::vector<Case> all;
  const auto add = [&](DType dtype, std::initializer_list<std::int64_t> kernels) {
    for (const std::int64_t kernel : kernels) {
      for (const std::int64_t padding : {std::int64_t{0}, kernel / 2})
        all.push_back({dtype, kernel, kernel, padding, padding > 0});
    }
  };
  add(DType::f32, {3, 4, 5, 6, 7, 9, 10, 14, 16});
  for (const DType dtype : {DType::f64, DType::f16, DType::bf16}) add(dtype, {3, 4, 10});
  return all;
}
INSTANTIATE_TEST_SUITE_P(SideBySide, RowLengths, ::testing::ValuesIn(side_by_side()));

}  // namespace
}  // namespace cenote
