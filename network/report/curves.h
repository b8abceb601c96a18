// The picture of the curves, drawn by gnuplot from metrics.csv.
#pragma once

#include <filesystem>
#include <string>

namespace cenote::network {

/// Writes curves.svg beside metrics.csv in `folder`. Returns an empty string, or one line that says why there
/// is no picture; that is no error, since the report has the figures as a table too.
std::string draw_curves(const std::filesystem::path& folder);

}  // namespace cenote::network
