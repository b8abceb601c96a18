// Reading models and tensors, damaged ones above all, and comparing values.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "network/onnx/reader.h"
#include "onnx_files.h"
#include "support/errors.h"

namespace cenote::network::onnx {
namespace {

using cenote_test::expect_error;
using ::onnx::TensorProto;
using ::testing::HasSubstr;

Value read(const std::string& bytes) {
  TemporaryFolder folder;
  write_bytes(folder / "x.pb", bytes);
  return read_tensor(folder / "x.pb");
}
Value read(const TensorProto& tensor) { return read(tensor.SerializeAsString()); }

void expect_bad(const TensorProto& tensor, const char* text, ErrorCode code = ErrorCode::kBadFile) {
  expect_error([&] { read(tensor); }, code, {text});
}

TensorProto typed(int type, const Sizes& sizes) {
  TensorProto tensor;
  tensor.set_data_type(type);
  for (const std::int64_t size : sizes) tensor.add_dims(size);
  return tensor;
}

// ---- tensors ----------------------------------------------------------------------------------------

TEST(OnnxTensor, RawAndListedElementsAreTheSame) {
  struct Row {
    TensorProto::DataType type;
    ElementType element;
    std::string raw;  // of the elements 1 and 2 (0x3C00 and 0x4000 for the 16-bit floats, as bits)
    std::function<void(TensorProto&, int)> add;
  };
  const auto as_int32 = [](TensorProto& tensor, int value) { tensor.add_int32_data(value); };
  const auto as_uint64 = [](TensorProto& tensor, int value) {
    tensor.add_uint64_data(static_cast<unsigned>(value));
  };
  using namespace std::string_literals;
  const std::string one_two_16 = "\1\0\2\0"s;
  const std::string one_two_32 = "\1\0\0\0\2\0\0\0"s;
  const std::string one_two_64 = "\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0"s;
  const std::vector<Row> rows{
      {TensorProto::FLOAT, ElementType::kF32, "\0\0\x80\x3f\0\0\0\x40"s,
       [](TensorProto& t, int v) { t.add_float_data(static_cast<float>(v)); }},
      {TensorProto::DOUBLE, ElementType::kF64, "\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\0\x40"s,
       [](TensorProto& t, int v) { t.add_double_data(v); }},
      {TensorProto::INT64, ElementType::kI64, one_two_64, [](TensorProto& t, int v) { t.add_int64_data(v); }},
      {TensorProto::UINT64, ElementType::kU64, one_two_64, as_uint64},
      {TensorProto::UINT32, ElementType::kU32, one_two_32, as_uint64},
      {TensorProto::INT32, ElementType::kI32, one_two_32, as_int32},
      {TensorProto::INT16, ElementType::kI16, one_two_16, as_int32},
      {TensorProto::UINT16, ElementType::kU16, one_two_16, as_int32},
      {TensorProto::FLOAT16, ElementType::kF16, one_two_16, as_int32},
      {TensorProto::BFLOAT16, ElementType::kBF16, one_two_16, as_int32},
      {TensorProto::INT8, ElementType::kI8, "\1\2", as_int32},
      {TensorProto::UINT8, ElementType::kU8, "\1\2", as_int32},
      {TensorProto::BOOL, ElementType::kBool, "\1\2", as_int32},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(TensorProto::DataType_Name(row.type));
    TensorProto raw = typed(row.type, {2});
    raw.set_raw_data(row.raw);
    TensorProto listed = typed(row.type, {2});
    row.add(listed, 1);
    row.add(listed, 2);
    const Value a = read(raw);
    const Value b = read(listed);
    EXPECT_EQ(a.type, row.element);
    EXPECT_EQ(a.sizes, Dims(2));
    EXPECT_EQ(*a.bytes, *b.bytes);
    EXPECT_EQ(a.bytes->size(), row.raw.size());
    raw.set_raw_data(row.raw.substr(1));
    expect_bad(raw, "bytes of raw_data");
    listed.add_dims(2);
    expect_bad(listed, "lists 2 elements, its sizes [2, 2] need 4");
  }
}

TEST(OnnxTensor, ScalarsAndEmptyTensors) {
  EXPECT_EQ(read(floats({}, {3})).count(), 1);
  const Value empty = read(floats({2, 0, 3}, {}));
  EXPECT_EQ(empty.count(), 0);
  EXPECT_EQ(read(typed(TensorProto::FLOAT, {0})).count(), 0);
  expect_bad(typed(TensorProto::FLOAT, {}), "lists 0 elements");
}

TEST(OnnxTensor, SizesThatLie) {
  const std::int64_t huge = std::int64_t{1} << 40;
  expect_bad(floats({huge}, {1}), "need 4398046511104");
  expect_bad(floats({std::int64_t{1} << 62}, {1}), "more than 64 bits");
  expect_bad(floats({huge, huge, huge}, {1}), "passes 64 bits");
  expect_bad(floats({-1}, {1}), "negative size -1");
  expect_bad(floats({3}, {1, 2}), "8 bytes of raw_data, [3] elements of f32 need 12");
  expect_bad(typed(TensorProto::FLOAT, {huge}), "lists 0 elements");
  expect_bad(floats(Sizes(9, 1), {1}), "rank 9", ErrorCode::kUnsupported);
}

TEST(OnnxTensor, TypesThatAreNotRead) {
  expect_bad(typed(0, {1}), "unknown element type 0");
  expect_bad(typed(-5, {1}), "unknown element type -5");
  expect_bad(typed(99, {1}), "unknown element type 99");
  for (const int type : {8, 14, 15, 17, 20, 21, 22, 23}) {
    expect_bad(typed(type, {1}), "ONNX type", ErrorCode::kUnsupported);
  }
}

TEST(OnnxTensor, ElementsInTheWrongPlace) {
  TensorProto both = floats({1}, {1});
  both.add_float_data(1);
  expect_bad(both, "both raw_data and a list");
  TensorProto other = typed(TensorProto::FLOAT, {1});
  other.add_int64_data(1);
  expect_bad(other, "the list of another type");
  TensorProto wide = typed(TensorProto::INT8, {1});
  wide.add_int32_data(128);
  expect_bad(wide, "the element 128");
  TensorProto negative = typed(TensorProto::UINT8, {1});
  negative.add_int32_data(-1);
  expect_bad(negative, "the element -1");
  TensorProto external = typed(TensorProto::FLOAT, {1});
  external.set_data_location(TensorProto::EXTERNAL);
  expect_bad(external, "another file", ErrorCode::kUnsupported);
  TensorProto external_raw = floats({1}, {1});
  auto& entry = *external_raw.add_external_data();
  entry.set_key("location");
  entry.set_value("../../etc/passwd");
  expect_bad(external_raw, "another file", ErrorCode::kUnsupported);
  TensorProto segment = floats({1}, {1});
  segment.mutable_segment()->set_begin(0);
  expect_bad(segment, "one segment", ErrorCode::kUnsupported);
}

TEST(OnnxTensor, BytesThatAreNoTensor) {
  const auto expect_foreign = [](const std::string& bytes) {
    expect_error([&] { read(bytes); }, ErrorCode::kBadFile, {"x.pb"});
  };
  expect_foreign("");
  expect_foreign("\x93NUMPY");
  expect_foreign("not a tensor at all");
  expect_foreign(std::string(100, '\0'));
  expect_foreign(std::string(100, '\xff'));
  expect_foreign(std::string(1000, '\x0b'));  // groups in groups
  std::string many_strings;
  for (int i = 0; i < 100000; ++i) many_strings += std::string("\x32\0", 2);
  expect_foreign(many_strings);
  expect_foreign(std::string("\x0a\xff\xff\xff\x0f", 5));  // packed sizes of 32 MiB that are not there
  const std::string whole = floats({2, 3}, {1, 2, 3, 4, 5, 6}).SerializeAsString();
  for (std::size_t size = 0; size < whole.size(); ++size) expect_foreign(whole.substr(0, size));
}

// ---- comparing --------------------------------------------------------------------------------------

Value value(const std::vector<float>& values) {
  return read(floats({1, static_cast<std::int64_t>(values.size())}, values));
}

TEST(OnnxCompare, ToleranceIsThatOfTheExpectedValue) {
  const Tolerance tolerance{.rtol = 0.01, .atol = 0.5};
  EXPECT_FALSE(compare(value({101.5F}), value({100}), tolerance));
  EXPECT_TRUE(compare(value({101.6F}), value({100}), tolerance));
  EXPECT_FALSE(compare(value({0.5F}), value({0}), tolerance));
}

TEST(OnnxCompare, NanAndInfinityAgreeOnlyWithThemselves) {
  const float nan = std::nanf("");
  const float infinity = std::numeric_limits<float>::infinity();
  const Tolerance loose{.rtol = 1, .atol = 1e30};
  EXPECT_FALSE(compare(value({nan, infinity, -infinity}), value({nan, infinity, -infinity}), loose));
  for (const auto& [got, expected] :
       {std::pair{nan, 1.0F}, std::pair{1.0F, nan}, std::pair{infinity, -infinity}, std::pair{1.0F, infinity},
        std::pair{infinity, 1.0F}}) {
    const auto mismatch = compare(value({got}), value({expected}), loose);
    EXPECT_EQ(mismatch.value_or(Mismatch{}).error, infinity) << got << " and " << expected;
  }
}

TEST(OnnxCompare, SaysWhereTheLargestErrorIs) {
  const Mismatch mismatch = compare(value({1, 2.5, 3, 0}), value({1, 2, 3, 4}), {}).value_or(Mismatch{});
  EXPECT_EQ(mismatch.where, (Dims{0, 3}));
  EXPECT_EQ(to_string(mismatch), "2 of 4 elements differ, most at [0, 3]: got 0, expected 4 (error 4)");
}

TEST(OnnxCompare, IntegersMustBeEqual) {
  const Tolerance loose{.rtol = 1, .atol = 1e30};
  EXPECT_FALSE(compare(read(integers({2}, {5, -1})), read(integers({2}, {5, -1})), loose));
  EXPECT_TRUE(compare(read(integers({1}, {1000001})), read(integers({1}, {1000000})), loose));
  // Beyond the 53 bits of a double.
  const std::int64_t large = (std::int64_t{1} << 60) + 1;
  EXPECT_TRUE(compare(read(integers({1}, {large})), read(integers({1}, {large - 1})), loose));
}

// ---- models and cases -------------------------------------------------------------------------------

::onnx::ModelProto global_max() { return one_node("GlobalMaxPool", 12); }
const TensorProto kX = floats({1, 1, 2}, {1, 2});
const TensorProto kY = floats({1, 1, 1}, {2});

void expect_reason(const CaseResult& result, Outcome outcome, const std::string& text) {
  EXPECT_EQ(result.outcome, outcome) << result.reason;
  EXPECT_THAT(result.reason, HasSubstr(text));
}
void expect_failure(const ::onnx::ModelProto& model, const std::string& text) {
  expect_reason(CaseFolder(model, {kX}, {kY}).run(), Outcome::kFail, text);
}

TEST(OnnxCase, Passes) { expect_reason(CaseFolder(global_max(), {kX}, {kY}).run(), Outcome::kPass, ""); }

TEST(OnnxCase, WrongValuesAndForms) {
  const CaseResult wrong = CaseFolder(global_max(), {kX}, {floats({1, 1, 1}, {3})}).run();
  expect_reason(wrong, Outcome::kFail,
                "output 'y': 1 of 1 elements differ, most at [0, 0, 0]: got 2, expected 3");
  ASSERT_TRUE(wrong.mismatch);
  EXPECT_EQ(wrong.output, "y");
  EXPECT_EQ(wrong.data_set, "test_data_set_0");
  expect_reason(CaseFolder(global_max(), {kX}, {floats({1, 1}, {2})}).run(), Outcome::kFail,
                "got f32 of [1, 1, 1], expected f32 of [1, 1]");
  expect_reason(CaseFolder(global_max(), {kX}, {integers({1, 1, 1}, {2})}).run(), Outcome::kFail,
                "expected i64 of [1, 1, 1]");
}

TEST(OnnxCase, EveryDataSetCounts) {
  const CaseFolder folder(global_max(), {kX}, {kY});
  const auto second = folder.path() / "test_data_set_1";
  std::filesystem::create_directory(second);
  write_bytes(second / "input_0.pb", kX.SerializeAsString());
  write_bytes(second / "output_0.pb", kX.SerializeAsString());
  const CaseResult result = folder.run();
  EXPECT_EQ(result.outcome, Outcome::kFail);
  EXPECT_EQ(result.data_set, "test_data_set_1");
}

TEST(OnnxCase, FilesThatAreMissingOrTooMany) {
  expect_reason(CaseFolder(global_max(), {}, {kY}).run(), Outcome::kFail, "1 inputs");
  expect_reason(CaseFolder(global_max(), {kX, kX}, {kY}).run(), Outcome::kFail, "got 2");
  expect_reason(CaseFolder(global_max(), {kX}, {}).run(), Outcome::kFail, "0 output files");
  expect_reason(CaseFolder(global_max(), {kX}, {kY, kY}).run(), Outcome::kFail, "2 output files");
  const CaseFolder gap(global_max(), {kX}, {kY});
  gap.write("input", 2, kX.SerializeAsString());
  expect_reason(gap.run(), Outcome::kFail, "input_1.pb is missing");
  const CaseFolder no_model(global_max(), {kX}, {kY});
  std::filesystem::remove(no_model.path() / "model.onnx");
  expect_reason(no_model.run(), Outcome::kFail, "model.onnx");
  const CaseFolder no_data(global_max(), {kX}, {kY});
  std::filesystem::remove_all(no_data.data_set());
  expect_reason(no_data.run(), Outcome::kFail, "test_data_set_*");
}

TEST(OnnxCase, ModelsThatAreDamaged) {
  const CaseFolder folder(global_max(), {kX}, {kY});
  const auto with_model = [&](const std::string& bytes) {
    write_bytes(folder.path() / "model.onnx", bytes);
    return folder.run();
  };
  const std::string whole = global_max().SerializeAsString();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_EQ(with_model(whole.substr(0, size)).outcome, Outcome::kFail) << size;
  }
  expect_reason(with_model(""), Outcome::kFail, "it has no graph");
  expect_reason(with_model("%PDF-1.4"), Outcome::kFail, "is not an ONNX model");
  expect_reason(with_model(kX.SerializeAsString()), Outcome::kFail, "is not an ONNX model");
  EXPECT_EQ(with_model(std::string(kMaxModelBytes + 1, ' ')).outcome, Outcome::kFail);
}

TEST(OnnxCase, GraphsThatBreakTheRules) {
  auto cycle = empty_model(12);
  add_node(cycle, "GlobalMaxPool", {"b"}, {"a"});
  add_node(cycle, "GlobalMaxPool", {"a"}, {"b"});
  add_node(cycle, "GlobalMaxPool", {"x"}, {"y"});
  expect_failure(cycle, "node 0 ('GlobalMaxPool') reads 'b', which nothing before it gives");
  auto itself = empty_model(12);
  add_node(itself, "GlobalMaxPool", {"y"}, {"y"});
  expect_failure(itself, "reads 'y'");
  auto twice = global_max();
  add_node(twice, "GlobalMaxPool", {"x"}, {"y"});
  expect_failure(twice, "node 1 ('GlobalMaxPool') gives the name 'y', which is taken");
  auto no_output = global_max();
  no_output.mutable_graph()->clear_output();
  expect_failure(no_output, "no outputs");
  auto unknown_output = global_max();
  unknown_output.mutable_graph()->mutable_output(0)->set_name("z");
  expect_failure(unknown_output, "'z', which nothing before it gives");
  auto nameless_output = global_max();
  nameless_output.mutable_graph()->mutable_output(0)->clear_name();
  expect_failure(nameless_output, "without a name");
  auto no_input = empty_model(12);
  add_node(no_input, "GlobalMaxPool", {}, {"y"});
  expect_failure(no_input, "takes 1 to 1 inputs, got 0");
  auto omitted = empty_model(12);
  add_node(omitted, "GlobalMaxPool", {""}, {"y"});
  expect_failure(omitted, "input 0 must not be omitted");
  auto no_outputs = empty_model(12);
  add_node(no_outputs, "GlobalMaxPool", {"x"}, {});
  expect_failure(no_outputs, "at most 1 outputs, got 0");
  auto no_op = empty_model(12);
  add_node(no_op, "", {"x"}, {"y"});
  expect_failure(no_op, "has no operator");
  auto repeated = one_node("MaxPool", 12, [](::onnx::NodeProto& node) {
    add_attribute(node, "kernel_shape", Sizes{1});
    add_attribute(node, "kernel_shape", Sizes{1});
  });
  expect_failure(repeated, "attribute 'kernel_shape' twice");
}

TEST(OnnxCase, InputsMustBeAsDeclared) {
  auto model = global_max();
  auto& type = *model.mutable_graph()->mutable_input(0)->mutable_type()->mutable_tensor_type();
  type.set_elem_type(TensorProto::FLOAT);
  auto& shape = *type.mutable_shape();
  shape.add_dim()->set_dim_param("N");
  shape.add_dim();
  shape.add_dim()->set_dim_value(2);
  expect_reason(CaseFolder(model, {kX}, {kY}).run(), Outcome::kPass, "");
  shape.mutable_dim(2)->set_dim_value(3);
  expect_failure(model, "the input 'x' is declared as f32 of sizes [-1, -1, 3], got f32 of [1, 1, 2]");
  shape.mutable_dim(2)->set_dim_value(-3);
  expect_failure(model, "negative size -3");
  shape.mutable_dim(2)->set_dim_value(2);
  shape.add_dim();
  expect_failure(model, "declared");
  type.clear_shape();
  type.set_elem_type(TensorProto::DOUBLE);
  expect_failure(model, "declared as f64");
  model.mutable_graph()->mutable_input(0)->mutable_type()->mutable_sequence_type();
  expect_reason(CaseFolder(model, {kX}, {kY}).run(), Outcome::kUnsupported, "the input 'x' is no tensor");
}

TEST(OnnxCase, InitializersAreDefaultsOfInputs) {
  auto model = empty_model(12);
  add_node(model, "GlobalMaxPool", {"w"}, {"y"});
  *model.mutable_graph()->add_initializer() = kX;
  model.mutable_graph()->mutable_initializer(0)->set_name("w");
  expect_reason(CaseFolder(model, {kX}, {kY}).run(), Outcome::kPass, "");
  model.mutable_graph()->add_input()->set_name("w");
  expect_reason(CaseFolder(model, {kX}, {kY}).run(), Outcome::kPass, "");
  const auto other = floats({1, 1, 2}, {7, 8});
  expect_reason(CaseFolder(model, {kX, other}, {floats({1, 1, 1}, {8})}).run(), Outcome::kPass, "");
  *model.mutable_graph()->add_initializer() = model.graph().initializer(0);
  expect_failure(model, "the initializer 'w' twice");
  model.mutable_graph()->mutable_initializer()->RemoveLast();
  model.mutable_graph()->mutable_initializer(0)->set_data_location(TensorProto::EXTERNAL);
  expect_reason(CaseFolder(model, {kX}, {kY}).run(), Outcome::kUnsupported, "another file");
  model.mutable_graph()->clear_initializer();
  model.mutable_graph()->add_sparse_initializer();
  expect_reason(CaseFolder(model, {kX}, {kY}).run(), Outcome::kUnsupported, "sparse");
}

TEST(OnnxCase, FoldersAreSearchedSortedAndLinksAreNotFollowed) {
  TemporaryFolder root;
  for (const char* name : {"b/case_2", "b/case_1", "a", "empty/deep"}) {
    std::filesystem::create_directories(root / name);
  }
  for (const char* name : {"b/case_2", "b/case_1", "a"}) write_bytes(root / name / "model.onnx", "");
  std::filesystem::create_directories(root / "c" / "test_data_set_0");
  std::filesystem::create_directory_symlink(root.path(), root / "empty/loop");
  EXPECT_EQ(find_cases(root.path()), (std::vector<std::filesystem::path>{root / "a", root / "b/case_1",
                                                                         root / "b/case_2", root / "c"}));
  EXPECT_EQ(find_cases(root / "a"), std::vector<std::filesystem::path>{root / "a"});
  EXPECT_TRUE(find_cases(root / "empty/deep").empty());
  expect_error([&] { find_cases(root / "none"); }, ErrorCode::kBadFile, {"none does not exist"});
  expect_error([&] { find_cases(root / "a/model.onnx"); }, ErrorCode::kBadFile, {"is no folder"});
}

}  // namespace
}  // namespace cenote::network::onnx
