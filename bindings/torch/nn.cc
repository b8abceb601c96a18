// The modules of nn.h: torch's options become cenote's arguments, the ops do the rest.
#include "cenote/torch/nn.h"

#include <string>

#include "cenote/torch/ops.h"

namespace cenote::nn {

namespace {

using torch_ops::pool;
using torch_ops::pool_with_indices;
using torch_ops::unpool;

template <std::size_t Rank>
const OpInfo& op_row(const std::string& stem) {
  return *find_op(stem + std::to_string(Rank) + "d");
}

template <std::size_t Rank>
std::string module_name(const char* stem) {
  return "cenote::nn::" + std::string(stem) + std::to_string(Rank) + "d";
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

template <std::size_t Rank>
OpArguments to_arguments(const torch::nn::MaxPoolOptions<Rank>& options) {
  OpArguments arguments;
  arguments.kernel = to_dims(options.kernel_size());
  arguments.stride = to_dims(options.stride());
  arguments.padding = to_dims(options.padding());
  arguments.dilation = to_dims(options.dilation());
  arguments.ceil_mode = options.ceil_mode();
  return arguments;
}

template <std::size_t Rank>
OpArguments to_arguments(const torch::nn::AvgPoolOptions<Rank>& options) {
  OpArguments arguments;
  arguments.kernel = to_dims(options.kernel_size());
  arguments.stride = to_dims(options.stride());
  arguments.padding = to_dims(options.padding());
  arguments.ceil_mode = options.ceil_mode();
  arguments.count_include_pad = options.count_include_pad();
  arguments.divisor_override = options.divisor_override();
  return arguments;
}

template <std::size_t Rank>
OpArguments to_arguments(const torch::nn::MaxUnpoolOptions<Rank>& options,
                         const std::optional<std::vector<std::int64_t>>& output_size) {
  OpArguments arguments;
  arguments.kernel = to_dims(options.kernel_size());
  arguments.stride = to_dims(options.stride());
  arguments.padding = to_dims(options.padding());
  if (output_size) arguments.output_size = {output_size->data(), output_size->size()};
  return arguments;
}

template <class OutputSize>
OpArguments output_size_arguments(const OutputSize& output_size) {
  OpArguments arguments;
  arguments.output_size = to_dims(output_size);
  return arguments;
}

}  // namespace

// ---- max ----------------------------------------------------------------------------------------

template <std::size_t Rank>
at::Tensor MaxPoolImpl<Rank>::forward(const at::Tensor& x) {
  return pool(op_row<Rank>("max_pool"), x, to_arguments(options));
}

template <std::size_t Rank>
std::tuple<at::Tensor, at::Tensor> MaxPoolImpl<Rank>::forward_with_indices(const at::Tensor& x) {
  return pool_with_indices(op_row<Rank>("max_pool"), x, to_arguments(options));
}

template <std::size_t Rank>
void MaxPoolImpl<Rank>::pretty_print(std::ostream& stream) const {
  stream << module_name<Rank>("MaxPool") << "(kernel_size=" << options.kernel_size()
         << ", stride=" << options.stride() << ", padding=" << options.padding()
         << ", dilation=" << options.dilation() << ", ceil_mode=" << std::boolalpha << options.ceil_mode()
         << ")";
}

// ---- avg ----------------------------------------------------------------------------------------

template <std::size_t Rank>
at::Tensor AvgPoolImpl<Rank>::forward(const at::Tensor& x) {
  return pool(op_row<Rank>("avg_pool"), x, to_arguments(options));
}

template <std::size_t Rank>
void AvgPoolImpl<Rank>::pretty_print(std::ostream& stream) const {
  stream << module_name<Rank>("AvgPool") << "(kernel_size=" << options.kernel_size()
         << ", stride=" << options.stride() << ", padding=" << options.padding() << ")";
}

// ---- adaptive -----------------------------------------------------------------------------------

template <std::size_t Rank>
at::Tensor AdaptiveMaxPoolImpl<Rank>::forward(const at::Tensor& x) {
  return pool(op_row<Rank>("adaptive_max_pool"), x, output_size_arguments(options.output_size()));
}

template <std::size_t Rank>
std::tuple<at::Tensor, at::Tensor> AdaptiveMaxPoolImpl<Rank>::forward_with_indices(const at::Tensor& x) {
  return pool_with_indices(op_row<Rank>("adaptive_max_pool"), x,
                           output_size_arguments(options.output_size()));
}

template <std::size_t Rank>
void AdaptiveMaxPoolImpl<Rank>::pretty_print(std::ostream& stream) const {
  stream << module_name<Rank>("AdaptiveMaxPool") << "(output_size=" << options.output_size() << ")";
}

template <std::size_t Rank>
at::Tensor AdaptiveAvgPoolImpl<Rank>::forward(const at::Tensor& x) {
  return pool(op_row<Rank>("adaptive_avg_pool"), x, output_size_arguments(options.output_size()));
}

template <std::size_t Rank>
void AdaptiveAvgPoolImpl<Rank>::pretty_print(std::ostream& stream) const {
  stream << module_name<Rank>("AdaptiveAvgPool") << "(output_size=" << options.output_size() << ")";
}

// ---- global -------------------------------------------------------------------------------------

template <std::size_t Rank>
at::Tensor GlobalMaxPoolImpl<Rank>::forward(const at::Tensor& x) {
  return pool(op_row<Rank>("global_max_pool"), x);
}

template <std::size_t Rank>
std::tuple<at::Tensor, at::Tensor> GlobalMaxPoolImpl<Rank>::forward_with_indices(const at::Tensor& x) {
  return pool_with_indices(op_row<Rank>("global_max_pool"), x);
}

template <std::size_t Rank>
void GlobalMaxPoolImpl<Rank>::pretty_print(std::ostream& stream) const {
  stream << module_name<Rank>("GlobalMaxPool") << "()";
}

template <std::size_t Rank>
at::Tensor GlobalAvgPoolImpl<Rank>::forward(const at::Tensor& x) {
  return pool(op_row<Rank>("global_avg_pool"), x);
}

template <std::size_t Rank>
void GlobalAvgPoolImpl<Rank>::pretty_print(std::ostream& stream) const {
  stream << module_name<Rank>("GlobalAvgPool") << "()";
}

// ---- unpool -------------------------------------------------------------------------------------

template <std::size_t Rank>
at::Tensor MaxUnpoolImpl<Rank>::forward(const at::Tensor& x, const at::Tensor& indices,
                                        const std::optional<std::vector<std::int64_t>>& output_size) {
  return unpool(op_row<Rank>("max_unpool"), x, indices, to_arguments(options, output_size));
}

template <std::size_t Rank>
void MaxUnpoolImpl<Rank>::pretty_print(std::ostream& stream) const {
  stream << module_name<Rank>("MaxUnpool") << "(kernel_size=" << options.kernel_size()
         << ", stride=" << options.stride() << ", padding=" << options.padding() << ")";
}

template class MaxPoolImpl<1>;
template class MaxPoolImpl<2>;
template class MaxPoolImpl<3>;
template class AvgPoolImpl<1>;
template class AvgPoolImpl<2>;
template class AvgPoolImpl<3>;
template class AdaptiveMaxPoolImpl<1>;
template class AdaptiveMaxPoolImpl<2>;
template class AdaptiveMaxPoolImpl<3>;
template class AdaptiveAvgPoolImpl<1>;
template class AdaptiveAvgPoolImpl<2>;
template class AdaptiveAvgPoolImpl<3>;
template class GlobalMaxPoolImpl<1>;
template class GlobalMaxPoolImpl<2>;
template class GlobalMaxPoolImpl<3>;
template class GlobalAvgPoolImpl<1>;
template class GlobalAvgPoolImpl<2>;
template class GlobalAvgPoolImpl<3>;
template class MaxUnpoolImpl<1>;
template class MaxUnpoolImpl<2>;
template class MaxUnpoolImpl<3>;

}  // namespace cenote::nn
