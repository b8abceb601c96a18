// What every op in the registry refuses, forward and backward, before it touches an element: wrong rank,
// sizes, dtypes, overlapping or null views, and sizes that overflow.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "cenote/registry.h"
#include "support/errors.h"
#include "support/tensors.h"

namespace cenote {
namespace {

using cenote_test::expect_invalid;
using cenote_test::expect_overflow;
using cenote_test::GuardedTensor;
using cenote_test::LayoutKind;

/// An op with a small valid set of arguments, to be spoilt one at a time.
struct Call {
  const OpInfo& op;
  OpArguments arguments;
  Dims x_sizes;
  Dims y_sizes;
  GuardedTensor x_owner;
  GuardedTensor y_owner;
  Dims indices_sizes;
  GuardedTensor indices_owner;
  ConstTensorView x;
  TensorView y;
  TensorView indices;

  explicit Call(const OpInfo& row)
      : op(row),
        arguments(valid_arguments(row)),
        x_sizes(valid_sizes(row)),
        y_sizes(row.shape(x_sizes, arguments)),
        x_owner(dense(row, DType::f32, x_sizes)),
        y_owner(dense(row, DType::f32, y_sizes)),
        indices_sizes(row.reads_indices ? x_sizes : y_sizes),
        indices_owner(dense(row, DType::i64, indices_sizes)),
        x(x_owner),
        y(y_owner),
        indices(indices_owner) {
    assign(x_owner, std::vector<double>(static_cast<std::size_t>(element_count(x_sizes)), 1.0));
    assign(y_owner, std::vector<double>(static_cast<std::size_t>(element_count(y_sizes)), 1.0));
    assign(indices_owner, std::vector<double>(static_cast<std::size_t>(element_count(indices_sizes)), 0.0));
  }

  void forward() const { op.forward(y, op.reads_indices ? &indices : nullptr, x, arguments); }
  void forward_with_indices() const { op.forward(y, &indices, x, arguments); }
  /// y is the gradient that is read, x the one that is written.
  void backward() const {
    if (!op.gradient_reads_x) return backward_with(op.uses_indices() ? indices : TensorView());
    // The elements that the gradient reads: like x, in memory of their own.
    const GuardedTensor elements(x.dtype, x_sizes, LayoutKind::kChannelsFirst, op.spatial_rank, 0);
    TensorView kept = elements;
    if (x.sizes != x_sizes) {
      kept.sizes = x.sizes;
      kept.strides = x.strides;
    }
    backward_with(kept);
  }
  void backward_with(const ConstTensorView& kept) const {
    op.backward(TensorView(const_cast<void*>(x.data), x.dtype, x.sizes, x.strides), y, &kept, arguments);
  }

  std::string forward_name() const { return std::string("[").append(op.name).append("]"); }
  std::string backward_name() const { return std::string("[").append(op.name).append("_backward]"); }

 private:
  static OpArguments valid_arguments(const OpInfo& row) {
    OpArguments arguments;
    if (row.parameters & (kTakesWindow | kTakesUnpool | kTakesSamples)) arguments.kernel = 2;
    if (row.parameters & (kTakesOutputSize | kTakesSamples)) arguments.output_size = 2;
    return arguments;
  }
  static Dims valid_sizes(const OpInfo& row) {
    Dims sizes{2, 3};
    for (int axis = 0; axis < row.spatial_rank; ++axis) sizes.push_back(4);
    return sizes;
  }
  static GuardedTensor dense(const OpInfo& row, DType dtype, const Dims& sizes) {
    return {dtype, sizes, LayoutKind::kChannelsFirst, row.spatial_rank, 0};
  }
};

/// Puts the smaller of two dense views at the start of the larger, so that neither meets any other memory.
template <class A, class B>
void share_memory(A& a, B& b) {
  const auto bytes = [](const auto& view) {
    return element_count(view.sizes) * static_cast<std::int64_t>(size_of(view.dtype));
  };
  if (bytes(a) < bytes(b)) {
    a.data = b.data;
  } else {
    b.data = const_cast<void*>(static_cast<const void*>(a.data));
  }
}

class Arguments : public ::testing::TestWithParam<OpInfo> {};
INSTANTIATE_TEST_SUITE_P(Ops, Arguments, ::testing::ValuesIn(ops().begin(), ops().end()),
                         [](const auto& param) { return std::string(param.param.name); });

TEST_P(Arguments, ValidOnesAreTaken) {
  const Call call(GetParam());
  EXPECT_NO_THROW(call.forward());
  if (GetParam().uses_indices()) {
    EXPECT_NO_THROW(call.forward_with_indices());
  }
  EXPECT_NO_THROW(call.backward());
}

TEST_P(Arguments, Rank) {
  Call call(GetParam());
  const std::string name = call.forward_name();
  Dims low;
  for (int axis = 0; axis < GetParam().spatial_rank; ++axis) low.push_back(4);
  Dims high = call.x_sizes;
  high.push_back(4);
  for (const Dims& sizes : {low, high, Dims()}) {
    expect_invalid([&] { call.op.shape(sizes, call.arguments); },
                   {name.c_str(), "x", "rank", to_string(sizes).c_str()});
    call.x.sizes = sizes;
    call.x.strides = dense_strides(sizes);
    expect_invalid([&] { call.forward(); }, {name.c_str(), "rank"});
    expect_invalid([&] { call.backward(); }, {call.backward_name().c_str(), "rank"});
  }
}

TEST_P(Arguments, SizesOfX) {
  Call call(GetParam());
  for (int axis = 0; axis < call.x_sizes.size(); ++axis) {
    for (const std::int64_t size : {std::int64_t{0}, std::int64_t{-1}}) {
      if (axis == 0 && size == 0) continue;  // an empty batch is legal
      Dims sizes = call.x_sizes;
      sizes[axis] = size;
      const std::string argument = std::string("sizes[").append(std::to_string(axis)).append("]");
      expect_invalid([&] { call.op.shape(sizes, call.arguments); },
                     {call.forward_name().c_str(), "x", argument.c_str(), to_string(sizes).c_str()});
    }
  }
}

TEST_P(Arguments, NumberOfElements) {
  Call call(GetParam());
  const std::string name = call.forward_name();
  // A view of 2^63 elements in the same memory; the check comes before the look at the memory.
  Dims sizes = call.x_sizes;
  sizes[0] = std::int64_t{1} << 32;
  sizes[1] = std::int64_t{1} << 31;
  call.x =
      ConstTensorView(nullptr, DType::f32, sizes, Dims(std::vector<std::int64_t>(5, 0).data(), sizes.size()));
  expect_overflow([&] { call.op.shape(sizes, call.arguments); },
                  {name.c_str(), "number of elements", "4294967296"});
  expect_overflow([&] { call.forward(); }, {name.c_str(), "number of elements"});
  // With a batch of 0 the product is 0, but the size of one image still has to fit.
  sizes[0] = 0;
  sizes[2] = std::int64_t{1} << 32;
  expect_overflow([&] { call.op.shape(sizes, call.arguments); }, {name.c_str(), "number of elements"});
}

TEST_P(Arguments, MoreThanThirtyTwoBitsOfElementsAreFine) {
  const Call call(GetParam());
  Dims sizes = call.x_sizes;
  sizes[0] = std::int64_t{1} << 31;
  sizes[1] = 3;
  Dims expected = call.y_sizes;
  expected[0] = sizes[0];
  EXPECT_EQ(call.op.shape(sizes, call.arguments), expected);
}

TEST_P(Arguments, ExtentInBytes) {
  Call call(GetParam());
  call.x.strides[0] = std::int64_t{1} << 61;  // times 4 bytes
  expect_overflow([&] { call.forward(); }, {call.forward_name().c_str(), "x"});
}

TEST_P(Arguments, Dtypes) {
  const OpInfo& op = GetParam();
  for (const DType dtype : {DType::i64, DType::u8, DType::u16}) {
    Call call(op);
    const GuardedTensor other(dtype, call.x_sizes, LayoutKind::kChannelsFirst, op.spatial_rank, 0);
    call.x = other;
    if (dtype == DType::u16 || op.gradient_reads_x)
      expect_invalid([&] { call.forward(); }, {call.forward_name().c_str(), "x", "f32, f64", name_of(dtype)});
    expect_invalid(
        [&] { call.backward(); },
        {call.backward_name().c_str(), op.gradient_reads_x ? "x" : "grad_x", "f16 or bf16", name_of(dtype)});
  }
  Call call(op);
  const GuardedTensor other(DType::f64, call.y_sizes, LayoutKind::kChannelsFirst, op.spatial_rank, 0);
  call.y = other;
  expect_invalid([&] { call.forward(); }, {call.forward_name().c_str(), "y", "f32", "got f64"});
  expect_invalid([&] { call.backward(); }, {call.backward_name().c_str(), "grad_y", "f32", "got f64"});
}

TEST_P(Arguments, SizesOfY) {
  const OpInfo& op = GetParam();
  for (const int delta : {1, -1}) {
    Call call(op);
    Dims sizes = call.y_sizes;
    sizes[1] += delta;
    const GuardedTensor other(DType::f32, sizes, LayoutKind::kChannelsFirst, op.spatial_rank, 0);
    call.y = other;
    expect_invalid([&] { call.forward(); }, {call.forward_name().c_str(), "y",
                                             to_string(call.y_sizes).c_str(), to_string(sizes).c_str()});
    expect_invalid([&] { call.backward(); }, {call.backward_name().c_str(), "grad_y",
                                              to_string(call.y_sizes).c_str(), to_string(sizes).c_str()});
  }
}

TEST_P(Arguments, Strides) {
  Call call(GetParam());
  call.x.strides = Dims{1, 1};
  expect_invalid([&] { call.forward(); }, {call.forward_name().c_str(), "x", "strides", "[1, 1]"});
  Call second(GetParam());
  second.y.strides = Dims{1, 1};
  expect_invalid([&] { second.forward(); }, {"y", "strides", "[1, 1]"});
  expect_invalid([&] { second.backward(); }, {"grad_y", "strides", "[1, 1]"});
}

TEST_P(Arguments, NullAndMisalignedData) {
  Call call(GetParam());
  call.x.data = nullptr;
  expect_invalid([&] { call.forward(); }, {call.forward_name().c_str(), "x", "null"});
  expect_invalid([&] { call.backward(); }, {call.backward_name().c_str(), "grad_x", "null"});
  Call second(GetParam());
  second.y.data = nullptr;
  expect_invalid([&] { second.forward(); }, {second.forward_name().c_str(), "y", "null"});
  expect_invalid([&] { second.backward(); }, {second.backward_name().c_str(), "grad_y", "null"});
  Call third(GetParam());
  third.x.data = static_cast<const char*>(third.x.data) + 1;
  expect_invalid([&] { third.forward(); }, {third.forward_name().c_str(), "x", "aligned"});
}

TEST_P(Arguments, OutputOverInput) {
  Call call(GetParam());
  call.y.data = const_cast<void*>(call.x.data);
  expect_invalid([&] { call.forward(); }, {call.forward_name().c_str(), "y", "x", "memory"});
  expect_invalid([&] { call.backward(); }, {call.backward_name().c_str(), "grad_x", "grad_y", "memory"});
  // The last element of x is the first of y.
  call.y.data = static_cast<float*>(call.y.data) + element_count(call.x_sizes) - 1;
  expect_invalid([&] { call.forward(); }, {"memory"});
}

TEST_P(Arguments, OutputOverItself) {
  Call call(GetParam());
  call.y.strides[0] = 0;
  const std::string strides = to_string(call.y.strides);
  expect_invalid([&] { call.forward(); }, {call.forward_name().c_str(), "y", "address", strides.c_str()});
  Call backward(GetParam());
  backward.x.strides[1] = 0;
  expect_invalid([&] { backward.backward(); }, {backward.backward_name().c_str(), "grad_x", "address"});
  Call partly(GetParam());
  partly.y.strides[0] = partly.y.strides[1];
  expect_invalid([&] { partly.forward(); }, {"y", "address"});
}

TEST_P(Arguments, RefusedCallsWriteNothing) {
  Call call(GetParam());
  const std::vector<double> before = cenote_test::values_of(call.y);
  call.x.data = nullptr;
  EXPECT_THROW(call.forward(), Error);
  EXPECT_EQ(cenote_test::values_of(call.y), before);
}

TEST_P(Arguments, Indices) {
  const OpInfo& op = GetParam();
  if (!op.uses_indices()) return;
  Call wrong_dtype(op);
  const GuardedTensor other(DType::f32, wrong_dtype.indices_sizes, LayoutKind::kChannelsFirst,
                            op.spatial_rank, 0);
  wrong_dtype.indices = other;
  expect_invalid([&] { wrong_dtype.forward_with_indices(); },
                 {wrong_dtype.forward_name().c_str(), "indices", "f32"});
  expect_invalid([&] { wrong_dtype.backward(); }, {wrong_dtype.backward_name().c_str(), "indices", "f32"});

  Call wrong_sizes(op);
  Dims sizes = wrong_sizes.indices_sizes;
  ++sizes[0];
  const GuardedTensor larger(DType::i64, sizes, LayoutKind::kChannelsFirst, op.spatial_rank, 0);
  wrong_sizes.indices = larger;
  expect_invalid([&] { wrong_sizes.forward_with_indices(); }, {"indices", to_string(sizes).c_str()});
  expect_invalid([&] { wrong_sizes.backward(); }, {"indices", to_string(sizes).c_str()});

  Call null(op);
  null.indices.data = nullptr;
  expect_invalid([&] { null.forward_with_indices(); }, {null.forward_name().c_str(), "indices", "null"});
  expect_invalid([&] { null.backward(); }, {null.backward_name().c_str(), "indices", "null"});

  Call over_y(op);
  share_memory(over_y.y, over_y.indices);
  expect_invalid([&] { over_y.forward_with_indices(); }, {"indices", "y", "memory"});

  Call over_x(op);
  share_memory(over_x.x, over_x.indices);
  if (op.records_indices) {
    expect_invalid([&] { over_x.forward_with_indices(); }, {"indices", "x", "memory"});
  }
  expect_invalid([&] { over_x.backward(); }, {"grad_x", "indices", "memory"});
}

TEST_P(Arguments, ElementsThatTheGradientReads) {
  const OpInfo& op = GetParam();
  if (!op.gradient_reads_x) return;
  const Call call(op);
  const std::string name = call.backward_name();
  const GuardedTensor other(DType::f64, call.x_sizes, LayoutKind::kChannelsFirst, op.spatial_rank, 0);
  expect_invalid([&] { call.backward_with(other); }, {name.c_str(), "must be f64, got f32"});
  Dims sizes = call.x_sizes;
  ++sizes[0];
  const GuardedTensor larger(DType::f32, sizes, LayoutKind::kChannelsFirst, op.spatial_rank, 0);
  expect_invalid([&] { call.backward_with(larger); }, {name.c_str(), "must have sizes"});
  ConstTensorView null = other;
  null.dtype = DType::f32;
  null.data = nullptr;
  expect_invalid([&] { call.backward_with(null); }, {name.c_str(), "x", "null"});
  expect_invalid([&] { call.backward_with(call.x); }, {name.c_str(), "grad_x", "x", "memory"});
}

TEST_P(Arguments, SlicesOfOneBufferAreNoOverlap) {
  // x and y are channels of one channels-last buffer: their ranges of addresses intersect, no byte does.
  Call call(GetParam());
  const int rank = call.x_sizes.size();
  Dims sizes = element_count(call.x_sizes) < element_count(call.y_sizes) ? call.y_sizes : call.x_sizes;
  sizes[1] = call.x_sizes[1] + call.y_sizes[1];
  std::vector<float> buffer(static_cast<std::size_t>(element_count(sizes)), 1.0F);
  const Dims strides = dense_strides(sizes, Layout::kChannelsLast);
  ASSERT_EQ(strides.size(), rank);
  call.x = ConstTensorView(buffer.data(), call.x_sizes, strides);
  call.y = TensorView(buffer.data() + call.x_sizes[1], call.y_sizes, strides);
  EXPECT_NO_THROW(call.forward());
}

}  // namespace
}  // namespace cenote
