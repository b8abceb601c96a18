// ONNX Runtime as a peer: its wheel has no headers, so it runs in a child process, under Python.
#pragma once

#include <memory>

#include "bench/compare/peers/peer.h"

namespace cenote_bench {

/// Throws std::exception where there is no ONNX Runtime.
std::unique_ptr<Peer> make_onnxruntime();

}  // namespace cenote_bench
