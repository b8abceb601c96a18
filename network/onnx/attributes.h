// Reading the attributes of a node, with ONNX's defaults; a wrong kind or number of values is kBadFile.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "network/onnx/ops.h"

namespace cenote::network::onnx {

std::int64_t int_attribute(const Call& call, std::string_view name, std::int64_t missing);
/// An integer, or a float as the first versions of some operators have it.
double number_attribute(const Call& call, std::string_view name, double missing);
/// 0 or 1.
bool bool_attribute(const Call& call, std::string_view name);
std::string string_attribute(const Call& call, std::string_view name, std::string_view missing);
/// Absent when the node does not have it.
std::optional<std::vector<std::int64_t>> ints_attribute(const Call& call, std::string_view name);

/// The elements of an i64 input of rank 1 (or 0), such as the axes of Squeeze; absent when it is omitted.
std::optional<std::vector<std::int64_t>> ints_input(const Call& call, std::size_t index,
                                                    std::string_view name);

}  // namespace cenote::network::onnx
