// The modules of nn.h: options become cenote's arguments, the ops do the rest. A struct of options, torch's
// or ours, has some of the fields that are looked for here.
#include "cenote/torch/nn.h"

#include <ATen/ops/rand.h>

#include <string>

#include "cenote/torch/ops.h"
#include "convert.h"

namespace cenote::nn {

namespace {

template <std::size_t Rank>
const OpInfo& op_row(const char* stem) {
  return *find_op(stem + std::to_string(Rank) + "d");
}

template <std::size_t Rank>
Dims to_dims(const torch::ExpandingArray<Rank>& values) {
  return {values->data(), Rank};
}

/// An axis without a value keeps its size.
template <std::size_t Rank>
Dims to_dims(const torch::ExpandingArrayWithOptionalElem<Rank>& values) {
  Dims dims;
  for (const auto& value : *values) dims.push_back(value.value_or(kKeepSize));
  return dims;
}

template <class Options>
OpArguments to_arguments(const Options& from) {
  OpArguments to;
  if constexpr (requires { from.kernel_size(); }) to.kernel = to_dims(from.kernel_size());
  if constexpr (requires { from.stride(); }) to.stride = to_dims(from.stride());
  if constexpr (requires { from.padding(); }) to.padding = to_dims(from.padding());
  if constexpr (requires { from.dilation(); }) to.dilation = to_dims(from.dilation());
  if constexpr (requires { from.output_size(); }) to.output_size = to_dims(from.output_size());
  if constexpr (requires { from.ceil_mode(); }) to.ceil_mode = from.ceil_mode();
  if constexpr (requires { from.count_include_pad(); }) to.count_include_pad = from.count_include_pad();
  if constexpr (requires { from.divisor_override(); }) to.divisor_override = from.divisor_override();
  if constexpr (requires { from.norm_type(); }) to.norm_type = from.norm_type();
  if constexpr (requires { from.sharpness(); }) to.sharpness = from.sharpness();
  if constexpr (requires { from.p(); }) to.p = {from.p()};
  if constexpr (requires { from.eps(); }) to.eps = from.eps();
  return to;
}

/// In torch's order, and without what torch leaves out: the ceil_mode and the divisor of an average.
template <std::size_t Rank, class Options>
void print_module(std::ostream& stream, const char* stem, const Options& options) {
  const char* separator = "";
  const auto print = [&](const char* name, const auto& value) {
    stream << separator << name << "=" << value;
    separator = ", ";
  };
  stream << std::boolalpha << "cenote::nn::" << stem << Rank << "d(";
  if constexpr (requires { options.norm_type(); }) print("norm_type", options.norm_type());
  if constexpr (requires { options.kernel_size(); }) print("kernel_size", options.kernel_size());
  if constexpr (requires { options.stride(); }) print("stride", options.stride());
  if constexpr (requires { options.padding(); }) print("padding", options.padding());
  if constexpr (requires { options.dilation(); }) print("dilation", options.dilation());
  constexpr bool kIsAverage = requires { options.count_include_pad(); };
  if constexpr (!kIsAverage && requires { options.ceil_mode(); }) print("ceil_mode", options.ceil_mode());
  if constexpr (requires { options.output_size(); }) print("output_size", options.output_size());
  if constexpr (requires { options.sharpness(); }) print("sharpness", options.sharpness());
  if constexpr (requires { options.p(); }) print("p", options.p());
  if constexpr (requires { options.eps(); }) print("eps", options.eps());
  stream << ")";
}

}  // namespace

template <std::size_t Rank, class Kind>
at::Tensor PoolImpl<Rank, Kind>::forward(const at::Tensor& x) {
  static const OpInfo& op = op_row<Rank>(Kind::kOp);
  return torch_ops::pool(op, x, to_arguments(options));
}

template <std::size_t Rank, class Kind>
std::tuple<at::Tensor, at::Tensor> PoolImpl<Rank, Kind>::run_with_indices(const at::Tensor& x) {
  static const OpInfo& op = op_row<Rank>(Kind::kOp);
  return torch_ops::pool_with_indices(op, x, to_arguments(options));
}

template <std::size_t Rank, class Kind>
void PoolImpl<Rank, Kind>::pretty_print(std::ostream& stream) const {
  print_module<Rank>(stream, Kind::kName, options);
}

template <std::size_t Rank>
at::Tensor MaxUnpoolImpl<Rank>::forward(const at::Tensor& x, const at::Tensor& indices,
                                        const std::optional<std::vector<std::int64_t>>& output_size) {
  static const OpInfo& op = op_row<Rank>("max_unpool");
  OpArguments arguments = to_arguments(options);
  if (output_size) arguments.output_size = {output_size->data(), output_size->size()};
  return torch_ops::unpool(op, x, indices, arguments);
}

template <std::size_t Rank>
void MaxUnpoolImpl<Rank>::pretty_print(std::ostream& stream) const {
  print_module<Rank>(stream, "MaxUnpool", options);
}

namespace {

/// What a fractional module asks of its op; `samples` holds the numbers that it refers to.
template <std::size_t Rank>
OpArguments fractional_arguments(const torch::nn::FractionalMaxPoolOptions<Rank>& options,
                                 const at::Tensor& x, at::Tensor& samples) {
  OpArguments arguments;
  arguments.kernel = to_dims(options.kernel_size());
  if (options.output_size()) arguments.output_size = to_dims(*options.output_size());
  if (options.output_ratio()) {
    const auto& ratio = **options.output_ratio();
    arguments.output_ratio.assign(ratio.begin(), ratio.end());
  }
  samples = options._random_samples();
  constexpr auto kRank = static_cast<std::int64_t>(Rank);
  if (!samples.defined() && x.dim() >= kRank + 1 && x.is_floating_point()) {  // else refused by the op
    const std::int64_t images = x.dim() == kRank + 1 ? 1 : x.size(0);
    samples = at::rand({images, x.size(-kRank - 1), kRank}, x.options());
  }
  if (samples.defined())
    arguments.samples = torch_ops::const_view(samples, op_row<Rank>("fractional_max_pool"), "samples");
  return arguments;
}

}  // namespace

template <std::size_t Rank>
at::Tensor FractionalMaxPoolImpl<Rank>::forward(const at::Tensor& x) {
  at::Tensor samples;
  const OpArguments arguments = fractional_arguments<Rank>(options, x, samples);
  return torch_ops::pool(op_row<Rank>("fractional_max_pool"), x, arguments);
}

template <std::size_t Rank>
std::tuple<at::Tensor, at::Tensor> FractionalMaxPoolImpl<Rank>::forward_with_indices(const at::Tensor& x) {
  at::Tensor samples;
  const OpArguments arguments = fractional_arguments<Rank>(options, x, samples);
  return torch_ops::pool_with_indices(op_row<Rank>("fractional_max_pool"), x, arguments);
}

template <std::size_t Rank>
void FractionalMaxPoolImpl<Rank>::pretty_print(std::ostream& stream) const {
  stream << "cenote::nn::FractionalMaxPool" << Rank << "d(kernel_size=" << options.kernel_size();
  if (options.output_size()) stream << ", output_size=" << *options.output_size();
  if (options.output_ratio()) stream << ", output_ratio=" << *options.output_ratio();
  stream << ")";
}

#define CENOTE_INSTANTIATE(NAME)          \
  template class PoolImpl<1, NAME##Kind>; \
  template class PoolImpl<2, NAME##Kind>; \
  template class PoolImpl<3, NAME##Kind>

CENOTE_INSTANTIATE(MaxPool);
CENOTE_INSTANTIATE(MinPool);
CENOTE_INSTANTIATE(MedianPool);
CENOTE_INSTANTIATE(ModePool);
CENOTE_INSTANTIATE(AvgPool);
CENOTE_INSTANTIATE(SumPool);
CENOTE_INSTANTIATE(LPPool);
CENOTE_INSTANTIATE(LsePool);
CENOTE_INSTANTIATE(SoftPool);
CENOTE_INSTANTIATE(AdaptiveMaxPool);
CENOTE_INSTANTIATE(AdaptiveAvgPool);
CENOTE_INSTANTIATE(AdaptiveLpPool);
CENOTE_INSTANTIATE(GlobalMaxPool);
CENOTE_INSTANTIATE(GlobalAvgPool);
CENOTE_INSTANTIATE(GlobalLpPool);
CENOTE_INSTANTIATE(GlobalLsePool);
CENOTE_INSTANTIATE(GlobalGemPool);
CENOTE_INSTANTIATE(GlobalStdPool);
CENOTE_INSTANTIATE(GlobalAvgMaxPool);
CENOTE_INSTANTIATE(GlobalCatAvgMaxPool);

template class MaxUnpoolImpl<1>;
template class MaxUnpoolImpl<2>;
template class MaxUnpoolImpl<3>;

template class FractionalMaxPoolImpl<2>;
template class FractionalMaxPoolImpl<3>;

}  // namespace cenote::nn
