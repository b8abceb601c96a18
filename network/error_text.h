// Formatted cenote::Error for the network tools: fail(code, "format", values...).
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>
#include <system_error>
#include <utility>

#include "cenote/error.h"

namespace cenote::network {

template <class... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

/// "No space left on device" for ENOSPC.
inline std::string errno_text(int number) { return std::generic_category().message(number); }

}  // namespace cenote::network
