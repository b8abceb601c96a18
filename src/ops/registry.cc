// One row per op. A row adapts OpArguments to the options struct of the op.
#include "cenote/registry.h"

#include <algorithm>
#include <array>

#include "cenote/adaptive.h"
#include "cenote/global.h"
#include "cenote/random.h"
#include "cenote/unpool.h"
#include "cenote/window.h"
#include "core/check.h"

namespace cenote {

namespace {

/// What all window ops read.
template <class Options>
Options window_options(const OpArguments& a) {
  Options options;
  options.kernel = a.kernel;
  options.stride = a.stride;
  options.padding = a.padding;
  options.padding_end = a.padding_end;
  options.dilation = a.dilation;
  options.ceil_mode = a.ceil_mode;
  options.convention = a.convention;
  options.auto_pad = a.auto_pad;
  return options;
}

MaxPoolOptions max_options(const OpArguments& a) {
  auto options = window_options<MaxPoolOptions>(a);
  options.index_order = a.index_order;
  return options;
}

SumPoolOptions sum_options(const OpArguments& a) { return window_options<SumPoolOptions>(a); }

AvgPoolOptions avg_options(const OpArguments& a) {
  auto options = window_options<AvgPoolOptions>(a);
  options.count_include_pad = a.count_include_pad;
  options.divisor_override = a.divisor_override;
  options.quantization = a.quantization;
  return options;
}

AdaptivePoolOptions adaptive_options(const OpArguments& a) { return {a.output_size}; }
AdaptiveAvgPoolOptions adaptive_avg_options(const OpArguments& a) { return {a.output_size, a.quantization}; }
GlobalAvgPoolOptions global_avg_options(const OpArguments& a) { return {a.quantization}; }

MaxUnpoolOptions unpool_options(const OpArguments& a) {
  return {a.kernel, a.stride, a.padding, a.output_size, a.index_order};
}

LpPoolOptions lp_options(const OpArguments& a) {
  auto options = window_options<LpPoolOptions>(a);
  options.norm_type = a.norm_type;
  return options;
}

LsePoolOptions lse_options(const OpArguments& a) {
  auto options = window_options<LsePoolOptions>(a);
  options.sharpness = a.sharpness.value_or(options.sharpness);
  return options;
}

SoftPoolOptions soft_options(const OpArguments& a) {
  auto options = window_options<SoftPoolOptions>(a);
  options.sharpness = a.sharpness.value_or(options.sharpness);
  return options;
}

AdaptiveLpPoolOptions adaptive_lp_options(const OpArguments& a) { return {a.output_size, a.norm_type}; }
GlobalLpPoolOptions global_lp_options(const OpArguments& a) { return {a.norm_type}; }
GlobalGemPoolOptions gem_options(const OpArguments& a) {
  GlobalGemPoolOptions options;
  if (!a.p.empty()) options.p = a.p;
  options.eps = a.eps;
  return options;
}
GlobalStdPoolOptions std_options(const OpArguments&) { return {}; }
GlobalAvgMaxPoolOptions avgmax_options(const OpArguments&) { return {}; }

FractionalMaxPoolOptions fractional_options(const OpArguments& a) {
  return {a.kernel, a.output_size, a.output_ratio, a.samples, a.seed};
}

GlobalLsePoolOptions global_lse_options(const OpArguments& a) {
  GlobalLsePoolOptions options;
  options.sharpness = a.sharpness.value_or(options.sharpness);
  return options;
}

const ConstTensorView& input_of(const ConstTensorView* x) {
  require(x != nullptr, "OpInfo::backward", "x must not be null for an op whose gradient reads it");
  return *x;
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

#define CENOTE_CHOICE(NAME, SUMMARY, RANK)                                                                   \
  OpInfo {                                                                                                   \
    #NAME #RANK "d", "window", SUMMARY, RANK, kTakesWindow | kTakesIndexOrder, true,                         \
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

#define CENOTE_MEAN(NAME, FAMILY, SUMMARY, PARAMETERS, OPTIONS, RANK)                                    \
  OpInfo {                                                                                               \
    #NAME #RANK "d", FAMILY, SUMMARY, RANK, PARAMETERS, false,                                           \
        [](const Dims& x, const OpArguments& a) { return NAME##RANK##d_shape(x, OPTIONS(a)); }, nullptr, \
        [](const TensorView& y, const TensorView*, const ConstTensorView& x, const OpArguments& a) {     \
          NAME##RANK##d_into(y, x, OPTIONS(a));                                                          \
        },                                                                                               \
        [](const TensorView& grad_x, const ConstTensorView& grad_y, const ConstTensorView*,              \
           const OpArguments& a) { NAME##RANK##d_backward_into(grad_x, grad_y, OPTIONS(a)); }            \
  }

#define CENOTE_MAX_POOL(RANK) CENOTE_CHOICE(max_pool, "maximum over a sliding window", RANK)
#define CENOTE_MIN_POOL(RANK) CENOTE_CHOICE(min_pool, "minimum over a sliding window", RANK)
#define CENOTE_MEDIAN_POOL(RANK) CENOTE_CHOICE(median_pool, "lower median over a sliding window", RANK)
#define CENOTE_MODE_POOL(RANK) CENOTE_CHOICE(mode_pool, "most frequent value over a sliding window", RANK)
#define CENOTE_AVG_POOL(RANK)                                   \
  CENOTE_MEAN(avg_pool, "window", "mean over a sliding window", \
              kTakesWindow | kTakesDivisor | kTakesQuantization, avg_options, RANK)
#define CENOTE_SUM_POOL(RANK) \
  CENOTE_MEAN(sum_pool, "window", "sum over a sliding window", kTakesWindow, sum_options, RANK)

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

#define CENOTE_ADAPTIVE_AVG_POOL(RANK)                                         \
  CENOTE_MEAN(adaptive_avg_pool, "adaptive", "mean, the output size is given", \
              kTakesOutputSize | kTakesQuantization, adaptive_avg_options, RANK)

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

#define CENOTE_GLOBAL_AVG_POOL(RANK)                                                          \
  CENOTE_MEAN(global_avg_pool, "global", "mean over all positions (GAP)", kTakesQuantization, \
              global_avg_options, RANK)

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

#define CENOTE_FRACTIONAL_MAX_POOL(RANK)                                                                     \
  OpInfo {                                                                                                   \
    "fractional_max_pool" #RANK "d", "random", "maximum over windows a random fractional step apart", RANK,  \
        kTakesSamples, true,                                                                                 \
        [](const Dims& x, const OpArguments& a) {                                                            \
          return fractional_max_pool##RANK##d_shape(x, fractional_options(a));                               \
        },                                                                                                   \
        [](const Dims&, const OpArguments&) { return DType::i64; },                                          \
        [](const TensorView& y, const TensorView* indices, const ConstTensorView& x, const OpArguments& a) { \
          fractional_max_pool##RANK##d_into(y, x, fractional_options(a), indices);                           \
        },                                                                                                   \
        [](const TensorView& grad_x, const ConstTensorView& grad_y, const ConstTensorView* indices,          \
           const OpArguments& a) {                                                                           \
          fractional_max_pool##RANK##d_backward_into(grad_x, grad_y, indices_of(indices),                    \
                                                     fractional_options(a));                                 \
        }                                                                                                    \
  }

/// Ops whose gradient reads x.
#define CENOTE_SMOOTH(NAME, FAMILY, SUMMARY, PARAMETERS, OPTIONS, RANK)                                     \
  OpInfo {                                                                                                  \
    #NAME #RANK "d", FAMILY, SUMMARY, RANK, PARAMETERS, false,                                              \
        [](const Dims& x, const OpArguments& a) { return NAME##RANK##d_shape(x, OPTIONS(a)); }, nullptr,    \
        [](const TensorView& y, const TensorView*, const ConstTensorView& x, const OpArguments& a) {        \
          NAME##RANK##d_into(y, x, OPTIONS(a));                                                             \
        },                                                                                                  \
        [](const TensorView& grad_x, const ConstTensorView& grad_y, const ConstTensorView* x,               \
           const OpArguments& a) { NAME##RANK##d_backward_into(grad_x, grad_y, input_of(x), OPTIONS(a)); }, \
        false, true                                                                                         \
  }

#define CENOTE_LP_POOL(RANK)                                                                                 \
  CENOTE_SMOOTH(lp_pool, "window", "(sum |x|^p)^(1/p) over a sliding window", kTakesWindow | kTakesNormType, \
                lp_options, RANK)
#define CENOTE_LSE_POOL(RANK)                                                                            \
  CENOTE_SMOOTH(lse_pool, "window", "log-sum-exp over a sliding window", kTakesWindow | kTakesSharpness, \
                lse_options, RANK)
#define CENOTE_SOFT_POOL(RANK)                                                                     \
  CENOTE_SMOOTH(soft_pool, "window", "mean over a sliding window, weighted by softmax (SoftPool)", \
                kTakesWindow | kTakesSharpness, soft_options, RANK)
#define CENOTE_ADAPTIVE_LP_POOL(RANK)                                                        \
  CENOTE_SMOOTH(adaptive_lp_pool, "adaptive", "(sum |x|^p)^(1/p), the output size is given", \
                kTakesOutputSize | kTakesNormType, adaptive_lp_options, RANK)
#define CENOTE_GLOBAL_LP_POOL(RANK)                                                               \
  CENOTE_SMOOTH(global_lp_pool, "global", "(sum |x|^p)^(1/p) over all positions", kTakesNormType, \
                global_lp_options, RANK)
#define CENOTE_GLOBAL_LSE_POOL(RANK)                                                          \
  CENOTE_SMOOTH(global_lse_pool, "global", "log-sum-exp over all positions", kTakesSharpness, \
                global_lse_options, RANK)
#define CENOTE_GLOBAL_GEM_POOL(RANK)                                                               \
  CENOTE_SMOOTH(global_gem_pool, "global", "generalised mean over all positions (GeM)", kTakesGem, \
                gem_options, RANK)
#define CENOTE_GLOBAL_STD_POOL(RANK) \
  CENOTE_SMOOTH(global_std_pool, "global", "standard deviation over all positions", 0, std_options, RANK)
#define CENOTE_GLOBAL_AVGMAX_POOL(RANK)                                                         \
  CENOTE_SMOOTH(global_avgmax_pool, "global", "half of mean and maximum over all positions", 0, \
                avgmax_options, RANK)
#define CENOTE_GLOBAL_CATAVGMAX_POOL(RANK)                                                                  \
  CENOTE_SMOOTH(global_catavgmax_pool, "global", "means, then maxima, over all positions: 2 C channels", 0, \
                avgmax_options, RANK)

#define CENOTE_ALL_RANKS(ROW) ROW(1), ROW(2), ROW(3)

constexpr std::array kOps{
    CENOTE_ALL_RANKS(CENOTE_MAX_POOL),
    CENOTE_ALL_RANKS(CENOTE_MIN_POOL),
    CENOTE_ALL_RANKS(CENOTE_MEDIAN_POOL),
    CENOTE_ALL_RANKS(CENOTE_MODE_POOL),
    CENOTE_ALL_RANKS(CENOTE_AVG_POOL),
    CENOTE_ALL_RANKS(CENOTE_SUM_POOL),
    CENOTE_ALL_RANKS(CENOTE_LP_POOL),
    CENOTE_ALL_RANKS(CENOTE_LSE_POOL),
    CENOTE_ALL_RANKS(CENOTE_SOFT_POOL),
    CENOTE_ALL_RANKS(CENOTE_ADAPTIVE_MAX_POOL),
    CENOTE_ALL_RANKS(CENOTE_ADAPTIVE_AVG_POOL),
    CENOTE_ALL_RANKS(CENOTE_ADAPTIVE_LP_POOL),
    CENOTE_ALL_RANKS(CENOTE_GLOBAL_MAX_POOL),
    CENOTE_ALL_RANKS(CENOTE_GLOBAL_AVG_POOL),
    CENOTE_ALL_RANKS(CENOTE_GLOBAL_LP_POOL),
    CENOTE_ALL_RANKS(CENOTE_GLOBAL_LSE_POOL),
    CENOTE_ALL_RANKS(CENOTE_GLOBAL_GEM_POOL),
    CENOTE_ALL_RANKS(CENOTE_GLOBAL_STD_POOL),
    CENOTE_ALL_RANKS(CENOTE_GLOBAL_AVGMAX_POOL),
    CENOTE_ALL_RANKS(CENOTE_GLOBAL_CATAVGMAX_POOL),
    CENOTE_ALL_RANKS(CENOTE_MAX_UNPOOL),
    CENOTE_FRACTIONAL_MAX_POOL(2),
    CENOTE_FRACTIONAL_MAX_POOL(3),
};

}  // namespace

std::span<const OpInfo> ops() { return kOps; }

const OpInfo* find_op(std::string_view name) {
  const auto found =
      std::find_if(kOps.begin(), kOps.end(), [&](const OpInfo& op) { return op.name == name; });
  return found == kOps.end() ? nullptr : &*found;
}

}  // namespace cenote
