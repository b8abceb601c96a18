// The torch binding around the values: operators and schemas for every row of the registry, meta tensors,
// layouts, threads, errors, and the modules of nn.h.
#include <ATen/Parallel.h>
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "cenote/cenote.h"
#include "cenote/torch/nn.h"
#include "cenote/torch/ops.h"
#include "conformance/torch_calls.h"

namespace cenote_test {
namespace {

constexpr int kCases = 700;
constexpr std::uint64_t kSeed = 7;

// ---- operators ----------------------------------------------------------------------------------

TEST(TorchOperators, EveryRowHasItsOperators) {
  auto& dispatcher = c10::Dispatcher::singleton();
  for (const OpInfo& op : cenote::ops()) {
    const std::string name(op.name);
    std::vector<std::string> expected{name, name + "_backward"};
    if (op.records_indices)
      expected.insert(expected.end(), {name + "_with_indices", c10::str("_", name, "_with_taps")});
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
            "int[2] dilation=1, bool ceil_mode=False, *, int[2] padding_end=[], "
            "str convention=\"pytorch\", str auto_pad=\"NOTSET\", str index_order=\"plane\") -> Tensor");
  EXPECT_EQ(schema_text("cenote::avg_pool3d"),
            "cenote::avg_pool3d(Tensor input, int[3] kernel_size, int[3] stride=[], int[3] padding=0, "
            "bool ceil_mode=False, bool count_include_pad=True, int? divisor_override=None, *, "
            "int[3] padding_end=[], int[3] dilation=1, "
            "str convention=\"pytorch\", str auto_pad=\"NOTSET\", float? x_scale=None, int x_zero_point=0, "
            "float? y_scale=None, int y_zero_point=0) -> Tensor");
  EXPECT_EQ(schema_text("cenote::adaptive_max_pool1d_with_indices"),
            "cenote::adaptive_max_pool1d_with_indices(Tensor input, int[1] output_size) -> (Tensor, Tensor)");
  EXPECT_EQ(schema_text("cenote::global_avg_pool2d_backward"),
            "cenote::global_avg_pool2d_backward(Tensor grad_output, int[] input_size, *, "
            "float? x_scale=None, int x_zero_point=0, float? y_scale=None, int y_zero_point=0, "
            "bool? channels_last=None) -> Tensor");
  EXPECT_EQ(schema_text("cenote::max_unpool2d"),
            "cenote::max_unpool2d(Tensor input, Tensor indices, int[2] kernel_size, int[2] stride=[], "
            "int[2] padding=0, int[]? output_size=None, *, str index_order=\"plane\") -> Tensor");
  EXPECT_EQ(schema_text("cenote::max_unpool3d_backward"),
            "cenote::max_unpool3d_backward(Tensor grad_output, Tensor indices, int[] input_size, "
            "int[3] kernel_size, int[3] stride=[], int[3] padding=0, int[]? output_size=None, *, "
            "str index_order=\"plane\", bool? channels_last=None) -> Tensor");
}

TEST(TorchOperators, SchemasOfSmoothOps) {
  EXPECT_EQ(schema_text("cenote::lp_pool2d"),
            "cenote::lp_pool2d(Tensor input, float norm_type, int[2] kernel_size, int[2] stride=[], "
            "bool ceil_mode=False, *, int[2] padding=0, int[2] padding_end=[], int[2] dilation=1, "
            "str convention=\"pytorch\", str auto_pad=\"NOTSET\") -> Tensor");
  EXPECT_EQ(schema_text("cenote::soft_pool1d"),
            "cenote::soft_pool1d(Tensor input, int[1] kernel_size, int[1] stride=[], int[1] padding=[0], "
            "int[1] dilation=[1], bool ceil_mode=False, *, int[1] padding_end=[], float? sharpness=None, "
            "str convention=\"pytorch\", str auto_pad=\"NOTSET\") -> Tensor");
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

TEST(TorchErrors, OfSizesBeyond64Bits) {
  const at::Tensor x = at::ones({1, 1, 1});
  OpArguments arguments;
  arguments.kernel = {1};
  arguments.stride = arguments.output_size = {std::numeric_limits<std::int64_t>::max()};
  for (const at::Device device : {at::kCPU, at::kMeta}) {
    expect_value_error(
        [&] {
          torch_ops::unpool(row("max_unpool1d"), x.to(device), at::zeros({1, 1, 1}, at::kLong).to(device),
                            arguments);
        },
        "[max_unpool1d] size in bytes of y [1, 1, 9223372036854775807], 8 per element, overflows 64 bits");
  }
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
    const std::string text = c10::str("[", op.name, "] x must be f32, f64, f16 or bf16, got Int");
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

/// Values, indices and gradients of a module are those of its op.
template <class Module>
void expect_module_of(const OpInfo& op, const OpArguments& arguments, Module module) {
  const at::Tensor a = input_for(op).requires_grad_();
  const at::Tensor b = input_for(op).requires_grad_();
  const at::Tensor y = module.forward(a);
  const at::Tensor expected = torch_ops::pool(op, b, arguments);
  ASSERT_TRUE(at::equal(y, expected)) << op.name;
  ASSERT_TRUE(y.requires_grad()) << op.name;
  const at::Tensor gradient = ramp(y.sizes());
  y.backward(gradient);
  expected.backward(gradient);
  EXPECT_TRUE(at::equal(a.grad(), b.grad())) << op.name;
  constexpr bool kGivesIndices = requires { module.forward_with_indices(a); };
  EXPECT_EQ(kGivesIndices, op.records_indices) << op.name;
  if constexpr (kGivesIndices) {
    const auto [values, indices] = module.forward_with_indices(a);
    EXPECT_TRUE(at::equal(values, expected)) << op.name;
    EXPECT_TRUE(at::equal(indices, std::get<1>(torch_ops::pool_with_indices(op, b, arguments)))) << op.name;
  }
}

/// In 1-D, 2-D and 3-D; `values` make the module or its options.
template <template <std::size_t> class Impl, class... Values>
void expect_modules_of(const std::string& stem, const OpArguments& arguments, Values... values) {
  expect_module_of(row((stem + "1d").c_str()), arguments, Impl<1>(values...));
  expect_module_of(row((stem + "2d").c_str()), arguments, Impl<2>(values...));
  expect_module_of(row((stem + "3d").c_str()), arguments, Impl<3>(values...));
}

/// The same for a window op with every option set; `more` sets those that are not in each struct.
template <template <std::size_t> class Impl, class More>
void expect_window_modules_of(const std::string& stem, OpArguments arguments, const More& more) {
  arguments.kernel = 3;
  arguments.stride = 2;
  arguments.padding = 1;
  arguments.dilation = 2;
  arguments.ceil_mode = true;
  const auto expect = [&]<std::size_t Rank>(const char* rank) {
    auto options = typename Impl<Rank>::Options(3).stride(2).padding(1).dilation(2).ceil_mode(true);
    more(options);
    expect_module_of(row((stem + rank).c_str()), arguments, Impl<Rank>(options));
  };
  expect.template operator()<1>("1d");
  expect.template operator()<2>("2d");
  expect.template operator()<3>("3d");
}

TEST(TorchModules, OfWindowsEqualTheirOps) {
  namespace ours = cenote::nn;
  const auto nothing_more = [](auto& /*options*/) {};
  expect_window_modules_of<ours::MinPoolImpl>("min_pool", {}, nothing_more);
  expect_window_modules_of<ours::MedianPoolImpl>("median_pool", {}, nothing_more);
  expect_window_modules_of<ours::ModePoolImpl>("mode_pool", {}, nothing_more);
  expect_window_modules_of<ours::SumPoolImpl>("sum_pool", {}, nothing_more);
  OpArguments arguments;
  arguments.sharpness = 2.5;
  const auto sharper = [](auto& options) { options.sharpness(2.5); };
  expect_window_modules_of<ours::LsePoolImpl>("lse_pool", arguments, sharper);
  expect_window_modules_of<ours::SoftPoolImpl>("soft_pool", arguments, sharper);
  arguments = {};
  arguments.kernel = 3;
  expect_modules_of<ours::MaxPoolImpl>("max_pool", arguments, 3);
  expect_modules_of<ours::LsePoolImpl>("lse_pool", arguments, 3);
  expect_modules_of<ours::SoftPoolImpl>("soft_pool", arguments, 3);
  arguments.norm_type = 1.5;
  expect_modules_of<ours::LPPoolImpl>("lp_pool", arguments, 1.5, 3);
  arguments.kernel = {3, 2};
  arguments.stride = {1, 2};
  arguments.ceil_mode = true;
  const auto options = torch::nn::LPPool2dOptions(1.5, {3, 2}).stride({1, 2}).ceil_mode(true);
  expect_module_of(row("lp_pool2d"), arguments, ours::LPPool2dImpl(options));
}

TEST(TorchModules, OfOtherFamiliesEqualTheirOps) {
  namespace ours = cenote::nn;
  OpArguments arguments;
  arguments.output_size = 4;
  arguments.norm_type = 3;
  expect_modules_of<ours::AdaptiveLpPoolImpl>("adaptive_lp_pool", arguments, 3, 4);
  arguments.output_size = {cenote::kKeepSize, 4};
  const ours::AdaptiveLpPool2dOptions keep_height(3, {std::nullopt, 4});
  expect_module_of(row("adaptive_lp_pool2d"), arguments, ours::AdaptiveLpPool2dImpl(keep_height));
  expect_modules_of<ours::GlobalLpPoolImpl>("global_lp_pool", {});
  expect_modules_of<ours::GlobalLsePoolImpl>("global_lse_pool", {});
  expect_modules_of<ours::GlobalGemPoolImpl>("global_gem_pool", {});
  expect_modules_of<ours::GlobalStdPoolImpl>("global_std_pool", {});
  expect_modules_of<ours::GlobalAvgMaxPoolImpl>("global_avgmax_pool", {});
  expect_modules_of<ours::GlobalCatAvgMaxPoolImpl>("global_catavgmax_pool", {});
  arguments.sharpness = 0.5;
  arguments.p = {2.5};
  arguments.eps = 0.25;
  expect_modules_of<ours::GlobalLpPoolImpl>("global_lp_pool", arguments, 3.0);
  expect_modules_of<ours::GlobalLsePoolImpl>("global_lse_pool", arguments, 0.5);
  expect_modules_of<ours::GlobalGemPoolImpl>("global_gem_pool", arguments, 2.5, 0.25);
  expect_modules_of<ours::GlobalGemPoolImpl>("global_gem_pool", arguments,
                                             ours::GlobalGemPoolOptions().p(2.5).eps(0.25));
}

// Without ceil_mode: there torch's expression scales a window at the edge as if it were whole.
TEST(TorchModules, LpEqualsTorchsModules) {
  using namespace torch::nn;
  namespace ours = cenote::nn;
  const auto options = LPPool2dOptions(3, {3, 2}).stride({2, 1});
  expect_same_module(ours::LPPool1d(1.5, 2), LPPool1d(1.5, 2), ramp({2, 3, 9}) + 0.25);
  expect_same_module(ours::LPPool2d(options), LPPool2d(options), ramp({2, 3, 9, 8}) + 0.25);
  expect_same_module(ours::LPPool3d(2, 2), LPPool3d(2, 2), ramp({2, 3, 7, 8, 6}) + 0.25);
}

TEST(TorchModules, PrintTheirOptions) {
  namespace ours = cenote::nn;
  const std::string of_two =
      "(kernel_size=[2, 2], stride=[2, 2], padding=[0, 0], dilation=[1, 1], ceil_mode=";
  EXPECT_EQ(c10::str(ours::MinPool2d(2)), c10::str("cenote::nn::MinPool2d", of_two, "false)"));
  EXPECT_EQ(c10::str(ours::MedianPool2d(2)), c10::str("cenote::nn::MedianPool2d", of_two, "false)"));
  EXPECT_EQ(c10::str(ours::ModePool2d(2)), c10::str("cenote::nn::ModePool2d", of_two, "false)"));
  EXPECT_EQ(c10::str(ours::SumPool2d(torch::nn::MaxPool2dOptions(2).ceil_mode(true))),
            c10::str("cenote::nn::SumPool2d", of_two, "true)"));
  EXPECT_EQ(c10::str(ours::LsePool2d(2)), c10::str("cenote::nn::LsePool2d", of_two, "false, sharpness=10)"));
  EXPECT_EQ(c10::str(ours::SoftPool2d(ours::SoftPool2dOptions(2).sharpness(0.5))),
            c10::str("cenote::nn::SoftPool2d", of_two, "false, sharpness=0.5)"));
  EXPECT_EQ(c10::str(ours::AvgPool1d(2)), "cenote::nn::AvgPool1d(kernel_size=2, stride=2, padding=0)");
  EXPECT_EQ(c10::str(ours::LPPool3d(1.5, 2)),
            "cenote::nn::LPPool3d(norm_type=1.5, kernel_size=[2, 2, 2], stride=[2, 2, 2], ceil_mode=false)");
  EXPECT_EQ(c10::str(ours::AdaptiveMaxPool1d(4)), "cenote::nn::AdaptiveMaxPool1d(output_size=4)");
  EXPECT_EQ(c10::str(ours::AdaptiveLpPool2d(ours::AdaptiveLpPool2dOptions(2, {std::nullopt, 4}))),
            "cenote::nn::AdaptiveLpPool2d(norm_type=2, output_size=[None, 4])");
  EXPECT_EQ(c10::str(ours::GlobalLpPool1d()), "cenote::nn::GlobalLpPool1d(norm_type=2)");
  EXPECT_EQ(c10::str(ours::GlobalLsePool2d()), "cenote::nn::GlobalLsePool2d(sharpness=10)");
  EXPECT_EQ(c10::str(ours::GlobalGemPool3d()), "cenote::nn::GlobalGemPool3d(p=3, eps=1e-06)");
  EXPECT_EQ(c10::str(ours::GlobalStdPool2d()), "cenote::nn::GlobalStdPool2d()");
  EXPECT_EQ(c10::str(ours::GlobalAvgMaxPool2d()), "cenote::nn::GlobalAvgMaxPool2d()");
  EXPECT_EQ(c10::str(ours::GlobalCatAvgMaxPool2d()), "cenote::nn::GlobalCatAvgMaxPool2d()");
}

}  // namespace
}  // namespace cenote_test
