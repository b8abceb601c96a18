// One element that differs, at every place of a row or of the channels, for every length up to 65, of the ops
// whose gradient reads x up to 33: the body and the tail of a vector loop must treat each lane alike, and no
// lane may leak into another.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include "cenote/runtime.h"
#include "conformance/replay.h"

namespace cenote_test {
namespace {

constexpr std::int64_t kLongest = 65;
constexpr std::int64_t kLongestSmooth = 33;  // slower ops: twice the 16 lanes of the widest vectors and one
const double kMarks[] = {std::nan(""), 1.0, -std::numeric_limits<double>::infinity()};

std::int64_t longest(const cenote::OpInfo& op) { return op.gradient_reads_x ? kLongestSmooth : kLongest; }

struct Pooled {
  std::vector<double> y;
  std::vector<std::int64_t> taps;
};

Pooled pool(const Case& one, const std::vector<double>& values) {
  const int rank = one.op->spatial_rank;
  const GuardedTensor x(one.dtype, one.sizes, one.layout, rank, 1);
  assign(x, values);
  const cenote::Dims y_sizes = one.op->shape(one.sizes, one.arguments);
  const GuardedTensor y(one.dtype, y_sizes, one.layout, rank, 2);
  if (!one.op->records_indices) {
    one.op->forward(y, nullptr, x, one.arguments);
    return {values_of(y), {}};
  }
  const GuardedTensor taps(one.op->tap_dtype(one.sizes, one.arguments), y_sizes, one.layout, rank, 3);
  one.op->forward(y, &taps.view(), x, one.arguments);
  return {values_of(y), integers_of(taps)};
}

/// The values are multiples of 1/4 in windows of 2, 3, 4, 6 or more elements: nearly, but for thirds, exact.
/// In f32 the ops whose gradient reads x add up to 195 terms, each with some 10 roundings of its own: 205 *
/// 6e-8 = 1.2e-5 of the largest element, 2, or of y. A place that is mistaken changes more.
double allowed(const cenote::OpInfo& op, double y) {
  return op.gradient_reads_x ? 2e-5 * std::max(2.0, std::abs(y)) : 1e-6 * std::abs(y);
}

::testing::AssertionResult alike(const Case& one, const Pooled& got, const Pooled& expected) {
  for (std::size_t i = 0; i < expected.y.size(); ++i) {
    const double a = got.y[i];
    const double b = expected.y[i];
    const bool equal = a == b || (std::isnan(a) && std::isnan(b)) || std::abs(a - b) <= allowed(*one.op, b);
    if (!equal) return ::testing::AssertionFailure() << "y[" << i << "] is " << a << ", expected " << b;
  }
  if (got.taps != expected.taps) return ::testing::AssertionFailure() << "the taps differ";
  return ::testing::AssertionSuccess();
}

/// Every target against the reference, which comes last in the list.
void check_targets(const Case& one, const std::vector<double>& x) {
  const std::vector<std::string> targets = cenote::cpu_targets();
  const TargetGuard reference(targets.back());
  const Pooled expected = pool(one, x);
  for (std::size_t i = 0; i + 1 < targets.size(); ++i) {
    cenote::set_cpu_target(targets[i]);
    ASSERT_TRUE(alike(one, pool(one, x), expected)) << targets[i] << ' ' << describe(one);
  }
}

Case small_case(std::string_view op, std::int64_t stride) {
  Case one;
  one.op = cenote::find_op(op);
  if (one.op->parameters & cenote::kTakesWindow) {
    one.arguments.kernel = 3;
    one.arguments.stride = stride;
    one.arguments.padding = 1;
  }
  // Windows of up to half a row, of a few elements, and more outputs than elements in short rows.
  if (one.op->parameters & cenote::kTakesOutputSize)
    one.arguments.output_size = {2, stride == 1 ? 2 : 6 * stride - 5};
  if (one.op->parameters & cenote::kTakesNormType) one.arguments.norm_type = 3;
  return one;
}

/// Negative numbers that change from place to place, so that a misplaced lane shows.
double ordinary(std::int64_t i) { return -1 - static_cast<double>(i % 5) / 4; }

void check_rows(Case one, std::int64_t width) {
  one.sizes = {1, 3, width};
  std::vector<double> x(static_cast<std::size_t>(3 * width));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = ordinary(static_cast<std::int64_t>(i));
  for (const double mark : kMarks) {
    for (std::int64_t place = 0; place < width; ++place) {
      std::vector<double> marked = x;
      marked[static_cast<std::size_t>(width + place)] = mark;
      Pooled expected;
      {
        const TargetGuard reference("reference");
        expected = pool(one, marked);
      }
      ASSERT_TRUE(alike(one, pool(one, marked), expected))
          << describe(one) << ", " << mark << " at column " << place;
    }
  }
}

/// Every channel alike but one; that one and the others have each one expected plane.
void check_channels(Case one, std::int64_t channels) {
  constexpr std::int64_t kPlane = std::int64_t{3} * 4;
  one.sizes = {channels, 3, 4};
  std::vector<double> plane(kPlane);
  for (std::size_t i = 0; i < plane.size(); ++i) plane[i] = ordinary(static_cast<std::int64_t>(i));
  for (const double mark : kMarks) {
    std::vector<double> marked_plane = plane;
    marked_plane[5] = mark;
    for (std::int64_t place = 0; place < channels; ++place) {
      std::vector<double> x;
      for (std::int64_t c = 0; c < channels; ++c) {
        const auto& source = c == place ? marked_plane : plane;
        x.insert(x.end(), source.begin(), source.end());
      }
      SCOPED_TRACE(::testing::Message() << mark << " in channel " << place);
      ASSERT_NO_FATAL_FAILURE(check_targets(one, x));
    }
  }
}

constexpr const char* kOps[] = {
    "max_pool2d",          "min_pool2d",          "avg_pool2d",        "sum_pool2d",
    "adaptive_max_pool2d", "adaptive_avg_pool2d", "global_max_pool2d", "global_avg_pool2d",
    "lp_pool2d",           "lse_pool2d",          "soft_pool2d",       "adaptive_lp_pool2d",
    "global_lse_pool2d",   "global_gem_pool2d",   "global_std_pool2d", "global_avgmax_pool2d"};

TEST(Lanes, AlongARow) {
  for (const char* op : kOps) {
    for (const cenote::DType dtype : {cenote::DType::f32, cenote::DType::f64}) {
      for (const std::int64_t stride : {1, 2, 3}) {
        Case one = small_case(op, stride);
        const bool varies = (one.op->parameters & (cenote::kTakesWindow | cenote::kTakesOutputSize)) != 0;
        if (stride > 1 && !varies) continue;
        one.dtype = dtype;
        for (std::int64_t width = 1; width <= longest(*one.op); ++width)
          ASSERT_NO_FATAL_FAILURE(check_rows(one, width));
      }
    }
  }
}

TEST(Lanes, AlongTheChannels) {
  for (const char* op : kOps) {
    for (const cenote::DType dtype : {cenote::DType::f32, cenote::DType::f64}) {
      Case one = small_case(op, 2);
      one.dtype = dtype;
      one.layout = LayoutKind::kChannelsLast;
      for (std::int64_t channels = 1; channels <= longest(*one.op); ++channels) {
        ASSERT_NO_FATAL_FAILURE(check_channels(one, channels));
      }
    }
  }
}

/// Elements of sizes [C, H, W]: `planes` groups of C / planes channels, the channels of a group all alike.
std::vector<double> repeated(const cenote::Dims& sizes, std::int64_t planes, std::uint64_t seed) {
  const std::int64_t plane = sizes[1] * sizes[2];
  const std::vector<double> values = make_values(Fill::kNormal, planes * plane, seed);
  std::vector<double> all;
  for (std::int64_t c = 0; c < sizes[0]; ++c) {
    const auto* const from = values.data() + c / (sizes[0] / planes) * plane;
    all.insert(all.end(), from, from + plane);
  }
  return all;
}

/// Whether each of `planes` groups of channels holds the same bits throughout.
void expect_repeated(const cenote::Dims& sizes, std::int64_t planes, const std::vector<double>& values,
                     const Case& one) {
  const std::int64_t plane = sizes[1] * sizes[2];
  const std::int64_t group = sizes[0] / planes;
  for (std::int64_t c = 0; c < sizes[0]; ++c) {
    const auto first = static_cast<std::size_t>(c / group * group * plane);
    for (std::int64_t i = 0; i < plane; ++i) {
      ASSERT_EQ(values[static_cast<std::size_t>(c * plane + i)], values[first + static_cast<std::size_t>(i)])
          << describe(one) << ", channel " << c << ", element " << i;
    }
  }
}

void check_bits(const Case& one) {
  const int rank = one.op->spatial_rank;
  const GuardedTensor x(one.dtype, one.sizes, one.layout, rank, 1);
  assign(x, repeated(one.sizes, 1, 7));
  const cenote::Dims y_sizes = one.op->shape(one.sizes, one.arguments);
  const std::int64_t planes = y_sizes[0] / one.sizes[0];  // averages and maxima of catavgmax
  const GuardedTensor y(one.dtype, y_sizes, one.layout, rank, 2);
  const GuardedTensor indices(cenote::DType::i64, y_sizes, one.layout, rank, 3);
  one.op->forward(y, one.op->records_indices ? &indices.view() : nullptr, x, one.arguments);
  ASSERT_NO_FATAL_FAILURE(expect_repeated(y_sizes, planes, values_of(y), one));
  if (one.op->backward == nullptr) return;
  const GuardedTensor grad_y(one.dtype, y_sizes, one.layout, rank, 4);
  assign(grad_y, repeated(y_sizes, planes, 8));
  const GuardedTensor grad_x(one.dtype, one.sizes, one.layout, rank, 5);
  const cenote::ConstTensorView record = one.op->records_indices ? indices : x;
  one.op->backward(grad_x, grad_y, &record, one.arguments);
  ASSERT_NO_FATAL_FAILURE(expect_repeated(one.sizes, 1, values_of(grad_x), one));
}

TEST(Lanes, EveryChannelGivesTheSameBits) {
  for (const std::string& target : cenote::cpu_targets()) {
    const TargetGuard guard(target);
    for (const cenote::OpInfo& op : cenote::ops()) {
      if (op.spatial_rank != 2 || op.reads_indices) continue;
      if (op.parameters & cenote::kTakesSamples) continue;  // channels have windows of their own
      for (const cenote::DType dtype :
           {cenote::DType::f32, cenote::DType::f64, cenote::DType::f16, cenote::DType::bf16}) {
        for (const LayoutKind layout : {LayoutKind::kChannelsFirst, LayoutKind::kChannelsLast}) {
          for (const std::int64_t channels : {17, 65}) {
            Case one = small_case(op.name, 1);
            one.sizes = {channels, 9, 11};
            one.dtype = dtype;
            one.layout = layout;
            ASSERT_NO_FATAL_FAILURE(check_bits(one)) << target;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace cenote_test
