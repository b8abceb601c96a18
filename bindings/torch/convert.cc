// Between torch's types and cenote's. Nothing here touches an element.
#include "convert.h"

#include <ATen/EmptyTensor.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/lift_fresh.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <utility>

#include "large_memory.h"

namespace cenote::torch_ops {

namespace {

Dims concrete(c10::SymIntArrayRef values) {
  Dims dims;
  for (const c10::SymInt& value : values) dims.push_back(value.guard_int(__FILE__, __LINE__));
  return dims;
}

[[noreturn]] void fail_dtype(at::ScalarType type, const OpInfo& op, const char* argument,
                             const char* allowed) {
  throw Error(ErrorCode::kInvalidArgument, "[" + std::string(op.name) + "] " + argument + " must be " +
                                               allowed + ", got " + c10::toString(type));
}

constexpr std::array<std::pair<DType, at::ScalarType>, 9> kDTypes{{
    {DType::f32, at::kFloat},
    {DType::f64, at::kDouble},
    {DType::f16, at::kHalf},
    {DType::bf16, at::kBFloat16},
    {DType::i8, at::kChar},
    {DType::u8, at::kByte},
    {DType::u16, at::kUInt16},
    {DType::i32, at::kInt},
    {DType::i64, at::kLong},
}};

bool knows(at::ScalarType type) {
  return std::any_of(kDTypes.begin(), kDTypes.end(), [&](const auto& pair) { return pair.second == type; });
}

}  // namespace

Dims to_dims(at::IntArrayRef values) { return {values.data(), values.size()}; }

at::IntArrayRef to_array_ref(const Dims& dims) { return {dims.begin(), dims.end()}; }

Dims sizes_of(const at::Tensor& tensor) { return concrete(tensor.sym_sizes()); }

at::ScalarType to_scalar_type(DType dtype) {
  for (const auto& [own, torchs] : kDTypes)
    if (own == dtype) return torchs;
  TORCH_INTERNAL_ASSERT(false, "a dtype without a torch name");
}

DType to_dtype(at::ScalarType type, const OpInfo& op, const char* argument) {
  for (const auto& [own, torchs] : kDTypes)
    if (torchs == type) return own;
  fail_dtype(type, op, argument, "f32, f64, f16, bf16, i8, u8, u16, i32 or i64");
}

void require_pooled_dtype(const at::Tensor& tensor, const OpInfo& op, const char* argument) {
  const at::ScalarType type = tensor.scalar_type();
  if (type == at::kUInt16 || !knows(type))
    fail_dtype(type, op, argument, "f32, f64, f16, bf16, i8, u8, i32 or i64");
}

void require_gradient_dtype(const at::Tensor& tensor, const OpInfo& op, const char* argument) {
  const at::ScalarType type = tensor.scalar_type();
  if (!knows(type) || !at::isFloatingType(type)) fail_dtype(type, op, argument, "f32, f64, f16 or bf16");
}

ConstTensorView const_view(const at::Tensor& tensor, const OpInfo& op, const char* argument) {
  return {tensor.const_data_ptr(), to_dtype(tensor.scalar_type(), op, argument), to_dims(tensor.sizes()),
          to_dims(tensor.strides())};
}

at::Tensor to_tensor(const ConstTensorView& view, const char* argument) {
  const bool readable =
      view.strides.size() == view.sizes.size() && (view.data != nullptr || element_count(view.sizes) == 0);
  TORCH_CHECK_VALUE(readable, argument, " must have data and one stride per size");
  return at::from_blob(const_cast<void*>(view.data), to_array_ref(view.sizes), to_array_ref(view.strides),
                       to_scalar_type(view.dtype))
      .clone();
}

TensorView mutable_view(const at::Tensor& tensor, const OpInfo& op, const char* argument) {
  return {tensor.mutable_data_ptr(), to_dtype(tensor.scalar_type(), op, argument), to_dims(tensor.sizes()),
          to_dims(tensor.strides())};
}

bool is_channels_last(const at::Tensor& tensor, int spatial_rank) {
  const Dims sizes = sizes_of(tensor);
  const Dims strides = concrete(tensor.sym_strides());
  const int channel = sizes.size() - spatial_rank - 1;
  if (channel < 0 || strides[channel] == 0) return false;
  // From the innermost axis outwards, each must step over the whole of the one before.
  std::int64_t span = strides[channel] * std::max<std::int64_t>(sizes[channel], 1);
  for (int axis = sizes.size() - 1; axis > channel; --axis) {
    if (sizes[axis] == 0 || strides[axis] < span) return false;
    span = strides[axis] * sizes[axis];
  }
  if (channel == 0) return span > strides[channel] * sizes[channel];
  // A batch of single elements fits both layouts; the stride of its batch axis tells which was meant.
  return strides[0] >= span && span != strides[channel];
}

at::Tensor empty_dense(const Dims& sizes, at::ScalarType type, const at::Tensor& like, bool channels_last,
                       int spatial_rank) {
  const Layout layout = channels_last ? Layout::kChannelsLast : Layout::kChannelsFirst;
  const Dims strides = dense_strides(sizes, layout, sizes.size() - spatial_rank - 1);
  const std::size_t bytes = static_cast<std::size_t>(element_count(sizes)) * c10::elementSize(type);
  if (like.is_cpu() && bytes >= kLargeBytes) {
    return at::detail::empty_strided_generic(to_array_ref(sizes), to_array_ref(strides), large_memory(),
                                             c10::DispatchKeySet(c10::DispatchKey::CPU), type);
  }
  return at::empty_strided(to_array_ref(sizes), to_array_ref(strides), like.options().dtype(type));
}

namespace {

/// at::tensor would write through the dispatcher, to what may be a wrapper of torch.func or torch.compile.
template <class Value>
at::Tensor constant_of(const std::vector<Value>& values, const at::Tensor& like) {
  const at::Tensor plain = at::detail::empty_cpu({static_cast<std::int64_t>(values.size())},
                                                 c10::CppTypeToScalarType<Value>::value);
  std::copy(values.begin(), values.end(), plain.mutable_data_ptr<Value>());
  return at::lift_fresh(plain).to(like.device());
}

}  // namespace

at::Tensor constant(const std::vector<std::int64_t>& values, const at::Tensor& like) {
  return constant_of(values, like);
}
at::Tensor constant(const std::vector<double>& values, const at::Tensor& like) {
  return constant_of(values, like);
}

}  // namespace cenote::torch_ops
