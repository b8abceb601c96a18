// Where window maxima are, and the gradients that go there, against loops over every tap: windows of one, two
// and three columns, whose loops keep numbers of elements beside them, and few large ones, on every CPU
// target.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "cenote/runtime.h"
#include "cenote/window.h"
#include "conformance/replay.h"
#include "support/tensors.h"

namespace cenote {
namespace {

using cenote_test::GuardedTensor;
using cenote_test::integers_of;
using cenote_test::LayoutKind;
using cenote_test::values_of;
using Values = std::vector<double>;
using Integers = std::vector<std::int64_t>;

class OnEveryTarget : public ::testing::TestWithParam<std::string> {
 private:
  cenote_test::TargetGuard target_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Targets, OnEveryTarget, ::testing::ValuesIn(cpu_targets()),
                         [](const auto& param) { return param.param; });

struct Case {
  Dims sizes;  // N, C, D, H, W
  Dims kernel, stride, padding;
};

struct Expected {
  Values maxima;
  Integers positions;
  Integers taps;
  Values gradient;  // of the sum of (1 + i % 5) * output i
};

/// An element beats those before it if it is greater, or NaN.
Expected pooled(const Case& one, const Values& x) {
  Expected expected;
  expected.gradient.assign(x.size(), 0);
  const auto out = [&](int axis) {
    return (one.sizes[axis + 2] + 2 * one.padding[axis] - one.kernel[axis]) / one.stride[axis] + 1;
  };
  const std::int64_t plane = one.sizes[2] * one.sizes[3] * one.sizes[4];
  const auto window = [&](std::int64_t first, const std::int64_t(&o)[3]) {
    double best = -std::numeric_limits<double>::infinity();
    std::int64_t best_tap = -1, best_position = -1, tap = 0;
    for (std::int64_t d = 0; d < one.kernel[0]; ++d) {
      for (std::int64_t h = 0; h < one.kernel[1]; ++h) {
        for (std::int64_t w = 0; w < one.kernel[2]; ++w, ++tap) {
          const std::int64_t at[] = {o[0] * one.stride[0] - one.padding[0] + d,
                                     o[1] * one.stride[1] - one.padding[1] + h,
                                     o[2] * one.stride[2] - one.padding[2] + w};
          bool inside = true;
          for (int axis = 0; axis < 3; ++axis)
            inside = inside && at[axis] >= 0 && at[axis] < one.sizes[axis + 2];
          if (!inside) continue;
          const std::int64_t position = (at[0] * one.sizes[3] + at[1]) * one.sizes[4] + at[2];
          const double value = x[static_cast<std::size_t>(first + position)];
          if (best_tap >= 0 && !(value > best) && !std::isnan(value)) continue;
          best = value;
          best_tap = tap;
          best_position = position;
        }
      }
    }
    expected.gradient[static_cast<std::size_t>(first + best_position)] +=
        1 + static_cast<double>(expected.maxima.size() % 5);
    expected.maxima.push_back(best);
    expected.taps.push_back(best_tap);
    expected.positions.push_back(best_position);
  };
  for (std::int64_t first = 0; first < static_cast<std::int64_t>(x.size()); first += plane) {
    for (std::int64_t od = 0; od < out(0); ++od) {
      for (std::int64_t oh = 0; oh < out(1); ++oh) {
        for (std::int64_t ow = 0; ow < out(2); ++ow) window(first, {od, oh, ow});
      }
    }
  }
  return expected;
}

/// NaN is written as a number that no test has.
Values without_nan(Values values) {
  for (double& value : values) value = std::isnan(value) ? 12345 : value;
  return values;
}

/// Ties everywhere; also NaN and the infinities if `special`.
Values draw_values(const Dims& sizes, bool special) {
  Values values(static_cast<std::size_t>(element_count(sizes)));
  std::uint64_t state = 1;
  for (double& value : values) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    value = static_cast<double>(state >> 61) - 3;
  }
  if (!special) return values;
  for (std::size_t i = 0; i < values.size() / 3; ++i) values[i] = -std::numeric_limits<double>::infinity();
  values[values.size() / 2] = std::nan("");
  values.back() = std::nan("");
  values[values.size() / 4] = std::numeric_limits<double>::infinity();
  return values;
}

TEST_P(OnEveryTarget, MaximaOfShortWindowsAndWhereTheyAre) {
  // Rows of one vector and of several, whole or not; planes that are pooled as blocks, alone, or together;
  // windows along D alone, whose slices are rows of one kind; padding at none, one, or all of the axes; few
  // windows of many elements; windows that are their planes, or hold them; many channels of few pixels.
  const Case cases[] = {
      {{1, 2, 1, 9, 70}, {1, 3, 3}, {1, 2, 2}, {0, 1, 1}},
      {{1, 2, 1, 9, 71}, {1, 3, 3}, {1, 2, 2}, {0, 0, 0}},
      {{1, 2, 1, 7, 67}, {1, 3, 3}, {1, 1, 1}, {0, 1, 1}},
      {{1, 2, 1, 6, 66}, {1, 2, 2}, {1, 2, 2}, {0, 0, 0}},
      {{1, 2, 1, 5, 65}, {1, 4, 2}, {1, 1, 1}, {0, 2, 1}},
      {{1, 2, 1, 5, 37}, {1, 3, 1}, {1, 2, 1}, {0, 1, 0}},
      {{2, 19, 1, 13, 14}, {1, 3, 3}, {1, 2, 2}, {0, 1, 1}},
      {{1, 17, 1, 7, 7}, {1, 3, 3}, {1, 1, 1}, {0, 1, 1}},
      {{1, 35, 1, 3, 4}, {1, 2, 2}, {1, 1, 2}, {0, 1, 0}},
      {{1, 40, 1, 1, 3}, {1, 1, 2}, {1, 1, 1}, {0, 0, 1}},
      {{1, 16, 4, 6, 5}, {2, 2, 2}, {2, 2, 2}, {0, 0, 0}},
      {{1, 3, 5, 6, 21}, {3, 3, 3}, {2, 2, 2}, {1, 1, 1}},
      {{1, 3, 6, 5, 9}, {2, 1, 1}, {2, 1, 1}, {0, 0, 0}},
      {{2, 18, 5, 4, 3}, {3, 1, 1}, {1, 1, 1}, {1, 0, 0}},
      {{1, 3, 4, 5, 9}, {2, 1, 3}, {1, 1, 1}, {0, 0, 1}},
      {{1, 3, 4, 5, 9}, {2, 3, 1}, {1, 1, 1}, {0, 1, 0}},
      {{1, 70, 1, 8, 9}, {1, 3, 3}, {1, 2, 2}, {0, 0, 0}},
      {{1, 33, 1, 6, 6}, {1, 2, 3}, {1, 1, 1}, {0, 0, 1}},
      {{1, 20, 1, 40, 8}, {1, 20, 8}, {1, 10, 1}, {0, 0, 0}},
      {{2, 19, 6, 7, 7}, {4, 7, 7}, {2, 1, 1}, {0, 0, 0}},
      {{1, 35, 4, 5, 5}, {4, 5, 5}, {1, 1, 1}, {0, 0, 0}},
      {{1, 5, 1, 5, 5}, {1, 9, 9}, {1, 1, 1}, {0, 2, 2}},
      {{1, 1024, 1, 4, 5}, {1, 4, 5}, {1, 1, 1}, {0, 0, 0}},
      {{1, 1024, 1, 6, 6}, {1, 3, 3}, {1, 3, 3}, {0, 0, 0}},
  };
  for (const Case& one : cases) {
    const MaxPoolOptions options{.kernel = one.kernel, .stride = one.stride, .padding = one.padding};
    for (const bool special : {false, true}) {
      const Values values = draw_values(one.sizes, special);
      const Expected expected = pooled(one, values);
      const Dims y_sizes = max_pool3d_shape(one.sizes, options);
      Values of_outputs(expected.maxima.size());
      for (std::size_t i = 0; i < of_outputs.size(); ++i) of_outputs[i] = 1 + static_cast<double>(i % 5);
      for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
        for (const LayoutKind layout : cenote_test::kLayoutKinds) {
          SCOPED_TRACE(::testing::Message()
                       << name_of(dtype) << ' ' << name_of(layout) << ' ' << to_string(one.sizes) << ' '
                       << to_string(one.kernel) << (special ? " special" : ""));
          const GuardedTensor x(dtype, one.sizes, layout, 3, 1);
          const GuardedTensor grad_y(dtype, y_sizes, layout, 3, 2);
          assign(x, values);
          assign(grad_y, of_outputs);
          for (const DType kind : {DType::i64, DType::u16, DType::u8}) {
            const MaxPoolResult result = max_pool3d_with_indices(x, options, kind);
            EXPECT_EQ(without_nan(values_of(result.values)), without_nan(expected.maxima));
            EXPECT_EQ(integers_of(result.indices), kind == DType::i64 ? expected.positions : expected.taps);
            EXPECT_EQ(values_of(max_pool3d_backward(grad_y, result.indices, one.sizes, options)),
                      expected.gradient);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace cenote
