// Random numbers are drawn once and copied from then on: large tensors repeat them, with a period that is no
// multiple of anything.
#include "buffers.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <stdexcept>
#include <utility>

#include "cenote/torch/ops.h"

namespace cenote_bench {

namespace {

namespace torch_ops = cenote::torch_ops;
using cenote::Dims;
using cenote::DType;

at::ScalarType scalar_type_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return at::kDouble;
    case DType::f16:
      return at::kHalf;
    case DType::bf16:
      return at::kBFloat16;
    case DType::i8:
      return at::kChar;
    case DType::u8:
      return at::kByte;
    case DType::f32:
      return at::kFloat;
    default:
      throw std::logic_error("no row has this dtype");
  }
}

DType dtype_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kDouble:
      return DType::f64;
    case at::kHalf:
      return DType::f16;
    case at::kBFloat16:
      return DType::bf16;
    case at::kChar:
      return DType::i8;
    case at::kByte:
      return DType::u8;
    case at::kLong:
      return DType::i64;
    case at::kUInt16:
      return DType::u16;
    default:
      return DType::f32;
  }
}

const at::Tensor& random_block(at::ScalarType type) {
  constexpr std::int64_t kElements = (1 << 20) + 7;
  static std::map<at::ScalarType, at::Tensor> blocks;
  at::Tensor& block = blocks[type];
  if (block.defined()) return block;
  at::manual_seed(1);
  const bool floating = at::isFloatingType(type);
  block =
      (floating ? at::randn(kElements) : at::randint(-100, 100, kElements).add(type == at::kByte ? 100 : 0))
          .to(type);
  return block;
}

at::Tensor fill(at::Tensor tensor) {
  const at::Tensor& block = random_block(tensor.scalar_type());
  auto* to = static_cast<char*>(tensor.mutable_data_ptr());
  for (std::size_t left = tensor.nbytes(); left > 0;) {
    const std::size_t bytes = std::min(left, block.nbytes());
    std::memcpy(to, block.const_data_ptr(), bytes);
    to += bytes;
    left -= bytes;
  }
  return tensor;
}

at::Tensor random_tensor(const std::vector<std::int64_t>& shape, const Row& row) {
  auto format = at::MemoryFormat::Contiguous;
  if (row.layout == kChannelsLast && shape.size() == 4) format = at::MemoryFormat::ChannelsLast;
  if (row.layout == kChannelsLast && shape.size() == 5) format = at::MemoryFormat::ChannelsLast3d;
  return fill(at::empty(shape, at::TensorOptions().dtype(scalar_type_of(row.dtype)).memory_format(format)));
}

/// x and indices of an unpooling come from a pooling.
void prepare_unpool(const State& state, Buffers& set) {
  std::vector<std::int64_t> pooled = state.row.shape;
  pooled[2] *= 2;
  pooled[3] *= 2;
  std::tie(set.x, set.indices) = torch_ops::pool_with_indices(
      *cenote::find_op("max_pool2d"), random_tensor(pooled, state.row), state.arguments());
  set.y = {torch_ops::unpool(*state.op, set.x, set.indices, state.arguments())};
  set.kept = set.indices;
}

void prepare_pool(const State& state, Buffers& set) {
  set.x = random_tensor(state.row.shape, state.row);
  at::Tensor last = set.x;
  for (int i = 1; i < state.row.op.repeat; ++i) {
    set.y.push_back(torch_ops::pool(*state.op, last, state.arguments()));
    last = set.y.back();
  }
  const bool backward = state.row.pass == kBackward;
  if (state.op->records_indices && (backward || state.row.pass == kForwardIndices)) {
    auto [y, indices] = torch_ops::pool_with_indices(*state.op, last, state.arguments());
    set.y.push_back(y);
    set.indices = indices;
    if (backward) set.kept = std::get<1>(torch_ops::pool_with_taps(*state.op, last, state.arguments()));
  } else {
    set.y.push_back(torch_ops::pool(*state.op, last, state.arguments()));
    if (state.op->gradient_reads_x) set.kept = set.x;
  }
}

void record(const State& state, Buffers& set) {
  const at::AutoGradMode with_gradients(true);
  set.leaf = set.x.detach().requires_grad_();
  if (state.row.pass == kAutograd) return;
  set.cenote_recorded = torch_ops::pool(*state.op, set.leaf, state.arguments());
  set.torch_recorded = state.subject.forward(set.leaf);
}

void prepare_gradients(const State& state, Buffers& set) {
  if (state.row.pass != kBackward && state.row.pass != kAutograd) return;
  set.grad_y = fill(at::empty_like(set.y.back()));
  set.grad_x = at::zeros_like(set.x);
  if (state.row.pass == kAutograd || state.subject.is_expression()) record(state, set);
}

Buffers first_set(const State& state) {
  Buffers set;
  if (state.op->reads_indices) {
    prepare_unpool(state, set);
  } else {
    prepare_pool(state, set);
  }
  prepare_gradients(state, set);
  return set;
}

Buffers another_set(const State& state) {
  const Buffers& first = state.sets.front();
  const auto copied = [](const at::Tensor& tensor) { return tensor.defined() ? tensor.clone() : tensor; };
  Buffers set;
  set.x = copied(first.x);
  for (const at::Tensor& y : first.y) set.y.push_back(copied(y));
  set.indices = copied(first.indices);
  if (first.kept.is_same(first.x)) {
    set.kept = set.x;
  } else {
    set.kept = first.kept.is_same(first.indices) ? set.indices : copied(first.kept);
  }
  prepare_gradients(state, set);
  return set;
}

std::int64_t bytes_of(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<std::int64_t>(tensor.nbytes()) : 0;
}

std::int64_t bytes_moved(const State& state, const Buffers& set) {
  const std::int64_t backward = bytes_of(set.grad_y) + bytes_of(set.kept) + bytes_of(set.grad_x);
  if (state.row.pass == kBackward) return backward;
  std::int64_t forward = bytes_of(set.x);
  for (const at::Tensor& y : set.y) forward += 2 * bytes_of(y);  // written, and read by the next repetition
  forward -= bytes_of(set.y.back());
  if (state.row.pass == kAutograd) return forward + backward;
  return forward + bytes_of(set.indices);
}

}  // namespace

cenote::TensorView view_of(const at::Tensor& tensor) {
  const auto dims = [](at::IntArrayRef values) { return Dims(values.data(), values.size()); };
  return {tensor.data_ptr(), dtype_of(tensor), dims(tensor.sizes()), dims(tensor.strides())};
}

State make_state(const Row& row, std::int64_t working_set) {
  State state{row, subject_of(row.op), cenote::find_op(row.op.name), {}};
  state.sets.push_back(first_set(state));
  state.bytes_moved = bytes_moved(state, state.sets.front());
  while (row.data == Data::kMemory && state.working_set() < working_set)
    state.sets.push_back(another_set(state));
  return state;
}

CopySpace copy_space(std::int64_t bytes) {
  static at::Tensor from, to;
  if (!from.defined() || bytes_of(from) < bytes) {
    from = to = at::Tensor();
    from = at::ones({bytes}, at::kByte);
    to = at::zeros({bytes}, at::kByte);
  }
  return {static_cast<char*>(from.mutable_data_ptr()), static_cast<char*>(to.mutable_data_ptr())};
}

}  // namespace cenote_bench
