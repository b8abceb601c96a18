// Greedy: the first of all smaller cases that is valid and still fails is taken, until there is none.
#include "conformance/shrink.h"

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <random>
#include <vector>

#include "cenote/error.h"

namespace cenote_test {
namespace {

/// Each value of `dims` halved, and less by one, as long as it stays at least `least`.
void add_smaller(std::vector<Case>& to, const Case& one, cenote::Dims Case::* member, std::int64_t least) {
  for (int axis = 0; axis < (one.*member).size(); ++axis) {
    const std::int64_t value = (one.*member)[axis];
    for (const std::int64_t smaller : {value / 2, value - 1}) {
      if (smaller < least || smaller == value) continue;
      Case next = one;
      (next.*member)[axis] = smaller;
      to.push_back(next);
    }
  }
}

/// The same for an option.
void add_smaller(std::vector<Case>& to, const Case& one, cenote::Dims cenote::OpArguments::* member,
                 std::int64_t least) {
  const cenote::Dims& dims = one.arguments.*member;
  for (int axis = 0; axis < dims.size(); ++axis) {
    const std::int64_t value = dims[axis];
    for (const std::int64_t smaller : {value / 2, value - 1}) {
      if (smaller < least || smaller == value) continue;
      Case next = one;
      (next.arguments.*member)[axis] = smaller;
      to.push_back(next);
    }
  }
}

/// The case with one part changed, if that changes it.
template <class Change>
void add_changed(std::vector<Case>& to, const Case& one, const Change& change) {
  Case next = one;
  change(next);
  if (describe(next) != describe(one)) to.push_back(next);
}

std::vector<Case> smaller_cases(const Case& one) {
  std::vector<Case> cases;
  add_changed(cases, one, [](Case& next) { next.arguments.auto_pad = cenote::AutoPad::kNotSet; });
  add_changed(cases, one, [](Case& next) { next.arguments.convention = cenote::Convention::kPyTorch; });
  add_changed(cases, one, [](Case& next) { next.arguments.index_order = cenote::IndexOrder::kPlane; });
  add_changed(cases, one, [](Case& next) { next.arguments.quantization.reset(); });
  add_changed(cases, one, [](Case& next) {
    if (next.arguments.quantization) next.arguments.quantization.emplace();
  });
  add_changed(cases, one, [](Case& next) { next.arguments.padding_end = {}; });
  add_changed(cases, one, [](Case& next) { next.arguments.ceil_mode = false; });
  add_changed(cases, one, [](Case& next) { next.arguments.divisor_override.reset(); });
  add_changed(cases, one, [](Case& next) { next.arguments.count_include_pad = true; });
  add_changed(cases, one, [](Case& next) { next.layout = LayoutKind::kChannelsFirst; });
  add_changed(cases, one, [](Case& next) { next.fill = Fill::kSmallIntegers; });
  // Kernel and padding together, since each bounds the other.
  for (const bool halve : {true, false}) {
    add_changed(cases, one, [&](Case& next) {
      const auto lessen = [&](cenote::Dims& dims, std::int64_t least) {
        for (int axis = 0; axis < dims.size(); ++axis)
          dims[axis] = std::max(halve ? dims[axis] / 2 : dims[axis] - 1, least);
      };
      lessen(next.arguments.kernel, 1);
      lessen(next.arguments.padding, 0);
      lessen(next.arguments.padding_end, 0);
    });
  }
  // Windows before axes: a short axis keeps its window large, since an output must remain.
  add_smaller(cases, one, &cenote::OpArguments::padding, 0);
  add_smaller(cases, one, &cenote::OpArguments::padding_end, 0);
  add_smaller(cases, one, &cenote::OpArguments::dilation, 1);
  add_smaller(cases, one, &cenote::OpArguments::kernel, 1);
  add_smaller(cases, one, &cenote::OpArguments::output_size, 1);
  add_smaller(cases, one, &cenote::OpArguments::stride, 1);
  add_smaller(cases, one, &Case::sizes, 1);
  return cases;
}

bool is_valid(const Case& one) {
  try {
    one.op->shape(one.sizes, one.arguments);
    return true;
  } catch (const cenote::Error&) {
    return false;
  }
}

}  // namespace

std::uint64_t random_seed() {
  const char* const given = std::getenv("CENOTE_TEST_SEED");
  const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
  std::cout << "CENOTE_TEST_SEED=" << seed << " repeats this run\n";
  return seed;
}

Case shrink(Case one, const std::function<bool(const Case&)>& fails) {
  constexpr int kMostSteps = 500;
  for (int step = 0; step < kMostSteps; ++step) {
    bool shrunk = false;
    for (const Case& smaller : smaller_cases(one)) {
      if (!is_valid(smaller) || !fails(smaller)) continue;
      one = smaller;
      shrunk = true;
      break;
    }
    if (!shrunk) break;
  }
  return one;
}

}  // namespace cenote_test
