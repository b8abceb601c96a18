// Visibility of the public symbols; everything else stays hidden in the shared library.
#pragma once

#define CENOTE_EXPORT __attribute__((visibility("default")))
