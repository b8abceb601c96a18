// Which of Highway's targets are compiled: one per vector width and instruction generation that changes
// a pooling loop. SSSE3 and AVX3_DL add nothing that these kernels use. Include before hwy/highway.h.
#pragma once

#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)
#endif
