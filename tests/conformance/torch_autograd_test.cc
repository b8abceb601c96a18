// Gradients through the torch binding: what autograd saves and records, first and second derivatives, and the
// tangents of forward mode.
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/forward_grad.h>
#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <string>

#include "cenote/cenote.h"
#include "conformance/torch_calls.h"

namespace cenote_test {
namespace {

constexpr int kCases = 700;
constexpr std::uint64_t kSeed = 7;

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
    // The gradients of avgmax and catavgmax do not change with x.
    auto second =
        torch::autograd::grad({smooth_gradient(op, x, grad_y)}, {x, grad_y}, {v}, std::nullopt, false, true);
    if (!second[0].defined()) second[0] = at::zeros_like(x);
    const auto by_x = [&](const at::Tensor& at) {
      return smooth_gradient(op, at.detach().requires_grad_(), grad_y.detach()).detach();
    };
    const auto by_weights = [&](const at::Tensor& at) { return smooth_gradient(op, x, at).detach(); };
    EXPECT_TRUE(at::allclose(second[0], numeric_gradient(by_x, x.detach(), v), 1e-5, 1e-7)) << op.name;
    EXPECT_TRUE(at::allclose(second[1], numeric_gradient(by_weights, grad_y.detach(), v), 1e-6, 1e-8))
        << op.name;
  }
}

/// The backward called by itself is a function of grad_y and of x.
TEST(TorchAutograd, SmoothBackwardsAreDifferentiable) {
  for (const OpInfo& op : cenote::ops()) {
    if (!op.gradient_reads_x) continue;
    const at::Tensor x = input_for(op).requires_grad_();
    const at::Tensor grad_y = (ramp(torch_ops::pool(op, x, common_arguments()).sizes()) - 0.5);
    const at::Tensor v = ramp(x.sizes()) - 0.25;
    const at::Tensor direct =
        torch_ops::pool_backward(op, grad_y, x, Dims(x.sizes().data(), x.sizes().size()), common_arguments());
    EXPECT_TRUE(direct.requires_grad()) << op.name;
    at::Tensor second = torch::autograd::grad({direct}, {x}, {v}, std::nullopt, false, true)[0];
    if (!second.defined()) second = at::zeros_like(x);
    const auto by_x = [&](const at::Tensor& at) {
      return smooth_gradient(op, at.detach().requires_grad_(), grad_y).detach();
    };
    EXPECT_TRUE(at::allclose(second, numeric_gradient(by_x, x.detach(), v), 1e-5, 1e-7)) << op.name;
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

/// Whether several indices of a plane name one position: then the backward of unpooling, as torch has it, is
/// no transpose.
bool has_duplicates(const at::Tensor& indices, int spatial_rank) {
  const at::Tensor sorted = std::get<0>(indices.flatten(-spatial_rank).sort(-1));
  return sorted.diff(1, -1).eq(0).any().item<bool>();
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
    if (indices.defined() && has_duplicates(indices, one.op->spatial_rank)) continue;
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

}  // namespace
}  // namespace cenote_test
