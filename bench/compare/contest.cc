// Buffers and calls of the contenders. Forward and backward of both libraries allocate what they return,
// as a user's call does; "cenote into" and the copy write to memory that is there. An op that torch has
// no kernel for meets the expression that its users write; there the backward of both is autograd's, of a
// recorded forward.
#include "contest.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn/functional/pooling.h>

#include <cstring>
#include <memory>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "cenote/registry.h"
#include "cenote/torch/ops.h"

namespace cenote_bench {

namespace {

namespace torch_ops = cenote::torch_ops;
using cenote::Dims;
using cenote::OpArguments;
using cenote::OpInfo;
using torch_ops::ValuesAndIndices;

/// An op as both libraries are asked for it. torch's global average has no op of its own: its adaptive one
/// turns into a mean, whose gradient is an expanded quotient; written out here.
struct Subject {
  std::string title;
  std::string name;
  OpArguments arguments;
  std::function<ValuesAndIndices(const at::Tensor& x)> torch_forward;
  std::function<at::Tensor(const at::Tensor& grad_y, const at::Tensor& x, const at::Tensor& indices)>
      torch_backward;
  /// In place of torch_forward for an op that reads indices.
  std::function<at::Tensor(const at::Tensor& x, const at::Tensor& indices)> torch_unpool = {};
  /// In place of all three for an op that torch has no kernel for.
  std::function<at::Tensor(const at::Tensor& x)> torch_expression = {};
};

/// Of equal elements an expression may choose another than the op, so that neither indices nor gradients of
/// such an op can be compared.
std::vector<const char*> passes_of(const Subject& subject) {
  const bool records_indices = cenote::find_op(subject.name)->records_indices;
  if (records_indices && subject.torch_expression) return {"forward"};
  if (records_indices) return {"forward", "forward+indices", "backward"};
  return {"forward", "backward"};
}

OpArguments window(std::int64_t kernel, std::int64_t stride, std::int64_t padding) {
  OpArguments arguments;
  arguments.kernel = kernel;
  arguments.stride = stride;
  arguments.padding = padding;
  return arguments;
}

OpArguments output_size(std::int64_t size) {
  OpArguments arguments;
  arguments.output_size = size;
  return arguments;
}

Subject max_subject(const std::string& title, std::int64_t kernel, std::int64_t stride,
                    std::int64_t padding) {
  const std::vector<std::int64_t> k{kernel, kernel}, s{stride, stride}, p{padding, padding}, d{1, 1};
  return {title, "max_pool2d", window(kernel, stride, padding),
          [=](const at::Tensor& x) { return at::max_pool2d_with_indices(x, k, s, p, d, false); },
          [=](const at::Tensor& grad_y, const at::Tensor& x, const at::Tensor& indices) {
            return at::max_pool2d_with_indices_backward(grad_y, x, k, s, p, d, false, indices);
          }};
}

/// Unpools maxima of 2x2 windows at stride 2. x of the row is what is unpooled, `indices` are read.
Subject unpool_subject() {
  const auto doubled = [](const at::Tensor& x) {
    return std::vector<std::int64_t>{2 * x.size(2), 2 * x.size(3)};
  };
  return {"max unpool 2x2 s2",
          "max_unpool2d",
          window(2, 2, 0),
          {},
          [](const at::Tensor& grad_y, const at::Tensor&, const at::Tensor& indices) {
            // torch's autograd does the same
            return grad_y.flatten(2).gather(2, indices.flatten(2)).view(indices.sizes());
          },
          [=](const at::Tensor& x, const at::Tensor& indices) {
            return at::max_unpool2d(x, indices, doubled(x));
          }};
}

at::Tensor lp2_expression(const at::Tensor& x) {
  namespace functional = torch::nn::functional;
  return functional::lp_pool2d(x, functional::LPPool2dFuncOptions(2, 3).stride(2));
}

at::Tensor soft_expression(const at::Tensor& x) {
  const at::Tensor weights = x.exp();
  return at::avg_pool2d(weights * x, {2, 2}) / at::avg_pool2d(weights, {2, 2});
}

at::Tensor lse_expression(const at::Tensor& x) {
  constexpr double kSharpness = 10;  // the op's default
  return at::avg_pool2d((x * kSharpness).exp(), {2, 2}).log() / kSharpness;
}

at::Tensor median_expression(const at::Tensor& x) {
  return std::get<0>(x.unfold(2, 3, 2).unfold(3, 3, 2).flatten(-2).median(-1));
}

at::Tensor gem_expression(const at::Tensor& x) {
  return x.clamp_min(1e-6).pow(3).mean({2, 3}, true).pow(1.0 / 3);
}

at::Tensor std_expression(const at::Tensor& x) { return x.std({2, 3}, /*unbiased=*/false, /*keepdim=*/true); }

at::Tensor norm_expression(const at::Tensor& x) { return at::linalg_vector_norm(x, 2, {2, 3}, true); }

std::vector<Subject> subjects() {
  const std::vector<std::int64_t> two{2, 2}, none{0, 0}, seven{7, 7};
  return {
      max_subject("max 3x3 s2 p1", 3, 2, 1),
      max_subject("max 2x2 s2", 2, 2, 0),
      {"avg 2x2 s2", "avg_pool2d", window(2, 2, 0),
       [=](const at::Tensor& x) { return ValuesAndIndices(at::avg_pool2d(x, two, two), at::Tensor()); },
       [=](const at::Tensor& grad_y, const at::Tensor& x, const at::Tensor&) {
         return at::avg_pool2d_backward(grad_y, x, two, two, none, false, true, std::nullopt);
       }},
      {"GAP",
       "global_avg_pool2d",
       {},
       [](const at::Tensor& x) { return ValuesAndIndices(at::adaptive_avg_pool2d(x, {1, 1}), at::Tensor()); },
       [](const at::Tensor& grad_y, const at::Tensor& x, const at::Tensor&) {
         return grad_y.expand(x.sizes()) / static_cast<double>(x.size(2) * x.size(3));
       }},
      {"adaptive avg 7x7", "adaptive_avg_pool2d", output_size(7),
       [=](const at::Tensor& x) { return ValuesAndIndices(at::adaptive_avg_pool2d(x, seven), at::Tensor()); },
       [](const at::Tensor& grad_y, const at::Tensor& x, const at::Tensor&) {
         return at::_adaptive_avg_pool2d_backward(grad_y, x);
       }},
      {"adaptive max 7x7", "adaptive_max_pool2d", output_size(7),
       [=](const at::Tensor& x) { return at::adaptive_max_pool2d(x, seven); },
       [](const at::Tensor& grad_y, const at::Tensor& x, const at::Tensor& indices) {
         return at::adaptive_max_pool2d_backward(grad_y, x, indices);
       }},
      unpool_subject(),
      {"lp2 3x3 s2", "lp_pool2d", window(3, 2, 0), {}, {}, {}, lp2_expression},
      {"soft 2x2 s2", "soft_pool2d", window(2, 2, 0), {}, {}, {}, soft_expression},
      {"lse 2x2 s2", "lse_pool2d", window(2, 2, 0), {}, {}, {}, lse_expression},
      {"median 3x3 s2", "median_pool2d", window(3, 2, 0), {}, {}, {}, median_expression},
      {"global gem p3", "global_gem_pool2d", {}, {}, {}, {}, gem_expression},
      {"global std", "global_std_pool2d", {}, {}, {}, {}, std_expression},
      {"global lp2", "global_lp_pool2d", {}, {}, {}, {}, norm_expression},
  };
}

Subject subject_of(const Row& row) {
  for (const Subject& subject : subjects()) {
    if (subject.title == row.op) return subject;
  }
  throw std::logic_error("no subject for row " + row.name());
}

/// One set of tensors that a call works on.
struct Buffers {
  at::Tensor x, y, grad_y, grad_x, indices;
  at::Tensor kept;  // what the backward reads beside grad_y
  at::Tensor copy_from, copy_to;
  /// What autograd knows the way back from, to `leaf`: for expressions.
  at::Tensor leaf, cenote_recorded, torch_recorded;
};

/// Everything that the calls of one row share.
struct State {
  Subject subject;
  const OpInfo* op = nullptr;
  Dims x_sizes;
  std::vector<Buffers> sets;

  const Buffers& set(std::size_t number) const { return sets[number % sets.size()]; }
};

cenote::DType dtype_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kLong:
      return cenote::DType::i64;
    case at::kByte:
      return cenote::DType::u8;
    case at::kUInt16:
      return cenote::DType::u16;
    default:
      return cenote::DType::f32;
  }
}

cenote::TensorView view_of(const at::Tensor& tensor) {
  const auto dims = [](at::IntArrayRef values) { return Dims(values.data(), values.size()); };
  return {tensor.data_ptr(), dtype_of(tensor), dims(tensor.sizes()), dims(tensor.strides())};
}

void record(const State& state, Buffers& set) {
  const at::AutoGradMode with_gradients(true);
  set.leaf = set.x.detach().requires_grad_();
  set.cenote_recorded = torch_ops::pool(*state.op, set.leaf, state.subject.arguments);
  set.torch_recorded = state.subject.torch_expression(set.leaf);
}

Buffers make_buffers(const State& state, const Row& row) {
  Buffers set;
  const auto format =
      row.layout == "channels-last" ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
  const OpArguments& arguments = state.subject.arguments;
  set.x = at::randn(row.shape).contiguous(format);
  if (state.op->reads_indices) {
    std::vector<std::int64_t> pooled = row.shape;
    pooled[2] *= 2;
    pooled[3] *= 2;
    std::tie(set.x, set.indices) = torch_ops::pool_with_indices(
        *cenote::find_op("max_pool2d"), at::randn(pooled).contiguous(format), arguments);
    set.y = torch_ops::unpool(*state.op, set.x, set.indices, arguments);
    set.kept = set.indices;
  } else if (state.op->records_indices) {
    std::tie(set.y, set.indices) = torch_ops::pool_with_indices(*state.op, set.x, arguments);
    set.kept = std::get<1>(torch_ops::pool_with_taps(*state.op, set.x, arguments));
  } else {
    set.y = torch_ops::pool(*state.op, set.x, arguments);
    if (state.op->gradient_reads_x) set.kept = set.x;
  }
  set.grad_y = at::randn_like(set.y);
  if (row.pass == "backward") set.grad_x = at::empty_like(set.x);
  if (row.pass == "backward" && state.subject.torch_expression) record(state, set);
  return set;
}

std::int64_t bytes_moved(const Buffers& set, const std::string& pass, bool with_indices) {
  const auto bytes = [](const at::Tensor& tensor) {
    return tensor.defined() ? static_cast<std::int64_t>(tensor.nbytes()) : 0;
  };
  if (pass == "backward") return bytes(set.grad_y) + bytes(set.kept) + bytes(set.grad_x);
  return bytes(set.x) + bytes(set.y) + (with_indices ? bytes(set.indices) : 0);
}

/// Reads half of the bytes and writes the other half.
void copy(const Buffers& set) {
  constexpr std::int64_t kGrain = 1 << 16;
  const auto* from = static_cast<const char*>(set.copy_from.const_data_ptr());
  auto* to = static_cast<char*>(set.copy_to.mutable_data_ptr());
  at::parallel_for(0, static_cast<std::int64_t>(set.copy_from.nbytes()), kGrain,
                   [&](std::int64_t begin, std::int64_t end) {
                     std::memcpy(to + begin, from + begin, static_cast<std::size_t>(end - begin));
                   });
}

void require_equal(const Row& row, const char* what, bool equal) {
  if (!equal) throw std::runtime_error(fmt::format("{}: {} of cenote and torch differ", row.name(), what));
}

/// y, and the indices that torch records or reads.
ValuesAndIndices torch_forward(const State& state, const Buffers& set) {
  if (state.subject.torch_expression) return {state.subject.torch_expression(set.x), at::Tensor()};
  if (!state.op->reads_indices) return state.subject.torch_forward(set.x);
  return {state.subject.torch_unpool(set.x, set.indices), set.indices};
}

at::Tensor autograd_backward(const at::Tensor& recorded, const Buffers& set) {
  return torch::autograd::grad({recorded}, {set.leaf}, {set.grad_y}, /*retain_graph=*/true)[0];
}

at::Tensor torch_backward(const State& state, const Buffers& set) {
  if (state.subject.torch_expression) return autograd_backward(set.torch_recorded, set);
  return state.subject.torch_backward(set.grad_y, set.x, set.indices);
}

at::Tensor cenote_backward(const State& state, const Buffers& set) {
  if (state.subject.torch_expression) return autograd_backward(set.cenote_recorded, set);
  return torch_ops::pool_backward(*state.op, set.grad_y, set.kept, state.x_sizes, state.subject.arguments);
}

/// An expression rounds every step, relative to terms that may cancel out in the end: against it the
/// absolute part is relative to the largest element.
bool close(const State& state, const at::Tensor& ours, const at::Tensor& expected) {
  constexpr double kRelative = 1e-5;
  if (!state.subject.torch_expression) return at::allclose(ours, expected, kRelative, 1e-6);
  const double largest = expected.abs().max().item<double>();
  return at::allclose(ours, expected, kRelative, kRelative * largest);
}

void check_outputs(const State& state, const Row& row) {
  const Buffers& set = state.sets.front();
  const auto [expected, indices] = torch_forward(state, set);
  require_equal(row, "values", close(state, set.y, expected));
  if (state.op->records_indices && indices.defined())
    require_equal(row, "indices", at::equal(set.indices, indices));
  if (row.pass != "backward") return;
  require_equal(row, "gradients", close(state, cenote_backward(state, set), torch_backward(state, set)));
}

using SharedState = std::shared_ptr<const State>;

std::vector<Contender> forward_contenders(const SharedState& state, bool indices) {
  const auto cenote_call = [state, indices](std::size_t number) {
    const at::Tensor& x = state->set(number).x;
    if (state->op->reads_indices) {
      torch_ops::unpool(*state->op, x, state->set(number).indices, state->subject.arguments);
    } else if (indices) {
      torch_ops::pool_with_indices(*state->op, x, state->subject.arguments);
    } else {
      torch_ops::pool(*state->op, x, state->subject.arguments);
    }
  };
  const auto into_call = [state, indices](std::size_t number) {
    const Buffers& set = state->set(number);
    const bool given = indices || state->op->reads_indices;
    const cenote::TensorView record = given ? view_of(set.indices) : cenote::TensorView();
    state->op->forward(view_of(set.y), given ? &record : nullptr, view_of(set.x), state->subject.arguments);
  };
  const auto torch_call = [state](std::size_t number) { torch_forward(*state, state->set(number)); };
  return {{"cenote", cenote_call}, {"cenote into", into_call}, {"torch", torch_call}};
}

std::vector<Contender> backward_contenders(const SharedState& state) {
  const auto cenote_call = [state](std::size_t number) { cenote_backward(*state, state->set(number)); };
  const auto into_call = [state](std::size_t number) {
    const Buffers& set = state->set(number);
    const cenote::ConstTensorView kept =
        set.kept.defined() ? cenote::ConstTensorView(view_of(set.kept)) : cenote::ConstTensorView();
    state->op->backward(view_of(set.grad_x), view_of(set.grad_y), &kept, state->subject.arguments);
  };
  const auto torch_call = [state](std::size_t number) { torch_backward(*state, state->set(number)); };
  return {{"cenote", cenote_call}, {"cenote into", into_call}, {"torch", torch_call}};
}

}  // namespace

std::string Row::name() const {
  return fmt::format("{} [{}] {} {}", op, fmt::join(shape, ","), layout, pass);
}

std::vector<Row> all_rows(bool quick) {
  std::vector<std::vector<std::int64_t>> shapes{{32, 64, 112, 112}, {1, 64, 112, 112}, {32, 128, 28, 28}};
  if (quick) shapes.erase(shapes.begin());
  std::vector<Row> rows;
  for (const auto& shape : shapes) {
    for (const Subject& subject : subjects()) {
      for (const char* layout : {"channels-first", "channels-last"}) {
        for (const char* pass : passes_of(subject)) rows.push_back({subject.title, shape, layout, pass});
      }
    }
  }
  return rows;
}

Contest prepare(const Row& row, std::int64_t working_set) {
  const auto state = std::make_shared<State>();
  state->subject = subject_of(row);
  state->op = cenote::find_op(state->subject.name);
  state->x_sizes = Dims(row.shape.data(), row.shape.size());
  Contest contest;
  do {
    Buffers set = make_buffers(*state, row);
    contest.bytes_moved =
        bytes_moved(set, row.pass, state->op->reads_indices || row.pass == "forward+indices");
    const std::int64_t half = contest.bytes_moved / 2;
    set.copy_from = at::ones({half}, at::kByte);
    set.copy_to = at::zeros({half}, at::kByte);
    state->sets.push_back(std::move(set));
    contest.working_set += contest.bytes_moved;
  } while (contest.working_set < working_set);
  check_outputs(*state, row);
  contest.contenders = row.pass == "backward" ? backward_contenders(state)
                                              : forward_contenders(state, row.pass == "forward+indices");
  contest.contenders.push_back({"copy", [state](std::size_t number) { copy(state->set(number)); }});
  return contest;
}

}  // namespace cenote_bench
