// The pooling operators of ONNX on cenote's ops. Each throws cenote::Error: kBadFile for attributes that
// break ONNX's rules, kUnsupported for what cenote or the budget does not allow, kInvalidArgument from the op
// itself.
#pragma once

#include <vector>

#include "network/onnx/ops.h"

namespace cenote::network::onnx {

std::vector<Value> max_pool(const Call& call);
std::vector<Value> average_pool(const Call& call);
std::vector<Value> lp_pool(const Call& call);
std::vector<Value> global_max_pool(const Call& call);
std::vector<Value> global_average_pool(const Call& call);
std::vector<Value> global_lp_pool(const Call& call);
std::vector<Value> max_unpool(const Call& call);

}  // namespace cenote::network::onnx
