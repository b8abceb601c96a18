"""Why a peer is faster on a row, as far as that is known."""
from results import TORCH

KIB = 1024


def reason(row, peer):
    if not row.from_memory and row.bytes_moved < 64 * KIB:
        each_call = "each call is compared with the last one, chooses loops and sets up rows"
        return each_call if peer == TORCH else f"{each_call}; {peer} did so beforehand"
    if peer.endswith(" blocked"):
        return "its layout has channels side by side; cenote transposes planes there and back, or shuffles vectors along rows"
    if not row.from_memory:
        return "one call in the caches: how rows and threads are set up counts"
    return "not known"
