// Checks that all families share: views become Tensor5, outputs are allocated in the layout of the input.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "backend.h"
#include "cenote/tensor.h"
#include "core/tensor5.h"

namespace cenote {

/// An op of one spatial rank, as the error texts name it.
struct OpName {
  std::string_view name;
  int spatial_rank;  // 1, 2 or 3
};

/// Names of an op for spatial rank 1, 2, 3.
using OpNames = std::array<std::string_view, 3>;
inline OpName op_of(const OpNames& names, int spatial_rank) {
  return {names[static_cast<std::size_t>(spatial_rank - 1)], spatial_rank};
}

/// Rank spatial_rank + 1 or + 2, sizes >= 0, only the batch may be 0, element count within 63 bits.
void check_input_sizes(const OpName& op, const Dims& sizes);
/// The spatial sizes as D, H, W; missing ones are 1.
std::array<std::int64_t, 3> spatial_sizes(const OpName& op, const Dims& sizes);
/// `sizes` with its spatial part replaced by the last spatial_rank values of `spatial`.
Dims with_spatial_sizes(const OpName& op, const Dims& sizes, const std::array<std::int64_t, 3>& spatial);

/// One value per axis from one value or one per axis; D, H, W, missing axes get `missing`.
std::array<std::int64_t, 3> per_axis(const OpName& op, std::string_view argument, const Dims& values,
                                     std::int64_t missing);

/// The bytes of a view whose elements lie one after the other, with the channels first or last; 0 of any
/// other view, of one without elements, and where they overflow.
std::int64_t dense_bytes(const OpName& op, DType dtype, const Dims& sizes, const Dims& strides);
/// A read argument: consistent sizes and strides, data, alignment, extent.
ConstTensor5 read_argument(const OpName& op, std::string_view argument, const ConstTensorView& view);
/// A written argument: also of exactly these sizes, and no element stored twice.
Tensor5 written_argument(const OpName& op, std::string_view argument, const TensorView& view,
                         const Dims& sizes);

/// `view` has exactly these sizes.
void check_sizes(const OpName& op, std::string_view argument, const Dims& sizes, const Dims& expected);
/// Any dtype that is pooled.
void check_pooled_dtype(const OpName& op, std::string_view argument, DType dtype);
/// f32, f64, f16 or bf16.
void check_floating_dtype(const OpName& op, std::string_view argument, DType dtype);
void check_same_dtype(const OpName& op, std::string_view argument, DType dtype, DType expected);
/// No byte of `written` belongs to `other` too.
void check_no_overlap(const OpName& op, std::string_view argument, const TensorView& written,
                      std::string_view other_argument, const ConstTensorView& other);
/// i64, or a dtype of compact taps at least as wide as `tap_dtype`.
void check_indices_dtype(const OpName& op, DType dtype, DType tap_dtype);
/// u8 below 255 taps, u16 below 65,535, else i64.
DType tap_dtype_of(std::int64_t taps);

/// True when the channels of the view lie next to each other and its spatial positions do not.
bool is_channels_last(const OpName& op, const Dims& sizes, const Dims& strides);
/// A tensor of `sizes` in the layout of a view with `like` strides.
Tensor output_like(const OpName& op, DType dtype, const Dims& sizes, const ConstTensorView& like);

/// Throws when max_backward met an index outside the plane.
void check_bad_index(const OpName& op, const std::optional<std::int64_t>& bad_index, const Dims& x_sizes);

}  // namespace cenote
