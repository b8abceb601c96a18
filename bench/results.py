"""compare.json of cenote_compare, and the figures that follow from it."""
import json
import math
from dataclasses import dataclass

CENOTE, INTO, TORCH, COPY = "cenote", "cenote into", "torch", "copy"
COPY_PAST = "copy past caches"
OURS = (CENOTE, INTO, COPY, COPY_PAST)


@dataclass(frozen=True)
class Row:
    """One row of the file."""
    data: dict

    def __getattr__(self, name):
        return self.data[name]

    @property
    def names(self):
        return list(self.contenders)

    def ms(self, contender):
        return self.contenders[contender]["median_ms"]

    def has(self, contender):
        return contender in self.contenders

    @property
    def best(self):
        """cenote on the terms of the peers: into memory that is there, where the pass has that form."""
        return INTO if self.has(INTO) else CENOTE

    def ours(self, peer):
        """What a peer is compared with: torch allocates what it returns, as cenote's operator does."""
        return CENOTE if peer == TORCH else self.best

    def ratio(self, peer):
        """Above 1: cenote is faster."""
        return self.ms(peer) / self.ms(self.ours(peer))

    def beyond_spread(self, peer):
        """Whether all but a tenth of the peer's times are shorter than all but a tenth of cenote's."""
        return self.contenders[peer]["p90_ms"] < self.contenders[self.ours(peer)]["p10_ms"]

    def copy_percent(self, contender):
        return 100 * self.ms(COPY) / self.ms(contender)

    def gigabytes_per_second(self, contender):
        return self.bytes_moved / self.ms(contender) / 1e6

    @property
    def from_memory(self):
        return self.data["data"] == "memory"


class Results:
    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        self.machine, self.run = document["machine"], document["run"]
        self.rows = [Row(row) for row in document["rows"]]

    @property
    def peers(self):
        """All that cenote is compared with, in the order of the file."""
        found = {}
        for row in self.rows:
            found.update((name, None) for name in row.names if name not in OURS)
        return sorted(found, key=lambda name: (name != TORCH, list(found).index(name)))

    def groups(self):
        return list(dict.fromkeys(row.group for row in self.rows))

    def chosen(self, **wanted):
        """Rows with these values, as chosen(group="ops", layout="channels-last")."""
        return [row for row in self.rows if all(row.data[key] == value for key, value in wanted.items())]

    def slower(self):
        """(ratio, peer, row) wherever a peer was faster, the worst first."""
        found = [(row.ratio(peer), peer, row) for row in self.rows for peer in self.peers if row.has(peer)]
        return sorted((entry for entry in found if entry[0] < 1), key=lambda entry: entry[0])


def geometric_mean(values):
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None
