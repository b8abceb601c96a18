// Peers that run in a child process, under Python: their packages have no headers.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/compare/peers/peer.h"

namespace cenote_bench {

/// `driver` is a Python file beside this one. Throws std::exception where it finds no library.
std::unique_ptr<Peer> make_python_peer(const std::string& name, const std::string& driver,
                                       const std::vector<PeerLayout>& layouts);

}  // namespace cenote_bench
