// The pooling ops on torch tensors, for C++. Each goes through torch's dispatcher, so gradients are
// recorded, and meta tensors give shapes without data. Python reaches the same
// ops as torch.ops.cenote.NAME after torch.ops.load_library.
//
// Names, options, dtypes and semantics are those of cenote/window.h, adaptive.h, global.h, unpool.h and
// random.h.
// Tensors are on the CPU, with or without a batch dimension, of any strides; the result has the layout of x.
// Errors arrive as c10::ValueError with the text of cenote::Error. Gradients of any order, forward mode and
// the transforms of torch.func are provided.
// For the backward a max op saves one compact tap number (u8 or u16) per output, and neither x nor 64-bit
// indices; without a gradient to record nothing is computed beside the values.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <tuple>

#include "cenote/adaptive.h"
#include "cenote/export.h"
#include "cenote/global.h"
#include "cenote/random.h"
#include "cenote/registry.h"
#include "cenote/unpool.h"
#include "cenote/window.h"

namespace cenote::torch_ops {

/// Values and where each came from.
using ValuesAndIndices = std::tuple<at::Tensor, at::Tensor>;

// ---- window -------------------------------------------------------------------------------------

CENOTE_EXPORT at::Tensor max_pool1d(const at::Tensor& x, const MaxPoolOptions& options);
CENOTE_EXPORT at::Tensor max_pool2d(const at::Tensor& x, const MaxPoolOptions& options);
CENOTE_EXPORT at::Tensor max_pool3d(const at::Tensor& x, const MaxPoolOptions& options);

CENOTE_EXPORT ValuesAndIndices max_pool1d_with_indices(const at::Tensor& x, const MaxPoolOptions& options);
CENOTE_EXPORT ValuesAndIndices max_pool2d_with_indices(const at::Tensor& x, const MaxPoolOptions& options);
CENOTE_EXPORT ValuesAndIndices max_pool3d_with_indices(const at::Tensor& x, const MaxPoolOptions& options);

CENOTE_EXPORT at::Tensor min_pool1d(const at::Tensor& x, const MinPoolOptions& options);
CENOTE_EXPORT at::Tensor min_pool2d(const at::Tensor& x, const MinPoolOptions& options);
CENOTE_EXPORT at::Tensor min_pool3d(const at::Tensor& x, const MinPoolOptions& options);

CENOTE_EXPORT ValuesAndIndices min_pool1d_with_indices(const at::Tensor& x, const MinPoolOptions& options);
CENOTE_EXPORT ValuesAndIndices min_pool2d_with_indices(const at::Tensor& x, const MinPoolOptions& options);
CENOTE_EXPORT ValuesAndIndices min_pool3d_with_indices(const at::Tensor& x, const MinPoolOptions& options);

CENOTE_EXPORT at::Tensor avg_pool1d(const at::Tensor& x, const AvgPoolOptions& options);
CENOTE_EXPORT at::Tensor avg_pool2d(const at::Tensor& x, const AvgPoolOptions& options);
CENOTE_EXPORT at::Tensor avg_pool3d(const at::Tensor& x, const AvgPoolOptions& options);

CENOTE_EXPORT at::Tensor sum_pool1d(const at::Tensor& x, const SumPoolOptions& options);
CENOTE_EXPORT at::Tensor sum_pool2d(const at::Tensor& x, const SumPoolOptions& options);
CENOTE_EXPORT at::Tensor sum_pool3d(const at::Tensor& x, const SumPoolOptions& options);

CENOTE_EXPORT at::Tensor median_pool1d(const at::Tensor& x, const MedianPoolOptions& options);
CENOTE_EXPORT at::Tensor median_pool2d(const at::Tensor& x, const MedianPoolOptions& options);
CENOTE_EXPORT at::Tensor median_pool3d(const at::Tensor& x, const MedianPoolOptions& options);

CENOTE_EXPORT ValuesAndIndices median_pool1d_with_indices(const at::Tensor& x,
                                                          const MedianPoolOptions& options);
CENOTE_EXPORT ValuesAndIndices median_pool2d_with_indices(const at::Tensor& x,
                                                          const MedianPoolOptions& options);
CENOTE_EXPORT ValuesAndIndices median_pool3d_with_indices(const at::Tensor& x,
                                                          const MedianPoolOptions& options);

CENOTE_EXPORT at::Tensor mode_pool1d(const at::Tensor& x, const ModePoolOptions& options);
CENOTE_EXPORT at::Tensor mode_pool2d(const at::Tensor& x, const ModePoolOptions& options);
CENOTE_EXPORT at::Tensor mode_pool3d(const at::Tensor& x, const ModePoolOptions& options);

CENOTE_EXPORT ValuesAndIndices mode_pool1d_with_indices(const at::Tensor& x, const ModePoolOptions& options);
CENOTE_EXPORT ValuesAndIndices mode_pool2d_with_indices(const at::Tensor& x, const ModePoolOptions& options);
CENOTE_EXPORT ValuesAndIndices mode_pool3d_with_indices(const at::Tensor& x, const ModePoolOptions& options);

// The gradient of the following reads x, which autograd keeps. Their second derivatives and tangents are
// expressions of torch's own operators, slower than the op.

CENOTE_EXPORT at::Tensor lp_pool1d(const at::Tensor& x, const LpPoolOptions& options);
CENOTE_EXPORT at::Tensor lp_pool2d(const at::Tensor& x, const LpPoolOptions& options);
CENOTE_EXPORT at::Tensor lp_pool3d(const at::Tensor& x, const LpPoolOptions& options);

CENOTE_EXPORT at::Tensor lse_pool1d(const at::Tensor& x, const LsePoolOptions& options);
CENOTE_EXPORT at::Tensor lse_pool2d(const at::Tensor& x, const LsePoolOptions& options);
CENOTE_EXPORT at::Tensor lse_pool3d(const at::Tensor& x, const LsePoolOptions& options);

CENOTE_EXPORT at::Tensor soft_pool1d(const at::Tensor& x, const SoftPoolOptions& options);
CENOTE_EXPORT at::Tensor soft_pool2d(const at::Tensor& x, const SoftPoolOptions& options);
CENOTE_EXPORT at::Tensor soft_pool3d(const at::Tensor& x, const SoftPoolOptions& options);

// ---- adaptive -----------------------------------------------------------------------------------

CENOTE_EXPORT at::Tensor adaptive_max_pool1d(const at::Tensor& x, const AdaptivePoolOptions& options);
CENOTE_EXPORT at::Tensor adaptive_max_pool2d(const at::Tensor& x, const AdaptivePoolOptions& options);
CENOTE_EXPORT at::Tensor adaptive_max_pool3d(const at::Tensor& x, const AdaptivePoolOptions& options);

CENOTE_EXPORT ValuesAndIndices adaptive_max_pool1d_with_indices(const at::Tensor& x,
                                                                const AdaptivePoolOptions& options);
CENOTE_EXPORT ValuesAndIndices adaptive_max_pool2d_with_indices(const at::Tensor& x,
                                                                const AdaptivePoolOptions& options);
CENOTE_EXPORT ValuesAndIndices adaptive_max_pool3d_with_indices(const at::Tensor& x,
                                                                const AdaptivePoolOptions& options);

CENOTE_EXPORT at::Tensor adaptive_avg_pool1d(const at::Tensor& x, const AdaptiveAvgPoolOptions& options);
CENOTE_EXPORT at::Tensor adaptive_avg_pool2d(const at::Tensor& x, const AdaptiveAvgPoolOptions& options);
CENOTE_EXPORT at::Tensor adaptive_avg_pool3d(const at::Tensor& x, const AdaptiveAvgPoolOptions& options);

CENOTE_EXPORT at::Tensor adaptive_lp_pool1d(const at::Tensor& x, const AdaptiveLpPoolOptions& options);
CENOTE_EXPORT at::Tensor adaptive_lp_pool2d(const at::Tensor& x, const AdaptiveLpPoolOptions& options);
CENOTE_EXPORT at::Tensor adaptive_lp_pool3d(const at::Tensor& x, const AdaptiveLpPoolOptions& options);

// ---- global -------------------------------------------------------------------------------------

CENOTE_EXPORT at::Tensor global_max_pool1d(const at::Tensor& x);
CENOTE_EXPORT at::Tensor global_max_pool2d(const at::Tensor& x);
CENOTE_EXPORT at::Tensor global_max_pool3d(const at::Tensor& x);

CENOTE_EXPORT ValuesAndIndices global_max_pool1d_with_indices(const at::Tensor& x);
CENOTE_EXPORT ValuesAndIndices global_max_pool2d_with_indices(const at::Tensor& x);
CENOTE_EXPORT ValuesAndIndices global_max_pool3d_with_indices(const at::Tensor& x);

CENOTE_EXPORT at::Tensor global_avg_pool1d(const at::Tensor& x, const GlobalAvgPoolOptions& options = {});
CENOTE_EXPORT at::Tensor global_avg_pool2d(const at::Tensor& x, const GlobalAvgPoolOptions& options = {});
CENOTE_EXPORT at::Tensor global_avg_pool3d(const at::Tensor& x, const GlobalAvgPoolOptions& options = {});

CENOTE_EXPORT at::Tensor global_lp_pool1d(const at::Tensor& x, const GlobalLpPoolOptions& options = {});
CENOTE_EXPORT at::Tensor global_lp_pool2d(const at::Tensor& x, const GlobalLpPoolOptions& options = {});
CENOTE_EXPORT at::Tensor global_lp_pool3d(const at::Tensor& x, const GlobalLpPoolOptions& options = {});

CENOTE_EXPORT at::Tensor global_lse_pool1d(const at::Tensor& x, const GlobalLsePoolOptions& options = {});
CENOTE_EXPORT at::Tensor global_lse_pool2d(const at::Tensor& x, const GlobalLsePoolOptions& options = {});
CENOTE_EXPORT at::Tensor global_lse_pool3d(const at::Tensor& x, const GlobalLsePoolOptions& options = {});

CENOTE_EXPORT at::Tensor global_gem_pool1d(const at::Tensor& x, const GlobalGemPoolOptions& options = {});
CENOTE_EXPORT at::Tensor global_gem_pool2d(const at::Tensor& x, const GlobalGemPoolOptions& options = {});
CENOTE_EXPORT at::Tensor global_gem_pool3d(const at::Tensor& x, const GlobalGemPoolOptions& options = {});

/// The same with a p that may be learned, a number or one per channel; eps as in GlobalGemPoolOptions.
CENOTE_EXPORT at::Tensor global_gem_pool1d(const at::Tensor& x, const at::Tensor& p, double eps = 1e-6);
CENOTE_EXPORT at::Tensor global_gem_pool2d(const at::Tensor& x, const at::Tensor& p, double eps = 1e-6);
CENOTE_EXPORT at::Tensor global_gem_pool3d(const at::Tensor& x, const at::Tensor& p, double eps = 1e-6);

CENOTE_EXPORT at::Tensor global_std_pool1d(const at::Tensor& x, const GlobalStdPoolOptions& options = {});
CENOTE_EXPORT at::Tensor global_std_pool2d(const at::Tensor& x, const GlobalStdPoolOptions& options = {});
CENOTE_EXPORT at::Tensor global_std_pool3d(const at::Tensor& x, const GlobalStdPoolOptions& options = {});

CENOTE_EXPORT at::Tensor global_avgmax_pool1d(const at::Tensor& x,
                                              const GlobalAvgMaxPoolOptions& options = {});
CENOTE_EXPORT at::Tensor global_avgmax_pool2d(const at::Tensor& x,
                                              const GlobalAvgMaxPoolOptions& options = {});
CENOTE_EXPORT at::Tensor global_avgmax_pool3d(const at::Tensor& x,
                                              const GlobalAvgMaxPoolOptions& options = {});

CENOTE_EXPORT at::Tensor global_catavgmax_pool1d(const at::Tensor& x,
                                                 const GlobalAvgMaxPoolOptions& options = {});
CENOTE_EXPORT at::Tensor global_catavgmax_pool2d(const at::Tensor& x,
                                                 const GlobalAvgMaxPoolOptions& options = {});
CENOTE_EXPORT at::Tensor global_catavgmax_pool3d(const at::Tensor& x,
                                                 const GlobalAvgMaxPoolOptions& options = {});

// ---- unpool -------------------------------------------------------------------------------------
// `indices` are i64, as max_pool2d_with_indices and torch give them. The derivative of the backward adds up
// where several indices name one position.

CENOTE_EXPORT at::Tensor max_unpool1d(const at::Tensor& x, const at::Tensor& indices,
                                      const MaxUnpoolOptions& options);
CENOTE_EXPORT at::Tensor max_unpool2d(const at::Tensor& x, const at::Tensor& indices,
                                      const MaxUnpoolOptions& options);
CENOTE_EXPORT at::Tensor max_unpool3d(const at::Tensor& x, const at::Tensor& indices,
                                      const MaxUnpoolOptions& options);

// ---- random -------------------------------------------------------------------------------------
// Without samples the seed draws them, as in C++ without torch. The operators in Python draw them with
// torch's generator unless they are given a seed.

CENOTE_EXPORT at::Tensor fractional_max_pool2d(const at::Tensor& x, const FractionalMaxPoolOptions& options);
CENOTE_EXPORT at::Tensor fractional_max_pool3d(const at::Tensor& x, const FractionalMaxPoolOptions& options);

CENOTE_EXPORT ValuesAndIndices fractional_max_pool2d_with_indices(const at::Tensor& x,
                                                                  const FractionalMaxPoolOptions& options);
CENOTE_EXPORT ValuesAndIndices fractional_max_pool3d_with_indices(const at::Tensor& x,
                                                                  const FractionalMaxPoolOptions& options);

// ---- any op of the registry ---------------------------------------------------------------------
// `op` is a row of cenote::ops(). The forms with a record want a row with records_indices, unpool one with
// reads_indices, pool one without.

CENOTE_EXPORT at::Tensor pool(const OpInfo& op, const at::Tensor& x, const OpArguments& arguments = {});
CENOTE_EXPORT at::Tensor unpool(const OpInfo& op, const at::Tensor& x, const at::Tensor& indices,
                                const OpArguments& arguments = {});
/// The record is PyTorch's i64 index.
CENOTE_EXPORT ValuesAndIndices pool_with_indices(const OpInfo& op, const at::Tensor& x,
                                                 const OpArguments& arguments = {});
/// The record is the compact one of OpInfo::tap_dtype.
CENOTE_EXPORT ValuesAndIndices pool_with_taps(const OpInfo& op, const at::Tensor& x,
                                              const OpArguments& arguments = {});
/// The gradient with respect to x, in the layout of grad_y. `record` is of either kind, the indices of an
/// unpooling, and undefined for an op without one.
CENOTE_EXPORT at::Tensor pool_backward(const OpInfo& op, const at::Tensor& grad_y, const at::Tensor& record,
                                       const Dims& x_sizes, const OpArguments& arguments = {});

// ---- threads ------------------------------------------------------------------------------------

/// Makes cenote run on at::parallel_for, so that a process has one pool. Happens when the library loads;
/// needed again only after cenote::set_parallel_for.
CENOTE_EXPORT void use_torch_threads();

// ---- memory -------------------------------------------------------------------------------------
// The memory of freed outputs of 32 MiB or more is kept for later outputs of about the same size: taking it
// from the system anew costs more than the pooling that fills it.

/// Returns what is kept to the system.
CENOTE_EXPORT void empty_cache();
/// Keeps no more than this many bytes, 0 for none. Default: a sixteenth of the machine's memory.
CENOTE_EXPORT void set_cache_limit(std::size_t bytes);

}  // namespace cenote::torch_ops
