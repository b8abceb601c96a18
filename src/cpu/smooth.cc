// Smooth pooling on the CPU: one file per direction, since together they compile for minutes.
#include "backend.h"
#include "cpu/smooth_backward.h"
#include "cpu/smooth_forward.h"

namespace cenote::cpu {

const SmoothBackend& smooth() {
  static constexpr SmoothBackend table{smooth_forward, smooth_backward};
  return table;
}

}  // namespace cenote::cpu
