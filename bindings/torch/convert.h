// Between torch's types and cenote's: sizes, dtypes, views, layouts, errors.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "cenote/error.h"
#include "cenote/registry.h"
#include "cenote/tensor.h"

namespace cenote::torch_ops {

/// Runs `body`; a cenote::Error leaves as c10::ValueError (ValueError in Python) with the same text.
template <class Body>
auto translate_errors(Body&& body) {
  try {
    return std::forward<Body>(body)();
  } catch (const Error& error) {
    TORCH_CHECK_VALUE(false, error.what());
  }
}

Dims to_dims(at::IntArrayRef values);
at::IntArrayRef to_array_ref(const Dims& dims);
/// Sizes as plain numbers. Symbolic sizes of torch.compile are fixed to the value of the traced input.
Dims sizes_of(const at::Tensor& tensor);

at::ScalarType to_scalar_type(DType dtype);
/// Throws Error, naming `op` and `argument`, for the dtypes that cenote does not know.
DType to_dtype(at::ScalarType type, const OpInfo& op, const char* argument);
/// Throws Error unless `tensor` is of a dtype that is pooled.
void require_pooled_dtype(const at::Tensor& tensor, const OpInfo& op, const char* argument);
/// Throws Error unless `tensor` is of a floating dtype.
void require_gradient_dtype(const at::Tensor& tensor, const OpInfo& op, const char* argument);

ConstTensorView const_view(const at::Tensor& tensor, const OpInfo& op, const char* argument);
/// A copy.
at::Tensor to_tensor(const ConstTensorView& view, const char* argument);
TensorView mutable_view(const at::Tensor& tensor, const OpInfo& op, const char* argument);

/// Whether [N, C, spatial...] or [C, spatial...] lies in memory with the channels innermost. Agrees with
/// suggest_memory_format where torch has a word for it (batched 2-D and 3-D).
bool is_channels_last(const at::Tensor& tensor, int spatial_rank);
/// An uninitialised dense tensor on the device of `like`, with either layout.
at::Tensor empty_dense(const Dims& sizes, at::ScalarType type, const at::Tensor& like, bool channels_last,
                       int spatial_rank);

/// The values as a tensor on the device of `like`, a constant to all of torch's transforms.
at::Tensor constant(const std::vector<std::int64_t>& values, const at::Tensor& like);
at::Tensor constant(const std::vector<double>& values, const at::Tensor& like);

}  // namespace cenote::torch_ops
