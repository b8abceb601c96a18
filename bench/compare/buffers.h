// The tensors of a row: as many sets as the calls walk through.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cases.h"
#include "cenote/registry.h"
#include "subjects.h"

namespace cenote_bench {

/// One set of tensors that a call works on.
struct Buffers {
  at::Tensor x;
  std::vector<at::Tensor> y;  // one per repetition of the op
  at::Tensor indices;         // of the last y, or those that unpooling reads
  at::Tensor kept;            // what the backward reads beside grad_y
  at::Tensor grad_y, grad_x;
  /// What autograd knows the way back from, to `leaf`: for the backward of expressions, and for the pass
  /// autograd, which records anew.
  at::Tensor leaf, cenote_recorded, torch_recorded;
};

/// Everything that the calls of one row share.
struct State {
  Row row;
  Subject subject;
  const cenote::OpInfo* op = nullptr;
  std::vector<Buffers> sets;
  std::int64_t bytes_moved = 0;  // read and written by one call of cenote

  const Buffers& set(std::size_t number) const { return sets[number % sets.size()]; }
  const cenote::OpArguments& arguments() const { return row.op.arguments; }
  std::int64_t working_set() const { return bytes_moved * static_cast<std::int64_t>(sets.size()); }
};

/// Allocates sets until their inputs and outputs together pass `working_set` bytes, and fills them.
State make_state(const Row& row, std::int64_t working_set);

cenote::TensorView view_of(const at::Tensor& tensor);

/// Two stretches of memory of `bytes` each, for copies; they stay for later rows.
struct CopySpace {
  char* from = nullptr;
  char* to = nullptr;
};
CopySpace copy_space(std::int64_t bytes);

}  // namespace cenote_bench
