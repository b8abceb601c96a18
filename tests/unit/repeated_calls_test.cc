// A call like the one before is not checked again, but for where its tensors lie; whatever else differs is.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "cenote/global.h"
#include "cenote/window.h"
#include "support/errors.h"
#include "support/tensors.h"

namespace cenote {
namespace {

using cenote_test::expect_invalid;
using cenote_test::GuardedTensor;
using cenote_test::iota;
using cenote_test::values_of;
using Values = std::vector<double>;

const Dims kSizes{1, 1, 4, 4};
const Dims kHalf{1, 1, 2, 2};
const Values kMaxima{5, 7, 13, 15};
const Values kMeans{2.5, 4.5, 10.5, 12.5};

class RepeatedCalls : public ::testing::Test {
 protected:
  const MaxPoolOptions max{.kernel = 2};
  const AvgPoolOptions avg{.kernel = 2};
  const GuardedTensor x{DType::f32, kSizes, iota(16)};
  const GuardedTensor y{DType::f32, kHalf, Values(4)};

  /// What the later calls are like.
  void SetUp() override {
    max_pool2d_into(y, x, max);
    EXPECT_EQ(values_of(y), kMaxima);
    avg_pool2d_into(y, x, avg);
    EXPECT_EQ(values_of(y), kMeans);
    global_avg_pool2d_into(one, x);
    EXPECT_EQ(values_of(one), Values{7.5});
  }

  const GuardedTensor one{DType::f32, Dims{1, 1, 1, 1}, Values(1)};
};

TEST_F(RepeatedCalls, ReadAndWriteWhatTheyAreGiven) {
  Values values = iota(16);
  values[5] = 100;
  const GuardedTensor other(DType::f32, kSizes, values), to(DType::f32, kHalf, Values(4));
  max_pool2d_into(to, other, max);
  EXPECT_EQ(values_of(to), (Values{100, 7, 13, 15}));
  avg_pool2d_into(to, other, avg);
  EXPECT_EQ(values_of(to), (Values{2.5 + 95.0 / 4, 4.5, 10.5, 12.5}));
  EXPECT_EQ(values_of(y), kMeans);
  const GuardedTensor mean(DType::f32, Dims{1, 1, 1, 1}, Values(1));
  global_avg_pool2d_into(mean, other);
  EXPECT_EQ(values_of(mean), Values{7.5 + 95.0 / 16});
}

TEST_F(RepeatedCalls, RefuseTensorsThatShareMemory) {
  TensorView inside = y;
  inside.data = static_cast<float*>(x.view().data) + 12;  // the last row of x
  expect_invalid([&] { max_pool2d_into(inside, x, max); },
                 {"[max_pool2d]", "y must not share memory with x"});
  expect_invalid([&] { avg_pool2d_into(inside, x, avg); },
                 {"[avg_pool2d]", "y must not share memory with x"});
  inside.sizes = inside.strides = Dims{1, 1, 1, 1};
  expect_invalid([&] { global_avg_pool2d_into(inside, x); }, {"y must not share memory with x"});
  const GuardedTensor taps(DType::u8, kHalf, Values(4));
  max_pool2d_into(y, x, max, &taps.view());
  TensorView record = taps;
  record.data = y.view().data;
  expect_invalid([&] { max_pool2d_into(y, x, max, &record); }, {"indices must not share memory with y"});
}

TEST_F(RepeatedCalls, RefuseNoMemoryAndUnalignedMemory) {
  ConstTensorView bad = x;
  bad.data = nullptr;
  expect_invalid([&] { max_pool2d_into(y, bad, max); }, {"x data must not be null"});
  expect_invalid([&] { global_avg_pool2d_into(one, bad); }, {"x data must not be null"});
  bad.data = static_cast<const char*>(x.view().data) + 2;
  expect_invalid([&] { avg_pool2d_into(y, bad, avg); }, {"x data must be aligned to 4 bytes"});
}

TEST_F(RepeatedCalls, CheckWhatDiffers) {
  expect_invalid([&] { max_pool2d_into(y, x, {.kernel = 2, .stride = 0}); }, {"stride[0]"});
  expect_invalid([&] { max_pool2d_into(y, x, {.kernel = 2, .padding = 1}); },
                 {"y must have sizes [1, 1, 3, 3]"});
  expect_invalid([&] { avg_pool2d_into(y, x, {.kernel = 2, .divisor_override = 0}); }, {"divisor_override"});
  avg_pool2d_into(y, x, {.kernel = 2, .divisor_override = 1});
  EXPECT_EQ(values_of(y), (Values{10, 18, 42, 50}));
  min_pool2d_into(y, x, max);
  EXPECT_EQ(values_of(y), (Values{0, 2, 8, 10}));
  const GuardedTensor of_f64(DType::f64, kHalf, Values(4));
  expect_invalid([&] { max_pool2d_into(of_f64, x, max); }, {"y dtype must be f32"});
  const GuardedTensor larger(DType::f32, Dims{1, 1, 4, 6}, iota(24));
  expect_invalid([&] { max_pool2d_into(y, larger, max); }, {"y must have sizes [1, 1, 2, 3]"});
  const GuardedTensor taps(DType::u16, kHalf, Values(4)), wrong(DType::i32, kHalf, Values(4));
  max_pool2d_into(y, x, max, &taps.view());
  EXPECT_EQ(values_of(taps), (Values{3, 3, 3, 3}));
  expect_invalid([&] { max_pool2d_into(y, x, max, &wrong.view()); }, {"indices dtype must be"});
}

TEST_F(RepeatedCalls, WithAndWithoutIndices) {
  const GuardedTensor taps(DType::u8, kHalf, Values(4)), others(DType::u8, kHalf, Values(4));
  max_pool2d_into(y, x, max, &taps.view());
  EXPECT_EQ(values_of(taps), (Values{3, 3, 3, 3}));
  max_pool2d_into(y, x, max);
  EXPECT_EQ(values_of(y), kMaxima);
  max_pool2d_into(y, x, max, &others.view());
  EXPECT_EQ(values_of(others), (Values{3, 3, 3, 3}));
  EXPECT_TRUE(taps.guards_intact() && others.guards_intact() && y.guards_intact());
}

TEST_F(RepeatedCalls, ReadOtherStrides) {
  ConstTensorView transposed = x;
  transposed.strides = Dims{16, 16, 1, 4};
  max_pool2d_into(y, transposed, max);
  EXPECT_EQ(values_of(y), (Values{5, 13, 7, 15}));
  max_pool2d_into(y, x, max);
  EXPECT_EQ(values_of(y), kMaxima);
}

TEST_F(RepeatedCalls, CheckTensorsThatAreNotDenseEachTime) {
  const GuardedTensor wide(DType::f32, Dims{1, 1, 4, 8}, iota(32));
  ConstTensorView every_other = wide;
  every_other.sizes = kSizes;
  every_other.strides[3] = 2;
  for (int i = 0; i < 2; ++i) {
    max_pool2d_into(y, every_other, max);
    EXPECT_EQ(values_of(y), (Values{10, 14, 26, 30}));
    TensorView inside = y;
    inside.data = static_cast<float*>(wide.view().data) + 2;
    expect_invalid([&] { max_pool2d_into(inside, every_other, max); }, {"y must not share memory with x"});
  }
}

}  // namespace
}  // namespace cenote
