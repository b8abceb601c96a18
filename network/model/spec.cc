// The names of the choices, as on the command line.
#include "network/model/spec.h"

#include "network/error_text.h"

namespace cenote::network {

Downsample downsample_from_name(const std::string& name) {
  if (name == "strided") return Downsample::kStrided;
  if (name == "max") return Downsample::kMax;
  if (name == "avg") return Downsample::kAvg;
  fail(ErrorCode::kInvalidArgument, "[network] unknown downsample '{}'; known are strided, max, avg", name);
}

Head head_from_name(const std::string& name) {
  if (name == "gap") return Head::kGap;
  if (name == "flatten") return Head::kFlatten;
  fail(ErrorCode::kInvalidArgument, "[network] unknown head '{}'; known are gap, flatten", name);
}

}  // namespace cenote::network
