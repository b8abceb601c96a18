// Dims, dtypes, strides, the owning Tensor and the text of errors.
#include "cenote/tensor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "support/errors.h"

namespace cenote {
namespace {

using cenote_test::expect_invalid;
using cenote_test::expect_overflow;

constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max();

TEST(Dims, HoldsUpToEightValues) {
  Dims dims{2, 3, 5};
  EXPECT_EQ(dims.size(), 3);
  EXPECT_EQ(dims[2], 5);
  dims.push_back(7);
  EXPECT_EQ(dims, (Dims{2, 3, 5, 7}));
  EXPECT_EQ(Dims(4), Dims{4});
  EXPECT_TRUE(Dims().empty());
  EXPECT_FALSE((Dims{1, 2} == Dims{1, 2, 3}));
  EXPECT_EQ((Dims{1, 2, 3, 4, 5, 6, 7, 8}).size(), Dims::kMaxRank);
}

TEST(Dims, RefusesNineValues) {
  expect_invalid([] { Dims{1, 2, 3, 4, 5, 6, 7, 8, 9}; }, {"[Dims]", "rank", "8", "9"});
  Dims full{1, 2, 3, 4, 5, 6, 7, 8};
  expect_invalid([&] { full.push_back(9); }, {"[Dims]", "rank", "8", "9"});
  EXPECT_EQ(full.size(), 8);
}

TEST(Dims, HasText) {
  EXPECT_EQ(to_string(Dims{2, 3, 5}), "[2, 3, 5]");
  EXPECT_EQ(to_string(Dims()), "[]");
  EXPECT_EQ(to_string(Dims{-1}), "[-1]");
}

TEST(DType, HasSizeAndName) {
  const std::pair<DType, std::pair<std::size_t, std::string>> rows[] = {{DType::f32, {4, "f32"}},
                                                                        {DType::f64, {8, "f64"}},
                                                                        {DType::i64, {8, "i64"}},
                                                                        {DType::u8, {1, "u8"}},
                                                                        {DType::u16, {2, "u16"}}};
  for (const auto& [dtype, row] : rows) {
    EXPECT_EQ(size_of(dtype), row.first);
    EXPECT_EQ(name_of(dtype), row.second);
  }
}

TEST(ElementCount, MultipliesAndChecks) {
  EXPECT_EQ(element_count(Dims{2, 3, 5}), 30);
  EXPECT_EQ(element_count(Dims()), 1);
  EXPECT_EQ(element_count(Dims{std::int64_t{1} << 31, 2}), std::int64_t{1} << 32);
  EXPECT_EQ(element_count(Dims{kLargest}), kLargest);
  EXPECT_EQ(element_count(Dims{kLargest, kLargest, 0}), 0);
  expect_overflow([] { element_count(Dims{std::int64_t{1} << 32, std::int64_t{1} << 31}); },
                  {"number of elements", "4294967296", "2147483648"});
  expect_overflow([] { element_count(Dims{kLargest, 2}); }, {"number of elements"});
  expect_invalid([] { element_count(Dims{2, -3}); }, {"sizes[1]", ">= 0", "-3"});
  expect_invalid([] { element_count(Dims{0, -3}); }, {"sizes[1]", "-3"});
}

TEST(DenseStrides, OfBothLayouts) {
  EXPECT_EQ(dense_strides(Dims{2, 3, 5, 7}), (Dims{105, 35, 7, 1}));
  EXPECT_EQ(dense_strides(Dims{2, 3, 5, 7}, Layout::kChannelsLast), (Dims{105, 1, 21, 3}));
  EXPECT_EQ(dense_strides(Dims{3, 5, 7}, Layout::kChannelsLast, 0), (Dims{1, 21, 3}));
  EXPECT_EQ(dense_strides(Dims()), Dims());
  expect_invalid([] { dense_strides(Dims{3, 5}, Layout::kChannelsLast, 2); }, {"channel_axis", "2"});
}

TEST(Tensor, OwnsAlignedMemory) {
  const Tensor tensor(DType::f64, Dims{3, 5, 7});
  EXPECT_EQ(tensor.size(), 105);
  EXPECT_EQ(tensor.strides(), (Dims{35, 7, 1}));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.data<double>()) % 64, 0u);
  tensor.data<double>()[104] = 1.0;
  const ConstTensorView view = tensor;
  EXPECT_EQ(static_cast<const double*>(view.data)[104], 1.0);
  std::vector<Tensor> many;  // at once, so that their addresses differ
  for (const std::int64_t bytes : {1, 8, 40, 63, 64, 65, 1000, 4096, 200000}) {
    many.emplace_back(DType::u8, Dims{bytes});
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(many.back().data<std::uint8_t>()) % 64, 0u) << bytes;
    std::fill_n(many.back().data<std::uint8_t>(), bytes, std::uint8_t{7});
  }
}

TEST(Tensor, ChecksDtypeSizesAndStrides) {
  const Tensor tensor(DType::f32, Dims{2});
  expect_invalid([&] { tensor.data<double>(); }, {"f32", "f64"});
  expect_overflow([] { Tensor(DType::f64, Dims{std::int64_t{1} << 61}); }, {"size in bytes"});
  expect_overflow([] { Tensor(DType::f64, Dims{std::int64_t{1} << 40, std::int64_t{1} << 40}); },
                  {"overflows"});
  expect_invalid([] { Tensor(DType::f32, Dims{2, 3}, Dims{1}); }, {"strides", "1", "2"});
  expect_invalid([] { Tensor(DType::f32, Dims{-2}); }, {"-2"});
}

TEST(Tensor, MayBeEmpty) {
  const Tensor tensor(DType::f32, Dims{0, 3, 5});
  EXPECT_EQ(tensor.size(), 0);
  EXPECT_EQ(tensor.sizes(), (Dims{0, 3, 5}));
}

TEST(Views, DeduceTheDtype) {
  double values[6] = {};
  const ConstTensorView view(values, Dims{2, 3});
  EXPECT_EQ(view.dtype, DType::f64);
  EXPECT_EQ(view.strides, (Dims{3, 1}));
  const TensorView written(values, Dims{3, 2}, Dims{1, 3});
  EXPECT_EQ(written.dtype, DType::f64);
  EXPECT_EQ(ConstTensorView(written).strides, (Dims{1, 3}));
}

}  // namespace
}  // namespace cenote
