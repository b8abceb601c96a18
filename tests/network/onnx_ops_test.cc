// The operators of ONNX on cenote: versions, defaults, attributes and results worked out by hand, and the
// reshaping operators on the published cases.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "network/onnx/reader.h"
#include "network/onnx/run.h"
#include "onnx_files.h"

namespace cenote::network::onnx {
namespace {

using ::onnx::NodeProto;
using ::testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> iota(std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i + 1);
  return values;
}

void expect_pass(const CaseResult& result) { EXPECT_EQ(result.outcome, Outcome::kPass) << result.reason; }

void expect_reason(const CaseResult& result, Outcome outcome, const std::string& text) {
  EXPECT_EQ(result.outcome, outcome) << result.reason;
  EXPECT_THAT(result.reason, HasSubstr(text));
}

/// op(x) must be y.
void expect_result(const std::string& op, std::int64_t opset, const std::function<void(NodeProto&)>& edit,
                   const ::onnx::TensorProto& x, const ::onnx::TensorProto& y) {
  SCOPED_TRACE(fmt::format("{}-{}", op, opset));
  expect_pass(CaseFolder(one_node(op, opset, edit), {x}, {y}).run({.rtol = 0, .atol = 0}));
}

/// op(x), for x = 1 .. 16 as [1, 1, 4, 4], must not get as far as a result.
void expect_refused(const std::string& op, std::int64_t opset, const std::function<void(NodeProto&)>& edit,
                    const std::string& text, Outcome outcome = Outcome::kFail) {
  SCOPED_TRACE(fmt::format("{}-{}", op, opset));
  expect_reason(CaseFolder(one_node(op, opset, edit), {floats({1, 1, 4, 4}, iota(16))}, {}).run(), outcome,
                text);
}

TEST(OnnxOps, StridesDefaultToOne) {
  for (const std::int64_t opset : {1, 7, 8, 9, 10, 11, 12, 18, 19, 21, 22}) {
    const auto kernel = [](NodeProto& node) { add_attribute(node, "kernel_shape", Sizes{2}); };
    expect_result("MaxPool", opset, kernel, floats({1, 1, 4}, {1, 4, 2, 3}), floats({1, 1, 3}, {4, 4, 3}));
    expect_result("AveragePool", opset, kernel, floats({1, 1, 4}, {1, 4, 2, 4}),
                  floats({1, 1, 3}, {2.5, 3, 3}));
    expect_result("GlobalMaxPool", opset, {}, floats({1, 2, 2}, {1, 4, 2, 3}), floats({1, 2, 1}, {4, 3}));
    expect_result("GlobalAveragePool", opset, {}, floats({1, 2, 2}, {1, 4, 2, 3}),
                  floats({1, 2, 1}, {2.5, 2.5}));
  }
}

TEST(OnnxOps, PadsAreBeginsThenEnds) {
  const auto edit = [](NodeProto& node) {
    add_attribute(node, "kernel_shape", Sizes{1, 2});
    add_attribute(node, "pads", Sizes{0, 1, 1, 0});
  };
  expect_result("MaxPool", 12, edit, floats({1, 1, 1, 2}, {-1, -2}),
                floats({1, 1, 2, 2}, {-1, -1, -kInfinity, -kInfinity}));
  expect_result("AveragePool", 12, edit, floats({1, 1, 1, 2}, {-1, -2}),
                floats({1, 1, 2, 2}, {-1, -1.5, 0, 0}));
}

TEST(OnnxOps, PaddingMayExceedHalfOfTheKernel) {
  const auto edit = [](NodeProto& node) {
    add_attribute(node, "kernel_shape", Sizes{2});
    add_attribute(node, "pads", Sizes{2, 1});
    add_attribute(node, "count_include_pad", 1);
  };
  expect_result("AveragePool", 11, edit, floats({1, 1, 2}, {4, 8}), floats({1, 1, 4}, {0, 2, 6, 4}));
}

TEST(OnnxOps, AutoPad) {
  const auto same = [](const char* side, const Sizes& strides, const Sizes& dilations) {
    return [=](NodeProto& node) {
      add_attribute(node, "kernel_shape", Sizes{2});
      add_attribute(node, "auto_pad", side);
      add_attribute(node, "strides", strides);
      add_attribute(node, "dilations", dilations);
      add_attribute(node, "ceil_mode", 1);
    };
  };
  const auto x = floats({1, 1, 5}, {5, 1, 2, 3, 4});
  expect_result("MaxPool", 12, same("SAME_UPPER", {1}, {1}), x, floats({1, 1, 5}, {5, 2, 3, 4, 4}));
  expect_result("MaxPool", 12, same("SAME_LOWER", {1}, {1}), x, floats({1, 1, 5}, {5, 5, 2, 3, 4}));
  // k_eff = 3, so one position at either end.
  expect_result("MaxPool", 12, same("SAME_UPPER", {1}, {2}), x, floats({1, 1, 5}, {1, 5, 3, 4, 3}));
  // 3 outputs of stride 2 take 6 positions.
  expect_result("MaxPool", 12, same("SAME_UPPER", {2}, {1}), x, floats({1, 1, 3}, {5, 3, 4}));
  expect_result("MaxPool", 12, same("SAME_LOWER", {2}, {1}), x, floats({1, 1, 3}, {5, 2, 4}));
  // A stride beyond the kernel needs no padding.
  expect_result("MaxPool", 12, same("SAME_LOWER", {4}, {1}), x, floats({1, 1, 2}, {5, 4}));
  expect_result("MaxPool", 12, same("VALID", {2}, {1}), x, floats({1, 1, 3}, {5, 3, 4}));
}

TEST(OnnxOps, AveragesDoNotCountPaddingUnlessAsked) {
  const auto edit = [](int count) {
    return [count](NodeProto& node) {
      add_attribute(node, "kernel_shape", Sizes{3});
      add_attribute(node, "auto_pad", "SAME_UPPER");
      if (count >= 0) add_attribute(node, "count_include_pad", count);
    };
  };
  const auto x = floats({1, 1, 3}, {3, 6, 9});
  expect_result("AveragePool", 22, edit(-1), x, floats({1, 1, 3}, {4.5, 6, 7.5}));
  expect_result("AveragePool", 22, edit(0), x, floats({1, 1, 3}, {4.5, 6, 7.5}));
  expect_result("AveragePool", 22, edit(1), x, floats({1, 1, 3}, {3, 6, 5}));
}

TEST(OnnxOps, IndicesCountThroughTheWholeTensorInEitherOrder) {
  for (const std::int64_t order : {0, 1}) {
    auto model = empty_model(12, {"x"}, {"y", "i"});
    auto& node = add_node(model, "MaxPool", {"x"}, {"y", "i"});
    add_attribute(node, "kernel_shape", Sizes{1, 1, 3});
    add_attribute(node, "storage_order", order);
    // [1, 2, 2, 2, 3]; the maxima lie at (c, d, h, w) = (0, 0, 0, 2), (0, 0, 1, 1), (0, 1, 0, 0), ...
    const auto x =
        floats({1, 2, 2, 2, 3}, {0, 0, 9, 0, 9, 0, 9, 0, 0, 0, 0, 9, 9, 0, 0, 0, 9, 0, 0, 0, 9, 9, 0, 0});
    const auto y = floats({1, 2, 2, 2, 1}, {9, 9, 9, 9, 9, 9, 9, 9});
    const Sizes row_major{2, 4, 6, 11, 12, 16, 20, 21};
    // d + 2 * h + 4 * w, and 12 for the second channel
    const Sizes column_major{8, 6, 1, 11, 12, 18, 21, 15};
    const auto indices = integers({1, 2, 2, 2, 1}, order == 0 ? row_major : column_major);
    expect_pass(CaseFolder(model, {x}, {y, indices}).run());
  }
}

TEST(OnnxOps, F64) {
  const auto convert = [](::onnx::TensorProto tensor, const std::vector<double>& values) {
    tensor.set_data_type(::onnx::TensorProto::DOUBLE);
    tensor.clear_raw_data();
    for (const double value : values) tensor.add_double_data(value);
    return tensor;
  };
  expect_result(
      "AveragePool", 11, [](NodeProto& node) { add_attribute(node, "kernel_shape", Sizes{2}); },
      convert(floats({1, 1, 2}, {}), {1, 1 + 0x1p-40}), convert(floats({1, 1, 1}, {}), {1 + 0x1p-41}));
}

/// [1, 1, count] of a type whose elements travel as int32: integers, and the bits of 16-bit floats.
::onnx::TensorProto small(::onnx::TensorProto::DataType type, const std::vector<int>& values) {
  ::onnx::TensorProto tensor;
  tensor.set_data_type(type);
  for (const std::size_t size : {std::size_t{1}, std::size_t{1}, values.size()}) {
    tensor.add_dims(static_cast<std::int64_t>(size));
  }
  for (const int value : values) tensor.add_int32_data(value);
  return tensor;
}

TEST(OnnxOps, SmallTypes) {
  const auto padded = [](NodeProto& node) {
    add_attribute(node, "kernel_shape", Sizes{2});
    add_attribute(node, "pads", Sizes{1, 2});
  };
  const auto max = [&](std::int64_t opset, ::onnx::TensorProto::DataType type, const std::vector<int>& x,
                       const std::vector<int>& y) {
    expect_result("MaxPool", opset, padded, small(type, x), small(type, y));
  };
  // The last window lies in the padding alone: the lowest value, or -inf.
  max(12, ::onnx::TensorProto::UINT8, {200, 100}, {200, 200, 100, 0});
  max(12, ::onnx::TensorProto::INT8, {-5, -7}, {-5, -5, -7, -128});
  // 1, -2 and -inf
  max(1, ::onnx::TensorProto::FLOAT16, {0x3C00, 0xC000}, {0x3C00, 0x3C00, 0xC000, 0xFC00});
  max(22, ::onnx::TensorProto::BFLOAT16, {0x3F80, 0xC000}, {0x3F80, 0x3F80, 0xC000, 0xFF80});
  // The mean of 1 and 2; 65504 + 65504 passes the range of f16, their mean does not.
  const auto pair = [](NodeProto& node) { add_attribute(node, "kernel_shape", Sizes{2}); };
  expect_result("AveragePool", 11, pair,
                small(::onnx::TensorProto::FLOAT16, {0x3C00, 0x4000, 0x7BFF, 0x7BFF}),
                small(::onnx::TensorProto::FLOAT16, {0x3E00, 0x77FF, 0x7BFF}));
  expect_result("GlobalAveragePool", 22, {}, small(::onnx::TensorProto::BFLOAT16, {0x3F80, 0x4000}),
                small(::onnx::TensorProto::BFLOAT16, {0x3FC0}));
}

/// kernel_shape [2], and p unless it is 0.
std::function<void(NodeProto&)> lp(std::int64_t p, const std::function<void(NodeProto&)>& edit = {}) {
  return [=](NodeProto& node) {
    add_attribute(node, "kernel_shape", Sizes{2});
    if (p != 0) add_attribute(node, "p", p);
    if (edit) edit(node);
  };
}

TEST(OnnxOps, PowersOfLpPool) {
  const auto x = floats({1, 1, 3}, {3, -4, 0});
  for (const std::int64_t opset : {2, 10, 11, 18, 22}) {
    expect_result("LpPool", opset, lp(1), x, floats({1, 1, 2}, {7, 4}));
    expect_result("LpPool", opset, lp(0), x, floats({1, 1, 2}, {5, 4}));
    const auto cubes =
        CaseFolder(one_node("LpPool", opset, lp(3)), {x}, {floats({1, 1, 2}, {4.497941445F, 4})});
    expect_pass(cubes.run({.rtol = 1e-6, .atol = 0}));
    expect_result("GlobalLpPool", opset, {}, floats({1, 2, 2}, {3, 4, 0, -2}), floats({1, 2, 1}, {5, 2}));
    expect_result(
        "GlobalLpPool", opset, [](NodeProto& node) { add_attribute(node, "p", 1); },
        floats({1, 2, 2}, {3, 4, 0, -2}), floats({1, 2, 1}, {7, 2}));
  }
}

// The first version had a float p.
TEST(OnnxOps, FloatPowersOfTheFirstVersion) {
  const auto half = [](NodeProto& node) { add_float(node, "p", 0.5F); };
  const auto pool = CaseFolder(one_node("LpPool", 1, lp(0, half)), {floats({1, 1, 3}, {1, -4, 9})},
                               {floats({1, 1, 2}, {9, 25})});
  expect_pass(pool.run({.rtol = 1e-5, .atol = 0}));
  const auto global = CaseFolder(one_node("GlobalLpPool", 1, half), {floats({1, 1, 3}, {1, -4, 9})},
                                 {floats({1, 1, 1}, {36})});
  expect_pass(global.run({.rtol = 1e-5, .atol = 0}));
  expect_result("LpPool", 1, lp(0), floats({1, 1, 2}, {3, -4}), floats({1, 1, 1}, {5}));
}

TEST(OnnxOps, WindowsOfLpPool) {
  const auto list = [](const char* name, const Sizes& values) {
    return [=](NodeProto& node) { add_attribute(node, name, values); };
  };
  const auto x = floats({1, 1, 5}, {3, 8, 4, 6, 12});
  expect_result("LpPool", 18, lp(2, list("dilations", {2})), x, floats({1, 1, 3}, {5, 10, 12.64911064F}));
  const auto ceil = [](NodeProto& node) {
    add_attribute(node, "strides", Sizes{2});
    add_attribute(node, "ceil_mode", 1);
  };
  expect_result("LpPool", 18, lp(1, ceil), x, floats({1, 1, 3}, {11, 10, 12}));
  expect_result("LpPool", 11, lp(1, list("pads", {1, 0})), x, floats({1, 1, 5}, {3, 11, 12, 10, 18}));
  for (const char* side : {"SAME_UPPER", "SAME_LOWER"}) {
    const auto same = [side](NodeProto& node) { add_attribute(node, "auto_pad", side); };
    const bool upper = std::string(side) == "SAME_UPPER";
    expect_result("LpPool", 11, lp(1, same), x,
                  floats({1, 1, 5}, upper ? std::vector<float>{11, 12, 10, 18, 12}
                                          : std::vector<float>{3, 11, 12, 10, 18}));
  }
  // A window of padding alone.
  expect_result("LpPool", 22, lp(2, list("pads", {2, 0})), floats({1, 1, 1}, {7}), floats({1, 1, 2}, {0, 7}));
}

TEST(OnnxOps, LpPoolOfF16) {
  // 3, 4, 5, and 300 with its square beyond the range
  const auto type = ::onnx::TensorProto::FLOAT16;
  expect_result("LpPool", 11, lp(2), small(type, {0x4200, 0xC400}), small(type, {0x4500}));
  expect_result("GlobalLpPool", 2, {}, small(type, {0x5CB0, 0x0000}), small(type, {0x5CB0}));
}

TEST(OnnxOps, BadPowers) {
  const auto kernel = [](const std::function<void(NodeProto&)>& edit) {
    return [edit](NodeProto& node) {
      add_attribute(node, "kernel_shape", Sizes{2, 2});
      edit(node);
    };
  };
  for (const std::int64_t p : {std::int64_t{0}, std::int64_t{-1}, std::numeric_limits<std::int64_t>::min()}) {
    const auto edit = [p](NodeProto& node) { add_attribute(node, "p", p); };
    expect_refused("LpPool", 11, kernel(edit), "norm_type must be > 0");
    expect_refused("GlobalLpPool", 2, edit, "norm_type must be > 0");
  }
  for (const float p : {0.0F, -2.0F, std::nanf(""), -kInfinity}) {
    expect_refused(
        "GlobalLpPool", 1, [p](NodeProto& node) { add_float(node, "p", p); }, "norm_type must be > 0");
  }
  expect_refused("GlobalLpPool", 2, [](NodeProto& node) { add_attribute(node, "p", "2"); }, "p must be");
  expect_refused("GlobalLpPool", 2, [](NodeProto& node) { add_attribute(node, "p", Sizes{2}); }, "p must be");
  expect_refused("LpPool", 11, kernel([](NodeProto& node) { add_attribute(node, "ceil_mode", 1); }),
                 "it has no attribute 'ceil_mode'");
  expect_refused("LpPool", 11, kernel([](NodeProto& node) { add_attribute(node, "dilations", Sizes{1, 1}); }),
                 "it has no attribute 'dilations'");
}

/// y = MaxUnpool(x, i), with output_shape where it is given, of [1, 1, 2, 2] with kernel and strides 2.
CaseResult run_unpool(const Sizes& indices, const Sizes& output_shape, const ::onnx::TensorProto& y) {
  auto model = empty_model(11, {"x", "i", "s"});
  auto& node = add_node(model, "MaxUnpool", {"x", "i"}, {"y"});
  if (!output_shape.empty()) node.add_input("s");
  add_attribute(node, "kernel_shape", Sizes{2, 2});
  add_attribute(node, "strides", Sizes{2, 2});
  const auto shape = integers({static_cast<std::int64_t>(output_shape.size())}, output_shape);
  return CaseFolder(model, {floats({1, 1, 2, 2}, {5, 6, 7, 8}), integers({1, 1, 2, 2}, indices), shape}, {y})
      .run();
}

TEST(OnnxOps, MaxUnpool) {
  const Sizes corners{5, 7, 13, 15};
  expect_pass(
      run_unpool(corners, {}, floats({1, 1, 4, 4}, {0, 0, 0, 0, 0, 5, 0, 6, 0, 0, 0, 0, 0, 7, 0, 8})));
  // The indices count in the plane of 4 x 4, which lies at the begin of the larger one.
  expect_pass(run_unpool(corners, {1, 1, 5, 5}, floats({1, 1, 5, 5}, {0, 0, 0, 0, 0, 0, 5, 0, 6, 0, 0, 0, 0,
                                                                      0, 0, 0, 7, 0, 8, 0, 0, 0, 0, 0, 0})));
  // They count in a smaller one.
  expect_pass(
      run_unpool({4, 6, 8, 10}, {1, 1, 3, 4}, floats({1, 1, 3, 4}, {0, 0, 0, 0, 5, 0, 6, 0, 7, 0, 8, 0})));
}

/// y = MaxUnpool(x, i) of [1, 1, n] with these pads, and with output_shape [1, 1, size] where size > 0.
CaseResult run_unpool_row(std::int64_t opset, std::int64_t kernel, std::int64_t stride, const Sizes& pads,
                          std::int64_t size, const Sizes& indices, const std::vector<float>& y) {
  auto model = empty_model(opset, {"x", "i", "s"});
  auto& node = add_node(model, "MaxUnpool", {"x", "i"}, {"y"});
  if (size > 0) node.add_input("s");
  add_attribute(node, "kernel_shape", Sizes{kernel});
  add_attribute(node, "strides", Sizes{stride});
  add_attribute(node, "pads", pads);
  const auto count = static_cast<std::int64_t>(indices.size());
  return CaseFolder(model,
                    {floats({1, 1, count}, iota(indices.size())), integers({1, 1, count}, indices),
                     integers({3}, {1, 1, size})},
                    {floats({1, 1, static_cast<std::int64_t>(y.size())}, y)})
      .run();
}

TEST(OnnxOps, MaxUnpoolWithPads) {
  for (const std::int64_t opset : {9, 10, 11, 21, 22}) {
    SCOPED_TRACE(opset);
    // (3 - 1) * stride + kernel - pads
    for (const Sizes& pads : {Sizes{1, 0}, Sizes{0, 1}}) {
      expect_pass(run_unpool_row(opset, 2, 1, pads, 0, {0, 1, 2}, {1, 2, 3}));
      expect_pass(run_unpool_row(opset, 3, 2, pads, 0, {1, 2, 5}, {0, 1, 2, 0, 0, 3}));
    }
    expect_pass(run_unpool_row(opset, 3, 1, {1, 2}, 0, {1, 0, 1}, {2, 3}));
    expect_pass(run_unpool_row(opset, 3, 2, {4, 1}, 0, {0, 1, 1}, {1, 3}));
  }
}

TEST(OnnxOps, MaxUnpoolIgnoresPadsBesideAnOutputShape) {
  // Without pads 6 positions; with them 4.
  for (const Sizes& pads : {Sizes{1, 1}, Sizes{2, 0}, Sizes{0, 0}, Sizes{0, 9}}) {
    expect_pass(run_unpool_row(11, 2, 2, pads, 4, {0, 2, 3}, {1, 0, 2, 3}));
    expect_pass(run_unpool_row(11, 2, 2, pads, 5, {0, 2, 4}, {1, 0, 2, 0, 3}));
    expect_pass(run_unpool_row(11, 2, 2, pads, 7, {0, 2, 5}, {1, 0, 2, 0, 0, 3, 0}));
    expect_reason(run_unpool_row(11, 2, 2, pads, 7, {0, 2, 6}, {}), Outcome::kFail, "got 6");
    expect_reason(run_unpool_row(11, 2, 2, pads, 5, {0, 2, 5}, {}), Outcome::kFail, "got 5");
  }
}

TEST(OnnxOps, UnpoolsWhatMaxPoolGives) {
  // The values go back to where they came from, whatever the pads, when output_shape says how large x was.
  for (const Sizes& pads : {Sizes{0, 0}, Sizes{1, 0}, Sizes{0, 1}, Sizes{1, 1}}) {
    auto model = empty_model(22);
    auto& pool = add_node(model, "MaxPool", {"x"}, {"a", "i"});
    auto& shape = *add_node(model, "Constant", {}, {"s"}).add_attribute();
    shape.set_name("value_ints");
    shape.set_type(::onnx::AttributeProto::INTS);
    for (const std::int64_t size : {1, 1, 6}) shape.add_ints(size);
    auto& unpool = add_node(model, "MaxUnpool", {"a", "i", "s"}, {"y"});
    for (auto* node : {&pool, &unpool}) {
      add_attribute(*node, "kernel_shape", Sizes{2});
      add_attribute(*node, "strides", Sizes{2});
      add_attribute(*node, "pads", pads);
    }
    const bool begin = pads[0] == 1;  // windows 01|23|45, or 0|12|34(|5)
    const std::vector<float> y =
        begin ? pads[1] == 1 ? std::vector<float>{1, 0, 3, 0, 5, 6} : std::vector<float>{1, 0, 3, 0, 5, 0}
              : std::vector<float>{0, 2, 0, 4, 0, 6};
    SCOPED_TRACE(fmt::format("{}", fmt::join(pads, ", ")));
    expect_pass(CaseFolder(model, {floats({1, 1, 6}, iota(6))}, {floats({1, 1, 6}, y)}).run());
  }
}

TEST(OnnxOps, BadUnpooling) {
  const auto y = floats({1, 1, 4, 4}, iota(16));
  for (const std::int64_t bad :
       {std::int64_t{16}, std::int64_t{-1}, std::int64_t{1} << 32, std::numeric_limits<std::int64_t>::max(),
        std::numeric_limits<std::int64_t>::min()}) {
    expect_reason(run_unpool({5, 7, 13, bad}, {}, y), Outcome::kFail,
                  "indices must point into their own planes of the tensor, got " + std::to_string(bad));
  }
  for (const Sizes& shape : {Sizes{1, 2, 4, 4}, Sizes{2, 1, 4, 4}, Sizes{1, 1, 4}, Sizes{1, 1, 4, 4, 1},
                             Sizes{-1, 1, 4, 4}, Sizes{1, 1, 0, 4}, Sizes{1, 1, 4, -4}}) {
    expect_reason(run_unpool({5, 7, 13, 15}, shape, y), Outcome::kFail,
                  "output_shape must be [1, 1] and 2 sizes > 0");
  }
  expect_reason(run_unpool({5, 7, 13, 15}, {1, 1, std::int64_t{1} << 40, 4}, y), Outcome::kUnsupported, "");
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  expect_reason(run_unpool_row(11, 2, 1, {-1, 0}, 0, {0}, {}), Outcome::kFail,
                "[MaxUnpool-11] pads must be >= 0, got [-1, 0]");
  expect_reason(run_unpool_row(11, 2, 1, {1, 1}, 0, {0}, {}), Outcome::kFail,
                "the size of spatial axis 0 must be > 0, got 2 less pads 1 and 1");
  expect_reason(run_unpool_row(11, kMost, 1, {1, 0}, 0, {0}, {}), Outcome::kFail, "exceeds 64 bits");
  expect_reason(run_unpool_row(11, 1, kMost, {0, 0}, 0, {0, 1}, {}), Outcome::kFail, "exceeds 64 bits");
  expect_reason(run_unpool_row(11, 1, 1, {kMost, 1}, 0, {0}, {}), Outcome::kFail, "exceeds 64 bits");
}

TEST(OnnxOps, EachVersionHasItsOwnAttributes) {
  const auto with = [](const char* name) {
    return [name](NodeProto& node) {
      add_attribute(node, "kernel_shape", Sizes{2, 2});
      if (std::string(name) == "dilations") {
        add_attribute(node, name, Sizes{1, 1});
      } else {
        add_attribute(node, name, std::int64_t{0});
      }
    };
  };
  struct Row {
    const char* op;
    const char* attribute;
    std::int64_t since;
  };
  for (const Row& row : {Row{"MaxPool", "storage_order", 8}, Row{"MaxPool", "dilations", 10},
                         Row{"MaxPool", "ceil_mode", 10}, Row{"AveragePool", "count_include_pad", 7},
                         Row{"AveragePool", "ceil_mode", 10}, Row{"AveragePool", "dilations", 19}}) {
    const std::vector<float> max{6, 7, 8, 10, 11, 12, 14, 15, 16};
    const std::vector<float> mean{3.5, 4.5, 5.5, 7.5, 8.5, 9.5, 11.5, 12.5, 13.5};
    const bool is_max = std::string(row.op) == "MaxPool";
    expect_refused(row.op, row.since - 1, with(row.attribute), "it has no attribute");
    expect_result(row.op, row.since, with(row.attribute), floats({1, 1, 4, 4}, iota(16)),
                  floats({1, 1, 3, 3}, is_max ? max : mean));
  }
  expect_refused("MaxPool", 22, with("count_include_pad"),
                 "[MaxPool-22] it has no attribute 'count_include_pad'");
}

TEST(OnnxOps, EachVersionHasItsOwnTypes) {
  const auto kernel = [](NodeProto& node) { add_attribute(node, "kernel_shape", Sizes{1}); };
  struct Row {
    const char* op;
    ::onnx::TensorProto::DataType type;
    std::int64_t last_without;
    const char* text;
  };
  for (const Row& row :
       {Row{"MaxPool", ::onnx::TensorProto::UINT8, 11, "[MaxPool-11] it does not take u8"},
        Row{"MaxPool", ::onnx::TensorProto::INT8, 10, "[MaxPool-10] it does not take i8"},
        Row{"MaxPool", ::onnx::TensorProto::BFLOAT16, 21, "[MaxPool-12] it does not take bf16"},
        Row{"MaxPool", ::onnx::TensorProto::INT32, 22, "[MaxPool-22] it does not take i32"},
        Row{"AveragePool", ::onnx::TensorProto::UINT8, 22, "it does not take u8"},
        Row{"AveragePool", ::onnx::TensorProto::BFLOAT16, 21, "it does not take bf16"}}) {
    const auto x = small(row.type, {1, 2});
    expect_reason(CaseFolder(one_node(row.op, row.last_without, kernel), {x}, {x}).run(), Outcome::kFail,
                  row.text);
  }
}

TEST(OnnxOps, BadAttributes) {
  const auto pool = [](const std::function<void(NodeProto&)>& edit) {
    return [edit](NodeProto& node) {
      add_attribute(node, "kernel_shape", Sizes{2, 2});
      edit(node);
    };
  };
  const auto list = [&](const char* name, const Sizes& values) {
    return pool([=](NodeProto& node) { add_attribute(node, name, values); });
  };
  const auto text = [&](const char* name, const char* value) {
    return pool([=](NodeProto& node) { add_attribute(node, name, value); });
  };
  const auto number = [&](const char* name, std::int64_t value) {
    return pool([=](NodeProto& node) { add_attribute(node, name, value); });
  };
  constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
  expect_refused("MaxPool", 12, {}, "[MaxPool-12] kernel_shape is required");
  const auto kernel = [](const Sizes& values) {
    return [=](NodeProto& node) { add_attribute(node, "kernel_shape", values); };
  };
  expect_refused("MaxPool", 12, kernel({2}),
                 "kernel_shape must have 2 values for X of 2 spatial axes, got 1");
  expect_refused("MaxPool", 12, kernel({2, 0}), "kernel_shape must be > 0, got [2, 0]");
  expect_refused("MaxPool", 12, kernel({5, 1}), "output size of spatial axis 0 must be >= 1");
  expect_refused("MaxPool", 12, kernel({kHuge, kHuge}), "");
  expect_refused("MaxPool", 12, list("strides", {1, 1, 1}), "strides must have 2 values");
  expect_refused("MaxPool", 12, list("strides", {0, 1}), "strides must be > 0");
  expect_refused("MaxPool", 12, list("dilations", {-1, 1}), "dilations must be > 0");
  expect_refused("MaxPool", 12, list("dilations", {kHuge, kHuge}), "");
  expect_refused("MaxPool", 12, list("pads", {1, 1}), "pads must have 4 values");
  expect_refused("MaxPool", 12, list("pads", {0, 0, -1, 0}),
                 "[MaxPool-12] pads must be >= 0, got [0, 0, -1, 0]");
  expect_refused("MaxPool", 12, list("pads", {kHuge, 0, kHuge, 0}), "overflows");
  expect_refused("MaxPool", 12, number("pads", 1), "pads must be a list of integers");
  expect_refused("MaxPool", 12, list("ceil_mode", {1}), "ceil_mode must be an integer");
  expect_refused("MaxPool", 12, number("ceil_mode", 2), "ceil_mode must be 0 or 1, got 2");
  expect_refused("MaxPool", 12, number("storage_order", -1), "storage_order must be 0 or 1, got -1");
  expect_refused("AveragePool", 12, number("count_include_pad", 7), "count_include_pad must be 0 or 1");
  expect_refused("MaxPool", 12, text("auto_pad", "SAME"), "auto_pad must be NOTSET");
  expect_refused("MaxPool", 12, number("auto_pad", 0), "auto_pad must be a string");
  expect_refused("MaxPool", 12, pool([](NodeProto& node) {
                   add_attribute(node, "auto_pad", "SAME_UPPER");
                   add_attribute(node, "dilations", Sizes{kHuge, kHuge});
                 }),
                 "64 bits");
  expect_refused("MaxPool", 12, pool([](NodeProto& node) {
                   add_attribute(node, "auto_pad", "SAME_UPPER");
                   add_attribute(node, "pads", Sizes{0, 0, 0, 0});
                 }),
                 "exclude each other");
  expect_refused("MaxPool", 12, kernel({2, 2, 2}), "3");
}

TEST(OnnxOps, BadRanksAndOutputs) {
  const auto kernel = [](const Sizes& sizes) {
    return [=](NodeProto& node) { add_attribute(node, "kernel_shape", sizes); };
  };
  const auto run = [&](const ::onnx::ModelProto& model, const Sizes& sizes) {
    std::size_t count = 1;
    for (const std::int64_t size : sizes) count *= static_cast<std::size_t>(size);
    return CaseFolder(model, {floats(sizes, iota(count))}, {}).run();
  };
  expect_reason(run(one_node("MaxPool", 12, kernel({1})), {1, 4}), Outcome::kFail, "[N, C, spatial...]");
  expect_reason(run(one_node("GlobalMaxPool", 12), {4}), Outcome::kFail, "[N, C, spatial...]");
  expect_reason(run(one_node("MaxPool", 12, kernel({1, 1, 1, 1})), {1, 1, 1, 1, 1, 2}), Outcome::kUnsupported,
                "4 spatial axes");
  expect_reason(run(one_node("MaxPool", 12, kernel({1})), {1, 0, 4}), Outcome::kFail,
                "x sizes[1] must be > 0");
  auto three = one_node("MaxPool", 12, kernel({1}));
  three.mutable_graph()->mutable_node(0)->add_output("i");
  three.mutable_graph()->mutable_node(0)->add_output("j");
  expect_reason(run(three, {1, 1, 4}), Outcome::kFail, "at most 2 outputs, got 3");
  auto indices = one_node("MaxPool", 7, kernel({1}));
  indices.mutable_graph()->mutable_node(0)->add_output("i");
  expect_reason(run(indices, {1, 1, 4}), Outcome::kFail, "[MaxPool-1] it has at most 1 outputs, got 2");
}

TEST(OnnxOps, WhatIsNotComputedSaysWhy) {
  const auto x = floats({1, 1, 2}, {1, 2});
  const auto run = [&](const ::onnx::ModelProto& model) { return CaseFolder(model, {x}, {x}).run(); };
  expect_reason(run(one_node("Conv", 11)), Outcome::kUnsupported, "'Conv' is neither pooling");
  expect_reason(run(one_node("Co\nnv", 11)), Outcome::kUnsupported, "'Co\\x0anv'");
  expect_reason(run(one_node("Identity", 11)), Outcome::kUnsupported, "no pooling operator");
  expect_reason(run(one_node("GlobalMaxPool", 23)), Outcome::kUnsupported, "opset 23");
  expect_reason(run(one_node("GlobalMaxPool", -4)), Outcome::kUnsupported, "opset -4");
  expect_reason(run(one_node("MaxRoiPool", 11)), Outcome::kUnsupported, "MaxRoiPool");
  expect_reason(run(one_node("MaxUnpool", 8)), Outcome::kFail, "does not exist in opset 8");
  auto foreign = one_node("GlobalMaxPool", 11);
  foreign.mutable_graph()->mutable_node(0)->set_domain("com.example");
  expect_reason(run(foreign), Outcome::kUnsupported, "'com.example'");
  auto without = one_node("GlobalMaxPool", 11);
  without.clear_opset_import();
  expect_reason(run(without), Outcome::kFail, "imports no version");
}

TEST(OnnxOps, WhatIsTooLargeIsRefusedBeforeItIsAllocated) {
  const auto window = [](std::int64_t kernel, std::int64_t padding) {
    return [=](NodeProto& node) {
      add_attribute(node, "kernel_shape", Sizes{kernel});
      add_attribute(node, "pads", Sizes{padding, 0});
    };
  };
  const auto x = floats({1, 1, 4}, iota(4));
  const auto run = [&](const ::onnx::ModelProto& model) { return CaseFolder(model, {x}, {x}).run(); };
  expect_reason(run(one_node("MaxPool", 12, window(2, std::int64_t{1} << 40))), Outcome::kUnsupported, "may");
  expect_reason(run(one_node("AveragePool", 12, window(2, std::int64_t{1} << 30))), Outcome::kUnsupported,
                "1 GiB");
  // Each node is fine, all together are not.
  auto chain = empty_model(12, {"x"}, {"y"});
  std::string from = "x";
  for (int i = 0; i < 400; ++i) {
    const std::string to = i == 399 ? "y" : fmt::format("t{}", i);
    window(2, 1 << 20)(add_node(chain, "MaxPool", {from}, {to}));
    from = to;
  }
  expect_reason(run(chain), Outcome::kUnsupported, "1 GiB");
}

/// What the model reads of x may be `visits` elements, and not one less.
void expect_visits(const ::onnx::ModelProto& proto, const ::onnx::TensorProto& x, std::int64_t visits) {
  const CaseFolder folder(proto, {x}, {});
  const Model model = read_model(folder.path() / "model.onnx");
  const std::vector<Value> inputs{read_tensor(folder.data_set() / "input_0.pb")};
  Budget enough(1 << 20, visits);
  EXPECT_NO_THROW(run_model(model, inputs, enough));
  Budget less(1 << 20, visits - 1);
  try {
    run_model(model, inputs, less);
    ADD_FAILURE() << model.nodes[0].op << " takes less than " << visits << " visits";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_THAT(error.what(), HasSubstr("more than one run may"));
  }
}

TEST(OnnxOps, EveryElementThatIsReadCounts) {
  const auto x = floats({1, 2, 4, 4}, iota(32));
  for (const char* op : {"GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"})
    expect_visits(one_node(op, 22), x, 32);
  // 2 channels of 3 x 2 windows of 2 x 3, and of 4 x 4 with one of 9 x 9, which reads the plane.
  const auto window = [](const Sizes& kernel, const Sizes& pads) {
    return [=](NodeProto& node) {
      add_attribute(node, "kernel_shape", kernel);
      add_attribute(node, "pads", pads);
    };
  };
  for (const char* op : {"MaxPool", "AveragePool", "LpPool"}) {
    expect_visits(one_node(op, 22, window({2, 3}, {0, 0, 0, 0})), x, 72);
    expect_visits(one_node(op, 22, window({9, 9}, {4, 4, 4, 4})), x, 512);
  }
  // Those of all nodes together.
  auto twice = empty_model(22);
  add_node(twice, "GlobalMaxPool", {"x"}, {"a"});
  add_node(twice, "GlobalAveragePool", {"x"}, {"y"});
  expect_visits(twice, x, 64);
}

TEST(OnnxOps, ValuesCountUntilTheEndOfTheRun) {
  const CaseFolder folder(one_node("GlobalMaxPool", 22), {floats({1, 2, 4, 4}, iota(32))}, {});
  const Model model = read_model(folder.path() / "model.onnx");
  const std::vector<Value> inputs{read_tensor(folder.data_set() / "input_0.pb")};
  Budget enough(136, 32);
  EXPECT_NO_THROW(run_model(model, inputs, enough));
  Budget less(135, 32);
  EXPECT_THROW(run_model(model, inputs, less), Error);
}

/// Every published case of these operators, straight through the runner.
TEST(OnnxOps, PublishedCasesOfReshaping) {
  const std::filesystem::path cases = std::filesystem::path(CENOTE_ONNX_DATA) / "node";
  if (!std::filesystem::exists(cases)) GTEST_SKIP() << cases << " is missing (Debian: libonnx-testdata)";
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(cases)) {
    const std::string name = entry.path().filename().string();
    const bool wanted = name.starts_with("test_reshape_") || name.starts_with("test_squeeze") ||
                        name.starts_with("test_unsqueeze_") || name == "test_identity" ||
                        name == "test_constant";
    if (!wanted) continue;
    SCOPED_TRACE(name);
    ++count;
    const Model model = read_model(entry.path() / "model.onnx");
    std::vector<Value> inputs;
    inputs.reserve(model.inputs.size());
    for (std::size_t i = 0; i < model.inputs.size(); ++i) {
      inputs.push_back(read_tensor(entry.path() / "test_data_set_0" / fmt::format("input_{}.pb", i)));
    }
    Budget budget;
    const std::vector<Value> outputs = run_model(model, inputs, budget);
    ASSERT_EQ(outputs.size(), 1U);
    const Value expected = read_tensor(entry.path() / "test_data_set_0" / "output_0.pb");
    EXPECT_EQ(outputs[0].type, expected.type);
    ASSERT_EQ(outputs[0].sizes, expected.sizes);
    const auto mismatch = compare(outputs[0], expected, {.rtol = 0, .atol = 0});
    EXPECT_EQ(mismatch ? to_string(*mismatch) : "", "");
  }
  EXPECT_GE(count, 19);
}

TEST(OnnxOps, ReshapingByAttributesAndByInputs) {
  // Unsqueeze-11 axes -1, pool [1, 2], Squeeze-11; then the same in opset 13 with axes as constants.
  for (const std::int64_t opset : {6, 11, 13, 22}) {
    auto model = empty_model(opset);
    const bool as_input = opset >= 13;
    const auto add_axes = [&](const char* op, const char* from, const char* to, const Sizes& axes) {
      if (!as_input) return add_attribute(add_node(model, op, {from}, {to}), "axes", axes);
      const std::string name = std::string(op) + "_axes";
      auto& attribute = *add_node(model, "Constant", {}, {name}).add_attribute();
      attribute.set_name("value_ints");
      attribute.set_type(::onnx::AttributeProto::INTS);
      for (const std::int64_t axis : axes) attribute.add_ints(axis);
      add_node(model, op, {from, name}, {to});
    };
    add_axes("Unsqueeze", "x", "a", {opset == 6 ? 2 : -2});
    add_attribute(add_node(model, "MaxPool", {"a"}, {"b"}), "kernel_shape", Sizes{1, 2});
    add_axes("Squeeze", "b", "y", {2});
    expect_pass(CaseFolder(model, {floats({1, 1, 3}, {1, 3, 2})}, {floats({1, 1, 2}, {3, 3})}).run());
  }
}

TEST(OnnxOps, BadReshaping) {
  const auto run = [](const char* op, std::int64_t opset, const char* attribute, const Sizes& values) {
    auto model = empty_model(opset);
    add_attribute(add_node(model, op, {"x"}, {"a"}), attribute, values);
    add_node(model, "GlobalMaxPool", {"a"}, {"y"});
    return CaseFolder(model, {floats({1, 2, 3}, iota(6))}, {floats({1, 2, 1}, {3, 6})}).run();
  };
  expect_pass(run("Reshape", 1, "shape", {0, -1, 3}));
  expect_reason(run("Reshape", 1, "shape", {0, -1, -1}), Outcome::kFail, "at most one -1");
  expect_reason(run("Reshape", 1, "shape", {1, 2, 4}), Outcome::kFail, "does not fit");
  expect_reason(run("Reshape", 1, "shape", {1, -1, 4}), Outcome::kFail, "does not fit");
  expect_reason(run("Reshape", 1, "shape", {1, 2, 3, 0}), Outcome::kFail, "the input has rank 3");
  expect_reason(run("Reshape", 1, "shape", Sizes(9, 1)), Outcome::kUnsupported, "rank 9");
  const std::int64_t huge = std::int64_t{1} << 62;
  expect_reason(run("Reshape", 1, "shape", {huge, huge, 1}), Outcome::kFail, "passes 64 bits");
  expect_reason(run("Squeeze", 11, "axes", {1}), Outcome::kFail, "axis 1 must have size 1");
  expect_reason(run("Squeeze", 11, "axes", {3}), Outcome::kFail, "axes must lie in -3..2, got 3");
  expect_reason(run("Squeeze", 11, "axes", {0, -3}), Outcome::kFail, "twice");
  expect_reason(run("Unsqueeze", 11, "axes", {0, 0}), Outcome::kFail, "twice");
  expect_reason(run("Unsqueeze", 11, "axes", {0, 1, 2, 3, 4, 5}), Outcome::kUnsupported, "rank 9");
  expect_reason(run("Reshape", 5, "shape", {1, 2, 3}), Outcome::kFail, "it has no attribute 'shape'");
}

}  // namespace
}  // namespace cenote::network::onnx
