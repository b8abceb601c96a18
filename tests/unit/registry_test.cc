// The registry: every op has a complete row, and the row calls the op that it names.
#include "cenote/registry.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <set>
#include <string>

#include "cenote/adaptive.h"
#include "cenote/global.h"
#include "cenote/random.h"
#include "cenote/unpool.h"
#include "cenote/window.h"
#include "support/errors.h"
#include "support/tensors.h"

namespace cenote {
namespace {

using cenote_test::expect_invalid;
using cenote_test::GuardedTensor;
using cenote_test::iota;
using cenote_test::values_of;

using Pool = std::function<Tensor(const ConstTensorView&)>;

template <class Options>
Pool bind(Tensor (*function)(const ConstTensorView&, const Options&), const Options& options) {
  return [=](const ConstTensorView& x) { return function(x, options); };
}

using Unpool = Tensor (*)(const ConstTensorView&, const ConstTensorView&, const MaxUnpoolOptions&);

/// Different positions from the end of a plane of `positions` elements backwards.
GuardedTensor indices_for(const Dims& x_sizes, std::int64_t positions) {
  const std::int64_t sources = element_count(x_sizes) / (x_sizes[0] * x_sizes[1]);
  std::vector<double> values = iota(element_count(x_sizes));
  for (double& value : values) {
    value = static_cast<double>(positions - 1 - static_cast<std::int64_t>(value) % sources);
  }
  return {DType::i64, x_sizes, values};
}

std::int64_t plane_of(const Dims& sizes) { return element_count(sizes) / (sizes[0] * sizes[1]); }

Pool bind(Unpool function, const MaxUnpoolOptions& options) {
  return [=](const ConstTensorView& x) {
    const int rank = x.sizes.size() - 2;
    const Dims y_sizes = rank == 1   ? max_unpool1d_shape(x.sizes, options)
                         : rank == 2 ? max_unpool2d_shape(x.sizes, options)
                                     : max_unpool3d_shape(x.sizes, options);
    return function(x, indices_for(x.sizes, plane_of(y_sizes)), options);
  };
}

/// The public function of every op, with the options of `arguments_of`.
std::map<std::string, Pool> public_functions() {
  const MaxPoolOptions max{.kernel = 3, .stride = 2, .padding = 1, .padding_end = 0, .ceil_mode = true};
  const SumPoolOptions sum{.kernel = 3, .stride = 2, .padding = 1, .padding_end = 0, .ceil_mode = true};
  const AvgPoolOptions avg{.kernel = 3,
                           .stride = 2,
                           .padding = 1,
                           .padding_end = 0,
                           .ceil_mode = true,
                           .count_include_pad = false,
                           .divisor_override = 5};
  const AdaptivePoolOptions adaptive{.output_size = 3};
  const AdaptiveAvgPoolOptions adaptive_avg{.output_size = 3};
  const GlobalAvgPoolOptions global_avg;
  const MaxUnpoolOptions unpool{.kernel = 3, .stride = 2, .padding = 1};
  const LpPoolOptions lp{
      .kernel = 3, .stride = 2, .padding = 1, .padding_end = 0, .ceil_mode = true, .norm_type = 3};
  const LsePoolOptions lse{
      .kernel = 3, .stride = 2, .padding = 1, .padding_end = 0, .ceil_mode = true, .sharpness = 0.5};
  const SoftPoolOptions soft{
      .kernel = 3, .stride = 2, .padding = 1, .padding_end = 0, .ceil_mode = true, .sharpness = 0.5};
  const AdaptiveLpPoolOptions adaptive_lp{.output_size = 3, .norm_type = 3};
  const GlobalLpPoolOptions global_lp{3};
  const GlobalLsePoolOptions global_lse{0.5};
  const GlobalGemPoolOptions gem{.p = {2, 3, 4}, .eps = 5};
  const GlobalStdPoolOptions deviation;
  const GlobalAvgMaxPoolOptions avgmax;
  const FractionalMaxPoolOptions fractional{.kernel = 2, .output_size = 3, .seed = 9};
  return {
      {"max_pool1d", bind(max_pool1d, max)},
      {"max_pool2d", bind(max_pool2d, max)},
      {"max_pool3d", bind(max_pool3d, max)},
      {"min_pool1d", bind(min_pool1d, max)},
      {"min_pool2d", bind(min_pool2d, max)},
      {"min_pool3d", bind(min_pool3d, max)},
      {"sum_pool1d", bind(sum_pool1d, sum)},
      {"sum_pool2d", bind(sum_pool2d, sum)},
      {"sum_pool3d", bind(sum_pool3d, sum)},
      {"median_pool1d", bind(median_pool1d, max)},
      {"median_pool2d", bind(median_pool2d, max)},
      {"median_pool3d", bind(median_pool3d, max)},
      {"mode_pool1d", bind(mode_pool1d, max)},
      {"mode_pool2d", bind(mode_pool2d, max)},
      {"mode_pool3d", bind(mode_pool3d, max)},
      {"avg_pool1d", bind(avg_pool1d, avg)},
      {"avg_pool2d", bind(avg_pool2d, avg)},
      {"avg_pool3d", bind(avg_pool3d, avg)},
      {"adaptive_max_pool1d", bind(adaptive_max_pool1d, adaptive)},
      {"adaptive_max_pool2d", bind(adaptive_max_pool2d, adaptive)},
      {"adaptive_max_pool3d", bind(adaptive_max_pool3d, adaptive)},
      {"adaptive_avg_pool1d", bind(adaptive_avg_pool1d, adaptive_avg)},
      {"adaptive_avg_pool2d", bind(adaptive_avg_pool2d, adaptive_avg)},
      {"adaptive_avg_pool3d", bind(adaptive_avg_pool3d, adaptive_avg)},
      {"global_max_pool1d", global_max_pool1d},
      {"global_max_pool2d", global_max_pool2d},
      {"global_max_pool3d", global_max_pool3d},
      {"global_avg_pool1d", bind(global_avg_pool1d, global_avg)},
      {"global_avg_pool2d", bind(global_avg_pool2d, global_avg)},
      {"global_avg_pool3d", bind(global_avg_pool3d, global_avg)},
      {"lp_pool1d", bind(lp_pool1d, lp)},
      {"lp_pool2d", bind(lp_pool2d, lp)},
      {"lp_pool3d", bind(lp_pool3d, lp)},
      {"lse_pool1d", bind(lse_pool1d, lse)},
      {"lse_pool2d", bind(lse_pool2d, lse)},
      {"lse_pool3d", bind(lse_pool3d, lse)},
      {"soft_pool1d", bind(soft_pool1d, soft)},
      {"soft_pool2d", bind(soft_pool2d, soft)},
      {"soft_pool3d", bind(soft_pool3d, soft)},
      {"adaptive_lp_pool1d", bind(adaptive_lp_pool1d, adaptive_lp)},
      {"adaptive_lp_pool2d", bind(adaptive_lp_pool2d, adaptive_lp)},
      {"adaptive_lp_pool3d", bind(adaptive_lp_pool3d, adaptive_lp)},
      {"global_lp_pool1d", bind(global_lp_pool1d, global_lp)},
      {"global_lp_pool2d", bind(global_lp_pool2d, global_lp)},
      {"global_lp_pool3d", bind(global_lp_pool3d, global_lp)},
      {"global_lse_pool1d", bind(global_lse_pool1d, global_lse)},
      {"global_lse_pool2d", bind(global_lse_pool2d, global_lse)},
      {"global_lse_pool3d", bind(global_lse_pool3d, global_lse)},
      {"global_gem_pool1d", bind(global_gem_pool1d, gem)},
      {"global_gem_pool2d", bind(global_gem_pool2d, gem)},
      {"global_gem_pool3d", bind(global_gem_pool3d, gem)},
      {"global_std_pool1d", bind(global_std_pool1d, deviation)},
      {"global_std_pool2d", bind(global_std_pool2d, deviation)},
      {"global_std_pool3d", bind(global_std_pool3d, deviation)},
      {"global_avgmax_pool1d", bind(global_avgmax_pool1d, avgmax)},
      {"global_avgmax_pool2d", bind(global_avgmax_pool2d, avgmax)},
      {"global_avgmax_pool3d", bind(global_avgmax_pool3d, avgmax)},
      {"global_catavgmax_pool1d", bind(global_catavgmax_pool1d, avgmax)},
      {"global_catavgmax_pool2d", bind(global_catavgmax_pool2d, avgmax)},
      {"global_catavgmax_pool3d", bind(global_catavgmax_pool3d, avgmax)},
      {"max_unpool1d", bind(max_unpool1d, unpool)},
      {"max_unpool2d", bind(max_unpool2d, unpool)},
      {"max_unpool3d", bind(max_unpool3d, unpool)},
      {"fractional_max_pool2d", bind(fractional_max_pool2d, fractional)},
      {"fractional_max_pool3d", bind(fractional_max_pool3d, fractional)},
  };
}

OpArguments arguments_of(const OpInfo& op) {
  OpArguments arguments;
  arguments.norm_type = 3;
  arguments.sharpness = 0.5;
  arguments.p = {2, 3, 4};
  arguments.eps = 5;
  if (op.parameters & kTakesOutputSize) {
    arguments.output_size = 3;
    return arguments;
  }
  if (op.parameters & kTakesSamples) {
    arguments.kernel = 2;
    arguments.output_size = 3;
    arguments.seed = 9;
    return arguments;
  }
  arguments.kernel = 3;
  arguments.stride = 2;
  arguments.padding = 1;
  arguments.padding_end = 0;
  arguments.ceil_mode = true;
  arguments.count_include_pad = false;
  arguments.divisor_override = 5;
  return arguments;
}

Dims sizes_of(const OpInfo& op) {
  Dims sizes{2, 3};
  for (int axis = 0; axis < op.spatial_rank; ++axis) sizes.push_back(4 + axis);
  return sizes;
}

TEST(Registry, HasExactlyThePublicOps) {
  std::set<std::string> listed;
  for (const OpInfo& op : ops()) EXPECT_TRUE(listed.insert(std::string(op.name)).second) << op.name;
  std::set<std::string> expected;
  for (const auto& [name, function] : public_functions()) expected.insert(name);
  EXPECT_EQ(listed, expected);
}

TEST(Registry, RowsAreCompleteAndConsistent) {
  for (const OpInfo& op : ops()) {
    SCOPED_TRACE(op.name);
    const std::string name(op.name);
    EXPECT_EQ(find_op(name), &op);
    EXPECT_FALSE(op.summary.empty());
    EXPECT_EQ(name.substr(name.size() - 2), std::to_string(op.spatial_rank) + "d");
    EXPECT_EQ(op.reads_indices, op.family == "unpool");
    if (op.reads_indices) {
      EXPECT_EQ(name, "max_unpool" + std::to_string(op.spatial_rank) + "d");
      EXPECT_EQ(op.parameters, kTakesUnpool);
      EXPECT_TRUE(op.uses_indices() && !op.records_indices && op.tap_dtype == nullptr);
      EXPECT_TRUE(op.shape != nullptr && op.forward != nullptr && op.backward != nullptr);
      continue;
    }
    if (op.family == "random") {
      EXPECT_EQ(name, "fractional_max_pool" + std::to_string(op.spatial_rank) + "d");
      EXPECT_EQ(op.parameters, kTakesSamples);
      EXPECT_TRUE(op.records_indices && !op.reads_indices && !op.gradient_reads_x && !op.pools_integers());
      EXPECT_TRUE(op.shape != nullptr && op.tap_dtype != nullptr && op.forward != nullptr &&
                  op.backward != nullptr);
      continue;
    }
    const std::string prefix = op.family == "window" ? "" : std::string(op.family) + "_";
    const std::string suffix = "_pool" + std::to_string(op.spatial_rank) + "d";
    ASSERT_TRUE(name.starts_with(prefix) && name.ends_with(suffix));
    const std::string kind = name.substr(prefix.size(), name.size() - prefix.size() - suffix.size());
    const bool picks = kind == "max" || kind == "min" || kind == "median" || kind == "mode";
    EXPECT_EQ(op.records_indices, picks);
    EXPECT_EQ(op.uses_indices(), picks);
    EXPECT_EQ(op.tap_dtype != nullptr, picks);
    ASSERT_TRUE(op.shape != nullptr && op.forward != nullptr && op.backward != nullptr);
    // The parameters that each kind adds to those of its family.
    const bool window = op.family == "window";
    const std::uint32_t choice = window ? std::uint32_t{kTakesIndexOrder} : 0;
    const std::map<std::string, std::uint32_t> of_kind = {
        {"max", choice},
        {"min", choice},
        {"median", choice},
        {"mode", choice},
        {"sum", 0},
        {"avg", window ? kTakesDivisor | kTakesQuantization : kTakesQuantization},
        {"lp", kTakesNormType},
        {"lse", kTakesSharpness},
        {"soft", kTakesSharpness},
        {"gem", kTakesGem},
        {"std", 0},
        {"avgmax", 0},
        {"catavgmax", 0}};
    const std::map<std::string, std::uint32_t> of_family = {
        {"window", kTakesWindow}, {"adaptive", kTakesOutputSize}, {"global", 0}};
    ASSERT_EQ(of_kind.count(kind), 1u) << kind;
    ASSERT_EQ(of_family.count(std::string(op.family)), 1u);
    EXPECT_EQ(op.parameters, of_family.at(std::string(op.family)) | of_kind.at(kind));
    EXPECT_EQ(op.gradient_reads_x, !picks && kind != "avg" && kind != "sum");
  }
}

TEST(Registry, FindsNothingElse) {
  EXPECT_EQ(find_op(""), nullptr);
  EXPECT_EQ(find_op("max_pool"), nullptr);
  EXPECT_EQ(find_op("max_pool2d "), nullptr);
  EXPECT_EQ(find_op("MAX_POOL2D"), nullptr);
}

TEST(Registry, ForwardIsThePublicFunction) {
  const auto functions = public_functions();
  for (const OpInfo& op : ops()) {
    SCOPED_TRACE(op.name);
    const Dims sizes = sizes_of(op);
    const GuardedTensor x(DType::f64, sizes, iota(element_count(sizes)));
    const Tensor expected = functions.at(std::string(op.name))(x);
    EXPECT_EQ(op.shape(sizes, arguments_of(op)), expected.sizes());
    const Tensor y(DType::f64, expected.sizes());
    const GuardedTensor indices = indices_for(sizes, plane_of(expected.sizes()));
    op.forward(y, op.reads_indices ? &indices.view() : nullptr, x, arguments_of(op));
    EXPECT_EQ(values_of(y), values_of(expected));
    EXPECT_NE(values_of(y), std::vector<double>(values_of(y).size(), 0.0));
  }
}

TEST(Registry, BackwardUsesTheRecord) {
  for (const OpInfo& op : ops()) {
    if (!op.records_indices) continue;
    SCOPED_TRACE(op.name);
    const Dims sizes = sizes_of(op);
    const GuardedTensor x(DType::f64, sizes, iota(element_count(sizes)));
    const Dims y_sizes = op.shape(sizes, arguments_of(op));
    const Tensor y(DType::f64, y_sizes);
    const Tensor taps(op.tap_dtype(sizes, arguments_of(op)), y_sizes);
    op.forward(y, &taps.view(), x, arguments_of(op));
    // With x = 0, 1, 2, ... every maximum names its own position: grad_y = y gives grad_x[i] = n * i.
    const ConstTensorView record = taps;
    const Tensor grad_x(DType::f64, sizes);
    op.backward(grad_x, y, &record, arguments_of(op));
    std::vector<double> expected(static_cast<std::size_t>(element_count(sizes)), 0.0);
    for (const double value : values_of(y)) expected[static_cast<std::size_t>(value)] += value;
    EXPECT_EQ(values_of(grad_x), expected);
  }
}

TEST(Registry, SharpnessDefaultsToThatOfTheOp) {
  const GuardedTensor x(DType::f64, Dims{1, 2}, {0, 1});
  const OpArguments arguments{.kernel = 2};
  const Tensor y(DType::f64, Dims{1, 1});
  find_op("lse_pool1d")->forward(y, nullptr, x, arguments);
  EXPECT_EQ(values_of(y), values_of(lse_pool1d(x, {.kernel = 2, .sharpness = 10})));
  find_op("soft_pool1d")->forward(y, nullptr, x, arguments);
  EXPECT_EQ(values_of(y), values_of(soft_pool1d(x, {.kernel = 2, .sharpness = 1})));
}

TEST(Registry, UnpoolingNeedsIndices) {
  const GuardedTensor x(DType::f32, Dims{1, 1, 2}, {1, 2});
  const GuardedTensor y(DType::f32, Dims{1, 1, 4}, iota(4));
  const OpArguments arguments{.kernel = 2};
  const OpInfo& op = *find_op("max_unpool1d");
  expect_invalid([&] { op.forward(y.view(), nullptr, x.view(), arguments); }, {"indices must not be null"});
  expect_invalid([&] { op.backward(x.view(), y.view(), nullptr, arguments); }, {"indices must not be null"});
}

TEST(Registry, BackwardOfMaxNeedsIndices) {
  const GuardedTensor grad(DType::f32, Dims{1, 1, 1, 1}, {1});
  const GuardedTensor grad_x(DType::f32, Dims{1, 1, 2, 2}, iota(4));
  for (const char* name : {"max_pool2d", "adaptive_max_pool2d", "global_max_pool2d"}) {
    expect_invalid(
        [&] {
          const OpArguments arguments{.kernel = 2, .output_size = 1};
          find_op(name)->backward(grad_x.view(), grad.view(), nullptr, arguments);
        },
        {"indices must not be null"});
  }
}

}  // namespace
}  // namespace cenote
