// Forward and backward of cenote and torch allocate what they return, as a user's call does; "cenote into",
// the peers and the copy write to memory that is there. The backward of an op for which torch has an
// expression only is that of autograd, of a recorded forward.
#include "contest.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#ifdef __x86_64__
#include <emmintrin.h>
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <utility>

#include "buffers.h"
#include "cenote/torch/ops.h"
#include "heap.h"

namespace cenote_bench {

namespace {

namespace torch_ops = cenote::torch_ops;
using cenote::Dims;
using SharedState = std::shared_ptr<const State>;

constexpr const char* kTorchPool = "OpenMP";

// ---- calls --------------------------------------------------------------------------------------

using Call = std::function<Output(const State& state, const Buffers& set)>;

at::Tensor gradient(const at::Tensor& y, const Buffers& set, bool retain) {
  return torch::autograd::grad({y}, {set.leaf}, {set.grad_y}, retain)[0];
}

Output cenote_forward(const State& state, const Buffers& set) {
  if (state.op->reads_indices)
    return {torch_ops::unpool(*state.op, set.x, set.indices, state.arguments()), {}};
  if (state.row.pass == kForwardIndices)
    return torch_ops::pool_with_indices(*state.op, set.x, state.arguments());
  at::Tensor y = set.x;
  for (int i = 0; i < state.row.op.repeat; ++i) y = torch_ops::pool(*state.op, y, state.arguments());
  return {y, {}};
}

Output cenote_backward(const State& state, const Buffers& set) {
  if (state.subject.is_expression()) return {gradient(set.cenote_recorded, set, true), {}};
  const Dims x_sizes(set.x.sizes().data(), set.x.sizes().size());
  return {torch_ops::pool_backward(*state.op, set.grad_y, set.kept, x_sizes, state.arguments()), {}};
}

Output cenote_autograd(const State& state, const Buffers& set) {
  const at::AutoGradMode with_gradients(true);
  at::Tensor y = set.leaf;
  for (int i = 0; i < state.row.op.repeat; ++i) y = torch_ops::pool(*state.op, y, state.arguments());
  return {gradient(y, set, false), {}};
}

Output into_forward(const State& state, const Buffers& set) {
  const bool given = state.op->reads_indices || state.row.pass == kForwardIndices;
  const cenote::TensorView record = given ? view_of(set.indices) : cenote::TensorView();
  const at::Tensor* x = &set.x;
  for (const at::Tensor& y : set.y) {
    state.op->forward(view_of(y), given ? &record : nullptr, view_of(*x), state.arguments());
    x = &y;
  }
  return {};
}

Output into_backward(const State& state, const Buffers& set) {
  const cenote::ConstTensorView kept =
      set.kept.defined() ? cenote::ConstTensorView(view_of(set.kept)) : cenote::ConstTensorView();
  state.op->backward(view_of(set.grad_x), view_of(set.grad_y), &kept, state.arguments());
  return {};
}

Output torch_forward(const State& state, const Buffers& set) {
  if (state.op->reads_indices) return {state.subject.unpool(set.x, set.indices), {}};
  if (state.row.pass == kForwardIndices) return state.subject.forward_indices(set.x);
  at::Tensor y = set.x;
  for (int i = 0; i < state.row.op.repeat; ++i) y = state.subject.forward(y);
  return {y, {}};
}

Output torch_backward(const State& state, const Buffers& set) {
  if (state.subject.is_expression()) return {gradient(set.torch_recorded, set, true), {}};
  return {state.subject.backward(set.grad_y, set.x, set.indices), {}};
}

Output torch_autograd(const State& state, const Buffers& set) {
  const at::AutoGradMode with_gradients(true);
  at::Tensor y = set.leaf;
  for (int i = 0; i < state.row.op.repeat; ++i) y = state.subject.forward(y);
  return {gradient(y, set, false), {}};
}

/// `into` may be empty.
struct Calls {
  Call cenote, into, torch;
};

Calls calls_of(const std::string& pass) {
  if (pass == kBackward) return {cenote_backward, into_backward, torch_backward};
  if (pass == kAutograd) return {cenote_autograd, {}, torch_autograd};
  return {cenote_forward, into_forward, torch_forward};
}

using Copy = void (*)(char* to, const char* from, std::int64_t bytes);

void copy_plainly(char* to, const char* from, std::int64_t bytes) {
  std::memcpy(to, from, static_cast<std::size_t>(bytes));
}

#ifdef __x86_64__
/// By stores past the caches, of whole lines.
void copy_past_caches(char* to, const char* from, std::int64_t bytes) {
  constexpr std::int64_t kLine = 64;
  constexpr auto kVector = static_cast<std::int64_t>(sizeof(__m128i));
  const auto into_line = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(to) % kLine);
  const std::int64_t head = std::min(bytes, (kLine - into_line) % kLine);
  copy_plainly(to, from, head);
  std::int64_t at = head;
  for (; at + kLine <= bytes; at += kLine) {
    for (std::int64_t i = at; i < at + kLine; i += kVector)
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + i),
                       _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)));
  }
  copy_plainly(to + at, from + at, bytes - at);
  _mm_sfence();
}
#endif

/// Half of the bytes is read, and half written.
std::function<void(std::size_t)> copy_call(std::int64_t bytes, std::size_t sets, Copy copy) {
  const std::int64_t half = bytes / 2;
  const CopySpace space = copy_space(half * static_cast<std::int64_t>(sets));
  return [half, sets, space, copy](std::size_t number) {
    constexpr std::int64_t kGrain = 1 << 16;
    const std::int64_t offset = half * static_cast<std::int64_t>(number % sets);
    at::parallel_for(0, half, kGrain, [&](std::int64_t begin, std::int64_t end) {
      copy(space.to + offset + begin, space.from + offset + begin, end - begin);
    });
  };
}

// ---- checks -------------------------------------------------------------------------------------

double relative_bound(at::ScalarType type) {
  switch (type) {
    case at::kHalf:
      return 2e-3;  // one rounding of 2^-11, and one of torch's intermediate values
    case at::kBFloat16:
      return 1.6e-2;  // 2^-8 likewise
    case at::kDouble:
      return 1e-12;
    default:
      return 1e-5;
  }
}

/// Sums round relative to their terms, which may cancel out: the absolute part is relative to the largest
/// element.
bool close(const at::Tensor& ours, const at::Tensor& expected) {
  if (!at::isFloatingType(expected.scalar_type())) return at::equal(ours, expected);
  const double relative = relative_bound(expected.scalar_type());
  const double largest = expected.numel() == 0 ? 0 : expected.abs().max().item<double>();
  return at::allclose(ours, expected, relative, relative * largest);
}

void require_close(const Row& row, const std::string& name, const at::Tensor& ours,
                   const at::Tensor& expected) {
  if (!close(ours, expected))
    throw std::runtime_error(fmt::format("{}: {} differs from torch", row.name(), name));
}

const at::Tensor& written_by_into(const State& state, const Buffers& set) {
  return state.row.pass == kBackward ? set.grad_x : set.y.back();
}

/// What torch gives for the first set. Where it refuses its layout, as 8-bit integers channels-last,
/// `refusal` says why, and it is asked channels-first.
Output ask_torch(const State& state, const Calls& calls, std::string& refusal) {
  Buffers set = state.sets.front();
  try {
    return calls.torch(state, set);
  } catch (const c10::Error& error) {
    refusal = error.what_without_backtrace();
    refusal = refusal.substr(0, refusal.find('\n'));
  }
  set.x = set.x.contiguous();
  return calls.torch(state, set);
}

void check_cenote(const State& state, const Calls& calls, const Output& expected) {
  const Buffers& set = state.sets.front();
  const Output ours = calls.cenote(state, set);
  require_close(state.row, kCenote, std::get<0>(ours), std::get<0>(expected));
  const bool indices = state.row.pass == kForwardIndices;
  const auto require_indices = [&](const at::Tensor& some) {
    if (!at::equal(some, std::get<1>(expected)))
      throw std::runtime_error(fmt::format("{}: the indices differ from torch", state.row.name()));
  };
  if (indices) require_indices(std::get<1>(ours));
  if (!calls.into) return;
  written_by_into(state, set).zero_();
  calls.into(state, set);
  require_close(state.row, kCenoteInto, written_by_into(state, set), std::get<0>(expected));
  if (indices) require_indices(set.indices);
}

std::int64_t extra_bytes(const State& state, const Call& call) {
  const HeapWatch watch;
  const Output result = call(state, state.sets.front());
  return watch.peak() - watch.live();
}

// ---- peers --------------------------------------------------------------------------------------

std::string contender_name(const Peer& peer, PeerLayout layout) {
  return layout == PeerLayout::kOwn ? peer.name() + " blocked" : peer.name();
}

void add_peer(Contest& contest, const SharedState& state, Peer& peer, PeerLayout layout,
              const at::Tensor& expected) {
  const std::string name = contender_name(peer, layout);
  const std::optional<Problem> problem =
      problem_of(state->row, state->sets.front().y.back().sizes().vec(), layout, at::get_num_threads());
  if (!problem) return;
  try {
    const HeapWatch watch;
    const std::shared_ptr<PreparedPool> pool = peer.prepare(*problem);
    const auto bind = [&](const Buffers& set) {
      const bool backward = problem->backward;
      pool->bind({set.x.const_data_ptr(), set.y.back().mutable_data_ptr(),
                  backward ? set.grad_y.const_data_ptr() : nullptr,
                  backward ? set.grad_x.mutable_data_ptr() : nullptr});
    };
    bind(state->sets.front());
    const at::Tensor& result = written_by_into(*state, state->sets.front());
    result.zero_();
    pool->run_and_fetch();
    if (peer.process() == 0)
      contest.extra_bytes[name] = std::max<std::int64_t>(0, watch.peak() - pool->data_bytes());
    if (!close(result, expected)) throw Unsupported(kDiffers);
    for (std::size_t i = 1; i < state->sets.size(); ++i) bind(state->sets[i]);
    contest.contenders.push_back({name, peer.pool(), [pool](const Turn& turn) { return pool->turn(turn); }});
  } catch (const Unsupported& reason) {
    contest.left_out[name] = reason.what();
  }
}

}  // namespace

Contest prepare(const Row& row, std::int64_t working_set, const Peers& peers) {
  const SharedState state = std::make_shared<const State>(make_state(row, working_set));
  const Calls calls = calls_of(row.pass);
  Contest contest;
  contest.bytes_moved = state->bytes_moved;
  contest.working_set = state->working_set();
  contest.keeps = state;
  std::string refusal;
  const Output expected = ask_torch(*state, calls, refusal);
  check_cenote(*state, calls, expected);
  const auto add = [&](const char* name, const Call& call) {
    if (!call) return;
    contest.extra_bytes[name] = extra_bytes(*state, call);
    contest.contenders.push_back({name, kTorchPool, local_turn([state, call](std::size_t number) {
                                    call(*state, state->set(number));
                                  })});
  };
  add(kCenote, calls.cenote);
  add(kCenoteInto, calls.into);
  if (refusal.empty()) {
    add(kTorch, calls.torch);
  } else {
    contest.left_out[kTorch] = refusal;
  }
  const auto add_copy = [&](const char* name, Copy copy) {
    contest.contenders.push_back(
        {name, kTorchPool, local_turn(copy_call(state->bytes_moved, state->sets.size(), copy))});
  };
  add_copy(kCopy, copy_plainly);
#ifdef __x86_64__
  if (row.data == Data::kMemory) add_copy(kCopyPastCaches, copy_past_caches);
#endif
  for (const std::unique_ptr<Peer>& peer : peers.found) {
    for (const PeerLayout layout : layouts_for(*peer, row)) {
      add_peer(contest, state, *peer, layout, std::get<0>(expected));
    }
  }
  return contest;
}

}  // namespace cenote_bench
