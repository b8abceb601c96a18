// Indices that count through the whole tensor, as ONNX's storage_order 0 and 1.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "cenote/runtime.h"
#include "cenote/unpool.h"
#include "cenote/window.h"
#include "conformance/replay.h"
#include "support/errors.h"
#include "support/tensors.h"

namespace cenote {
namespace {

using cenote_test::expect_invalid;
using cenote_test::GuardedTensor;
using cenote_test::integers_of;
using cenote_test::LayoutKind;
using cenote_test::values_of;
using Integers = std::vector<std::int64_t>;

/// Position of (d, h, w) in plane number `plane`, by its definition.
std::int64_t position(const Dims& x_sizes, std::int64_t plane, std::int64_t in_plane, IndexOrder order) {
  const std::int64_t d_count = x_sizes[2], h_count = x_sizes[3], w_count = x_sizes[4];
  const std::int64_t w = in_plane % w_count;
  const std::int64_t h = in_plane / w_count % h_count;
  const std::int64_t d = in_plane / w_count / h_count;
  const std::int64_t inside =
      order == IndexOrder::kTensor ? in_plane : d + h * d_count + w * d_count * h_count;
  return plane * d_count * h_count * w_count + inside;
}

/// Indices of every order against those in the plane, and what the backward makes of them.
void check_both_ways(const Dims& sizes) {
  for (const LayoutKind layout : cenote_test::kLayoutKinds) {
    const GuardedTensor x(DType::f32, sizes, layout, 3, 7);
    std::vector<double> values = cenote_test::iota(element_count(sizes));
    for (double& value : values) value = static_cast<double>(static_cast<std::int64_t>(value) * 37 % 101);
    assign(x, values);
    const MaxPoolOptions plain{.kernel = 2, .stride = {1, 2, 1}, .padding = {1, 0, 1}};
    const MaxPoolResult expected = max_pool3d_with_indices(x, plain);
    const Integers in_planes = integers_of(expected.indices);
    const Dims y_sizes = expected.values.sizes();
    const std::int64_t per_plane = y_sizes[2] * y_sizes[3] * y_sizes[4];
    const Tensor gradient = max_pool3d_backward(expected.values, expected.indices, sizes, plain);
    for (const IndexOrder order : {IndexOrder::kTensor, IndexOrder::kTensorColumnMajor}) {
      MaxPoolOptions options = plain;
      options.index_order = order;
      const MaxPoolResult got = max_pool3d_with_indices(x, options);
      const Integers indices = integers_of(got.indices);
      for (std::size_t i = 0; i < indices.size(); ++i) {
        const std::int64_t plane = static_cast<std::int64_t>(i) / per_plane;
        ASSERT_EQ(indices[i], position(sizes, plane, in_planes[i], order)) << "element " << i;
      }
      EXPECT_EQ(values_of(max_pool3d_backward(expected.values, got.indices, sizes, options)),
                values_of(gradient));
    }
  }
}

class IndexOrders : public ::testing::TestWithParam<std::string> {
 private:
  cenote_test::TargetGuard target_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Targets, IndexOrders, ::testing::ValuesIn(cpu_targets()),
                         [](const auto& param) { return param.param; });

TEST_P(IndexOrders, CountThroughTheWholeTensorAndBack) {
  check_both_ways({2, 3, 3, 5, 4});
  check_both_ways({2, 21, 7, 9, 11});  // channels and rows beyond the widest vectors, with a tail
}

TEST_P(IndexOrders, UnpoolReadsThem) {
  const Dims sizes{2, 2, 4, 6};
  std::vector<double> values = cenote_test::iota(element_count(sizes));
  for (double& value : values) value = static_cast<double>(static_cast<std::int64_t>(value) * 29 % 97);
  const GuardedTensor x(DType::f64, sizes, values);
  const MaxPoolResult plain = max_pool2d_with_indices(x, {.kernel = 2});
  const Tensor expected = max_unpool2d(plain.values, plain.indices, {.kernel = 2});
  for (const IndexOrder order : {IndexOrder::kTensor, IndexOrder::kTensorColumnMajor}) {
    const MaxPoolResult pooled = max_pool2d_with_indices(x, {.kernel = 2, .index_order = order});
    const MaxUnpoolOptions options{.kernel = 2, .index_order = order};
    EXPECT_EQ(values_of(max_unpool2d(pooled.values, pooled.indices, options)), values_of(expected));
    EXPECT_EQ(values_of(max_unpool2d_backward(x, pooled.indices, options)),
              values_of(max_unpool2d_backward(x, plain.indices, {.kernel = 2})));
  }
}

TEST_P(IndexOrders, AWindowWithoutAnElementKeepsMinusOne) {
  const GuardedTensor x(DType::f32, Dims{1, 1}, {5});
  const MaxPoolOptions options{
      .kernel = 2, .padding = 1, .dilation = 2, .index_order = IndexOrder::kTensorColumnMajor};
  EXPECT_EQ(integers_of(max_pool1d_with_indices(x, options).indices), (Integers{-1}));
}

TEST(IndexOrderErrors, AnIndexBelongsToItsOwnPlane) {
  const GuardedTensor grad_y(DType::f32, Dims{2, 1}, {1, 2});
  const MaxPoolOptions options{.kernel = 4, .index_order = IndexOrder::kTensor};
  for (const double foreign : {2.0, 8.0, -2.0}) {
    const GuardedTensor indices(DType::i64, Dims{2, 1}, {3, foreign});
    expect_invalid([&] { max_pool1d_backward(grad_y, indices, Dims{2, 4}, options); },
                   {"[max_pool1d_backward]", "indices", "own planes", "got"});
    expect_invalid([&] { max_unpool1d(grad_y, indices, {.kernel = 4, .index_order = IndexOrder::kTensor}); },
                   {"[max_unpool1d]", "indices", "own planes", "got"});
  }
}

TEST_P(IndexOrders, AForeignIndexIsFoundAnywhere) {
  const Dims sizes{1, 19, 3, 7};
  for (const LayoutKind layout : cenote_test::kLayoutKinds) {
    for (const IndexOrder order : {IndexOrder::kTensor, IndexOrder::kTensorColumnMajor}) {
      const MaxPoolOptions options{.kernel = 1, .index_order = order};
      const GuardedTensor grad_y(DType::f32, sizes, layout, 2, 3);
      const GuardedTensor indices(DType::i64, sizes, layout, 2, 4);
      std::vector<double> values = cenote_test::iota(element_count(sizes));
      for (double& value : values) value = std::floor(value / 21) * 21;
      assign(grad_y, values);
      for (std::size_t i = 0; i < values.size(); ++i) {
        std::vector<double> marked = values;
        marked[i] += i % 2 == 0 ? 21 : -2;
        assign(indices, marked);
        expect_invalid([&] { max_pool2d_backward(grad_y, indices, sizes, options); },
                       {"[max_pool2d_backward]", "own planes", "got"});
      }
      assign(indices, values);
      max_pool2d_backward(grad_y, indices, sizes, options);
    }
  }
}

TEST(IndexOrderErrors, CompactTapsCountInWindows) {
  const GuardedTensor x(DType::f32, Dims{1, 4}, {1, 2, 3, 4});
  expect_invalid(
      [&] { max_pool1d_with_indices(x, {.kernel = 2, .index_order = IndexOrder::kTensor}, DType::u8); },
      {"[max_pool1d]", "index_order", "i64", "got u8"});
}

}  // namespace
}  // namespace cenote
