// The checks of a pooling call, the same for every family: a family says which sizes y has and which loops
// to run, the functions here check each argument against that and then run them.
#pragma once

#include <cmath>

#include "core/check.h"
#include "ops/tensor_check.h"
#include "ops/working_dtype.h"

namespace cenote {

/// The tensors of a forward call.
struct PoolTensors {
  Tensor5 y;
  Tensor5 record;
  bool records = false;  // else there is no record
  ConstTensor5 x;

  const Tensor5* indices() const { return records ? &record : nullptr; }

  /// The same tensors elsewhere.
  void place(const TensorView& at_y, const TensorView* at_indices, const ConstTensorView& at_x) {
    y.data = at_y.data;
    if (at_indices != nullptr) record.data = at_indices->data;
    x.data = at_x.data;
  }
};

inline PoolTensors check_pool(const OpName& op, const TensorView& y, const ConstTensorView& x,
                              const Dims& y_sizes) {
  check_pooled_dtype(op, "x", x.dtype);
  check_same_dtype(op, "y", y.dtype, x.dtype);
  PoolTensors tensors;
  tensors.x = read_argument(op, "x", x);
  tensors.y = written_argument(op, "y", y, y_sizes);
  check_no_overlap(op, "y", y, "x", x);
  return tensors;
}

inline PoolTensors check_max(const OpName& op, const TensorView& y, const TensorView* indices,
                             const ConstTensorView& x, const Dims& y_sizes, DType tap_dtype) {
  PoolTensors tensors = check_pool(op, y, x, y_sizes);
  if (indices == nullptr) return tensors;
  check_indices_dtype(op, indices->dtype, tap_dtype);
  tensors.record = written_argument(op, "indices", *indices, y_sizes);
  tensors.records = true;
  check_no_overlap(op, "indices", *indices, "x", x);
  check_no_overlap(op, "indices", *indices, "y", y);
  return tensors;
}

/// run(loops, y, indices or null, x); with Order::kReversed for a minimum. run_narrow: see
/// pool_in_working_dtype.
template <class Run, class RunNarrow = NoNarrowLoops>
void run_max(const PoolTensors& tensors, Order order, const Run& run, const RunNarrow& run_narrow = {}) {
  pool_in_working_dtype(tensors.y, tensors.indices(), tensors.x, false, order, run, run_narrow);
}
template <class Run, class RunNarrow = NoNarrowLoops>
void run_max(const OpName& op, const TensorView& y, const TensorView* indices, const ConstTensorView& x,
             const Dims& y_sizes, DType tap_dtype, Order order, const Run& run,
             const RunNarrow& run_narrow = {}) {
  run_max(check_max(op, y, indices, x, y_sizes, tap_dtype), order, run, run_narrow);
}

/// run(loops, grad_x, grad_y, indices) returns an index outside the plane, if it met one; run_narrow, with
/// the same arguments, as in pool_in_working_dtype.
template <class Run, class RunNarrow = NoNarrowLoops>
void run_max_backward(const OpName& op, const TensorView& grad_x, const ConstTensorView& grad_y,
                      const ConstTensorView& indices, const Dims& y_sizes, DType tap_dtype, const Run& run,
                      const RunNarrow& run_narrow = {}) {
  check_floating_dtype(op, "grad_x", grad_x.dtype);
  check_same_dtype(op, "grad_y", grad_y.dtype, grad_x.dtype);
  check_indices_dtype(op, indices.dtype, tap_dtype);
  check_sizes(op, "grad_y", grad_y.sizes, y_sizes);
  check_sizes(op, "indices", indices.sizes, y_sizes);
  const ConstTensor5 from = read_argument(op, "grad_y", grad_y);
  const ConstTensor5 record = read_argument(op, "indices", indices);
  const Tensor5 to = written_argument(op, "grad_x", grad_x, grad_x.sizes);
  check_no_overlap(op, "grad_x", grad_x, "grad_y", grad_y);
  check_no_overlap(op, "grad_x", grad_x, "indices", indices);
  const auto bad = gradient_in_working_dtype(
      to, from, &record,
      [&](const Backend& loops, const Tensor5& out, const ConstTensor5& in, const ConstTensor5* where) {
        return run(loops, out, in, *where);
      },
      [&](const Backend& loops, const Tensor5& out, const ConstTensor5& in, const ConstTensor5* where) {
        return run_narrow(loops, out, in, *where);
      });
  check_bad_index(op, bad, grad_x.sizes);
}

/// run(loops, y, x); run_narrow, with the same arguments, as in pool_in_working_dtype.
template <class Run, class RunNarrow = NoNarrowLoops>
void run_avg(const PoolTensors& tensors, const Run& run, const RunNarrow& run_narrow = {}) {
  pool_in_working_dtype(
      tensors.y, nullptr, tensors.x, true, Order::kAscending,
      [&](const Backend& loops, const Tensor5& out, const Tensor5*, const ConstTensor5& in) {
        run(loops, out, in);
      },
      [&](const Backend& loops, const Tensor5& out, const Tensor5*, const ConstTensor5& in) {
        return run_narrow(loops, out, in);
      });
}

/// run(loops, y, x)
template <class Run>
void run_avg(const OpName& op, const TensorView& y, const ConstTensorView& x, const Dims& y_sizes,
             const Run& run) {
  run_avg(check_pool(op, y, x, y_sizes), run);
}

/// i8 or u8; scales > 0, zero points within the range of the type.
inline void check_quantization(const OpName& op, DType dtype, const Quantization& quantization) {
  require(dtype == DType::i8 || dtype == DType::u8, op.name,
          "x dtype must be i8 or u8 with quantization, got ", name_of(dtype));
  const std::int64_t least = dtype == DType::i8 ? -128 : 0;
  const auto check_side = [&](std::string_view side, double scale, std::int64_t zero_point) {
    require(scale > 0 && std::isfinite(scale), op.name, side, "_scale must be finite and > 0, got ", scale);
    require(zero_point >= least && zero_point <= least + 255, op.name, side, "_zero_point must lie in [",
            least, ", ", least + 255, "], got ", zero_point);
  };
  check_side("x", quantization.x_scale, quantization.x_zero_point);
  check_side("y", quantization.y_scale, quantization.y_zero_point);
  require(std::isfinite(quantization.x_scale / quantization.y_scale), op.name,
          "x_scale / y_scale must be finite, got ", quantization.x_scale, " / ", quantization.y_scale);
}

/// run(loops, y, x)
template <class Run>
void run_quantized_avg(const OpName& op, const TensorView& y, const ConstTensorView& x, const Dims& y_sizes,
                       const Quantization& quantization, const Run& run) {
  check_quantization(op, x.dtype, quantization);
  const PoolTensors tensors = check_pool(op, y, x, y_sizes);
  pool_quantized(tensors.y, tensors.x, quantization, run);
}

/// run(loops, y, x)
template <class Run>
void run_avg(const OpName& op, const TensorView& y, const ConstTensorView& x, const Dims& y_sizes,
             const std::optional<Quantization>& quantization, const Run& run) {
  if (quantization) return run_quantized_avg(op, y, x, y_sizes, *quantization, run);
  run_avg(op, y, x, y_sizes, run);
}

inline void check_differentiable(const OpName& op, const std::optional<Quantization>& quantization) {
  require(!quantization, op.name, "quantization must not be set: integers have no gradient");
}

/// run(loops, grad_x, grad_y); run_narrow, with the same arguments, as in pool_in_working_dtype.
template <class Run, class RunNarrow = NoNarrowLoops>
void run_avg_backward(const OpName& op, const TensorView& grad_x, const ConstTensorView& grad_y,
                      const Dims& y_sizes, const Run& run, const RunNarrow& run_narrow = {}) {
  check_floating_dtype(op, "grad_x", grad_x.dtype);
  check_same_dtype(op, "grad_y", grad_y.dtype, grad_x.dtype);
  check_sizes(op, "grad_y", grad_y.sizes, y_sizes);
  const ConstTensor5 from = read_argument(op, "grad_y", grad_y);
  const Tensor5 to = written_argument(op, "grad_x", grad_x, grad_x.sizes);
  check_no_overlap(op, "grad_x", grad_x, "grad_y", grad_y);
  gradient_in_working_dtype(
      to, from, nullptr,
      [&](const Backend& loops, const Tensor5& out, const ConstTensor5& in,
          const ConstTensor5*) -> std::optional<std::int64_t> {
        run(loops, out, in);
        return std::nullopt;
      },
      [&](const Backend& loops, const Tensor5& out, const ConstTensor5& in, const ConstTensor5*) {
        return run_narrow(loops, out, in);
      });
}

/// y for x: checked, then allocated in the layout of x.
inline Tensor make_output(const OpName& op, const ConstTensorView& x, const Dims& y_sizes) {
  check_pooled_dtype(op, "x", x.dtype);
  read_argument(op, "x", x);
  return output_like(op, x.dtype, y_sizes, x);
}

/// Values and indices for x.
inline MaxPoolResult make_outputs(const OpName& op, const ConstTensorView& x, const Dims& y_sizes,
                                  DType indices_dtype, DType tap_dtype) {
  check_indices_dtype(op, indices_dtype, tap_dtype);
  return {make_output(op, x, y_sizes), output_like(op, indices_dtype, y_sizes, x)};
}

/// grad_x for grad_y, which must have y_sizes.
inline Tensor make_gradient(const OpName& op, const ConstTensorView& grad_y, const Dims& y_sizes,
                            const Dims& x_sizes) {
  check_sizes(op, "grad_y", grad_y.sizes, y_sizes);
  check_floating_dtype(op, "grad_y", grad_y.dtype);
  read_argument(op, "grad_y", grad_y);
  return output_like(op, grad_y.dtype, x_sizes, grad_y);
}

}  // namespace cenote
