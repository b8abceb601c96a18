// The options that window pooling refuses; the text names op, argument and value.
#include <gtest/gtest.h>

#include <cstdint>

#include "cenote/window.h"
#include "support/errors.h"
#include "support/tensors.h"

namespace cenote {
namespace {

using cenote_test::expect_invalid;
using cenote_test::expect_overflow;
using cenote_test::GuardedTensor;
using cenote_test::iota;

constexpr std::int64_t kHuge = std::int64_t{1} << 40;
const Dims kSizes{1, 2, 8, 8};

void expect_both_refuse(const MaxPoolOptions& options, std::initializer_list<const char*> fragments) {
  const AvgPoolOptions average{.kernel = options.kernel,
                               .stride = options.stride,
                               .padding = options.padding,
                               .padding_end = options.padding_end,
                               .dilation = options.dilation,
                               .ceil_mode = options.ceil_mode};
  expect_invalid([&] { max_pool2d_shape(kSizes, options); }, {"[max_pool2d]"});
  expect_invalid([&] { max_pool2d_shape(kSizes, options); }, fragments);
  expect_invalid([&] { avg_pool2d_shape(kSizes, average); }, {"[avg_pool2d]"});
  expect_invalid([&] { avg_pool2d_shape(kSizes, average); }, fragments);
  const GuardedTensor x(DType::f32, kSizes, iota(128));
  expect_invalid([&] { max_pool2d(x, options); }, fragments);
  expect_invalid([&] { avg_pool2d(x, average); }, fragments);
  const GuardedTensor grad_y(DType::f32, Dims{1, 2, 4, 4}, iota(32));
  const GuardedTensor indices(DType::i64, Dims{1, 2, 4, 4}, iota(32));
  expect_invalid([&] { max_pool2d_backward(grad_y, indices, kSizes, options); }, fragments);
  expect_invalid([&] { avg_pool2d_backward(grad_y, kSizes, average); }, fragments);
}

TEST(WindowErrors, Kernel) {
  expect_both_refuse({.kernel = 0}, {"kernel[0]", "> 0", "got 0"});
  expect_both_refuse({.kernel = {2, -3}}, {"kernel[1]", "> 0", "got -3"});
  expect_both_refuse({}, {"kernel", "1 or 2 values", "[]"});
  expect_both_refuse({.kernel = {2, 2, 2}}, {"kernel", "1 or 2 values", "[2, 2, 2]"});
}

TEST(WindowErrors, StrideAndDilation) {
  expect_both_refuse({.kernel = 2, .stride = 0}, {"stride[0]", "> 0", "got 0"});
  expect_both_refuse({.kernel = 2, .stride = {1, -1}}, {"stride[1]", "> 0", "got -1"});
  expect_both_refuse({.kernel = 2, .stride = {1, 1, 1}}, {"stride", "1 or 2 values"});
  expect_both_refuse({.kernel = 2, .dilation = {1, 0}}, {"dilation[1]", "> 0", "got 0"});
  expect_both_refuse({.kernel = 2, .dilation = {}}, {"dilation", "1 or 2 values", "[]"});
}

TEST(WindowErrors, PaddingIsAtMostHalfOfTheDilatedKernel) {
  expect_both_refuse({.kernel = 3, .padding = -1}, {"padding[0]", ">= 0", "got -1"});
  expect_both_refuse({.kernel = 3, .padding = {1, 2}},
                     {"padding[1]", "half of the dilated kernel", "1", "got 2"});
  expect_both_refuse({.kernel = 3, .padding_end = {2, 0}},
                     {"padding_end[0]", "half of the dilated kernel", "got 2"});
  expect_both_refuse({.kernel = 2, .padding_end = {0, -1}}, {"padding_end[1]", ">= 0", "got -1"});
  expect_both_refuse({.kernel = 2, .padding = 3, .dilation = 3}, {"padding[0]", "2", "got 3"});
  EXPECT_EQ(max_pool2d_shape(kSizes, {.kernel = 2, .stride = 1, .padding = 2, .dilation = 3}),
            (Dims{1, 2, 9, 9}));
  EXPECT_EQ(max_pool3d_shape(Dims{1, 8, 8, 8}, {.kernel = 3, .stride = 1, .padding = 2, .dilation = 2}),
            (Dims{1, 8, 8, 8}));
}

TEST(WindowErrors, OutputSizeBelowOne) {
  expect_both_refuse({.kernel = {3, 9}}, {"output size", "axis 1", ">= 1", "got 0", "8", "9"});
  expect_both_refuse({.kernel = {2, 3}, .dilation = {8, 1}}, {"output size", "axis 0", ">= 1"});
  expect_invalid([] { max_pool1d_shape(Dims{1, 3}, {.kernel = 7, .stride = 2}); },
                 {"[max_pool1d]", "output size"});
  EXPECT_EQ(max_pool1d_shape(Dims{1, 3}, {.kernel = 7, .stride = 5, .ceil_mode = true}), (Dims{1, 1}));
}

TEST(WindowErrors, DivisorOverrideZero) {
  const GuardedTensor x(DType::f32, kSizes, iota(128));
  expect_invalid([&] { avg_pool2d(x, {.kernel = 2, .divisor_override = 0}); },
                 {"[avg_pool2d]", "divisor_override", "not be 0"});
  const GuardedTensor grad_y(DType::f32, Dims{1, 2, 4, 4}, iota(32));
  expect_invalid([&] { avg_pool2d_backward(grad_y, kSizes, {.kernel = 2, .divisor_override = 0}); },
                 {"[avg_pool2d_backward]", "divisor_override"});
}

TEST(WindowErrors, Overflow) {
  const std::int64_t half = std::int64_t{1} << 62;
  expect_overflow([&] { max_pool1d_shape(Dims{1, 8}, {.kernel = half, .dilation = 4}); },
                  {"[max_pool1d]", "dilated kernel"});
  expect_overflow([&] { max_pool2d_shape(Dims{kHuge, kHuge, 4}, {.kernel = 2}); },
                  {"[max_pool2d]", "number of elements of x"});
  expect_overflow([&] { avg_pool2d_shape(kSizes, {.kernel = kHuge}); }, {"[avg_pool2d]", "number of taps"});
  // Each axis grows by one: x has just below 2^63 elements, y just above.
  const std::int64_t side = 3'037'000'499;
  expect_overflow([&] { avg_pool2d_shape(Dims{1, side, side}, {.kernel = 2, .stride = 1, .padding = 1}); },
                  {"[avg_pool2d]", "number of elements of y"});
}

TEST(WindowErrors, TapDtype) {
  expect_invalid([] { max_pool_tap_dtype(2, 0); }, {"[max_pool_tap_dtype]", "spatial_rank", "got 0"});
  expect_invalid([] { max_pool_tap_dtype(2, 4); }, {"[max_pool_tap_dtype]", "spatial_rank", "got 4"});
  expect_invalid([] { max_pool_tap_dtype(0, 2); }, {"[max_pool_tap_dtype]", "kernel", "got 0"});
  expect_invalid([] { max_pool_tap_dtype(Dims{2, 2, 2}, 2); }, {"kernel", "1 or 2 values"});
  const GuardedTensor x(DType::f32, Dims{1, 300}, iota(300));
  expect_invalid([&] { max_pool1d_with_indices(x, {.kernel = 255}, DType::u8); },
                 {"[max_pool1d]", "indices", "i64", "u16", "got u8"});
  expect_invalid([&] { max_pool1d_with_indices(x, {.kernel = 2}, DType::f32); },
                 {"[max_pool1d]", "indices", "i64", "u8", "got f32"});
}

TEST(WindowErrors, IndexOutsideThePlane) {
  const GuardedTensor grad_y(DType::f32, Dims{1, 1, 2, 2}, {1, 1, 1, 1});
  const auto backward = [&](std::int64_t index) {
    const std::int64_t indices[4] = {0, 3, index, 15};
    max_pool2d_backward(grad_y, ConstTensorView(indices, Dims{1, 1, 2, 2}), Dims{1, 1, 4, 4}, {.kernel = 2});
  };
  EXPECT_NO_THROW(backward(-1));
  EXPECT_NO_THROW(backward(15));
  expect_invalid([&] { backward(16); }, {"[max_pool2d_backward]", "indices", "[0, 16)", "-1", "got 16"});
  expect_invalid([&] { backward(-2); }, {"indices", "got -2"});
  // Valid in its low 32 bits only.
  expect_invalid([&] { backward((std::int64_t{1} << 32) + 5); }, {"indices", "got 4294967301"});
  expect_invalid([&] { backward(-(std::int64_t{1} << 32) + 5); }, {"indices", "got -4294967291"});
}

}  // namespace
}  // namespace cenote
