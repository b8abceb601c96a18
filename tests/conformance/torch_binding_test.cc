// The torch binding around the values: operators and schemas for every row of the registry, meta tensors,
// layouts, what autograd saves and records, threads, errors, and the modules of nn.h.
#include <ATen/Parallel.h>
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/forward_grad.h>
#include <torch/torch.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "cenote/cenote.h"
#include "cenote/torch/nn.h"
#include "cenote/torch/ops.h"
#include "conformance/cases.h"
#include "conformance/torch_oracle.h"

namespace cenote_test {
namespace {

namespace torch_ops = cenote::torch_ops;
using cenote::Dims;
using cenote::OpArguments;
using cenote::OpInfo;

constexpr int kCases = 700;
constexpr std::uint64_t kSeed = 7;

const OpInfo& row(const char* name) { return *cenote::find_op(name); }
at::IntArrayRef to_array_ref(const Dims& dims) { return {dims.begin(), dims.end()}; }

at::Tensor tensor_of(const GuardedTensor& guarded) {
  const cenote::TensorView& view = guarded.view();
  const at::ScalarType type = scalar_type_of(view.dtype);
  const auto x = at::empty_strided(to_array_ref(view.sizes), to_array_ref(view.strides), type);
  return x.copy_(at::from_blob(view.data, to_array_ref(view.sizes), to_array_ref(view.strides), type));
}

/// A tensor with the sizes, strides and dtype of the case.
at::Tensor random_input(const Case& one) { return tensor_of(make_input(one)); }

/// The indices that the op of the case reads, if it does.
at::Tensor read_indices(const Case& one) {
  return one.op->reads_indices ? tensor_of(make_indices(one, one.layout)) : at::Tensor();
}

/// Options under which every op of the registry makes sense.
OpArguments common_arguments() {
  OpArguments arguments;
  arguments.kernel = 3;
  arguments.stride = 2;
  arguments.padding = 1;
  arguments.output_size = 3;
  return arguments;
}

/// Those for this op.
OpArguments common_arguments(const OpInfo& op) {
  OpArguments arguments = common_arguments();
  if (op.reads_indices) arguments.output_size = {};
  return arguments;
}

/// What an op reads beside x: different indices, from the end of the plane backwards; else nothing.
at::Tensor indices_for(const OpInfo& op, const at::Tensor& x, const OpArguments& arguments) {
  if (!op.reads_indices) return {};
  const Dims x_sizes(x.sizes().data(), x.sizes().size());
  const Dims y_sizes = op.shape(x_sizes, arguments);
  const std::int64_t planes = x.size(0) * x.size(1);
  const at::Tensor sources = at::arange(x.numel() / planes, at::kLong);
  return (element_count(y_sizes) / planes - 1 - sources)
      .expand({planes, -1})
      .reshape(x.sizes())
      .contiguous(x.suggest_memory_format());
}

/// Forward of any op; `indices` of those that read them.
at::Tensor run(const OpInfo& op, const at::Tensor& x, const at::Tensor& indices,
               const OpArguments& arguments) {
  return op.reads_indices ? torch_ops::unpool(op, x, indices, arguments) : torch_ops::pool(op, x, arguments);
}

at::Tensor ramp(at::IntArrayRef sizes) {
  const at::Tensor line = at::arange(c10::multiply_integers(sizes), at::kDouble);
  return (line * 0.7548776662466927).frac().reshape(sizes);  // distinct, and in no order
}

at::Tensor input_for(const OpInfo& op) {
  std::vector<std::int64_t> sizes{2, 3};
  sizes.insert(sizes.end(), static_cast<std::size_t>(op.spatial_rank), 6);
  return ramp(sizes);
}

// ---- operators ----------------------------------------------------------------------------------

TEST(TorchOperators, EveryRowHasItsOperators) {
  auto& dispatcher = c10::Dispatcher::singleton();
  for (const OpInfo& op : cenote::ops()) {
    const std::string name(op.name);
    std::vector<std::string> expected{name, name + "_backward"};
    if (op.records_indices)
      expected.insert(expected.end(), {name + "_with_indices", "_" + name + "_with_taps"});
    for (const std::string& one : expected) {
      const auto found = dispatcher.findSchema({"cenote::" + one, ""});
      ASSERT_TRUE(found.has_value()) << one;
      if (!found.has_value()) continue;
      for (const auto key : {c10::DispatchKey::CPU, c10::DispatchKey::Meta, c10::DispatchKey::Autograd}) {
        EXPECT_TRUE(found->hasKernelForDispatchKey(key)) << one << " " << c10::toString(key);
      }
    }
  }
}

std::string schema_text(const char* name) {
  return c10::toString(c10::Dispatcher::singleton().findSchemaOrThrow(name, "").schema());
}

TEST(TorchOperators, SchemasHaveTorchsNamesAndDefaults) {
  EXPECT_EQ(schema_text("cenote::max_pool2d"),
            "cenote::max_pool2d(Tensor input, int[2] kernel_size, int[2] stride=[], int[2] padding=0, "
            "int[2] dilation=1, bool ceil_mode=False, *, int[2] padding_end=[]) -> Tensor");
  EXPECT_EQ(schema_text("cenote::avg_pool3d"),
            "cenote::avg_pool3d(Tensor input, int[3] kernel_size, int[3] stride=[], int[3] padding=0, "
            "bool ceil_mode=False, bool count_include_pad=True, int? divisor_override=None, *, "
            "int[3] padding_end=[], int[3] dilation=1) -> Tensor");
  EXPECT_EQ(schema_text("cenote::adaptive_max_pool1d_with_indices"),
            "cenote::adaptive_max_pool1d_with_indices(Tensor input, int[1] output_size) -> (Tensor, Tensor)");
  EXPECT_EQ(schema_text("cenote::global_avg_pool2d_backward"),
            "cenote::global_avg_pool2d_backward(Tensor grad_output, int[] input_size, *, "
            "bool? channels_last=None) -> Tensor");
  EXPECT_EQ(schema_text("cenote::max_unpool2d"),
            "cenote::max_unpool2d(Tensor input, Tensor indices, int[2] kernel_size, int[2] stride=[], "
            "int[2] padding=0, int[]? output_size=None) -> Tensor");
  EXPECT_EQ(schema_text("cenote::max_unpool3d_backward"),
            "cenote::max_unpool3d_backward(Tensor grad_output, Tensor indices, int[] input_size, "
            "int[3] kernel_size, int[3] stride=[], int[3] padding=0, int[]? output_size=None, *, "
            "bool? channels_last=None) -> Tensor");
}

TEST(TorchOperators, SchemasOfSmoothOps) {
  EXPECT_EQ(schema_text("cenote::lp_pool2d"),
            "cenote::lp_pool2d(Tensor input, float norm_type, int[2] kernel_size, int[2] stride=[], "
            "bool ceil_mode=False, *, int[2] padding=0, int[2] padding_end=[], int[2] dilation=1) -> Tensor");
  EXPECT_EQ(schema_text("cenote::soft_pool1d"),
            "cenote::soft_pool1d(Tensor input, int[1] kernel_size, int[1] stride=[], int[1] padding=[0], "
            "int[1] dilation=[1], bool ceil_mode=False, *, int[1] padding_end=[], float? sharpness=None) -> "
            "Tensor");
  EXPECT_EQ(schema_text("cenote::adaptive_lp_pool3d"),
            "cenote::adaptive_lp_pool3d(Tensor input, float norm_type, int[3] output_size) -> Tensor");
  EXPECT_EQ(schema_text("cenote::global_lse_pool2d"),
            "cenote::global_lse_pool2d(Tensor input, *, float? sharpness=None) -> Tensor");
  EXPECT_EQ(schema_text("cenote::global_gem_pool2d_backward"),
            "cenote::global_gem_pool2d_backward(Tensor grad_output, Tensor input, int[] input_size, "
            "float[] p=[3.], float eps=9.9999999999999995e-07, *, bool? channels_last=None) -> Tensor");
  EXPECT_EQ(schema_text("cenote::global_std_pool3d"), "cenote::global_std_pool3d(Tensor input) -> Tensor");
}

TEST(TorchOperators, NamedFunctionsOfSmoothOps) {
  const at::Tensor x = ramp({2, 3, 8, 8}) + 0.25;
  const at::Tensor line = x.flatten(2);
  const at::Tensor volume = x.reshape({2, 3, 4, 4, 4});
  const auto windows = [](const at::Tensor& from) {
    return from.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2);
  };
  EXPECT_TRUE(at::allclose(torch_ops::lp_pool2d(x, {.kernel = 2, .norm_type = 3}),
                           windows(x).pow(3).sum(-1).pow(1.0 / 3)));
  EXPECT_TRUE(at::allclose(torch_ops::lse_pool2d(x, {.kernel = 2, .sharpness = 2}),
                           (windows(x) * 2).exp().mean(-1).log() / 2));
  EXPECT_TRUE(
      at::allclose(torch_ops::soft_pool2d(x, {.kernel = 2}), (windows(x).softmax(-1) * windows(x)).sum(-1)));
  EXPECT_TRUE(
      at::allclose(torch_ops::adaptive_lp_pool2d(x, {.output_size = 4, .norm_type = 1}), windows(x).sum(-1)));
  EXPECT_TRUE(at::allclose(torch_ops::global_lp_pool3d(volume),
                           line.square().sum(2).sqrt().reshape({2, 3, 1, 1, 1})));
  EXPECT_TRUE(at::allclose(torch_ops::global_lse_pool1d(line), (line * 10).exp().mean(2, true).log() / 10));
  EXPECT_TRUE(at::allclose(torch_ops::global_gem_pool2d(x, {.p = {1, 2, 3}}),
                           x.pow(at::arange(1, 4).reshape({3, 1, 1}))
                               .mean({2, 3}, true)
                               .pow(1 / at::arange(1, 4, at::kDouble).reshape({3, 1, 1}))));
  EXPECT_TRUE(at::allclose(torch_ops::global_std_pool1d(line), line.std({2}, false, true)));
  EXPECT_TRUE(
      at::allclose(torch_ops::global_avgmax_pool2d(x), (x.mean({2, 3}, true) + x.amax({2, 3}, true)) / 2));
  EXPECT_TRUE(at::allclose(torch_ops::global_catavgmax_pool2d(x),
                           at::cat({x.mean({2, 3}, true), x.amax({2, 3}, true)}, 1)));
}

TEST(TorchOperators, NamedFunctionsCallTheirOps) {
  const at::Tensor x = ramp({2, 3, 8, 8});
  EXPECT_TRUE(at::equal(torch_ops::max_pool2d(x, {.kernel = 3, .stride = 2, .padding = 1}),
                        at::max_pool2d(x, 3, 2, 1)));
  EXPECT_TRUE(at::allclose(torch_ops::avg_pool2d(x, {.kernel = {2, 3}}), at::avg_pool2d(x, {2, 3})));
  EXPECT_TRUE(at::allclose(torch_ops::adaptive_avg_pool2d(x, {.output_size = {3, 5}}),
                           at::adaptive_avg_pool2d(x, {3, 5})));
  EXPECT_TRUE(at::equal(std::get<1>(torch_ops::adaptive_max_pool2d_with_indices(x, {.output_size = 3})),
                        std::get<1>(at::adaptive_max_pool2d(x, {3, 3}))));
  EXPECT_TRUE(at::allclose(torch_ops::global_avg_pool2d(x), x.mean({2, 3}, true)));
  EXPECT_TRUE(at::equal(torch_ops::global_max_pool2d(x), x.amax({2, 3}, true)));
  EXPECT_TRUE(at::equal(torch_ops::min_pool2d(x, {.kernel = 3}), -at::max_pool2d(-x, 3)));
  EXPECT_TRUE(at::allclose(torch_ops::sum_pool2d(x, {.kernel = 2}), at::avg_pool2d(x, 2) * 4));
  const auto [pooled, indices] = at::max_pool2d_with_indices(x, 2);
  EXPECT_TRUE(at::equal(torch_ops::max_unpool2d(pooled, indices, {.kernel = 2}),
                        at::max_unpool2d(pooled, indices, {8, 8})));
}

// ---- meta and layout ----------------------------------------------------------------------------

void expect_same_form(const at::Tensor& meta, const at::Tensor& real, const Case& one) {
  ASSERT_TRUE(meta.is_meta());
  EXPECT_EQ(meta.sizes(), real.sizes()) << one;
  EXPECT_EQ(meta.strides(), real.strides()) << one;
  EXPECT_EQ(meta.scalar_type(), real.scalar_type()) << one;
}

TEST(TorchMeta, AgreesWithCpu) {
  for (const Case& one : generate_cases(kCases, kSeed)) {
    const at::Tensor x = random_input(one);
    const at::Tensor meta = at::empty_strided(x.sizes(), x.strides(), x.options().device(at::kMeta));
    const OpArguments& arguments = one.arguments;
    at::Tensor record = read_indices(one);
    at::Tensor meta_record = one.op->reads_indices ? record.to(at::kMeta) : at::Tensor();
    const at::Tensor y = run(*one.op, x, record, arguments);
    expect_same_form(run(*one.op, meta, meta_record, arguments), y, one);
    if (one.op->records_indices) {
      const auto with_indices = torch_ops::pool_with_indices(*one.op, x, arguments);
      const auto meta_with_indices = torch_ops::pool_with_indices(*one.op, meta, arguments);
      expect_same_form(std::get<1>(meta_with_indices), std::get<1>(with_indices), one);
      record = std::get<1>(torch_ops::pool_with_taps(*one.op, x, arguments));
      meta_record = std::get<1>(torch_ops::pool_with_taps(*one.op, meta, arguments));
      expect_same_form(meta_record, record, one);
    }
    if (!y.is_floating_point()) continue;
    if (one.op->gradient_reads_x) {
      record = x;
      meta_record = meta;
    }
    const at::Tensor meta_y = at::empty_strided(y.sizes(), y.strides(), y.options().device(at::kMeta));
    expect_same_form(torch_ops::pool_backward(*one.op, meta_y, meta_record, one.sizes, arguments),
                     torch_ops::pool_backward(*one.op, y, record, one.sizes, arguments), one);
  }
}

TEST(TorchLayout, ChannelsLastStaysChannelsLast) {
  for (const OpInfo& op : cenote::ops()) {
    if (op.spatial_rank == 1) continue;
    const auto format =
        op.spatial_rank == 2 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::ChannelsLast3d;
    const at::Tensor x = input_for(op).contiguous(format).requires_grad_();
    const OpArguments arguments = common_arguments(op);
    const at::Tensor indices = indices_for(op, x, arguments);
    const at::Tensor y = run(op, x, indices, arguments);
    EXPECT_TRUE(y.is_contiguous(format)) << op.name;
    // The gradient follows x even where the incoming one has another layout.
    const auto gradient = torch::autograd::grad({y}, {x}, {at::ones(y.sizes(), y.options())})[0];
    EXPECT_TRUE(gradient.is_contiguous(format)) << op.name;
    EXPECT_TRUE(run(op, input_for(op), indices, arguments).is_contiguous()) << op.name;
  }
}

TEST(TorchLayout, WithoutTorchsWordForIt) {
  const OpArguments arguments = common_arguments();
  const at::Tensor lines = ramp({2, 8, 5}).transpose(1, 2);  // [N, C, L], C innermost
  EXPECT_EQ(torch_ops::pool(row("max_pool1d"), lines, arguments).stride(1), 1);
  const at::Tensor plane = ramp({6, 7, 5}).permute({2, 0, 1});  // [C, H, W], C innermost
  EXPECT_EQ(torch_ops::pool(row("avg_pool2d"), plane, arguments).stride(0), 1);
  EXPECT_EQ(torch_ops::pool(row("avg_pool2d"), plane.contiguous(), arguments).stride(2), 1);
}

// ---- autograd -----------------------------------------------------------------------------------

/// Counts the bytes that torch takes from its CPU allocator.
class CountingAllocator : public c10::Allocator {
 public:
  CountingAllocator() : inner_(c10::GetCPUAllocator()) { c10::SetCPUAllocator(this, kPriority); }
  ~CountingAllocator() override { c10::SetCPUAllocator(inner_, kPriority); }
  CountingAllocator(const CountingAllocator&) = delete;
  CountingAllocator& operator=(const CountingAllocator&) = delete;

  c10::DataPtr allocate(std::size_t bytes) override {
    bytes_ += bytes;
    return inner_->allocate(bytes);
  }
  c10::DeleterFnPtr raw_deleter() const override { return inner_->raw_deleter(); }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    inner_->copy_data(to, from, bytes);
  }

  std::size_t bytes() const { return bytes_; }

 private:
  static constexpr std::uint8_t kPriority = 100;
  c10::Allocator* inner_;
  std::size_t bytes_ = 0;
};

std::size_t bytes_of_forward(const OpInfo& op, const at::Tensor& x, const OpArguments& arguments) {
  const CountingAllocator counter;
  const at::Tensor y = torch_ops::pool(op, x, arguments);
  return counter.bytes();
}

TEST(TorchAutograd, SavesOneByteTapsAndOnlyWhenNeeded) {
  const OpArguments arguments = common_arguments();
  const at::Tensor x = at::rand({2, 3, 32, 32});
  const auto outputs = static_cast<std::size_t>(torch_ops::pool(row("max_pool2d"), x, arguments).numel());
  EXPECT_EQ(bytes_of_forward(row("max_pool2d"), x, arguments), outputs * 4);
  const at::Tensor leaf = x.clone().requires_grad_();
  EXPECT_EQ(bytes_of_forward(row("max_pool2d"), leaf, arguments), outputs * (4 + 1));
  EXPECT_EQ(bytes_of_forward(row("avg_pool2d"), leaf, arguments), outputs * 4);
  {
    const at::NoGradGuard no_grad;
    EXPECT_EQ(bytes_of_forward(row("max_pool2d"), leaf, arguments), outputs * 4);
  }
  const c10::InferenceMode inference;
  EXPECT_EQ(bytes_of_forward(row("max_pool2d"), leaf, arguments), outputs * 4);
}

TEST(TorchAutograd, LargeKernelsSaveTwoByteTaps) {
  OpArguments arguments;
  arguments.kernel = 20;
  arguments.stride = 3;
  const at::Tensor x = at::rand({1, 1, 40, 40}).requires_grad_();
  const auto outputs = static_cast<std::size_t>(torch_ops::pool(row("max_pool2d"), x, arguments).numel());
  EXPECT_EQ(bytes_of_forward(row("max_pool2d"), x, arguments), outputs * (4 + 2));
}

TEST(TorchAutograd, RecordsOnlyForThoseWhoAsk) {
  const at::Tensor x = ramp({1, 2, 6, 6}).requires_grad_();
  EXPECT_TRUE(torch_ops::pool(row("max_pool2d"), x, common_arguments()).requires_grad());
  const auto [values, indices] = torch_ops::pool_with_indices(row("max_pool2d"), x, common_arguments());
  EXPECT_TRUE(values.requires_grad());
  EXPECT_FALSE(indices.requires_grad());
  EXPECT_FALSE(torch_ops::pool(row("max_pool2d"), x.detach(), common_arguments()).requires_grad());
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(torch_ops::pool(row("max_pool2d"), x, common_arguments()).requires_grad());
}

/// sum(weights * f(x)) differentiated by central differences.
at::Tensor numeric_gradient(const std::function<at::Tensor(const at::Tensor&)>& f, const at::Tensor& x,
                            const at::Tensor& weights) {
  constexpr double kStep = 1e-6;
  at::Tensor gradient = at::zeros_like(x);
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    const at::Tensor up = x.clone();
    const at::Tensor down = x.clone();
    up.view(-1)[i] += kStep;
    down.view(-1)[i] -= kStep;
    gradient.view(-1)[i] = ((f(up) - f(down)) * weights).sum() / (2 * kStep);
  }
  return gradient;
}

TEST(TorchAutograd, EqualsFiniteDifferences) {
  for (const OpInfo& op : cenote::ops()) {
    const at::Tensor x = input_for(op);
    const OpArguments arguments = common_arguments(op);
    const at::Tensor indices = indices_for(op, x, arguments);
    const auto f = [&](const at::Tensor& at) { return run(op, at, indices, arguments); };
    const at::Tensor weights = ramp(f(x).sizes()) - 0.5;
    const at::Tensor leaf = x.clone().requires_grad_();
    const at::Tensor gradient = torch::autograd::grad({f(leaf)}, {leaf}, {weights})[0];
    EXPECT_TRUE(at::allclose(gradient, numeric_gradient(f, x, weights), 1e-6, 1e-8)) << op.name;
  }
}

// The gradient is linear in the one of y, so for any v: <d<v, grad_x>/d grad_y, u> = <v, backward(u)>.
TEST(TorchAutograd, DoubleBackwardIsTheAdjoint) {
  for (const Case& one : generate_cases(kCases, kSeed + 1)) {
    if (one.fill == Fill::kWithNan || one.fill == Fill::kAllNan || one.op->gradient_reads_x) continue;
    const OpInfo& op = *one.op;
    const at::Tensor x = random_input(one).to(at::kDouble).requires_grad_();
    const auto small = [](const at::Tensor& like) { return at::randint_like(like, -4, 5).detach(); };
    for (const bool indices : {false, true}) {
      if (indices && !op.records_indices) continue;
      const at::Tensor y = indices ? std::get<0>(torch_ops::pool_with_indices(op, x, one.arguments))
                                   : run(op, x, read_indices(one), one.arguments);
      const at::Tensor u = small(y);
      const at::Tensor v = small(x);
      const at::Tensor grad_y = small(y).requires_grad_();
      const at::Tensor grad_x = torch::autograd::grad({y}, {x}, {grad_y}, true, true)[0];
      const at::Tensor second = torch::autograd::grad({(grad_x * v).sum()}, {grad_y})[0];
      const at::Tensor along_u = torch::autograd::grad({y}, {x}, {u})[0];
      EXPECT_TRUE(at::allclose((second * u).sum(), (v * along_u).sum(), 1e-9, 1e-9)) << one;
    }
  }
}

void expect_not_implemented(const std::function<void()>& call, const std::string& text) {
  try {
    call();
    ADD_FAILURE() << "nothing was thrown, expected: " << text;
  } catch (const c10::NotImplementedError& error) {
    EXPECT_NE(error.msg().find(text), std::string::npos) << error.msg();
  }
}

/// grad_x of sum(weights * op(x)), on the graph.
at::Tensor smooth_gradient(const OpInfo& op, const at::Tensor& x, const at::Tensor& weights) {
  const at::Tensor y = torch_ops::pool(op, x, common_arguments());
  return torch::autograd::grad({y}, {x}, {weights}, true, true)[0];
}

TEST(TorchAutograd, SmoothOpsHaveSecondDerivatives) {
  for (const OpInfo& op : cenote::ops()) {
    if (!op.gradient_reads_x) continue;
    const at::Tensor x = input_for(op).requires_grad_();
    const at::Tensor y = torch_ops::pool(op, x, common_arguments());
    const at::Tensor grad_y = (ramp(y.sizes()) - 0.5).requires_grad_();
    const at::Tensor v = ramp(x.sizes()) - 0.25;
    const auto second = torch::autograd::grad({smooth_gradient(op, x, grad_y)}, {x, grad_y}, {v});
    const auto by_x = [&](const at::Tensor& at) {
      return smooth_gradient(op, at.detach().requires_grad_(), grad_y.detach()).detach();
    };
    const auto by_weights = [&](const at::Tensor& at) { return smooth_gradient(op, x, at).detach(); };
    EXPECT_TRUE(at::allclose(second[0], numeric_gradient(by_x, x.detach(), v), 1e-5, 1e-7)) << op.name;
    EXPECT_TRUE(at::allclose(second[1], numeric_gradient(by_weights, grad_y.detach(), v), 1e-6, 1e-8))
        << op.name;
  }
}

/// The backward of a smooth op called by itself must not lose the way through x.
TEST(TorchAutograd, SmoothBackwardsAreNotDifferentiableThemselves) {
  for (const OpInfo& op : cenote::ops()) {
    if (!op.gradient_reads_x) continue;
    const at::Tensor x = input_for(op).requires_grad_();
    const at::Tensor y = torch_ops::pool(op, x, common_arguments());
    const at::Tensor direct = torch_ops::pool_backward(
        op, at::ones_like(y).detach(), x, Dims(x.sizes().data(), x.sizes().size()), common_arguments());
    EXPECT_TRUE(direct.requires_grad()) << op.name;
    expect_not_implemented([&] { torch::autograd::grad({direct.sum()}, {x}); },
                           "[" + std::string(op.name) + "_backward] is not differentiable itself");
  }
}

TEST(TorchAutograd, SmoothOpsSaveXAlone) {
  for (const char* name :
       {"lp_pool2d", "adaptive_lp_pool2d", "global_gem_pool2d", "global_catavgmax_pool2d"}) {
    at::Tensor x = at::rand({2, 3, 32, 32}).requires_grad_();
    const auto outputs = static_cast<std::size_t>(torch_ops::pool(row(name), x, common_arguments()).numel());
    if (row(name).family != "global") {
      EXPECT_EQ(bytes_of_forward(row(name), x, common_arguments()), outputs * 4) << name;
    }
    const at::Tensor y = torch_ops::pool(row(name), x * 1, common_arguments());
    EXPECT_NO_THROW(torch::autograd::grad({y.sum()}, {x})) << name;
    // What is saved is x itself: changing it in place is noticed.
    const at::Tensor middle = x * 1;
    const at::Tensor z = torch_ops::pool(row(name), middle, common_arguments());
    middle.add_(1);
    EXPECT_THROW(torch::autograd::grad({z.sum()}, {x}), c10::Error) << name;
  }
}

// Torch unpools with a gather for a backward, whose own derivative adds up where indices are equal.
TEST(TorchAutograd, DuplicatesOfUnpoolingAreTorchs) {
  const at::Tensor x = ramp({2, 3, 4, 5});
  const at::Tensor indices = (ramp({2, 3, 4, 5}) * 7).to(at::kLong);  // 0 to 6 in a plane of 80
  const at::Tensor weights = ramp({2, 3, 4, 5}) - 0.5;
  const auto derivatives = [&](const std::function<at::Tensor(const at::Tensor&)>& f) {
    const at::Tensor leaf = x.clone().requires_grad_();
    const at::Tensor y = f(leaf);
    const at::Tensor grad_y = ramp(y.sizes()).requires_grad_();
    const at::Tensor grad_x = torch::autograd::grad({y}, {leaf}, {grad_y}, true, true)[0];
    return std::make_pair(grad_x.detach(), torch::autograd::grad({(grad_x * weights).sum()}, {grad_y})[0]);
  };
  const auto ours =
      derivatives([&](const at::Tensor& at) { return torch_ops::max_unpool2d(at, indices, {.kernel = 2}); });
  const auto theirs =
      derivatives([&](const at::Tensor& at) { return at::max_unpool2d(at, indices, {8, 10}); });
  EXPECT_TRUE(at::equal(ours.first, theirs.first));
  EXPECT_TRUE(at::allclose(ours.second, theirs.second, 1e-12, 1e-12));
}

/// The tangent of y for the tangent `direction` of x.
at::Tensor tangent(const OpInfo& op, const at::Tensor& x, const at::Tensor& indices,
                   const OpArguments& arguments, const at::Tensor& direction) {
  const std::uint64_t level = torch::autograd::ForwardADLevel::get_next_idx();
  const at::Tensor dual = at::_make_dual(x, direction, static_cast<std::int64_t>(level));
  const at::Tensor y = op.reads_indices ? torch_ops::unpool(op, dual, indices, arguments)
                                        : torch_ops::pool(op, dual, arguments);
  const at::Tensor result = std::get<1>(at::_unpack_dual(y, static_cast<std::int64_t>(level)));
  torch::autograd::ForwardADLevel::release_idx(level);
  return result;
}

/// <J v, g> = <v, J^T g>: the tangent against the gradient.
TEST(TorchAutograd, ForwardModeIsTheTransposeOfBackward) {
  int checked = 0;
  for (Case one : generate_cases(kCases, 23)) {
    if (!is_floating(one.dtype) || element_count(one.sizes) == 0) continue;
    one.dtype = cenote::DType::f64;
    one.fill = Fill::kNormal;
    SCOPED_TRACE(describe(one));
    const at::Tensor x = tensor_of(make_input(one));
    const at::Tensor indices = read_indices(one);
    const at::Tensor direction = at::randn_like(x);
    const at::Tensor jv = tangent(*one.op, x, indices, one.arguments, direction);
    ASSERT_TRUE(jv.defined()) << "the tangent was lost";
    const at::Tensor leaf = x.detach().clone().requires_grad_();
    const at::Tensor y = one.op->reads_indices ? torch_ops::unpool(*one.op, leaf, indices, one.arguments)
                                               : torch_ops::pool(*one.op, leaf, one.arguments);
    const at::Tensor g = at::randn_like(y);
    const at::Tensor vjp = torch::autograd::grad({y}, {leaf}, {g})[0];
    const double left = (jv * g).sum().item<double>();
    const double right = (direction * vjp).sum().item<double>();
    EXPECT_NEAR(left, right, 1e-9 * (1 + (jv * g).abs().sum().item<double>()));
    ++checked;
  }
  EXPECT_GT(checked, 200);
}

// ---- threads ------------------------------------------------------------------------------------

std::ptrdiff_t thread_count() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return std::distance(begin(tasks), end(tasks));
}

/// Threads that a large pooling adds to a thread which never ran one before.
std::ptrdiff_t threads_started() {
  std::ptrdiff_t started = 0;
  std::thread([&] {
    const at::Tensor x = at::ones({4, 16, 128, 128});
    const std::ptrdiff_t before = thread_count();
    torch_ops::pool(row("avg_pool2d"), x, common_arguments());
    started = thread_count() - before;
  }).join();
  return started;
}

TEST(TorchThreads, AreTorchsOwn) {
  const int torch_threads = at::get_num_threads();
  const int own_threads = cenote::num_threads();
  at::set_num_threads(1);
  cenote::set_num_threads(4);
  EXPECT_EQ(threads_started(), 0);  // torch's pool has one thread
  cenote::set_parallel_for(nullptr);
  EXPECT_EQ(threads_started(), 3);  // cenote's own has four
  torch_ops::use_torch_threads();
  EXPECT_EQ(threads_started(), 0);
  cenote::set_num_threads(own_threads);
  at::set_num_threads(torch_threads);
}

// ---- errors -------------------------------------------------------------------------------------

void expect_value_error(const std::function<void()>& call, const std::string& text) {
  try {
    call();
    ADD_FAILURE() << "nothing was thrown, expected: " << text;
  } catch (const c10::ValueError& error) {
    EXPECT_NE(error.msg().find(text), std::string::npos) << error.msg();
  }
}

/// An output of 32 MiB.
at::Tensor large_output() { return torch_ops::avg_pool1d(at::full({1, 8, 2 << 20}, 3.0), {.kernel = {2}}); }

TEST(TorchMemory, OfLargeOutputsIsUsedAgain) {
  torch_ops::empty_cache();
  const void* const first = large_output().const_data_ptr();
  at::Tensor second = large_output();
  EXPECT_EQ(second.const_data_ptr(), first);
  EXPECT_NE(large_output().const_data_ptr(), first) << "while `second` lives";
  EXPECT_TRUE(second.eq(3.0).all().item<bool>());
  second.resize_({2, 8, 1 << 20});
  second.fill_(1.0);
  EXPECT_EQ(second.sum().item<double>(), 16 << 20);
  torch_ops::empty_cache();
}

/// How many of `count` blocks of 32 MiB that were freed together come back: memory of the system is zero.
int kept_of(int count) {
  constexpr std::size_t kBytes = std::size_t{32} << 20;
  c10::Allocator* const allocator = large_output().storage().allocator();
  torch_ops::empty_cache();
  std::vector<c10::DataPtr> blocks;
  for (int i = 0; i < count; ++i) {
    blocks.push_back(allocator->allocate(kBytes));
    static_cast<char*>(blocks.back().get())[kBytes / 2] = 1;
  }
  blocks.clear();
  for (int i = 0; i < count; ++i) blocks.push_back(allocator->allocate(kBytes));
  const auto kept = std::count_if(blocks.begin(), blocks.end(), [](const c10::DataPtr& block) {
    return static_cast<const char*>(block.get())[kBytes / 2] == 1;
  });
  blocks.clear();
  torch_ops::empty_cache();
  return static_cast<int>(kept);
}

TEST(TorchMemory, IsKeptWithinTheLimit) {
  constexpr std::size_t kBytes = std::size_t{32} << 20;
  torch_ops::set_cache_limit(4 * kBytes);
  EXPECT_EQ(kept_of(3), 3);
  torch_ops::set_cache_limit(kBytes);
  EXPECT_EQ(kept_of(2), 1);
  torch_ops::set_cache_limit(kBytes - 1);
  EXPECT_EQ(kept_of(2), 0);
  torch_ops::set_cache_limit(std::size_t{1} << 30);
}

TEST(TorchErrors, AreValueErrorsWithCenotesText) {
  const at::Tensor x = ramp({1, 2, 6, 6});
  OpArguments zero_kernel;
  zero_kernel.kernel = {0, 3};
  std::string text;
  try {
    row("max_pool2d").shape({1, 2, 6, 6}, zero_kernel);
  } catch (const cenote::Error& error) {
    text = error.what();
  }
  ASSERT_NE(text.find("[max_pool2d] kernel[0]"), std::string::npos) << text;
  expect_value_error([&] { torch_ops::pool(row("max_pool2d"), x, zero_kernel); }, text);
  expect_value_error([&] { torch_ops::pool(row("max_pool2d"), x.clone().requires_grad_(), zero_kernel); },
                     text);
  expect_value_error([&] { torch_ops::pool(row("max_pool2d"), x.to(at::kMeta), zero_kernel); }, text);
}

TEST(TorchErrors, NameTheDtype) {
  const at::Tensor x = ramp({1, 2, 6, 6});
  expect_value_error([&] { torch_ops::pool(row("max_pool2d"), x.to(at::kBool), common_arguments()); },
                     "[max_pool2d] x must be f32, f64, f16, bf16, i8, u8, i32 or i64, got Bool");
  expect_value_error([&] { torch_ops::pool(row("global_avg_pool2d"), x.to(at::kUInt16)); },
                     "[global_avg_pool2d] x must be f32, f64, f16, bf16, i8, u8, i32 or i64, got UInt16");
  const OpInfo& gap = row("global_avg_pool2d");
  expect_value_error(
      [&] { torch_ops::pool_backward(gap, at::ones({1, 2, 1, 1}, at::kInt), {}, {1, 2, 6, 6}); },
      "[global_avg_pool2d] grad_output must be f32, f64, f16 or bf16, got Int");
}

TEST(TorchErrors, OfSmoothOps) {
  const at::Tensor x = ramp({1, 2, 6, 6});
  for (const OpInfo& op : cenote::ops()) {
    if (!op.gradient_reads_x || op.spatial_rank != 2) continue;
    const std::string text = "[" + std::string(op.name) + "] x must be f32, f64, f16 or bf16, got Int";
    expect_value_error([&] { torch_ops::pool(op, x.to(at::kInt), common_arguments()); }, text);
    expect_value_error([&] { torch_ops::pool(op, x.to(at::kInt).to(at::kMeta), common_arguments()); }, text);
  }
  const OpInfo& op = row("global_lp_pool2d");
  const at::Tensor y = torch_ops::pool(op, x);
  OpArguments arguments;
  arguments.norm_type = 0;
  expect_value_error([&] { torch_ops::pool(op, x, arguments); },
                     "[global_lp_pool2d] norm_type must be > 0, got 0");
  expect_value_error([&] { torch_ops::pool_backward(op, y, {}, {1, 2, 6, 6}); },
                     "[global_lp_pool2d_backward] input must be given");
  expect_value_error([&] { torch_ops::pool_backward(op, y, x, {1, 2, 6, 5}); },
                     "[global_lp_pool2d_backward] input must have sizes [1, 2, 6, 5], got [1, 2, 6, 6]");
  expect_value_error([&] { torch_ops::pool_backward(op, y, x.to(at::kFloat), {1, 2, 6, 6}); },
                     "dtype must be f32, got f64");
}

TEST(TorchErrors, OfTheBackward) {
  const at::Tensor x = ramp({1, 2, 6, 6});
  const OpArguments arguments = common_arguments();
  const OpInfo& op = row("max_pool2d");
  const auto [y, indices] = torch_ops::pool_with_indices(op, x, arguments);
  const auto backward = [&](const at::Tensor& grad_y, const at::Tensor& record) {
    return [&op, &arguments, grad_y, record] {
      torch_ops::pool_backward(op, grad_y, record, {1, 2, 6, 6}, arguments);
    };
  };
  expect_value_error(backward(x, indices), "[max_pool2d_backward] grad_output must have sizes [1, 2, 3, 3]");
  expect_value_error(backward(y, at::zeros({1}, at::kLong)), "[max_pool2d_backward] indices must have sizes");
  expect_value_error(backward(y, at::full_like(indices, 36)), "36");
  expect_value_error(backward(y, at::Tensor()), "[max_pool2d_backward] indices must be given");
  expect_value_error([&] { torch_ops::pool_with_indices(row("avg_pool2d"), x, arguments); },
                     "[avg_pool2d] records no indices");
}

TEST(TorchErrors, OfUnpooling) {
  const OpInfo& op = row("max_unpool2d");
  const at::Tensor x = ramp({1, 2, 3, 3});
  const at::Tensor indices = at::zeros({1, 2, 3, 3}, at::kLong);
  OpArguments arguments;
  arguments.kernel = 2;
  const auto call = [&](const at::Tensor& record) {
    return [&op, &arguments, &x, record] { torch_ops::unpool(op, x, record, arguments); };
  };
  expect_value_error(call(at::full_like(indices, 36)), "[max_unpool2d] indices must lie in [0, 36)");
  expect_value_error(call(at::full_like(indices, -1)), "got -1");
  expect_value_error(call(at::full_like(indices, std::int64_t{1} << 32)), "got 4294967296");
  expect_value_error(call(indices.to(at::kInt)), "[max_unpool2d] indices dtype must be i64, got Int");
  expect_value_error(call(indices.squeeze(0)), "indices must have sizes [1, 2, 3, 3], got [2, 3, 3]");
  const at::Tensor meta = x.to(at::kMeta);
  expect_value_error([&] { torch_ops::unpool(op, meta, indices.to(at::kMeta).squeeze(0), arguments); },
                     "indices must have sizes");
  expect_value_error([&] { torch_ops::pool(op, x, arguments); }, "[max_unpool2d] reads indices: call unpool");
  expect_value_error([&] { torch_ops::unpool(row("max_pool2d"), x, indices, arguments); },
                     "[max_pool2d] reads no indices: call pool");
  const at::Tensor y = ramp({1, 2, 6, 6});
  expect_value_error([&] { torch_ops::pool_backward(op, y, indices + 36, {1, 2, 3, 3}, arguments); },
                     "[max_unpool2d_backward] indices must lie in [0, 36)");
  expect_value_error([&] { torch_ops::pool_backward(op, y, y.to(at::kLong), {1, 2, 3, 3}, arguments); },
                     "[max_unpool2d_backward] indices must have sizes [1, 2, 3, 3]");
}

// ---- modules ------------------------------------------------------------------------------------

template <class Ours, class Theirs>
void expect_same_module(Ours ours, Theirs theirs, const at::Tensor& x) {
  const at::Tensor a = x.clone().requires_grad_();
  const at::Tensor b = x.clone().requires_grad_();
  const at::Tensor y = ours->forward(a);
  const at::Tensor expected = theirs->forward(b);
  EXPECT_TRUE(at::allclose(y, expected)) << c10::str(ours);
  const at::Tensor gradient = ramp(y.sizes());
  y.backward(gradient);
  expected.backward(gradient);
  EXPECT_TRUE(at::allclose(a.grad(), b.grad())) << c10::str(ours);
}

TEST(TorchModules, EqualTorchsModules) {
  const at::Tensor line = ramp({2, 3, 9});
  const at::Tensor plane = ramp({2, 3, 9, 8});
  const at::Tensor volume = ramp({2, 3, 7, 8, 6});
  using namespace torch::nn;
  namespace ours = cenote::nn;
  const auto max2 = MaxPool2dOptions({3, 2}).stride({2, 1}).padding(1).dilation({1, 2}).ceil_mode(true);
  expect_same_module(ours::MaxPool1d(MaxPool1dOptions(3).stride(2)), MaxPool1d(MaxPool1dOptions(3).stride(2)),
                     line);
  expect_same_module(ours::MaxPool2d(max2), MaxPool2d(max2), plane);
  expect_same_module(ours::MaxPool3d(2), MaxPool3d(2), volume);
  const auto avg2 = AvgPool2dOptions(3).stride(2).padding(1).count_include_pad(false).ceil_mode(true);
  expect_same_module(ours::AvgPool1d(2), AvgPool1d(2), line);
  expect_same_module(ours::AvgPool2d(avg2), AvgPool2d(avg2), plane);
  const auto avg3 = AvgPool3dOptions(2).divisor_override(3);
  expect_same_module(ours::AvgPool3d(avg3), AvgPool3d(avg3), volume);
  expect_same_module(ours::AdaptiveAvgPool1d(4), AdaptiveAvgPool1d(4), line);
  const auto average = AdaptiveAvgPool2dOptions({std::nullopt, 3});
  expect_same_module(ours::AdaptiveAvgPool2d(average), AdaptiveAvgPool2d(average), plane);
  expect_same_module(ours::AdaptiveAvgPool3d(3), AdaptiveAvgPool3d(3), volume);
  expect_same_module(ours::AdaptiveMaxPool1d(4), AdaptiveMaxPool1d(4), line);
  expect_same_module(ours::AdaptiveMaxPool2d(3), AdaptiveMaxPool2d(3), plane);
  const auto maximum = AdaptiveMaxPool3dOptions({2, std::nullopt, 3});
  expect_same_module(ours::AdaptiveMaxPool3d(maximum), AdaptiveMaxPool3d(maximum), volume);
  expect_same_module(ours::GlobalAvgPool1d(), AdaptiveAvgPool1d(1), line);
  expect_same_module(ours::GlobalAvgPool2d(), AdaptiveAvgPool2d(1), plane);
  expect_same_module(ours::GlobalAvgPool3d(), AdaptiveAvgPool3d(1), volume);
  expect_same_module(ours::GlobalMaxPool1d(), AdaptiveMaxPool1d(1), line);
  expect_same_module(ours::GlobalMaxPool2d(), AdaptiveMaxPool2d(1), plane);
  expect_same_module(ours::GlobalMaxPool3d(), AdaptiveMaxPool3d(1), volume);
}

/// torch's C++ modules want all sizes of a result, its Python ones take the spatial sizes alone, too.
template <class Ours, class Theirs>
void expect_same_unpool(Ours ours, Theirs theirs, const at::Tensor& x, const at::Tensor& indices,
                        const std::vector<std::int64_t>& pooled) {
  EXPECT_TRUE(at::equal(ours->forward(x, indices), theirs->forward(x, indices))) << c10::str(ours);
  const at::Tensor expected = theirs->forward(x, indices, pooled);
  EXPECT_TRUE(at::equal(ours->forward(x, indices, pooled), expected)) << c10::str(ours);
  const std::vector<std::int64_t> spatial(pooled.begin() + 2, pooled.end());
  EXPECT_TRUE(at::equal(ours->forward(x, indices, spatial), expected)) << c10::str(ours);
}

TEST(TorchModules, UnpoolAsTorchsModules) {
  using namespace torch::nn;
  namespace ours = cenote::nn;
  const auto [line, line_at] = at::max_pool1d_with_indices(ramp({2, 3, 9}), 2);
  expect_same_unpool(ours::MaxUnpool1d(2), MaxUnpool1d(2), line, line_at, {2, 3, 9});
  const auto [plane, plane_at] = at::max_pool2d_with_indices(ramp({2, 3, 9, 8}), {3, 2}, {2, 2}, 1);
  const auto options = MaxUnpool2dOptions({3, 2}).stride(2).padding(1);
  // Here the default plane is narrower than the pooled one, so the indices need the request.
  const at::Tensor y = ours::MaxUnpool2d(options)->forward(plane, plane_at, {{2, 3, 9, 8}});
  EXPECT_TRUE(at::equal(y, MaxUnpool2d(options)->forward(plane, plane_at, {{2, 3, 9, 8}})));
  const auto [volume, volume_at] = at::max_pool3d_with_indices(ramp({2, 3, 4, 6, 4}), 2);
  expect_same_unpool(ours::MaxUnpool3d(2), MaxUnpool3d(2), volume, volume_at, {2, 3, 4, 6, 4});
  EXPECT_EQ(c10::str(ours::MaxUnpool2d(options)),
            "cenote::nn::MaxUnpool2d(kernel_size=[3, 2], stride=[2, 2], padding=[1, 1])");
}

// torch's C++ module also takes sizes that differ by the stride itself, its Python one and cenote do not.
TEST(TorchModules, TakeTheOutputSizesThatTorchTakes) {
  const auto options = torch::nn::MaxUnpool2dOptions({3, 2}).stride({2, 3}).padding({1, 0});
  const at::Tensor x = ramp({1, 1, 3, 4});  // default size 5 x 11
  const at::Tensor indices = at::zeros({1, 1, 3, 4}, at::kLong);
  int taken = 0;
  for (std::int64_t h = 1; h < 10; ++h) {
    for (std::int64_t w = 1; w < 20; ++w) {
      const auto takes = [&, size = std::vector<std::int64_t>{1, 1, h, w}](auto module) {
        try {
          return module->forward(x, indices, size).sizes() == at::IntArrayRef(size);
        } catch (const c10::Error&) {
          return false;
        }
      };
      const bool at_the_stride = h == 3 || h == 7 || w == 8 || w == 14;
      const bool ours = takes(cenote::nn::MaxUnpool2d(options));
      EXPECT_EQ(ours, takes(torch::nn::MaxUnpool2d(options)) && !at_the_stride) << h << " " << w;
      taken += ours ? 1 : 0;
    }
  }
  EXPECT_EQ(taken, 3 * 5);
}

TEST(TorchModules, GiveIndicesPrintAndClone) {
  const at::Tensor plane = ramp({2, 3, 9, 8});
  cenote::nn::MaxPool2d module(torch::nn::MaxPool2dOptions(3).stride(2));
  const auto [y, indices] = module->forward_with_indices(plane);
  const auto [expected, positions] = at::max_pool2d_with_indices(plane, 3, 2);
  EXPECT_TRUE(at::equal(y, expected));
  EXPECT_TRUE(at::equal(indices, positions));
  EXPECT_EQ(c10::str(module),
            "cenote::nn::MaxPool2d(kernel_size=[3, 3], stride=[2, 2], padding=[0, 0], "
            "dilation=[1, 1], ceil_mode=false)");
  EXPECT_EQ(c10::str(cenote::nn::GlobalAvgPool2d()), "cenote::nn::GlobalAvgPool2d()");
  torch::nn::Sequential network(module, cenote::nn::GlobalAvgPool2d());
  const auto copy = std::dynamic_pointer_cast<torch::nn::SequentialImpl>(network->clone());
  EXPECT_TRUE(at::equal(copy->forward(plane), network->forward(plane)));
}

}  // namespace
}  // namespace cenote_test
