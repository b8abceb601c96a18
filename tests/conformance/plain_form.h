// What a case means: the options that only say something in another way, said plainly. The tests expect of a
// case what its plain form gives; nothing here is shared with the library.
#pragma once

#include <cstdint>
#include <vector>

#include "conformance/cases.h"

namespace cenote_test {

/// The padding that auto_pad stands for, given explicitly.
Case with_explicit_padding(Case one);

/// With explicit padding and indices that count inside planes. Quantized elements become f64, and their
/// values are those of real_input.
Case plain_form(const Case& one);

/// x as the numbers that its elements stand for, up to the scale of quantized ones.
std::vector<double> real_input(const Case& one);

/// The elements of `dtype` that stand for averages of real_input.
std::vector<double> quantized(const cenote::Quantization& quantization, cenote::DType dtype,
                              std::vector<double> numbers);

/// Positions inside the planes of a tensor of these sizes, as `order` counts them; -1 stays. They lie plane
/// after plane, equally many for each.
std::vector<std::int64_t> in_index_order(std::vector<std::int64_t> positions, const cenote::Dims& sizes,
                                         int spatial_rank, cenote::IndexOrder order);

}  // namespace cenote_test
