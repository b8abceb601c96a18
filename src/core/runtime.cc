// The version.
#include "cenote/runtime.h"

namespace cenote {

const char* version() { return CENOTE_VERSION; }

}  // namespace cenote
