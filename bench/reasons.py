"""Why a peer is faster on a row, as far as that is known."""
from results import TORCH

KIB = 1024


def reason(row, peer):
    if not row.from_memory and row.bytes_moved < 64 * KIB:
        each_call = "arguments are checked and windows looked at in each call, 2,000 to 3,000 instructions"
        return each_call if peer == TORCH else f"{each_call}; {peer} did so beforehand"
    if peer.endswith(" blocked"):
        return "its layout has channels side by side; cenote transposes planes there and back, or shifts vectors along rows"
    if not row.from_memory:
        return "one call in the caches: how rows and threads are set up counts"
    return "not known"
