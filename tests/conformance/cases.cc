// Draws the conformance cases; see cases.h.
#include "conformance/cases.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <ostream>
#include <random>
#include <sstream>

#include "cenote/adaptive.h"
#include "cenote/error.h"
#include "conformance/plain_form.h"

namespace cenote_test {
namespace {

using cenote::AutoPad;
using cenote::Convention;
using cenote::Dims;
using cenote::DType;
using cenote::IndexOrder;
using cenote::OpArguments;
using cenote::OpInfo;

/// Bounds the time of the reference, which visits every tap.
struct Limits {
  std::int64_t elements;
  std::int64_t taps;
};
constexpr Limits kSmall{30'000, 400'000};
constexpr Limits kLarge{60'000, 2'500'000};

constexpr Fill kFills[] = {Fill::kNormal,
                           Fill::kNormal,
                           Fill::kSmallIntegers,
                           Fill::kSmallIntegers,
                           Fill::kWithNan,
                           Fill::kWithNegativeInfinity,
                           Fill::kAllNegativeInfinity,
                           Fill::kAllNan,
                           Fill::kAllEqual,
                           Fill::kSignedZeros,
                           Fill::kLargeMagnitudes};

constexpr Fill kIntegerFills[] = {Fill::kNormal, Fill::kSmallIntegers, Fill::kAllEqual, Fill::kEnds};

constexpr DType kFloatingDTypes[] = {DType::f32, DType::f32, DType::f32, DType::f64,
                                     DType::f64, DType::f16, DType::bf16};

// Those that loops treat apart, and powers on both sides of 1. All are f32 numbers.
constexpr double kNormTypes[] = {1, 2, 3, 0.5, 2.5, 17, std::numeric_limits<double>::infinity()};
constexpr double kSharpnesses[] = {1e-30, 0x1p-10, 0.5, 1, 1.75, 6, 10, 20};
constexpr double kGemPowers[] = {1e-30, 0x1p-10, 0.5, 1, 2, 2.5, 3, 4.75, 12};
constexpr double kGemFloors[] = {1e-6, 1e-6, 1e-3, 0.25};

constexpr DType kDTypes[] = {DType::f32, DType::f32, DType::f32, DType::f32,  DType::f64,
                             DType::f64, DType::f64, DType::f16, DType::bf16, DType::i8,
                             DType::u8,  DType::i32, DType::i64};

constexpr AutoPad kAutoPads[] = {AutoPad::kSameUpper, AutoPad::kSameLower, AutoPad::kValid};
constexpr IndexOrder kTensorOrders[] = {IndexOrder::kTensor, IndexOrder::kTensorColumnMajor};
constexpr double kScales[] = {1, 1, 0.5, 0.25, 2, 3, 0.37, 0.021};

class Draw {
 public:
  explicit Draw(std::uint64_t seed) : random_(seed) {}

  /// From low to high, both included.
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool one_in(std::int64_t n) { return between(1, n) == 1; }
  template <class T, std::size_t kCount>
  T one_of(const T (&values)[kCount]) {
    return values[between(0, static_cast<std::int64_t>(kCount) - 1)];
  }
  std::uint64_t bits() { return random_(); }

 private:
  std::mt19937_64 random_;
};

std::int64_t at_axis(const Dims& dims, int axis, std::int64_t otherwise) {
  if (dims.empty()) return otherwise;
  return dims.size() == 1 ? dims[0] : dims[axis];
}

Dims draw_sizes(Draw& draw, int spatial_rank) {
  constexpr std::int64_t kChannels[] = {1, 2, 3, 5, 8, 16, 17, 33};
  constexpr std::int64_t kLargest[] = {40, 20, 9};
  Dims sizes;
  if (!draw.one_in(5)) sizes.push_back(draw.one_in(25) ? 0 : draw.between(1, 3));
  sizes.push_back(draw.one_of(kChannels));
  for (int axis = 0; axis < spatial_rank; ++axis)
    sizes.push_back(draw.between(1, kLargest[spatial_rank - 1]));
  return sizes;
}

/// One value for all axes, or one per axis.
template <class DrawOne>
Dims per_axis(Draw& draw, int spatial_rank, const DrawOne& draw_one) {
  const int count = draw.one_in(3) ? 1 : spatial_rank;
  Dims values;
  for (int axis = 0; axis < count; ++axis) values.push_back(draw_one(axis));
  return values;
}

void draw_unpool_arguments(Draw& draw, const Dims& sizes, int rank, OpArguments& arguments) {
  arguments.kernel = per_axis(draw, rank, [&](int) { return draw.between(1, 4); });
  if (!draw.one_in(3)) arguments.stride = per_axis(draw, rank, [&](int) { return draw.between(1, 4); });
  if (draw.one_in(2)) {
    arguments.padding = per_axis(
        draw, rank, [&](int axis) { return draw.between(0, at_axis(arguments.kernel, axis, 1) / 2); });
  }
  if (draw.one_in(2)) return;
  Dims requested;  // within the rule, or below 1: such cases are drawn again
  for (int axis = 0; axis < rank; ++axis) {
    const std::int64_t kernel = at_axis(arguments.kernel, axis, 1);
    const std::int64_t stride = at_axis(arguments.stride, axis, kernel);
    const std::int64_t usual =
        (sizes[sizes.size() - rank + axis] - 1) * stride + kernel - 2 * at_axis(arguments.padding, axis, 0);
    requested.push_back(usual + draw.between(1 - stride, stride - 1));
  }
  arguments.output_size = requested;
}

/// Outputs for windows of the kernel, of which the last one ends with the input.
void draw_fractional_sizes(Draw& draw, const Dims& sizes, int rank, OpArguments& arguments) {
  const int first = sizes.size() - rank;
  arguments.output_ratio.clear();
  arguments.output_size = {};
  arguments.seed = draw.bits();
  if (draw.one_in(3)) {
    for (int left = draw.one_in(2) ? 1 : rank; left > 0; --left)
      arguments.output_ratio.push_back(static_cast<double>(draw.between(10, 95)) / 100);
    return;
  }
  arguments.output_size = per_axis(draw, rank, [&](int axis) {
    const std::int64_t most = sizes[first + axis] - at_axis(arguments.kernel, axis, 1) + 1;
    return draw.between(1, std::max<std::int64_t>(most, 1));
  });
}

void draw_smooth_arguments(Draw& draw, const OpInfo& op, const Dims& sizes, OpArguments& arguments) {
  if (op.parameters & cenote::kTakesNormType) arguments.norm_type = draw.one_of(kNormTypes);
  if ((op.parameters & cenote::kTakesSharpness) != 0 && !draw.one_in(4))
    arguments.sharpness = draw.one_of(kSharpnesses);
  if (op.parameters & cenote::kTakesGem) {
    const std::int64_t channels = sizes[sizes.size() - op.spatial_rank - 1];
    arguments.p.clear();
    for (std::int64_t left = draw.one_in(2) ? 1 : channels; left > 0; --left)
      arguments.p.push_back(draw.one_of(kGemPowers));
    arguments.eps = draw.one_of(kGemFloors);
  }
}

OpArguments draw_arguments(Draw& draw, const OpInfo& op, const Dims& sizes) {
  const int rank = op.spatial_rank;
  const int first = sizes.size() - rank;
  OpArguments arguments;
  if (op.parameters & cenote::kTakesWindow) {
    arguments.kernel = per_axis(draw, rank, [&](int axis) {
      return draw.one_in(8) ? draw.between(1, sizes[first + axis]) : draw.between(1, 5);
    });
    if (!draw.one_in(3)) arguments.stride = per_axis(draw, rank, [&](int) { return draw.between(1, 4); });
    if (draw.one_in(3)) arguments.dilation = per_axis(draw, rank, [&](int) { return draw.between(1, 3); });
    if (draw.one_in(8)) arguments.convention = Convention::kOnnx;
    const auto draw_padding = [&](int axis) {
      const std::int64_t dilation = at_axis(arguments.dilation, axis, 1);
      const std::int64_t reach = dilation * (at_axis(arguments.kernel, axis, 1) - 1) + 1;
      return draw.between(0, arguments.convention == Convention::kOnnx ? reach + 1 : reach / 2);
    };
    if (!draw.one_in(3)) arguments.padding = per_axis(draw, rank, draw_padding);
    if (draw.one_in(4)) arguments.padding_end = per_axis(draw, rank, draw_padding);
    arguments.ceil_mode = draw.one_in(2);
  }
  if (op.parameters & cenote::kTakesUnpool) draw_unpool_arguments(draw, sizes, rank, arguments);
  if (op.parameters & cenote::kTakesDivisor) {
    constexpr std::int64_t kDivisors[] = {-2, 1, 2, 3, 7};
    arguments.count_include_pad = draw.one_in(2);
    if (draw.one_in(4)) arguments.divisor_override = draw.one_of(kDivisors);
  }
  if (op.parameters & cenote::kTakesSamples) {
    arguments.kernel = per_axis(draw, rank, [&](int axis) {
      return draw.between(1, std::min<std::int64_t>(sizes[first + axis], 5));
    });
    draw_fractional_sizes(draw, sizes, rank, arguments);
  }
  draw_smooth_arguments(draw, op, sizes, arguments);
  if (op.parameters & cenote::kTakesOutputSize) {
    arguments.output_size = per_axis(draw, rank, [&](int axis) {
      return draw.one_in(10) ? cenote::kKeepSize
                             : draw.between(1, std::min<std::int64_t>(sizes[first + axis] + 3, 12));
    });
  }
  return arguments;
}

/// Instead of the padding that was drawn.
void draw_auto_pad(Draw& draw, Case& one) {
  if ((one.op->parameters & cenote::kTakesWindow) == 0 || !draw.one_in(6)) return;
  one.arguments.auto_pad = draw.one_of(kAutoPads);
  one.arguments.padding = 0;
  one.arguments.padding_end = {};
}

/// Elements that the windows of one output hold, at most.
std::int64_t taps_per_output(const Case& one) {
  if (one.op->reads_indices) return 1;
  std::int64_t taps = 1;
  const int first = one.sizes.size() - one.op->spatial_rank;
  for (int axis = 0; axis < one.op->spatial_rank; ++axis) {
    const std::int64_t size = one.sizes[first + axis];
    const bool windowed = (one.op->parameters & (cenote::kTakesWindow | cenote::kTakesSamples)) != 0;
    const std::int64_t out = at_axis(one.arguments.output_size, axis, 1);
    taps *= windowed ? at_axis(one.arguments.kernel, axis, 1) : size / std::max<std::int64_t>(out, 1) + 2;
  }
  return taps;
}

bool usable(const Case& one, const Limits& limits) {
  try {
    const Dims y_sizes = one.op->shape(one.sizes, one.arguments);
    return element_count(one.sizes) <= limits.elements &&
           element_count(y_sizes) * taps_per_output(one) <= limits.taps;
  } catch (const cenote::Error&) {
    return false;
  }
}

void draw_elements(Draw& draw, Case& one) {
  one.layout = draw.one_of(kLayoutKinds);
  one.dtype = one.op->pools_integers() ? draw.one_of(kDTypes) : draw.one_of(kFloatingDTypes);
  one.fill = is_floating(one.dtype) ? draw.one_of(kFills) : draw.one_of(kIntegerFills);
  one.seed = draw.bits();
}

/// Windows that lie side by side, and outputs that divide the inputs evenly, which loops treat apart.
void put_side_by_side(Draw& draw, Case& one) {
  const int rank = one.op->spatial_rank;
  const int first = one.sizes.size() - rank;
  if (one.op->parameters & cenote::kTakesWindow) {
    one.arguments.kernel = per_axis(draw, rank, [&](int) { return draw.between(1, 16); });
    one.arguments.stride = {};
    one.arguments.dilation = 1;
    one.arguments.padding = draw.one_in(2) ? 0 : at_axis(one.arguments.kernel, 0, 1) / 2;
  }
  if (one.op->parameters & cenote::kTakesOutputSize) {
    Dims outputs;
    for (int axis = 0; axis < rank; ++axis) {
      outputs.push_back(draw.between(1, 4));
      one.sizes[first + axis] = outputs[axis] * draw.between(1, 16 / outputs[axis]);
    }
    one.arguments.output_size = outputs;
  }
}

/// Large windows with small strides, which share most of what they read.
void put_over_each_other(Draw& draw, Case& one) {
  const int rank = one.op->spatial_rank;
  const int first = one.sizes.size() - rank;
  one.arguments.kernel =
      per_axis(draw, rank, [&](int axis) { return draw.between(2, axis + 3 == rank ? 3 : 20); });
  one.arguments.stride = per_axis(draw, rank, [&](int) { return draw.between(1, draw.one_in(3) ? 3 : 1); });
  one.arguments.dilation = per_axis(draw, rank, [&](int) { return draw.between(1, draw.one_in(4) ? 2 : 1); });
  one.arguments.padding = draw.one_in(2) ? 0 : 1;
  one.arguments.padding_end = {};
  for (int axis = 0; axis < rank; ++axis) {
    const std::int64_t reach =
        (at_axis(one.arguments.kernel, axis, 1) - 1) * at_axis(one.arguments.dilation, axis, 1) + 1;
    one.sizes[first + axis] = reach + draw.between(0, rank == 1 ? 60 : 12);
  }
}

/// Outputs that do not divide the inputs, along rows of up to several tiles: from windows of many elements to
/// outputs that share one.
void make_uneven(Draw& draw, Case& one) {
  constexpr std::int64_t kLongest[] = {9'000, 200, 40};
  const int rank = one.op->spatial_rank;
  const int first = one.sizes.size() - rank;
  Dims outputs;
  for (int axis = 0; axis < rank; ++axis) {
    const bool last = axis + 1 == rank;
    const std::int64_t size = draw.between(1, last ? kLongest[rank - 1] : 12);
    one.sizes[first + axis] = size;
    outputs.push_back(std::max<std::int64_t>(1, size * 8 / draw.between(2, last ? 200 : 24)));
  }
  one.arguments.output_size = outputs;
}

/// change(one) may alter what was drawn.
template <class Change>
Case draw_changed_case(Draw& draw, const OpInfo& op, const Change& change) {
  Case one;
  one.op = &op;
  do {
    one.sizes = draw_sizes(draw, op.spatial_rank);
    one.arguments = draw_arguments(draw, op, one.sizes);
    change(one);
    draw_auto_pad(draw, one);
  } while (!usable(one, kSmall));
  draw_elements(draw, one);
  return one;
}

Case draw_case(Draw& draw, const OpInfo& op) {
  return draw_changed_case(draw, op, [&](Case& one) {
    if (draw.one_in(6)) put_side_by_side(draw, one);
  });
}

Case draw_overlapping_case(Draw& draw, const OpInfo& op) {
  return draw_changed_case(draw, op, [&](Case& one) { put_over_each_other(draw, one); });
}

Case draw_uneven_case(Draw& draw, const OpInfo& op) {
  return draw_changed_case(draw, op, [&](Case& one) { make_uneven(draw, one); });
}

Dims draw_large_sizes(Draw& draw, int spatial_rank) {
  constexpr std::int64_t kLargest[] = {20'000, 1'200, 300};
  Dims sizes{1, draw.one_in(2) ? draw.between(1, 3) : draw.between(60, 300)};
  // One long axis, the others short.
  const std::int64_t long_axis = draw.between(0, spatial_rank - 1);
  for (int axis = 0; axis < spatial_rank; ++axis) {
    sizes.push_back(axis == long_axis ? draw.between(30, kLargest[spatial_rank - 1]) : draw.between(1, 40));
  }
  return sizes;
}

OpArguments draw_large_arguments(Draw& draw, const OpInfo& op, const Dims& sizes) {
  const int rank = op.spatial_rank;
  const int first = sizes.size() - rank;
  OpArguments arguments = draw_arguments(draw, op, sizes);
  if (op.parameters & cenote::kTakesWindow) {
    arguments.kernel = per_axis(draw, rank, [&](int axis) {
      const std::int64_t size = sizes[first + axis];
      return draw.one_in(3) ? draw.between(1, 5) : draw.between(1, std::min<std::int64_t>(size, 5'000));
    });
    arguments.stride = per_axis(draw, rank, [&](int) { return draw.between(1, draw.one_in(2) ? 4 : 90); });
    arguments.padding = per_axis(draw, rank, [&](int axis) {
      return draw.between(0, std::min<std::int64_t>(at_axis(arguments.kernel, axis, 1) / 2, 70));
    });
    arguments.padding_end = {};
  }
  if (op.parameters & cenote::kTakesSamples) {
    arguments.kernel = per_axis(draw, rank, [&](int axis) {
      return draw.between(1, draw.one_in(2) ? 5 : std::max<std::int64_t>(sizes[first + axis] / 2, 1));
    });
    draw_fractional_sizes(draw, sizes, rank, arguments);
  }
  if (op.parameters & cenote::kTakesOutputSize) {
    arguments.output_size =
        per_axis(draw, rank, [&](int) { return draw.between(1, draw.one_in(2) ? 8 : 700); });
  }
  return arguments;
}

Case draw_large_case(Draw& draw, const OpInfo& op) {
  Case one;
  one.op = &op;
  do {
    one.sizes = draw_large_sizes(draw, op.spatial_rank);
    one.arguments = draw_large_arguments(draw, op, one.sizes);
    draw_auto_pad(draw, one);
  } while (element_count(one.sizes) < 8'000 || !usable(one, kLarge));
  draw_elements(draw, one);
  return one;
}

/// Configurations that chance would seldom find.
std::vector<Case> fixed_cases() {
  std::vector<Case> cases;
  for (const OpInfo& op : cenote::ops()) {
    for (const LayoutKind layout : kLayoutKinds) {
      Case one;
      one.op = &op;
      one.layout = layout;
      one.seed = cases.size();
      // The only window of these options has its two taps on either side of the one element.
      one.sizes = {2, 3};
      for (int axis = 0; axis < op.spatial_rank; ++axis) one.sizes.push_back(1);
      const bool has_kernel = (op.parameters & (cenote::kTakesWindow | cenote::kTakesUnpool)) != 0;
      one.arguments.kernel = has_kernel ? Dims(2) : Dims();
      one.arguments.padding = (op.parameters & cenote::kTakesWindow) != 0 ? 1 : 0;
      one.arguments.dilation = (op.parameters & cenote::kTakesWindow) != 0 ? 2 : 1;
      one.arguments.output_size = (op.parameters & cenote::kTakesOutputSize) != 0 ? Dims(2) : Dims();
      if (op.parameters & cenote::kTakesSamples) one.arguments.kernel = one.arguments.output_size = 1;
      if (op.parameters & cenote::kTakesGem) one.arguments.p = {3};
      cases.push_back(one);
      one.sizes[0] = 0;
      cases.push_back(one);
    }
  }
  return cases;
}

std::int64_t positions_of(const Dims& sizes, int rank) {
  std::int64_t positions = 1;
  for (int axis = sizes.size() - rank; axis < sizes.size(); ++axis) positions *= sizes[axis];
  return positions;
}

/// A position of y inside the window of the source position `source` of its plane, clipped to y.
std::int64_t draw_near(Draw& draw, const Case& one, const Dims& y_sizes, std::int64_t source) {
  const int rank = one.op->spatial_rank;
  std::int64_t position = 0;
  std::int64_t step = 1;
  for (int axis = rank - 1; axis >= 0; --axis) {
    const int place = one.sizes.size() - rank + axis;
    const std::int64_t kernel = at_axis(one.arguments.kernel, axis, 1);
    const std::int64_t start = source % one.sizes[place] * at_axis(one.arguments.stride, axis, kernel) -
                               at_axis(one.arguments.padding, axis, 0);
    position += std::clamp<std::int64_t>(start + draw.between(0, kernel - 1), 0, y_sizes[place] - 1) * step;
    step *= y_sizes[place];
    source /= one.sizes[place];
  }
  return position;
}

GuardedTensor to_indices(const Case& one, LayoutKind layout, const Dims& y_sizes,
                         const std::vector<std::int64_t>& positions) {
  const int rank = one.op->spatial_rank;
  GuardedTensor indices(DType::i64, one.sizes, layout, rank, one.seed + 7);
  assign(indices, in_index_order(positions, y_sizes, rank, one.arguments.index_order));
  return indices;
}

const char* name_of(AutoPad auto_pad) {
  switch (auto_pad) {
    case AutoPad::kSameUpper:
      return "SAME_UPPER";
    case AutoPad::kSameLower:
      return "SAME_LOWER";
    case AutoPad::kValid:
      return "VALID";
    case AutoPad::kNotSet:
      break;
  }
  return "NOTSET";
}

double large_magnitude(std::mt19937_64& random) {
  std::uniform_real_distribution<double> exponent(-30, 30);
  const double magnitude = std::pow(10.0, exponent(random));
  return random() % 2 == 0 ? magnitude : -magnitude;
}

double draw_value(Fill fill, std::mt19937_64& random) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  std::normal_distribution<double> normal;
  const auto small_integer = [&] { return static_cast<double>(random() % 5) - 2; };
  switch (fill) {
    case Fill::kNormal:
    case Fill::kEnds:
      return normal(random);
    case Fill::kSmallIntegers:
      return small_integer();
    case Fill::kWithNan:
      return random() % 8 == 0 ? std::numeric_limits<double>::quiet_NaN() : normal(random);
    case Fill::kWithNegativeInfinity:
      return random() % 4 == 0 ? -kInfinity : small_integer();
    case Fill::kAllNegativeInfinity:
      return -kInfinity;
    case Fill::kAllNan:
      return std::numeric_limits<double>::quiet_NaN();
    case Fill::kAllEqual:
      return 1.5;
    case Fill::kSignedZeros:
      return random() % 2 == 0 ? 0.0 : -0.0;
    case Fill::kLargeMagnitudes:
      return large_magnitude(random);
  }
  return 0;
}

/// Cases of the ops that take a parameter, in turn.
std::vector<Case> generate_cases_of(cenote::OpParameter parameter, Case (*draw_one)(Draw&, const OpInfo&),
                                    int count, std::uint64_t seed) {
  std::vector<Case> cases;
  Draw draw(seed);
  const auto all_ops = cenote::ops();
  for (std::size_t next = 0; cases.size() < static_cast<std::size_t>(count); ++next) {
    const OpInfo& op = all_ops[next % all_ops.size()];
    if (op.parameters & parameter) cases.push_back(draw_one(draw, op));
  }
  return cases;
}

}  // namespace

const char* name_of(Fill fill) {
  switch (fill) {
    case Fill::kNormal:
      return "normal";
    case Fill::kSmallIntegers:
      return "small_integers";
    case Fill::kWithNan:
      return "with_nan";
    case Fill::kWithNegativeInfinity:
      return "with_negative_infinity";
    case Fill::kAllNegativeInfinity:
      return "all_negative_infinity";
    case Fill::kAllNan:
      return "all_nan";
    case Fill::kAllEqual:
      return "all_equal";
    case Fill::kSignedZeros:
      return "signed_zeros";
    case Fill::kLargeMagnitudes:
      return "large_magnitudes";
    case Fill::kEnds:
      return "ends";
  }
  return "unknown";
}

std::vector<Case> generate_cases(int count, std::uint64_t seed) {
  std::vector<Case> cases = fixed_cases();
  Draw draw(seed);
  const auto all_ops = cenote::ops();
  for (std::size_t next = 0; cases.size() < static_cast<std::size_t>(count); ++next) {
    cases.push_back(draw_case(draw, all_ops[next % all_ops.size()]));
  }
  cases.resize(static_cast<std::size_t>(count));
  return cases;
}

void vary_encodings(std::vector<Case>& cases, std::uint64_t seed) {
  Draw draw(seed);
  for (Case& one : cases) {
    const bool positions = one.op->reads_indices || (one.op->parameters & cenote::kTakesIndexOrder) != 0;
    if (positions && draw.one_in(3)) one.arguments.index_order = draw.one_of(kTensorOrders);
    const bool bytes = one.dtype == DType::i8 || one.dtype == DType::u8;
    if (!bytes || (one.op->parameters & cenote::kTakesQuantization) == 0 || draw.one_in(3)) continue;
    const std::int64_t least = one.dtype == DType::i8 ? -128 : 0;
    const auto draw_zero_point = [&] { return draw.between(least, least + 255); };
    one.arguments.quantization = {draw.one_of(kScales), draw_zero_point(), draw.one_of(kScales),
                                  draw_zero_point()};
  }
}

std::vector<Case> generate_overlapping_cases(int count, std::uint64_t seed) {
  return generate_cases_of(cenote::kTakesWindow, draw_overlapping_case, count, seed);
}

std::vector<Case> generate_uneven_cases(int count, std::uint64_t seed) {
  return generate_cases_of(cenote::kTakesOutputSize, draw_uneven_case, count, seed);
}

std::vector<Case> generate_large_cases(int count, std::uint64_t seed) {
  std::vector<Case> cases;
  Draw draw(seed);
  const auto all_ops = cenote::ops();
  for (std::size_t next = 0; cases.size() < static_cast<std::size_t>(count); ++next) {
    cases.push_back(draw_large_case(draw, all_ops[next % all_ops.size()]));
  }
  return cases;
}

std::string describe(const Case& one) {
  std::ostringstream out;
  out << one.op->name << " x=" << to_string(one.sizes);
  const OpArguments& arguments = one.arguments;
  if (one.op->parameters & cenote::kTakesWindow) {
    out << " kernel=" << to_string(arguments.kernel) << " stride=" << to_string(arguments.stride)
        << " padding=" << to_string(arguments.padding) << " padding_end=" << to_string(arguments.padding_end)
        << " dilation=" << to_string(arguments.dilation) << " ceil_mode=" << arguments.ceil_mode;
    if (arguments.convention == Convention::kOnnx) out << " convention=onnx";
    if (arguments.auto_pad != AutoPad::kNotSet) out << " auto_pad=" << name_of(arguments.auto_pad);
  }
  if (one.op->parameters & cenote::kTakesUnpool) {
    out << " kernel=" << to_string(arguments.kernel) << " stride=" << to_string(arguments.stride)
        << " padding=" << to_string(arguments.padding);
  }
  if (one.op->parameters & cenote::kTakesDivisor) {
    out << " count_include_pad=" << arguments.count_include_pad;
    if (arguments.divisor_override) out << " divisor_override=" << *arguments.divisor_override;
  }
  if (one.op->parameters & cenote::kTakesSamples) {
    out << " kernel=" << to_string(arguments.kernel) << " output_ratio=";
    for (const double ratio : arguments.output_ratio) out << ratio << ',';
    out << " samples_seed=" << arguments.seed;
  }
  if (one.op->parameters & (cenote::kTakesOutputSize | cenote::kTakesUnpool | cenote::kTakesSamples))
    out << " output_size=" << to_string(arguments.output_size);
  if (one.op->parameters & cenote::kTakesNormType) out << " norm_type=" << arguments.norm_type;
  if (arguments.sharpness) out << " sharpness=" << *arguments.sharpness;
  if (one.op->parameters & cenote::kTakesGem) {
    out << " p=";
    for (const double p : arguments.p) out << p << ',';
    out << " eps=" << arguments.eps;
  }
  if (arguments.index_order != IndexOrder::kPlane)
    out << " index_order=" << (arguments.index_order == IndexOrder::kTensor ? "tensor" : "column_major");
  if (arguments.quantization) {
    const auto& [x_scale, x_zero_point, y_scale, y_zero_point] = *arguments.quantization;
    out << " x_scale=" << x_scale << " x_zero_point=" << x_zero_point << " y_scale=" << y_scale
        << " y_zero_point=" << y_zero_point;
  }
  out << ' ' << name_of(one.dtype) << ' ' << name_of(one.layout) << " fill=" << name_of(one.fill)
      << " seed=" << one.seed;
  return out.str();
}

std::ostream& operator<<(std::ostream& out, const Case& one) { return out << describe(one); }

std::vector<double> make_values(Fill fill, std::int64_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<double> values(static_cast<std::size_t>(count));
  for (double& value : values) value = draw_value(fill, random);
  return values;
}

namespace {

struct IntegerRange {
  std::int64_t lowest;
  std::int64_t highest;
};

/// Of i64 numbers of 41 to 64 bits: on either side of what f64 holds, in sums too, up to the limits.
IntegerRange range_of(const Case& one) {
  switch (one.dtype) {
    case DType::i8:
      return {-128, 127};
    case DType::u8:
      return {0, 255};
    case DType::i32:
      return {std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max()};
    default: {
      const std::int64_t highest = std::numeric_limits<std::int64_t>::max() >> (one.seed % 24);
      return {-highest - 1, highest};
    }
  }
}

/// Whole numbers in the range of the dtype: spread out, or at its ends.
std::vector<std::int64_t> to_integers(const Case& one, const std::vector<double>& values) {
  const auto [lowest, highest] = range_of(one);
  std::vector<std::int64_t> integers;
  integers.reserve(values.size());
  for (const double value : values) {
    std::int64_t whole = std::llround(value * 10);
    if (one.fill == Fill::kEnds) {
      whole = whole < 0 ? lowest - whole : highest - whole;
    } else if (lowest == 0) {
      whole = std::abs(whole);
    }
    integers.push_back(std::clamp(whole, lowest, highest));
  }
  return integers;
}

}  // namespace

GuardedTensor make_input(const Case& one) { return make_input(one, one.layout); }

GuardedTensor make_input(const Case& one, LayoutKind layout) {
  GuardedTensor x(one.dtype, one.sizes, layout, one.op->spatial_rank, one.seed);
  const std::vector<double> values = make_values(one.fill, element_count(one.sizes), one.seed);
  if (is_floating(one.dtype)) {
    assign(x, values);
  } else {
    assign(x, to_integers(one, values));
  }
  return x;
}

GuardedTensor make_indices(const Case& one, LayoutKind layout) {
  const Dims y_sizes = one.op->shape(one.sizes, one.arguments);
  const std::int64_t sources = positions_of(one.sizes, one.op->spatial_rank);
  const std::int64_t positions = positions_of(y_sizes, one.op->spatial_rank);
  if (one.seed % 3 == 0 && sources <= positions) return make_distinct_indices(one, layout);
  const bool near = one.seed % 3 == 1;
  Draw draw(one.seed + 7);
  std::vector<std::int64_t> indices(static_cast<std::size_t>(element_count(one.sizes)));
  for (std::size_t i = 0; i < indices.size(); ++i) {
    const std::int64_t source = static_cast<std::int64_t>(i) % sources;
    indices[i] = near ? draw_near(draw, one, y_sizes, source) : draw.between(0, positions - 1);
  }
  return to_indices(one, layout, y_sizes, indices);
}

GuardedTensor make_distinct_indices(const Case& one, LayoutKind layout) {
  const Dims y_sizes = one.op->shape(one.sizes, one.arguments);
  const std::int64_t sources = positions_of(one.sizes, one.op->spatial_rank);
  std::vector<std::int64_t> plane(static_cast<std::size_t>(positions_of(y_sizes, one.op->spatial_rank)));
  std::iota(plane.begin(), plane.end(), 0);
  std::mt19937_64 random(one.seed + 7);
  std::vector<std::int64_t> indices;
  while (indices.size() < static_cast<std::size_t>(element_count(one.sizes))) {
    std::shuffle(plane.begin(), plane.end(), random);
    indices.insert(indices.end(), plane.begin(), plane.begin() + sources);
  }
  return to_indices(one, layout, y_sizes, indices);
}

/// Integers have none; in the tests they get one all the same, which is not used.
DType gradient_dtype(const Case& one) { return is_floating(one.dtype) ? one.dtype : DType::f32; }

GuardedTensor make_output_gradient(const Case& one) {
  const Dims sizes = one.op->shape(one.sizes, one.arguments);
  GuardedTensor gradient(gradient_dtype(one), sizes, one.layout, one.op->spatial_rank, one.seed + 1);
  assign(gradient, make_values(Fill::kNormal, element_count(sizes), one.seed + 1));
  return gradient;
}

GuardedTensor make_exact_output_gradient(const Case& one) {
  const Dims sizes = one.op->shape(one.sizes, one.arguments);
  GuardedTensor gradient(gradient_dtype(one), sizes, one.layout, one.op->spatial_rank, one.seed + 1);
  std::mt19937_64 random(one.seed + 1);
  std::vector<double> values(static_cast<std::size_t>(element_count(sizes)));
  for (double& value : values) value = static_cast<double>(random() % 63) / 8 - 3.875;
  assign(gradient, values);
  return gradient;
}

}  // namespace cenote_test
