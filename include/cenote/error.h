// The one exception type of cenote. The text reads `[op] argument value rule`,
// for example `[max_pool2d] kernel[1] must be > 0, got 0`.
#pragma once

#include <stdexcept>
#include <string>

#include "cenote/export.h"

namespace cenote {

enum class ErrorCode {
  kInvalidArgument,  // an argument breaks a documented rule
  kOverflow,         // a size or an index does not fit into 63 bits
  kUnsupported,      // valid, but not provided by this build, machine or backend
  kBadFile,          // a file is truncated, foreign or damaged
  kIo,               // the operating system refused to read or write
};

class CENOTE_EXPORT Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& text) : std::runtime_error(text), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace cenote
