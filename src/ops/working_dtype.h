// Pooling of the dtypes that have no loops of their own, or none for these windows: planes are widened into
// working memory, pooled there and rounded back, once, so that f16 and bf16 accumulate in f32 and integers
// exactly in f64. Minima are maxima of the reversed order. Planes of i64 whose sums, or the order of whose
// elements, f64 does not hold run the reference loops.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include "backend.h"
#include "core/aligned.h"
#include "core/parallel.h"

namespace cenote {

enum class Order { kAscending, kReversed };

/// f32 holds f16, bf16 and bytes exactly; sums of integers want f64.
inline DType working_dtype(DType dtype, bool sums) {
  switch (dtype) {
    case DType::f16:
    case DType::bf16:
      return DType::f32;
    case DType::i8:
    case DType::u8:
      return sums ? DType::f64 : DType::f32;
    case DType::i32:
    case DType::i64:
      return DType::f64;
    default:
      return dtype;
  }
}

/// One block of planes of a pooling call.
struct PlaneBlock {
  std::int64_t n;
  std::int64_t first;  // channel
  std::int64_t channels;
};

template <class Void>
BasicTensor5<Void> channels_of(const BasicTensor5<Void>& tensor, const PlaneBlock& block) {
  using Byte = std::conditional_t<std::is_const_v<Void>, const std::byte, std::byte>;
  BasicTensor5<Void> part = tensor;
  part.data =
      static_cast<Byte*>(tensor.data) + (block.n * tensor.stride[0] + block.first * tensor.stride[1]) *
                                            static_cast<std::int64_t>(size_of(tensor.dtype));
  part.first_channel = block.first;
  part.first_image = block.n;
  part.size[0] = 1;
  part.size[1] = block.channels;
  return part;
}

/// Working memory for one block of planes of a tensor: dense, with the channels last where `like` has them
/// so.
class WorkingPlanes {
 public:
  WorkingPlanes(DType dtype, const Array5& size, std::int64_t channels, bool channels_last) {
    tensor_.dtype = dtype;
    tensor_.size = {1, channels, size[2], size[3], size[4]};
    const std::int64_t step = channels_last ? channels : 1;
    const std::int64_t plane = size[2] * size[3] * size[4];
    tensor_.stride = {plane * channels, channels_last ? 1 : plane, size[3] * size[4] * step, size[4] * step,
                      step};
    const auto bytes = static_cast<std::size_t>(plane * channels) * size_of(dtype);
    memory_ = AlignedMemory(bytes);
    tensor_.data = memory_.get();
  }
  /// For the channels of `block`, at most those of the constructor.
  Tensor5 of(const PlaneBlock& block) const {
    Tensor5 tensor = tensor_;
    tensor.size[1] = block.channels;
    tensor.first_channel = block.first;
    tensor.first_image = block.n;
    return tensor;
  }

 private:
  Tensor5 tensor_;
  AlignedMemory memory_;
};

/// Outputs may be as many as a product of sizes allows, and none where one of those is 0.
inline bool is_empty(const Tensor5& tensor) {
  return std::find(tensor.size.begin(), tensor.size.end(), 0) != tensor.size.end();
}

inline ConstTensor5 as_const(const Tensor5& tensor) {
  return {tensor.data, tensor.dtype, tensor.size, tensor.stride, tensor.first_channel, tensor.first_image};
}

/// Channels that are worked on together: one plane, or neighbours in memory.
inline std::int64_t channels_together(const ConstTensor5& tensor) {
  constexpr std::int64_t kMost = 64;
  return tensor.stride[1] == 1 && tensor.size[1] > 1 ? std::min(kMost, tensor.size[1]) : 1;
}

/// Calls work(block) in parallel for all blocks of up to `channels` channels, which are of about one size: a
/// last channel on its own would be pooled by other loops than its neighbours. make_work() is called per
/// thread.
template <class MakeWork>
void for_each_block(const Array5& size, std::int64_t channels, const MakeWork& make_work) {
  const std::int64_t blocks = (size[1] + channels - 1) / channels;
  constexpr std::int64_t kGrain = 1 << 14;
  const std::int64_t elements = std::max<std::int64_t>(size[2] * size[3] * size[4] * channels, 1);
  parallel_for(size[0] * blocks, std::max<std::int64_t>(1, kGrain / elements),
               [&](std::int64_t begin, std::int64_t end) {
                 const SerialScope serial;
                 const auto work = make_work();
                 for (std::int64_t unit = begin; unit < end; ++unit) {
                   const std::int64_t block = unit % blocks;
                   const std::int64_t each = size[1] / blocks;
                   const std::int64_t more = size[1] % blocks;  // blocks have one channel more
                   const std::int64_t first = block * each + std::min(block, more);
                   work(PlaneBlock{unit / blocks, first, each + (block < more ? 1 : 0)});
                 }
               });
}

/// How f64 loops can pool an i64 tensor; null when they cannot. As numbers where f64 holds all elements
/// exactly, and for `sums` those of a plane, with room for quotients to be rounded towards zero; else in
/// their order, which is all that the choice of an element wants, where f64 has room for that.
using Conversion = void (*)(const Tensor5& to, const ConstTensor5& from, bool reverse);
inline Conversion conversion_to_f64(const Backend& loops, const ConstTensor5& x, bool sums) {
  constexpr std::uint64_t kEnds = std::uint64_t{1} << 63;
  const std::uint64_t magnitudes = loops.wide_integer.magnitudes(x);
  const auto positions = static_cast<std::uint64_t>(x.size[2] * x.size[3] * x.size[4]);
  if (std::bit_width(magnitudes) + (sums ? std::bit_width(positions) : 0) <= 52) return loops.convert.convert;
  return !sums && std::bit_width(magnitudes & ~kEnds) <= 62 ? loops.wide_integer.convert : nullptr;
}

/// One block by way of working memory, of which y is no part where its dtype is not that of x.
/// run(loops, y, record or null, x)
template <class Run>
void pool_block(const Backend& loops, Conversion convert, const Tensor5& to, const Tensor5* record,
                const ConstTensor5& from, const Tensor5& wide_to, const Tensor5& wide_from, bool reverse,
                const Run& run) {
  convert(wide_from, from, reverse);
  if (to.dtype != from.dtype) return run(loops, to, record, as_const(wide_from));
  run(loops, wide_to, record, as_const(wide_from));
  convert(to, as_const(wide_to), reverse);
}

/// Stands for loops of the narrow dtypes where there are none.
struct NoNarrowLoops {
  template <class... Arguments>
  bool operator()(const Arguments&...) const {
    return false;
  }
};

/// The dtype of y is that of x or, of a sum, its working_dtype, to which nothing is rounded.
/// run(loops, y, record or null, x); run_narrow, with the same arguments, is tried first where working memory
/// would be wanted, and returns whether it did the work.
template <class Run, class RunNarrow = NoNarrowLoops>
void pool_in_working_dtype(const Tensor5& y, const Tensor5* record, const ConstTensor5& x, bool sums,
                           Order order, const Run& run, const RunNarrow& run_narrow = {}) {
  if (is_empty(y)) return;
  const bool reverse = order == Order::kReversed;
  const Backend& loops = backend();
  const DType dtype = loops.any_dtype ? x.dtype : working_dtype(x.dtype, sums);
  const bool direct = dtype == x.dtype && !reverse;
  if (direct) return run(loops, y, record, x);
  if (!reverse && !loops.any_dtype && run_narrow(loops, y, record, x)) return;
  const bool may_not_fit = x.dtype == DType::i64 && dtype != DType::i64;
  const std::int64_t together = channels_together(x);
  for_each_block(x.size, together, [&] {
    WorkingPlanes wide_x(dtype, x.size, together, together > 1);
    WorkingPlanes wide_y(dtype, y.size, together, together > 1);
    return [&, wide_x = std::move(wide_x), wide_y = std::move(wide_y)](const PlaneBlock& block) {
      const ConstTensor5 from = channels_of(x, block);
      const Tensor5 to = channels_of(y, block);
      Tensor5 where;
      if (record != nullptr) where = channels_of(*record, block);
      const Tensor5* const part = record != nullptr ? &where : nullptr;
      const Conversion convert = may_not_fit ? conversion_to_f64(loops, from, sums) : loops.convert.convert;
      if (convert != nullptr) {
        return pool_block(loops, convert, to, part, from, wide_y.of(block), wide_x.of(block), reverse, run);
      }
      if (!reverse) return run(reference_backend(), to, part, from);
      const WorkingPlanes whole_x(DType::i64, x.size, together, together > 1);
      const WorkingPlanes whole_y(DType::i64, y.size, together, together > 1);
      pool_block(reference_backend(), reference_backend().convert.convert, to, part, from, whole_y.of(block),
                 whole_x.of(block), reverse, run);
    };
  });
}

/// Numbers as they lie in the memory of a block.
inline std::span<double> doubles_of(const Tensor5& working) {
  std::int64_t count = 1;
  for (const std::int64_t size : working.size) count *= size;
  return {static_cast<double*>(working.data), static_cast<std::size_t>(count)};
}

/// Averages of i8 or u8 elements that stand for real numbers, in f64. run(loops, y, x)
template <class Run>
void pool_quantized(const Tensor5& y, const ConstTensor5& x, const Quantization& quantization,
                    const Run& run) {
  if (is_empty(y)) return;
  const Backend& loops = backend();
  const auto x_zero = static_cast<double>(quantization.x_zero_point);
  const auto y_zero = static_cast<double>(quantization.y_zero_point);
  const double factor = quantization.x_scale / quantization.y_scale;
  const std::int64_t together = channels_together(x);
  for_each_block(x.size, together, [&] {
    WorkingPlanes wide_x(DType::f64, x.size, together, together > 1);
    WorkingPlanes wide_y(DType::f64, y.size, together, together > 1);
    return [&, wide_x = std::move(wide_x), wide_y = std::move(wide_y)](const PlaneBlock& block) {
      const Tensor5 working_x = wide_x.of(block);
      const Tensor5 working_y = wide_y.of(block);
      loops.convert.convert(working_x, channels_of(x, block), false);
      for (double& value : doubles_of(working_x)) value -= x_zero;
      run(loops, working_y, as_const(working_x));
      // Beyond the range of a byte only the sign counts, and adding kRound rounds the others to integers.
      constexpr double kBeyond = 1024;
      constexpr double kRound = 0x1.8p52;
      for (double& value : doubles_of(working_y)) {
        value = std::clamp(value * factor, -kBeyond, kBeyond) + kRound - kRound + y_zero;
      }
      loops.convert.convert(channels_of(y, block), as_const(working_y), false);
    };
  });
}

/// Gradients that run sums up in `dtype`. run(loops, grad_x, grad_y, record or null) returns an index outside
/// its plane, if it met one. run_narrow as in pool_in_working_dtype.
template <class Run, class RunNarrow = NoNarrowLoops>
std::optional<std::int64_t> gradient_in_dtype(DType dtype, const Tensor5& grad_x, const ConstTensor5& grad_y,
                                              const ConstTensor5* record, const Run& run,
                                              const RunNarrow& run_narrow = {}) {
  const Backend& loops = backend();
  if (dtype == grad_y.dtype) return run(loops, grad_x, grad_y, record);
  if (!loops.any_dtype && run_narrow(loops, grad_x, grad_y, record)) return std::nullopt;
  std::mutex mutex;
  std::optional<std::int64_t> bad;
  const std::int64_t together = channels_together(grad_y);
  for_each_block(grad_x.size, together, [&] {
    WorkingPlanes wide_y(dtype, grad_y.size, together, together > 1);
    WorkingPlanes wide_x(dtype, grad_x.size, together, together > 1);
    return [&, wide_x = std::move(wide_x), wide_y = std::move(wide_y)](const PlaneBlock& block) {
      ConstTensor5 where;
      if (record != nullptr) where = channels_of(*record, block);
      const Tensor5 working = wide_x.of(block);
      loops.convert.convert(wide_y.of(block), channels_of(grad_y, block), false);
      const auto found =
          run(loops, working, as_const(wide_y.of(block)), record != nullptr ? &where : nullptr);
      loops.convert.convert(channels_of(grad_x, block), as_const(working), false);
      if (!found) return;
      const std::lock_guard<std::mutex> lock(mutex);
      bad = found;
    };
  });
  return bad;
}

/// As gradient_in_dtype, in the dtype that the loops in use take.
template <class Run, class RunNarrow = NoNarrowLoops>
std::optional<std::int64_t> gradient_in_working_dtype(const Tensor5& grad_x, const ConstTensor5& grad_y,
                                                      const ConstTensor5* record, const Run& run,
                                                      const RunNarrow& run_narrow = {}) {
  const DType dtype = backend().any_dtype ? grad_y.dtype : working_dtype(grad_y.dtype, true);
  return gradient_in_dtype(dtype, grad_x, grad_y, record, run, run_narrow);
}

/// run(loops, grad_x, grad_y, x)
template <class Run>
void slopes_in_working_dtype(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& x,
                             const Run& run) {
  const Backend& loops = backend();
  const DType dtype = loops.any_dtype ? x.dtype : working_dtype(x.dtype, true);
  if (dtype == x.dtype) return run(loops, grad_x, grad_y, x);
  const std::int64_t together = channels_together(x);
  for_each_block(x.size, together, [&] {
    WorkingPlanes wide_grad_x(dtype, x.size, together, together > 1);
    WorkingPlanes wide_grad_y(dtype, grad_y.size, together, together > 1);
    WorkingPlanes wide_x(dtype, x.size, together, together > 1);
    return [&, wide_grad_x = std::move(wide_grad_x), wide_grad_y = std::move(wide_grad_y),
            wide_x = std::move(wide_x)](const PlaneBlock& block) {
      const Tensor5 working = wide_grad_x.of(block);
      loops.convert.convert(wide_grad_y.of(block), channels_of(grad_y, block), false);
      loops.convert.convert(wide_x.of(block), channels_of(x, block), false);
      run(loops, working, as_const(wide_grad_y.of(block)), as_const(wide_x.of(block)));
      loops.convert.convert(channels_of(grad_x, block), as_const(working), false);
    };
  });
}

}  // namespace cenote
