// The libraries beside torch that are compared: found, loaded, and asked for the pooling of a row.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cases.h"
#include "peers/peer.h"

namespace cenote_bench {

struct Peers {
  std::vector<std::unique_ptr<Peer>> found;
  std::map<std::string, std::string> missing;  // name to reason
};

/// Loads what this machine has, but the peers named in `without`; torch.compile only if `compiled`.
Peers load_peers(const std::vector<std::string>& without, bool compiled);

/// The row as a problem for peers in `layout`; nothing for ops and passes that no peer has.
std::optional<Problem> problem_of(const Row& row, const std::vector<std::int64_t>& y_sizes, PeerLayout layout,
                                  int threads);

/// Layouts of `peer` that a row is compared in: its own counts as channels-first.
std::vector<PeerLayout> layouts_for(const Peer& peer, const Row& row);

}  // namespace cenote_bench
