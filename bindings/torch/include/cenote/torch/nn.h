// Pooling modules for torch's C++ front end, on cenote's ops:
//
//   cenote::nn::MaxPool{1,2,3}d, AvgPool{1,2,3}d, AdaptiveMaxPool{1,2,3}d, AdaptiveAvgPool{1,2,3}d,
//   cenote::nn::GlobalMaxPool{1,2,3}d, GlobalAvgPool{1,2,3}d, MaxUnpool{1,2,3}d
//
// All but the global ones, which take nothing, take torch's own option structs (torch::nn::MaxPool2dOptions
// and so on), so that a network changes by its namespace only. Input is [N, C, spatial...] or
// [C, spatial...] on the CPU; the layout of the input is kept. Gradients are recorded.
#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/options/pooling.h>
#include <torch/nn/pimpl.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <ostream>
#include <tuple>
#include <vector>

#include "cenote/export.h"

namespace cenote::nn {

template <std::size_t Rank>
class CENOTE_EXPORT MaxPoolImpl : public torch::nn::Cloneable<MaxPoolImpl<Rank>> {
 public:
  using Options = torch::nn::MaxPoolOptions<Rank>;

  MaxPoolImpl(torch::ExpandingArray<Rank> kernel_size) : MaxPoolImpl(Options(kernel_size)) {}  // NOLINT
  explicit MaxPoolImpl(const Options& pool_options) : options(pool_options) {}

  at::Tensor forward(const at::Tensor& x);
  /// y and the i64 position of each maximum inside its plane.
  std::tuple<at::Tensor, at::Tensor> forward_with_indices(const at::Tensor& x);
  void reset() override {}
  void pretty_print(std::ostream& stream) const override;

  Options options;
};

template <std::size_t Rank>
class CENOTE_EXPORT AvgPoolImpl : public torch::nn::Cloneable<AvgPoolImpl<Rank>> {
 public:
  using Options = torch::nn::AvgPoolOptions<Rank>;

  AvgPoolImpl(torch::ExpandingArray<Rank> kernel_size) : AvgPoolImpl(Options(kernel_size)) {}  // NOLINT
  explicit AvgPoolImpl(const Options& pool_options) : options(pool_options) {}

  at::Tensor forward(const at::Tensor& x);
  void reset() override {}
  void pretty_print(std::ostream& stream) const override;

  Options options;
};

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
class CENOTE_EXPORT AdaptiveMaxPoolImpl : public torch::nn::Cloneable<AdaptiveMaxPoolImpl<Rank>> {
 public:
  using OutputSize = typename AdaptiveOutputSize<Rank>::type;
  using Options = torch::nn::AdaptiveMaxPoolOptions<OutputSize>;

  AdaptiveMaxPoolImpl(OutputSize output_size) : AdaptiveMaxPoolImpl(Options(output_size)) {}  // NOLINT
  explicit AdaptiveMaxPoolImpl(const Options& pool_options) : options(pool_options) {}

  at::Tensor forward(const at::Tensor& x);
  std::tuple<at::Tensor, at::Tensor> forward_with_indices(const at::Tensor& x);
  void reset() override {}
  void pretty_print(std::ostream& stream) const override;

  Options options;
};

template <std::size_t Rank>
class CENOTE_EXPORT AdaptiveAvgPoolImpl : public torch::nn::Cloneable<AdaptiveAvgPoolImpl<Rank>> {
 public:
  using OutputSize = typename AdaptiveOutputSize<Rank>::type;
  using Options = torch::nn::AdaptiveAvgPoolOptions<OutputSize>;

  AdaptiveAvgPoolImpl(OutputSize output_size) : AdaptiveAvgPoolImpl(Options(output_size)) {}  // NOLINT
  explicit AdaptiveAvgPoolImpl(const Options& pool_options) : options(pool_options) {}

  at::Tensor forward(const at::Tensor& x);
  void reset() override {}
  void pretty_print(std::ostream& stream) const override;

  Options options;
};

/// [N, C, spatial...] -> [N, C, 1...].
template <std::size_t Rank>
class CENOTE_EXPORT GlobalMaxPoolImpl : public torch::nn::Cloneable<GlobalMaxPoolImpl<Rank>> {
 public:
  at::Tensor forward(const at::Tensor& x);
  std::tuple<at::Tensor, at::Tensor> forward_with_indices(const at::Tensor& x);
  void reset() override {}
  void pretty_print(std::ostream& stream) const override;
};

/// GAP: [N, C, spatial...] -> [N, C, 1...].
template <std::size_t Rank>
class CENOTE_EXPORT GlobalAvgPoolImpl : public torch::nn::Cloneable<GlobalAvgPoolImpl<Rank>> {
 public:
  at::Tensor forward(const at::Tensor& x);
  void reset() override {}
  void pretty_print(std::ostream& stream) const override;
};

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

using MaxPool1dImpl = MaxPoolImpl<1>;
using MaxPool2dImpl = MaxPoolImpl<2>;
using MaxPool3dImpl = MaxPoolImpl<3>;
using AvgPool1dImpl = AvgPoolImpl<1>;
using AvgPool2dImpl = AvgPoolImpl<2>;
using AvgPool3dImpl = AvgPoolImpl<3>;
using AdaptiveMaxPool1dImpl = AdaptiveMaxPoolImpl<1>;
using AdaptiveMaxPool2dImpl = AdaptiveMaxPoolImpl<2>;
using AdaptiveMaxPool3dImpl = AdaptiveMaxPoolImpl<3>;
using AdaptiveAvgPool1dImpl = AdaptiveAvgPoolImpl<1>;
using AdaptiveAvgPool2dImpl = AdaptiveAvgPoolImpl<2>;
using AdaptiveAvgPool3dImpl = AdaptiveAvgPoolImpl<3>;
using GlobalMaxPool1dImpl = GlobalMaxPoolImpl<1>;
using GlobalMaxPool2dImpl = GlobalMaxPoolImpl<2>;
using GlobalMaxPool3dImpl = GlobalMaxPoolImpl<3>;
using GlobalAvgPool1dImpl = GlobalAvgPoolImpl<1>;
using GlobalAvgPool2dImpl = GlobalAvgPoolImpl<2>;
using GlobalAvgPool3dImpl = GlobalAvgPoolImpl<3>;
using MaxUnpool1dImpl = MaxUnpoolImpl<1>;
using MaxUnpool2dImpl = MaxUnpoolImpl<2>;
using MaxUnpool3dImpl = MaxUnpoolImpl<3>;

TORCH_MODULE(MaxPool1d);
TORCH_MODULE(MaxPool2d);
TORCH_MODULE(MaxPool3d);
TORCH_MODULE(AvgPool1d);
TORCH_MODULE(AvgPool2d);
TORCH_MODULE(AvgPool3d);
TORCH_MODULE(AdaptiveMaxPool1d);
TORCH_MODULE(AdaptiveMaxPool2d);
TORCH_MODULE(AdaptiveMaxPool3d);
TORCH_MODULE(AdaptiveAvgPool1d);
TORCH_MODULE(AdaptiveAvgPool2d);
TORCH_MODULE(AdaptiveAvgPool3d);
TORCH_MODULE(GlobalMaxPool1d);
TORCH_MODULE(GlobalMaxPool2d);
TORCH_MODULE(GlobalMaxPool3d);
TORCH_MODULE(GlobalAvgPool1d);
TORCH_MODULE(GlobalAvgPool2d);
TORCH_MODULE(GlobalAvgPool3d);
TORCH_MODULE(MaxUnpool1d);
TORCH_MODULE(MaxUnpool2d);
TORCH_MODULE(MaxUnpool3d);

}  // namespace cenote::nn
