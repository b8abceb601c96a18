// Every CPU target against torch: values, i64 indices and gradients of generated cases through the torch
// operators, in the layout of the case. Maxima, their indices and their gradients must be equal, and so must
// unpooling; averages must lie within the rounding of the two sums. Where torch cannot do a case itself, an
// expression of torch ops stands in (torch_oracle.h). What torch has no option for it is asked in the plain
// form of the case, and its indices are counted anew.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <limits>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "cenote/runtime.h"
#include "cenote/torch/ops.h"
#include "conformance/plain_form.h"
#include "conformance/replay.h"
#include "conformance/shrink.h"
#include "conformance/torch_oracle.h"

namespace cenote_test {
namespace {

using cenote::torch_ops::pool;
using cenote::torch_ops::pool_backward;
using cenote::torch_ops::pool_with_indices;
using cenote::torch_ops::unpool;

constexpr int kCases = 7500;
constexpr std::uint64_t kSeed = 20250117;

at::IntArrayRef to_array_ref(const cenote::Dims& dims) { return {dims.begin(), dims.end()}; }

/// A torch tensor on the memory of `tensor`, which must live on.
at::Tensor wrap(const GuardedTensor& tensor) {
  const cenote::TensorView& view = tensor.view();
  return at::from_blob(view.data, to_array_ref(view.sizes), to_array_ref(view.strides),
                       scalar_type_of(view.dtype));
}

std::vector<double> doubles_of(const at::Tensor& tensor) {
  const at::Tensor dense = tensor.to(at::kDouble).contiguous();
  return {dense.data_ptr<double>(), dense.data_ptr<double>() + dense.numel()};
}

std::vector<std::int64_t> integers_of(const at::Tensor& tensor) {
  const at::Tensor dense = tensor.contiguous();
  return {dense.data_ptr<std::int64_t>(), dense.data_ptr<std::int64_t>() + dense.numel()};
}

/// The first difference, or nothing. NaN equals NaN, 0 equals -0.
std::string difference(const at::Tensor& got, const at::Tensor& expected) {
  if (got.sizes() != expected.sizes()) return "different sizes";
  if (got.scalar_type() != expected.scalar_type()) return "different dtypes";
  at::Tensor wrong = got != expected;
  if (got.is_floating_point())
    wrong = wrong.logical_and((got.isnan().logical_and(expected.isnan())).logical_not());
  if (!wrong.any().item<bool>()) return "";
  const auto at = wrong.flatten().nonzero()[0].item<std::int64_t>();
  std::ostringstream text;
  text << "element " << at << " is " << got.flatten()[at].item() << ", expected "
       << expected.flatten()[at].item();
  return text.str();
}

/// |got - expected| <= bound, elementwise; NaN and infinities alike.
std::string difference_beyond(const at::Tensor& got, const at::Tensor& expected, const at::Tensor& bound) {
  if (got.sizes() != expected.sizes()) return "different sizes";
  const at::Tensor a = got.to(at::kDouble);
  const at::Tensor b = expected.to(at::kDouble);
  const at::Tensor alike = (a == b).logical_or(a.isnan().logical_and(b.isnan()));
  const at::Tensor near = b.isfinite().logical_and((a - b).abs() <= bound);
  const at::Tensor wrong = alike.logical_or(near).logical_not();
  if (!wrong.any().item<bool>()) return "";
  const auto at = wrong.flatten().nonzero()[0].item<std::int64_t>();
  std::ostringstream text;
  text.precision(17);
  text << "element " << at << " is " << a.flatten()[at].item<double>() << ", expected "
       << b.flatten()[at].item<double>() << " within " << bound.flatten()[at].item<double>();
  return text.str();
}

/// What the targets are held against: torch's own results, the expression, or both.
struct Expectation {
  std::string name;
  TorchResult result;
};

/// Error bounds of averages. A sum of n terms in any order errs by less than n roundings of the sum of
/// magnitudes, and the division adds up to three; both sides err, hence twice.
struct Bounds {
  at::Tensor y;
  at::Tensor grad_x;
};

double largest_window(const Case& one) {
  double taps = 1;
  const cenote::Dims y_sizes = one.op->shape(one.sizes, one.arguments);
  for (int axis = 0; axis < one.op->spatial_rank; ++axis) {
    const int place = one.sizes.size() - one.op->spatial_rank + axis;
    const cenote::Dims& kernel = one.arguments.kernel;
    const bool windowed = (one.op->parameters & cenote::kTakesWindow) != 0;
    taps *= static_cast<double>(windowed ? kernel[kernel.size() == 1 ? 0 : axis]
                                         : one.sizes[place] / y_sizes[place] + 2);
  }
  return taps;
}

/// Windows that share one element, at most: every window of the axis, or as many as the kernel has taps.
double most_windows(const Case& one) {
  double windows = 1;
  const cenote::Dims y_sizes = one.op->shape(one.sizes, one.arguments);
  for (int axis = 0; axis < one.op->spatial_rank; ++axis) {
    const int place = one.sizes.size() - one.op->spatial_rank + axis;
    windows *= static_cast<double>(y_sizes[place]);
  }
  return (one.op->parameters & cenote::kTakesWindow) != 0 ? std::min(windows, largest_window(one)) : windows;
}

class TorchComparison {
 public:
  explicit TorchComparison(const Case& one)
      : case_(one),
        plain_(plain_form(one)),
        wide_(one.dtype == cenote::DType::i64 && one.fill == Fill::kEnds),
        operator_arguments_(one.arguments),
        x_(make_input(one)),
        grad_y_(one.op->records_indices ? make_exact_output_gradient(one) : make_output_gradient(one)) {
    // Cloned also where it is contiguous already: one channel can have channels-last strides, and torch's
    // channels-last loop for 3-D max gives wrong indices for windows of -inf.
    at::Tensor x = wrap(x_).clone(at::MemoryFormat::Contiguous);
    at::Tensor grad_y = wrap(grad_y_).clone(at::MemoryFormat::Contiguous);
    operator_arguments_.index_order = cenote::IndexOrder::kPlane;
    if (one.arguments.quantization) {
      x = at::tensor(real_input(one), at::kDouble).reshape(to_array_ref(one.sizes));
      grad_y = grad_y.to(at::kDouble);
    } else if (!wide_ && one.dtype != cenote::DType::f32 && one.dtype != cenote::DType::f64) {
      // In double, which holds all their values: torch has not all of these dtypes.
      x = x.to(at::kDouble);
      grad_y = grad_y.to(at::kDouble);
    }
    at::Tensor read_indices;
    if (one.op->reads_indices) {
      read_indices_ = make_indices(plain_, one.layout);
      read_indices = wrap(*read_indices_).clone(at::MemoryFormat::Contiguous);
    }
    const TorchOracle oracle(plain_, x, grad_y, read_indices);
    if (wide_) {
      reason_ = "i64 that double does not hold";
      expectations_.push_back({"integers", oracle.whole()});
      return;
    }
    reason_ = oracle.why_not_direct();
    if (reason_.empty()) expectations_.push_back({"torch", in_dtype_of_case(oracle.direct())});
    if (one.op->gradient_reads_x ||
        (one.op->parameters & (cenote::kTakesWindow | cenote::kTakesSamples)) != 0)
      expectations_.push_back({"expression", in_dtype_of_case(oracle.expressed())});
    if (one.op->gradient_reads_x) {
      set_smooth_bounds(one);
    } else if (!one.op->uses_indices() && !one.arguments.quantization) {
      set_bounds(one);
    }
  }

  /// Why torch's own op was not asked; empty when it was.
  const std::string& reason() const { return reason_; }

  /// Differences of the CPU target in use.
  std::vector<std::string> run() const {
    std::vector<std::string> problems;
    const bool differentiable = is_floating(case_.dtype);
    const at::Tensor x = wrap(x_).requires_grad_(differentiable);
    const at::Tensor y = read_indices_ ? unpool(*case_.op, x, wrap(*read_indices_), operator_arguments_)
                                       : pool(*case_.op, x, operator_arguments_);
    if (differentiable) y.backward(wrap(grad_y_));
    for (const Expectation& expectation : expectations_) {
      const auto check = [&](const char* what, const std::string& problem) {
        if (!problem.empty())
          problems.push_back(std::string(what) + " vs " + expectation.name + ": " + problem);
      };
      if (case_.arguments.index_order != cenote::IndexOrder::kPlane) check_ordered(expectation.result, check);
      if (case_.op->records_indices) {
        check_max(expectation.result, y.detach(), x.grad(), check);
      } else if (case_.op->reads_indices) {
        check("y", difference(y.detach(), expectation.result.y));
        if (differentiable) check("grad_x", difference(x.grad(), expectation.result.grad_x));
      } else if (wide_ || case_.arguments.quantization) {
        check("y", difference(y, expectation.result.y));
      } else {
        check("y", difference_beyond(y.detach(), expectation.result.y, bounds_.y));
        if (differentiable)
          check("grad_x",
                difference_beyond(x.grad(), wanted_gradient(expectation, x.grad()), bounds_.grad_x));
      }
    }
    return problems;
  }

 private:
  /// The result of an oracle in double, rounded as the case wants it: maxima and copies exactly, integers
  /// towards zero and to the ends of their range. Averages stay in double; what may overflow is rounded.
  TorchResult in_dtype_of_case(TorchResult result) const {
    const at::ScalarType type = wrap(x_).scalar_type();
    if (case_.arguments.quantization) {
      // Sums of bytes are exact and their quotients rounded once, by torch and by cenote.
      const std::vector<double> elements =
          quantized(*case_.arguments.quantization, case_.dtype, doubles_of(result.y));
      result.y = at::tensor(elements, at::kDouble).reshape(result.y.sizes()).to(type);
    } else if (!is_floating(case_.dtype)) {
      const double lowest = case_.dtype == cenote::DType::u8    ? 0
                            : case_.dtype == cenote::DType::i8  ? -128
                            : case_.dtype == cenote::DType::i32 ? -2147483648.0
                                                                : -9223372036854775808.0;
      const at::Tensor whole = result.y.trunc();
      const at::Tensor bounded = at::where(whole <= lowest, at::full_like(whole, lowest), whole);
      result.y = clamped_above(bounded, type);
    } else if (case_.op->uses_indices() || case_.op->gradient_reads_x) {
      result.y = result.y.to(type);
      result.grad_x = result.grad_x.to(type);
    } else {
      const at::Tensor rounded = result.y.to(type).to(result.y.scalar_type());
      result.y = at::where(rounded.isinf(), rounded, result.y);  // sums beyond the range of the type
    }
    return result;
  }

  /// As `type`, with what lies above its range at its highest value.
  static at::Tensor clamped_above(const at::Tensor& values, at::ScalarType type) {
    if (type != at::kLong) {
      const double highest = type == at::kByte ? 255 : type == at::kChar ? 127 : 2147483647.0;
      return values.clamp_max(highest).to(type);
    }
    const at::Tensor beyond = values >= 9223372036854775808.0;
    return values.masked_fill(beyond, 0).to(type).masked_fill(beyond,
                                                              std::numeric_limits<std::int64_t>::max());
  }

  template <class Check>
  void check_max(const TorchResult& expected, const at::Tensor& y, const at::Tensor& grad_x,
                 const Check& check) const {
    const at::Tensor x = wrap(x_);
    const auto [values, indices] = pool_with_indices(*case_.op, x, operator_arguments_);
    check("y", difference(y, expected.y));
    check("y with indices", difference(values, expected.y));
    check("indices", difference(indices, expected.indices));
    if (!is_floating(case_.dtype)) return;
    const at::Tensor from_indices =
        pool_backward(*case_.op, wrap(grad_y_), indices, case_.sizes, operator_arguments_);
    check("grad_x by autograd", difference(grad_x, expected.grad_x));
    check("grad_x from indices", difference(from_indices, expected.grad_x));
  }

  /// Indices that count in the whole tensor, which cenote's operators do not take.
  template <class Check>
  void check_ordered(const TorchResult& expected, const Check& check) const {
    const Outcome got = replay(case_);
    const cenote::Dims& sizes = case_.sizes;
    if (case_.op->records_indices) {
      const std::vector<std::int64_t> indices = in_index_order(
          integers_of(expected.indices), sizes, case_.op->spatial_rank, case_.arguments.index_order);
      check("ordered indices", got.indices == indices ? "" : "they differ");
    } else if (wide_) {
      check("y by ordered indices", got.whole == integers_of(expected.y) ? "" : "it differs");
    } else {
      const at::Tensor y = at::tensor(got.y, at::kDouble).reshape(expected.y.sizes());
      check("y by ordered indices", difference(y, expected.y.to(at::kDouble)));
    }
    if (!is_floating(case_.dtype)) return;
    const at::Tensor grad_x = at::tensor(got.grad_x, at::kDouble).reshape(to_array_ref(sizes));
    check("grad_x by ordered indices", difference(grad_x, expected.grad_x.to(at::kDouble)));
  }

  /// What torch's graph of the smooth ops makes of infinities and roots of 0, and which slopes it leaves
  /// beside NaN, is the graph's own, and is not asked for.
  at::Tensor wanted_gradient(const Expectation& expectation, const at::Tensor& got) const {
    const at::Tensor& expected = expectation.result.grad_x;
    if (!case_.op->gradient_reads_x) return expected;
    if (wrap(x_).isnan().logical_or(wrap(x_).isposinf()).any().item<bool>()) return got;
    return at::where(expected.isfinite(), expected, got);
  }

  /// Twice, since torch's expressions round as well.
  void set_smooth_bounds(const Case& one) {
    const SmoothBounds bounds = smooth_bounds(one);
    const cenote::Dims y_sizes = one.op->shape(one.sizes, one.arguments);
    bounds_.y = 2 * at::tensor(bounds.y, at::kDouble).reshape(to_array_ref(y_sizes));
    bounds_.grad_x = 2 * at::tensor(bounds.grad_x, at::kDouble).reshape(to_array_ref(one.sizes));
  }

  void set_bounds(const Case& one) {
    const auto [epsilon, smallest] = precision_of(one.dtype);
    const Outcome magnitudes = replay_magnitudes(one);
    const auto bound = [&](const std::vector<double>& magnitude, const cenote::Dims& sizes, double terms) {
      const at::Tensor tensor = at::tensor(magnitude, at::kDouble).reshape(to_array_ref(sizes));
      return tensor * (2 * (terms + 3) * epsilon) + smallest;
    };
    bounds_.y = bound(magnitudes.y, one.op->shape(one.sizes, one.arguments), largest_window(one));
    bounds_.grad_x = bound(magnitudes.grad_x, one.sizes, most_windows(one));
  }

  const Case& case_;
  Case plain_;
  bool wide_;                               // elements that double does not hold
  cenote::OpArguments operator_arguments_;  // those of the case that cenote's operators take
  GuardedTensor x_;
  GuardedTensor grad_y_;
  std::optional<GuardedTensor> read_indices_;  // counted in planes
  std::string reason_;
  std::vector<Expectation> expectations_;
  Bounds bounds_;
};

/// Counts and failures over all cases.
class Tally {
 public:
  void add(const Case& one, const TorchComparison& comparison) {
    if (comparison.reason().empty()) {
      ++direct_;
      if (one.op->gradient_reads_x) ++direct_smooth_;
    } else {
      ++expressed_[comparison.reason()];
    }
    for (const std::string& target : cenote::cpu_targets()) {
      const TargetGuard guard(target);
      for (const std::string& problem : comparison.run()) {
        std::ostringstream text;
        text << target << ", " << problem << "\n    " << describe(one);
        failures_.emplace_back(cenote::element_count(one.sizes), text.str());
      }
    }
  }

  int direct() const { return direct_; }
  int direct_smooth() const { return direct_smooth_; }

  void report() {
    std::cout << "cases compared with torch's own op: " << direct_ << '\n';
    for (const auto& [reason, count] : expressed_) {
      std::cout << "cases compared with expressions of torch ops: " << count << " (" << reason << ")\n";
    }
    std::cout << "each on " << cenote::cpu_targets().size() << " CPU targets\n";
    std::sort(failures_.begin(), failures_.end());
    std::ostringstream smallest;
    for (std::size_t i = 0; i < std::min<std::size_t>(failures_.size(), 8); ++i) {
      smallest << "\n  " << failures_[i].second;
    }
    EXPECT_TRUE(failures_.empty()) << failures_.size()
                                   << " comparisons failed; the smallest:" << smallest.str();
  }

 private:
  int direct_ = 0;
  int direct_smooth_ = 0;
  std::map<std::string, int> expressed_;
  std::vector<std::pair<std::int64_t, std::string>> failures_;
};

std::vector<Case> varied_cases(int count, std::uint64_t seed) {
  std::vector<Case> cases = generate_cases(count, seed);
  vary_encodings(cases, seed);
  return cases;
}

TEST(TorchConformance, EveryTargetEqualsTorch) {
  Tally tally;
  for (const Case& one : varied_cases(kCases, kSeed)) tally.add(one, TorchComparison(one));
  tally.report();
  EXPECT_GE(tally.direct(), 2000);
  EXPECT_GE(tally.direct_smooth(), 20);
}

/// What differs on any target.
std::vector<std::string> problems_of(const Case& one) {
  const TorchComparison comparison(one);
  std::vector<std::string> found;
  for (const std::string& target : cenote::cpu_targets()) {
    const TargetGuard guard(target);
    for (const std::string& problem : comparison.run())
      found.push_back(std::string(target).append(", ").append(problem));
  }
  return found;
}

constexpr int kParts = 3;  // which may run side by side

class RandomCases : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Parts, RandomCases, ::testing::Range(0, kParts));

/// New cases in every run.
TEST_P(RandomCases, EqualTorchOnEveryTarget) {
  constexpr int kRandomCases = 21'000 / kParts;
  int compared = 0;
  for (const Case& one : varied_cases(kRandomCases, random_seed() + static_cast<std::uint64_t>(GetParam()))) {
    ++compared;
    if (problems_of(one).empty()) continue;
    const Case small = shrink(one, [](const Case& smaller) { return !problems_of(smaller).empty(); });
    FAIL() << describe(one) << "\nshrinks to\n" << describe(small) << '\n' << problems_of(small).front();
  }
  EXPECT_EQ(compared, kRandomCases);
}

}  // namespace
}  // namespace cenote_test
