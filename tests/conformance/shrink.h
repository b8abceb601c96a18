// Random cases that differ in every run, and how a failing one is made small.
#pragma once

#include <cstdint>
#include <functional>

#include "conformance/cases.h"

namespace cenote_test {

/// CENOTE_TEST_SEED, or a new one; printed, so that the run can be repeated.
std::uint64_t random_seed();

/// A case that still fails and that no single step makes smaller: shorter axes, smaller windows, fewer
/// options.
Case shrink(Case one, const std::function<bool(const Case&)>& fails);

}  // namespace cenote_test
