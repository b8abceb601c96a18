// One row per op. A row adapts OpArguments to the options struct of the op.
#include "cenote/registry.h"

#include <algorithm>
#include <array>

#include "cenote/adaptive.h"
#include "cenote/global.h"
#include "cenote/unpool.h"
#include "cenote/window.h"
#include "core/check.h"

namespace cenote {

namespace {

MaxPoolOptions max_options(const OpArguments& a) {
  return {a.kernel, a.stride, a.padding, a.padding_end, a.dilation, a.ceil_mode};
}

AvgPoolOptions avg_options(const OpArguments& a) {
  return {a.kernel,   a.stride,    a.padding,           a.padding_end,
          a.dilation, a.ceil_mode, a.count_include_pad, a.divisor_override};
}

AdaptivePoolOptions adaptive_options(const OpArguments& a) { return {a.output_size}; }

MaxUnpoolOptions unpool_options(const OpArguments& a) {
  return {a.kernel, a.stride, a.padding, a.output_size};
}

const ConstTensorView& indices_of(const ConstTensorView* indices) {
  require(indices != nullptr, "OpInfo::backward", "indices must not be null for an op that uses indices");
  return *indices;
}

/// The indices that a forward reads.
ConstTensorView read_indices_of(const TensorView* indices) {
  require(indices != nullptr, "OpInfo::forward", "indices must not be null for an op that reads indices");
  return *indices;
}

#define CENOTE_EXTREMUM(NAME, SUMMARY, RANK)                                                                 \
  OpInfo {                                                                                                   \
    #NAME #RANK "d", "window", SUMMARY, RANK, kTakesWindow, true,                                            \
        [](const Dims& x, const OpArguments& a) { return NAME##RANK##d_shape(x, max_options(a)); },          \
        [](const Dims&, const OpArguments& a) { return max_pool_tap_dtype(a.kernel, RANK); },                \
        [](const TensorView& y, const TensorView* indices, const ConstTensorView& x, const OpArguments& a) { \
          NAME##RANK##d_into(y, x, max_options(a), indices);                                                 \
        },                                                                                                   \
        [](const TensorView& grad_x, const ConstTensorView& grad_y, const ConstTensorView* indices,          \
           const OpArguments& a) {                                                                           \
          NAME##RANK##d_backward_into(grad_x, grad_y, indices_of(indices), max_options(a));                  \
        }                                                                                                    \
  }

#define CENOTE_MEAN(NAME, SUMMARY, PARAMETERS, OPTIONS, RANK)                                            \
  OpInfo {                                                                                               \
    #NAME #RANK "d", "window", SUMMARY, RANK, PARAMETERS, false,                                         \
        [](const Dims& x, const OpArguments& a) { return NAME##RANK##d_shape(x, OPTIONS(a)); }, nullptr, \
        [](const TensorView& y, const TensorView*, const ConstTensorView& x, const OpArguments& a) {     \
          NAME##RANK##d_into(y, x, OPTIONS(a));                                                          \
        },                                                                                               \
        [](const TensorView& grad_x, const ConstTensorView& grad_y, const ConstTensorView*,              \
           const OpArguments& a) { NAME##RANK##d_backward_into(grad_x, grad_y, OPTIONS(a)); }            \
  }

#define CENOTE_MAX_POOL(RANK) CENOTE_EXTREMUM(max_pool, "maximum over a sliding window", RANK)
#define CENOTE_MIN_POOL(RANK) CENOTE_EXTREMUM(min_pool, "minimum over a sliding window", RANK)
#define CENOTE_AVG_POOL(RANK) \
  CENOTE_MEAN(avg_pool, "mean over a sliding window", kTakesWindow | kTakesDivisor, avg_options, RANK)
#define CENOTE_SUM_POOL(RANK) \
  CENOTE_MEAN(sum_pool, "sum over a sliding window", kTakesWindow, max_options, RANK)

#define CENOTE_ADAPTIVE_MAX_POOL(RANK)                                                                       \
  OpInfo {                                                                                                   \
    "adaptive_max_pool" #RANK "d", "adaptive", "maximum, the output size is given", RANK, kTakesOutputSize,  \
        true,                                                                                                \
        [](const Dims& x, const OpArguments& a) {                                                            \
          return adaptive_max_pool##RANK##d_shape(x, adaptive_options(a));                                   \
        },                                                                                                   \
        [](const Dims& x, const OpArguments& a) {                                                            \
          return adaptive_max_pool_tap_dtype(x, adaptive_options(a), RANK);                                  \
        },                                                                                                   \
        [](const TensorView& y, const TensorView* indices, const ConstTensorView& x, const OpArguments& a) { \
          adaptive_max_pool##RANK##d_into(y, x, adaptive_options(a), indices);                               \
        },                                                                                                   \
        [](const TensorView& grad_x, const ConstTensorView& grad_y, const ConstTensorView* indices,          \
           const OpArguments& a) {                                                                           \
          adaptive_max_pool##RANK##d_backward_into(grad_x, grad_y, indices_of(indices),                      \
                                                   adaptive_options(a));                                     \
        }                                                                                                    \
  }

#define CENOTE_ADAPTIVE_AVG_POOL(RANK)                                                                   \
  OpInfo {                                                                                               \
    "adaptive_avg_pool" #RANK "d", "adaptive", "mean, the output size is given", RANK, kTakesOutputSize, \
        false,                                                                                           \
        [](const Dims& x, const OpArguments& a) {                                                        \
          return adaptive_avg_pool##RANK##d_shape(x, adaptive_options(a));                               \
        },                                                                                               \
        nullptr,                                                                                         \
        [](const TensorView& y, const TensorView*, const ConstTensorView& x, const OpArguments& a) {     \
          adaptive_avg_pool##RANK##d_into(y, x, adaptive_options(a));                                    \
        },                                                                                               \
        [](const TensorView& grad_x, const ConstTensorView& grad_y, const ConstTensorView*,              \
           const OpArguments& a) {                                                                       \
          adaptive_avg_pool##RANK##d_backward_into(grad_x, grad_y, adaptive_options(a));                 \
        }                                                                                                \
  }

#define CENOTE_GLOBAL_MAX_POOL(RANK)                                                                       \
  OpInfo {                                                                                                 \
    "global_max_pool" #RANK "d", "global", "maximum over all positions", RANK, 0, true,                    \
        [](const Dims& x, const OpArguments&) { return global_max_pool##RANK##d_shape(x); },               \
        [](const Dims&, const OpArguments&) { return DType::i64; },                                        \
        [](const TensorView& y, const TensorView* indices, const ConstTensorView& x, const OpArguments&) { \
          global_max_pool##RANK##d_into(y, x, indices);                                                    \
        },                                                                                                 \
        [](const TensorView& grad_x, const ConstTensorView& grad_y, const ConstTensorView* indices,        \
           const OpArguments&) {                                                                           \
          global_max_pool##RANK##d_backward_into(grad_x, grad_y, indices_of(indices));                     \
        }                                                                                                  \
  }

#define CENOTE_GLOBAL_AVG_POOL(RANK)                                                                  \
  OpInfo {                                                                                            \
    "global_avg_pool" #RANK "d", "global", "mean over all positions (GAP)", RANK, 0, false,           \
        [](const Dims& x, const OpArguments&) { return global_avg_pool##RANK##d_shape(x); }, nullptr, \
        [](const TensorView& y, const TensorView*, const ConstTensorView& x, const OpArguments&) {    \
          global_avg_pool##RANK##d_into(y, x);                                                        \
        },                                                                                            \
        [](const TensorView& grad_x, const ConstTensorView& grad_y, const ConstTensorView*,           \
           const OpArguments&) { global_avg_pool##RANK##d_backward_into(grad_x, grad_y); }            \
  }

#define CENOTE_MAX_UNPOOL(RANK)                                                                              \
  OpInfo {                                                                                                   \
    "max_unpool" #RANK "d", "unpool", "elements back to the positions of their indices", RANK, kTakesUnpool, \
        false,                                                                                               \
        [](const Dims& x, const OpArguments& a) { return max_unpool##RANK##d_shape(x, unpool_options(a)); }, \
        nullptr,                                                                                             \
        [](const TensorView& y, const TensorView* indices, const ConstTensorView& x, const OpArguments& a) { \
          max_unpool##RANK##d_into(y, x, read_indices_of(indices), unpool_options(a));                       \
        },                                                                                                   \
        [](const TensorView& grad_x, const ConstTensorView& grad_y, const ConstTensorView* indices,          \
           const OpArguments& a) {                                                                           \
          max_unpool##RANK##d_backward_into(grad_x, grad_y, indices_of(indices), unpool_options(a));         \
        },                                                                                                   \
        true                                                                                                 \
  }

#define CENOTE_ALL_RANKS(ROW) ROW(1), ROW(2), ROW(3)

constexpr std::array kOps{
    CENOTE_ALL_RANKS(CENOTE_MAX_POOL),          CENOTE_ALL_RANKS(CENOTE_MIN_POOL),
    CENOTE_ALL_RANKS(CENOTE_AVG_POOL),          CENOTE_ALL_RANKS(CENOTE_SUM_POOL),
    CENOTE_ALL_RANKS(CENOTE_ADAPTIVE_MAX_POOL), CENOTE_ALL_RANKS(CENOTE_ADAPTIVE_AVG_POOL),
    CENOTE_ALL_RANKS(CENOTE_GLOBAL_MAX_POOL),   CENOTE_ALL_RANKS(CENOTE_GLOBAL_AVG_POOL),
    CENOTE_ALL_RANKS(CENOTE_MAX_UNPOOL),
};

}  // namespace

std::span<const OpInfo> ops() { return kOps; }

const OpInfo* find_op(std::string_view name) {
  const auto found =
      std::find_if(kOps.begin(), kOps.end(), [&](const OpInfo& op) { return op.name == name; });
  return found == kOps.end() ? nullptr : &*found;
}

}  // namespace cenote
