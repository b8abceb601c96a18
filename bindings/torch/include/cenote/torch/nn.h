// Pooling modules for torch's C++ front end, on cenote's ops, in 1-D, 2-D and 3-D: MaxPool stands for
// cenote::nn::MaxPool1d, MaxPool2d and MaxPool3d. Made of options, or of what the options are made of:
//
//   MaxPool, MinPool, MedianPool, ModePool, SumPool    torch::nn::MaxPool2dOptions
//   AvgPool, LPPool, MaxUnpool                         torch::nn::AvgPool2dOptions and so on
//   FractionalMaxPool, in 2-D and 3-D                  torch::nn::FractionalMaxPool2dOptions
//   LsePool, SoftPool                                  LsePool2dOptions, SoftPool2dOptions
//   AdaptiveMaxPool, AdaptiveAvgPool                   torch::nn::AdaptiveMaxPool2dOptions and so on
//   AdaptiveLpPool                                     AdaptiveLpPool2dOptions
//   GlobalMaxPool, GlobalAvgPool, GlobalStdPool, GlobalAvgMaxPool, GlobalCatAvgMaxPool   none
//   GlobalLpPool, GlobalLsePool, GlobalGemPool         GlobalLpPoolOptions and so on, with defaults
//
// Where the options are torch's, a network changes by its namespace only. Input is [N, C, spatial...] or
// [C, spatial...] on the CPU; the layout of the input is kept. Gradients are recorded. The power of
// GlobalGemPool is a number here, not a parameter that is learned.
#pragma once

#include <torch/arg.h>
#include <torch/nn/cloneable.h>
#include <torch/nn/options/pooling.h>
#include <torch/nn/pimpl.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <ostream>
#include <tuple>
#include <utility>
#include <vector>

#include "cenote/export.h"

namespace cenote::nn {

// ---- options ------------------------------------------------------------------------------------
// What torch has no struct for, in the style of those that it has. Meanings are those of cenote/window.h,
// adaptive.h and global.h.

/// Use LsePoolOptions and SoftPoolOptions, which differ in the default of sharpness.
template <std::size_t Rank, int kDefaultSharpness>
struct SharpPoolOptions {
  explicit SharpPoolOptions(torch::ExpandingArray<Rank> kernel_size)
      : kernel_size_(kernel_size), stride_(kernel_size) {}

  TORCH_ARG(torch::ExpandingArray<Rank>, kernel_size);
  TORCH_ARG(torch::ExpandingArray<Rank>, stride);  // default: kernel_size
  TORCH_ARG(torch::ExpandingArray<Rank>, padding) = 0;
  TORCH_ARG(torch::ExpandingArray<Rank>, dilation) = 1;
  TORCH_ARG(bool, ceil_mode) = false;
  TORCH_ARG(double, sharpness) = kDefaultSharpness;
};

template <std::size_t Rank>
using LsePoolOptions = SharpPoolOptions<Rank, 10>;
using LsePool1dOptions = LsePoolOptions<1>;
using LsePool2dOptions = LsePoolOptions<2>;
using LsePool3dOptions = LsePoolOptions<3>;

template <std::size_t Rank>
using SoftPoolOptions = SharpPoolOptions<Rank, 1>;
using SoftPool1dOptions = SoftPoolOptions<1>;
using SoftPool2dOptions = SoftPoolOptions<2>;
using SoftPool3dOptions = SoftPoolOptions<3>;

/// torch writes an output size as one number in 1-D, and as one optional number per axis in 2-D and 3-D.
template <std::size_t Rank>
struct AdaptiveOutputSize {
  using type = torch::ExpandingArrayWithOptionalElem<Rank>;
};
template <>
struct AdaptiveOutputSize<1> {
  using type = torch::ExpandingArray<1>;
};

template <std::size_t Rank>
struct AdaptiveLpPoolOptions {
  using OutputSize = typename AdaptiveOutputSize<Rank>::type;

  AdaptiveLpPoolOptions(double norm_type, OutputSize output_size)
      : norm_type_(norm_type), output_size_(output_size) {}

  TORCH_ARG(double, norm_type);
  TORCH_ARG(OutputSize, output_size);
};
using AdaptiveLpPool1dOptions = AdaptiveLpPoolOptions<1>;
using AdaptiveLpPool2dOptions = AdaptiveLpPoolOptions<2>;
using AdaptiveLpPool3dOptions = AdaptiveLpPoolOptions<3>;

struct NoOptions {};

struct GlobalLpPoolOptions {
  explicit GlobalLpPoolOptions(double norm_type = 2) : norm_type_(norm_type) {}
  TORCH_ARG(double, norm_type);
};

struct GlobalLsePoolOptions {
  explicit GlobalLsePoolOptions(double sharpness = 10) : sharpness_(sharpness) {}
  TORCH_ARG(double, sharpness);
};

struct GlobalGemPoolOptions {
  explicit GlobalGemPoolOptions(double p = 3, double eps = 1e-6) : p_(p), eps_(eps) {}
  TORCH_ARG(double, p);
  TORCH_ARG(double, eps);
};

// ---- modules ------------------------------------------------------------------------------------

/// The module of one op; `Kind` names both and the options.
template <std::size_t Rank, class Kind>
class CENOTE_EXPORT PoolImpl : public torch::nn::Cloneable<PoolImpl<Rank, Kind>> {
 public:
  using Options = typename Kind::template Options<Rank>;

  template <class... Arguments>
    requires std::constructible_from<Options, Arguments...>
  explicit PoolImpl(Arguments&&... arguments) : options(std::forward<Arguments>(arguments)...) {}

  at::Tensor forward(const at::Tensor& x);
  /// y and the i64 position of each element of it inside its plane.
  std::tuple<at::Tensor, at::Tensor> forward_with_indices(const at::Tensor& x)
    requires(Kind::kGivesIndices)
  {
    return run_with_indices(x);
  }
  void reset() override {}
  void pretty_print(std::ostream& stream) const override;

  Options options;

 private:
  // Apart from the constraint, which compilers write into symbols each in its own way.
  std::tuple<at::Tensor, at::Tensor> run_with_indices(const at::Tensor& x);
};

/// NAME1d, NAME2d and NAME3d, of the op OP; the options may name Rank.
#define CENOTE_POOL_MODULE(NAME, OP, GIVES_INDICES, ...)   \
  struct CENOTE_EXPORT NAME##Kind {                        \
    template <std::size_t Rank>                            \
    using Options = __VA_ARGS__;                           \
    static constexpr const char* kName = #NAME;            \
    static constexpr const char* kOp = OP;                 \
    static constexpr bool kGivesIndices = (GIVES_INDICES); \
  };                                                       \
  template <std::size_t Rank>                              \
  using NAME##Impl = PoolImpl<Rank, NAME##Kind>;           \
  using NAME##1dImpl = NAME##Impl<1>;                      \
  using NAME##2dImpl = NAME##Impl<2>;                      \
  using NAME##3dImpl = NAME##Impl<3>;                      \
  TORCH_MODULE(NAME##1d);                                  \
  TORCH_MODULE(NAME##2d);                                  \
  TORCH_MODULE(NAME##3d)

CENOTE_POOL_MODULE(MaxPool, "max_pool", true, torch::nn::MaxPoolOptions<Rank>);
CENOTE_POOL_MODULE(MinPool, "min_pool", true, torch::nn::MaxPoolOptions<Rank>);
CENOTE_POOL_MODULE(MedianPool, "median_pool", true, torch::nn::MaxPoolOptions<Rank>);
CENOTE_POOL_MODULE(ModePool, "mode_pool", true, torch::nn::MaxPoolOptions<Rank>);
CENOTE_POOL_MODULE(AvgPool, "avg_pool", false, torch::nn::AvgPoolOptions<Rank>);
CENOTE_POOL_MODULE(SumPool, "sum_pool", false, torch::nn::MaxPoolOptions<Rank>);
CENOTE_POOL_MODULE(LPPool, "lp_pool", false, torch::nn::LPPoolOptions<Rank>);  // torch's spelling
CENOTE_POOL_MODULE(LsePool, "lse_pool", false, LsePoolOptions<Rank>);
CENOTE_POOL_MODULE(SoftPool, "soft_pool", false, SoftPoolOptions<Rank>);

CENOTE_POOL_MODULE(AdaptiveMaxPool, "adaptive_max_pool", true,
                   torch::nn::AdaptiveMaxPoolOptions<typename AdaptiveOutputSize<Rank>::type>);
CENOTE_POOL_MODULE(AdaptiveAvgPool, "adaptive_avg_pool", false,
                   torch::nn::AdaptiveAvgPoolOptions<typename AdaptiveOutputSize<Rank>::type>);
CENOTE_POOL_MODULE(AdaptiveLpPool, "adaptive_lp_pool", false, AdaptiveLpPoolOptions<Rank>);

// [N, C, spatial...] -> [N, C, 1...]; GlobalCatAvgMaxPool gives 2 C channels.
CENOTE_POOL_MODULE(GlobalMaxPool, "global_max_pool", true, NoOptions);
CENOTE_POOL_MODULE(GlobalAvgPool, "global_avg_pool", false, NoOptions);
CENOTE_POOL_MODULE(GlobalLpPool, "global_lp_pool", false, GlobalLpPoolOptions);
CENOTE_POOL_MODULE(GlobalLsePool, "global_lse_pool", false, GlobalLsePoolOptions);
CENOTE_POOL_MODULE(GlobalGemPool, "global_gem_pool", false, GlobalGemPoolOptions);
CENOTE_POOL_MODULE(GlobalStdPool, "global_std_pool", false, NoOptions);
CENOTE_POOL_MODULE(GlobalAvgMaxPool, "global_avgmax_pool", false, NoOptions);
CENOTE_POOL_MODULE(GlobalCatAvgMaxPool, "global_catavgmax_pool", false, NoOptions);

#undef CENOTE_POOL_MODULE

/// The partial inverse of MaxPool, with the indices of its forward_with_indices.
template <std::size_t Rank>
class CENOTE_EXPORT MaxUnpoolImpl : public torch::nn::Cloneable<MaxUnpoolImpl<Rank>> {
 public:
  using Options = torch::nn::MaxUnpoolOptions<Rank>;

  MaxUnpoolImpl(torch::ExpandingArray<Rank> kernel_size) : MaxUnpoolImpl(Options(kernel_size)) {}  // NOLINT
  explicit MaxUnpoolImpl(const Options& unpool_options) : options(unpool_options) {}

  /// `output_size`: the spatial sizes, or all sizes of a batched result.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& indices,
                     const std::optional<std::vector<std::int64_t>>& output_size = std::nullopt);
  void reset() override {}
  void pretty_print(std::ostream& stream) const override;

  Options options;
};

using MaxUnpool1dImpl = MaxUnpoolImpl<1>;
using MaxUnpool2dImpl = MaxUnpoolImpl<2>;
using MaxUnpool3dImpl = MaxUnpoolImpl<3>;
TORCH_MODULE(MaxUnpool1d);
TORCH_MODULE(MaxUnpool2d);
TORCH_MODULE(MaxUnpool3d);

/// Without samples in the options torch's generator draws some in every pass.
template <std::size_t Rank>
class CENOTE_EXPORT FractionalMaxPoolImpl : public torch::nn::Cloneable<FractionalMaxPoolImpl<Rank>> {
 public:
  using Options = torch::nn::FractionalMaxPoolOptions<Rank>;

  explicit FractionalMaxPoolImpl(const Options& fractional_options) : options(fractional_options) {}

  at::Tensor forward(const at::Tensor& x);
  std::tuple<at::Tensor, at::Tensor> forward_with_indices(const at::Tensor& x);
  void reset() override {}
  void pretty_print(std::ostream& stream) const override;

  Options options;
};

using FractionalMaxPool2dImpl = FractionalMaxPoolImpl<2>;
using FractionalMaxPool3dImpl = FractionalMaxPoolImpl<3>;
TORCH_MODULE(FractionalMaxPool2d);
TORCH_MODULE(FractionalMaxPool3d);

}  // namespace cenote::nn
