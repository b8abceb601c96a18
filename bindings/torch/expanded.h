// Ops whose gradient depends on the elements, as expressions that torch can differentiate further.
#pragma once

#include <ATen/core/Tensor.h>

#include "cenote/registry.h"

namespace cenote::torch_ops {

/// y of an op with gradient_reads_x.
at::Tensor expanded(const OpInfo& op, const at::Tensor& x, const OpArguments& arguments);

}  // namespace cenote::torch_ops
