// From a parsed TensorProto to a Value; internal to the reader.
#pragma once

#include <onnx/onnx_pb.h>

#include <string>

#include "network/onnx/value.h"

namespace cenote::network::onnx {

/// `where` opens the error texts: "x/input_0.pb", or "initializer 'w' of x/model.onnx".
Value decode_tensor(const ::onnx::TensorProto& tensor, const std::string& where);

}  // namespace cenote::network::onnx
