// Cenote, the pooling library: everything public in one include.
#pragma once

#include "cenote/adaptive.h"
#include "cenote/error.h"
#include "cenote/global.h"
#include "cenote/random.h"
#include "cenote/registry.h"
#include "cenote/runtime.h"
#include "cenote/tensor.h"
#include "cenote/unpool.h"
#include "cenote/window.h"
