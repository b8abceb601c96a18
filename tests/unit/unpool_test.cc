// Max unpooling on examples worked out by hand, forward and backward, on every CPU target, and what it
// refuses.
#include "cenote/unpool.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "cenote/runtime.h"
#include "cenote/window.h"
#include "conformance/replay.h"
#include "support/errors.h"
#include "support/tensors.h"

namespace cenote {
namespace {

using cenote_test::expect_invalid;
using cenote_test::expect_overflow;
using cenote_test::GuardedTensor;
using cenote_test::integers_of;
using cenote_test::iota;
using cenote_test::LayoutKind;
using cenote_test::values_of;
using Values = std::vector<double>;

constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max();

class Unpool : public ::testing::TestWithParam<std::string> {
 private:
  cenote_test::TargetGuard target_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Targets, Unpool, ::testing::ValuesIn(cpu_targets()),
                         [](const auto& param) { return param.param; });

TEST_P(Unpool, PutsElementsBack) {
  // The maxima of the 2x2 windows of a 4x4 ramp.
  const GuardedTensor x(DType::f32, Dims{1, 1, 2, 2}, {6, 8, 14, 16});
  const GuardedTensor indices(DType::i64, Dims{1, 1, 2, 2}, {5, 7, 13, 15});
  const Tensor y = max_unpool2d(x, indices, {.kernel = 2});
  EXPECT_EQ(y.sizes(), (Dims{1, 1, 4, 4}));
  EXPECT_EQ(values_of(y), (Values{0, 0, 0, 0, 0, 6, 0, 8, 0, 0, 0, 0, 0, 14, 0, 16}));
  const GuardedTensor grad_y(DType::f32, Dims{1, 1, 4, 4}, iota(16));
  EXPECT_EQ(values_of(max_unpool2d_backward(grad_y, indices, {.kernel = 2})), (Values{5, 7, 13, 15}));
}

TEST_P(Unpool, IndicesAreThoseOfTheRequestedPlane) {
  // In a plane of 5x5 position 7 is row 1, column 2; in the default one of 4x4 it would be column 3.
  const GuardedTensor x(DType::f64, Dims{1, 2, 2}, {1, 2, 3, 4});
  const GuardedTensor indices(DType::i64, Dims{1, 2, 2}, {0, 7, 13, 24});
  const Tensor y = max_unpool2d(x, indices, {.kernel = 2, .output_size = 5});
  Values expected(25, 0.0);
  expected[0] = 1;
  expected[7] = 2;
  expected[13] = 3;
  expected[24] = 4;
  EXPECT_EQ(y.sizes(), (Dims{1, 5, 5}));
  EXPECT_EQ(values_of(y), expected);
}

TEST_P(Unpool, OneAndThreeAxes) {
  const GuardedTensor line(DType::f64, Dims{2, 2}, {1, 2, 3, 4});
  const GuardedTensor places(DType::i64, Dims{2, 2}, {2, 0, 1, 3});
  EXPECT_EQ(values_of(max_unpool1d(line, places, {.kernel = 2})), (Values{2, 0, 1, 0, 0, 3, 0, 4}));
  const GuardedTensor volume(DType::f32, Dims{1, 1, 1, 1, 2}, {5, 6});
  const GuardedTensor corners(DType::i64, Dims{1, 1, 1, 1, 2}, {0, 15});
  Values expected(16, 0.0);
  expected[0] = 5;
  expected[15] = 6;
  const Tensor y = max_unpool3d(volume, corners, {.kernel = 2});
  EXPECT_EQ(y.sizes(), (Dims{1, 1, 2, 2, 4}));
  EXPECT_EQ(values_of(y), expected);
}

TEST_P(Unpool, TheLastDuplicateStaysAndAllGetTheGradient) {
  const GuardedTensor x(DType::f32, Dims{1, 1, 2, 2}, {1, 2, 3, 4});
  const GuardedTensor indices(DType::i64, Dims{1, 1, 2, 2}, {5, 5, 0, 5});
  const Tensor y = max_unpool2d(x, indices, {.kernel = 2});
  EXPECT_EQ(values_of(y), (Values{3, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
  const GuardedTensor grad_y(DType::f32, Dims{1, 1, 4, 4}, iota(16));
  EXPECT_EQ(values_of(max_unpool2d_backward(grad_y, indices, {.kernel = 2})), (Values{5, 5, 0, 5}));
}

TEST_P(Unpool, LayoutOfTheInputIsKept) {
  const Dims sizes{2, 3, 2, 2};
  const GuardedTensor x(DType::f32, sizes, LayoutKind::kChannelsLast, 2, 1);
  assign(x, iota(24));
  Values places;
  for (int plane = 0; plane < 6; ++plane) places.insert(places.end(), {15.0, 10.0, 5.0, 0.0});
  const GuardedTensor first(DType::i64, sizes, places);
  const GuardedTensor last(DType::i64, sizes, LayoutKind::kChannelsLast, 2, 2);
  assign(last, places);
  for (const GuardedTensor* indices : {&first, &last}) {
    const Tensor y = max_unpool2d(x, *indices, {.kernel = 2});
    EXPECT_EQ(y.strides(), dense_strides(y.sizes(), Layout::kChannelsLast));
    Values expected;
    for (int plane = 0; plane < 6; ++plane) {
      Values one(16, 0.0);
      for (std::size_t i = 0; i < 4; ++i) one[15 - 5 * i] = plane * 4 + static_cast<double>(i);
      expected.insert(expected.end(), one.begin(), one.end());
    }
    EXPECT_EQ(values_of(y), expected);
    const Tensor grad_x = max_unpool2d_backward(y, *indices, {.kernel = 2});
    EXPECT_EQ(grad_x.strides(), dense_strides(sizes, Layout::kChannelsLast));
    EXPECT_EQ(values_of(grad_x), iota(24));
  }
}

TEST_P(Unpool, EveryDtype) {
  const GuardedTensor indices(DType::i64, Dims{1, 2}, {3, 0});
  for (const DType dtype :
       {DType::f32, DType::f64, DType::f16, DType::bf16, DType::i8, DType::u8, DType::i32, DType::i64}) {
    SCOPED_TRACE(name_of(dtype));
    const GuardedTensor x(dtype, Dims{1, 2}, {7, 100});
    const Tensor y = max_unpool1d(x, indices, {.kernel = 2});
    EXPECT_EQ(y.dtype(), dtype);
    EXPECT_EQ(values_of(y), (Values{100, 0, 0, 7}));
    if (is_floating(dtype)) {
      EXPECT_EQ(values_of(max_unpool1d_backward(y, indices, {.kernel = 2})), (Values{7, 100}));
    } else {
      expect_invalid([&] { max_unpool1d_backward(y, indices, {.kernel = 2}); }, {"grad_y", name_of(dtype)});
    }
  }
}

TEST_P(Unpool, BitsAreKept) {
  // A NaN with a payload, and the smallest i64, which no double holds next to its neighbours.
  const std::uint32_t nan = 0xFFC1'2345;
  float value = 0;
  std::memcpy(&value, &nan, sizeof value);
  const GuardedTensor indices(DType::i64, Dims{1, 1}, {1});
  const Tensor y = max_unpool1d(ConstTensorView(&value, Dims{1, 1}), indices, {.kernel = 2});
  std::uint32_t bits = 0;
  std::memcpy(&bits, y.data<float>() + 1, sizeof bits);
  EXPECT_EQ(bits, nan);
  const std::int64_t large = std::numeric_limits<std::int64_t>::min() + 1;
  const Tensor whole = max_unpool1d(ConstTensorView(&large, Dims{1, 1}), indices, {.kernel = 2});
  EXPECT_EQ(whole.data<std::int64_t>()[1], large);
}

TEST_P(Unpool, OneGradientForAll) {
  // A gradient with strides of 0, as frameworks expand a scalar.
  const float one = 7;
  const ConstTensorView grad_y(&one, Dims{2, 3, 4, 4}, Dims{0, 0, 0, 0});
  const GuardedTensor indices(DType::i64, Dims{2, 3, 2, 2}, Values(24, 9.0));
  EXPECT_EQ(values_of(max_unpool2d_backward(grad_y, indices, {.kernel = 2})), Values(24, 7.0));
}

TEST_P(Unpool, EmptyBatch) {
  for (const LayoutKind layout : cenote_test::kLayoutKinds) {
    const GuardedTensor x(DType::f32, Dims{0, 3, 2, 2}, layout, 2, 0);
    const GuardedTensor indices(DType::i64, Dims{0, 3, 2, 2}, layout, 2, 0);
    const Tensor y = max_unpool2d(x, indices, {.kernel = 200});
    EXPECT_EQ(y.sizes(), (Dims{0, 3, 400, 400}));
    EXPECT_EQ(max_unpool2d_backward(y, indices, {.kernel = 200}).sizes(), (Dims{0, 3, 2, 2}));
  }
}

/// A plane that is large enough to be cut into parts, with one bad index in front of another.
TEST_P(Unpool, NamesTheFirstBadIndex) {
  for (const Dims& sizes : {Dims{1, 1, 300, 300}, Dims{3, 40, 20, 20}}) {
    for (const LayoutKind layout : cenote_test::kLayoutKinds) {
      const std::int64_t positions = sizes[2] * sizes[3] * 4;
      const std::int64_t count = element_count(sizes);
      for (const std::int64_t bad : {std::int64_t{-1}, positions, (std::int64_t{1} << 32) + 1, kLargest,
                                     std::numeric_limits<std::int64_t>::min()}) {
        const GuardedTensor x(DType::f32, sizes, layout, 2, 3);
        assign(x, Values(static_cast<std::size_t>(count), 1.0));
        Values places(static_cast<std::size_t>(count), 5.0);
        const GuardedTensor indices(DType::i64, sizes, layout, 2, 4);
        assign(indices, places);
        const auto put = [&](std::int64_t at, std::int64_t value) {
          std::int64_t offset = 0;
          for (int axis = 3; axis >= 0; at /= sizes[axis--])
            offset += at % sizes[axis] * indices.view().strides[axis];
          static_cast<std::int64_t*>(indices.view().data)[offset] = value;
        };
        put(count / 2, bad);
        put(count - 1, -77);
        const GuardedTensor y(DType::f32, Dims{sizes[0], sizes[1], sizes[2] * 2, sizes[3] * 2}, layout, 2, 5);
        assign(y, Values(static_cast<std::size_t>(4 * count), 2.0));
        const std::string value = "got " + std::to_string(bad);
        expect_invalid([&] { max_unpool2d_into(y, x, indices, {.kernel = 2}); },
                       {"[max_unpool2d] indices must lie in [0, ", value.c_str()});
        EXPECT_TRUE(y.guards_intact());
        expect_invalid([&] { max_unpool2d_backward_into(x, y, indices, {.kernel = 2}); },
                       {"[max_unpool2d_backward] indices must lie in [0, ", value.c_str()});
        EXPECT_TRUE(x.guards_intact());
      }
    }
  }
}

TEST_P(Unpool, MinusOneOfADilatedPoolingIsRefused) {
  // Both taps of the only window lie in the padding.
  const GuardedTensor x(DType::f32, Dims{1, 1}, {3});
  const MaxPoolResult pooled =
      max_pool1d_with_indices(x, {.kernel = 2, .stride = 2, .padding = 1, .dilation = 2});
  ASSERT_EQ(integers_of(pooled.indices), (std::vector<std::int64_t>{-1}));
  expect_invalid(
      [&] {
        max_unpool1d(pooled.values, pooled.indices,
                     {.kernel = 2, .stride = 2, .padding = 1, .output_size = 1});
      },
      {"[max_unpool1d] indices must lie in [0, 1)", "got -1"});
}

TEST(UnpoolShape, DefaultAndRequested) {
  const Dims sizes{3, 5, 4, 6};
  EXPECT_EQ(max_unpool2d_shape(sizes, {.kernel = {2, 3}}), (Dims{3, 5, 8, 18}));
  EXPECT_EQ(max_unpool2d_shape(sizes, {.kernel = 3, .stride = 2, .padding = 1}), (Dims{3, 5, 7, 11}));
  EXPECT_EQ(max_unpool2d_shape(sizes, {.kernel = 3, .stride = 2, .padding = 1, .output_size = {8, 10}}),
            (Dims{3, 5, 8, 10}));
  EXPECT_EQ(max_unpool1d_shape(Dims{5, 4}, {.kernel = 3, .stride = 5}), (Dims{5, 18}));
  EXPECT_EQ(max_unpool3d_shape(Dims{1, 1, 1, 1, 1}, {.kernel = {1, 2, 3}}), (Dims{1, 1, 1, 2, 3}));
}

TEST(UnpoolShape, RequestsDifferByLessThanTheStride) {
  const Dims sizes{1, 4};  // default 3 * 3 + 2 = 11
  for (std::int64_t wanted = 0; wanted < 20; ++wanted) {
    const MaxUnpoolOptions options{.kernel = 2, .stride = 3, .output_size = wanted};
    if (wanted > 8 && wanted < 14) {
      EXPECT_EQ(max_unpool1d_shape(sizes, options), (Dims{1, wanted}));
    } else {
      expect_invalid([&] { max_unpool1d_shape(sizes, options); },
                     {"[max_unpool1d]", "output_size[0]", std::to_string(wanted).c_str()});
    }
  }
  // Not even one more where the stride is 1.
  expect_invalid([&] { max_unpool1d_shape(sizes, {.kernel = 2, .stride = 1, .output_size = 6}); },
                 {"default size 5", "stride 1", "got 6"});
}

TEST(UnpoolErrors, Options) {
  const Dims sizes{1, 1, 4, 4};
  expect_invalid([&] { max_unpool2d_shape(sizes, {}); }, {"[max_unpool2d]", "kernel", "1 or 2 values", "[]"});
  expect_invalid([&] { max_unpool2d_shape(sizes, {.kernel = {2, 0}}); }, {"kernel[1] must be > 0, got 0"});
  expect_invalid([&] { max_unpool2d_shape(sizes, {.kernel = 2, .stride = {-1, 1}}); },
                 {"stride[0] must be > 0, got -1"});
  expect_invalid([&] { max_unpool2d_shape(sizes, {.kernel = 2, .padding = {0, -3}}); },
                 {"padding[1] must be >= 0, got -3"});
  expect_invalid([&] { max_unpool2d_shape(sizes, {.kernel = 2, .padding = {0, 4}}); },
                 {"output size of spatial axis 1 must be >= 1, got 0", "padding 4"});
  expect_invalid([&] { max_unpool2d_shape(sizes, {.kernel = 2, .output_size = {1, 2, 3}}); },
                 {"output_size must have 1 or 2 values, got [1, 2, 3]"});
  expect_invalid([&] { max_unpool2d_shape(sizes, {.kernel = 2, .output_size = {8, 0}}); },
                 {"output_size[1] must be > 0, got 0"});
}

TEST(UnpoolErrors, SizesThatOverflow) {
  const Dims sizes{1, 4};
  expect_overflow([&] { max_unpool1d_shape(sizes, {.kernel = 1, .stride = kLargest / 2}); },
                  {"[max_unpool1d]", "default output size"});
  expect_overflow([&] { max_unpool1d_shape(sizes, {.kernel = kLargest, .stride = 1}); },
                  {"default output size"});
  expect_overflow([&] { max_unpool1d_shape(sizes, {.kernel = 2, .padding = kLargest}); },
                  {"default output size"});
  expect_overflow([&] { max_unpool2d_shape(Dims{1, 1, 1, 1}, {.kernel = std::int64_t{1} << 40}); },
                  {"number of elements of y"});
  expect_overflow([&] { max_unpool1d_shape(Dims{1, 1, 1}, {.kernel = kLargest}); },
                  {"[max_unpool1d] size in bytes of y [1, 1, 9223372036854775807], 8 per element,"});
  EXPECT_EQ(max_unpool1d_shape(Dims{1, 1}, {.kernel = kLargest / 8}), (Dims{1, kLargest / 8}));
  expect_overflow([&] { max_unpool1d_shape(Dims{1, 1}, {.kernel = kLargest / 8 + 1}); }, {"size in bytes"});
  // The distance to the default must not wrap around either.
  expect_invalid([&] { max_unpool1d_shape(sizes, {.kernel = 2, .output_size = kLargest}); },
                 {"output_size[0]", "9223372036854775807"});
  expect_overflow(
      [&] { max_unpool1d_shape(sizes, {.kernel = 1, .padding = kLargest / 2, .output_size = kLargest}); },
      {"output_size"});
  // A stride that no sum with the default could hold.
  EXPECT_EQ(max_unpool1d_shape(Dims{1, 1}, {.kernel = 4, .stride = kLargest, .output_size = 9}),
            (Dims{1, 9}));
}

TEST(UnpoolErrors, Indices) {
  const GuardedTensor x(DType::f32, Dims{1, 2}, {1, 2});
  const GuardedTensor taps(DType::u8, Dims{1, 2}, {0, 1});
  expect_invalid([&] { max_unpool1d(x, taps, {.kernel = 2}); },
                 {"[max_unpool1d]", "indices dtype must be i64, got u8"});
  const GuardedTensor more(DType::i64, Dims{1, 3}, {0, 1, 2});
  expect_invalid([&] { max_unpool1d(x, more, {.kernel = 2}); },
                 {"indices must have sizes [1, 2], got [1, 3]"});
  const GuardedTensor grad_y(DType::f32, Dims{1, 4}, iota(4));
  expect_invalid([&] { max_unpool1d_backward(grad_y, more, {.kernel = 2}); },
                 {"[max_unpool1d_backward]", "grad_y must have sizes [1, 6], got [1, 4]"});
  expect_invalid([&] { max_unpool1d_backward(grad_y, taps, {.kernel = 2}); },
                 {"indices dtype must be i64, got u8"});
}

}  // namespace
}  // namespace cenote
