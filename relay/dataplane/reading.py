"""What the rules in force have come to: counters, sources, paths; nothing is changed here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from relay.dataplane import abi
from relay.dataplane.cells import Cells, Standing
from relay.dataplane.counts import read_state
from relay.dataplane.nexthops import NextHops
from relay.dataplane.options import measures_jitter
from relay.dataplane.tokens import NoTokens, Tokens
from relay.dataplane.words import rule_index, window
from relay.types import Carries, Endpoint, Path, StreamState, Treatment

# An Enum's members are found by a search, at each time of asking.
_BLOCK: Final = Treatment.BLOCK
_RTCP: Final = Carries.RTCP
_BLOCKED: Final = Path.BLOCKED
_REFUSED: Final = Path.REFUSED
_NO_DESTINATION: Final = Path.NO_DESTINATION
_NO_NEXT_HOP: Final = Path.NO_NEXT_HOP
_NO_PACKET: Final = Path.NO_PACKET
_FAST: Final = Path.FAST
_UNSEEN: Final = abi.UNSEEN
_CONFIRMED: Final = abi.CONFIRMED


class Readings(Cells):
    """The rules in force, by their place, and what their words say."""

    def __init__(
        self,
        rules: npt.NDArray[np.void],
        cold: npt.NDArray[np.void],
        addresses: Sequence[str],
        tokens: Tokens | NoTokens,
    ) -> None:
        super().__init__(rules, cold, addresses, tokens)
        self.nexthops: NextHops  # joined after construction: it calls `moved` of the table
        self.standing: dict[int, Standing] = {}
        self._octets_ended = 0

    def get(self, local: Endpoint) -> Standing | None:
        address = self._address.get(local.ip)
        return None if address is None else self.standing.get(rule_index(address, local.port))

    def octets(self) -> int:
        """UDP payload admitted since the start at all ports, those of ended calls included; reads the whole table."""
        return self._octets_ended + int(self.rules["bytes"].sum())

    def mirrored(self, entry: Standing) -> Standing | None:
        """The rule in force of the port that packets leave from, where that one's packets leave from this."""
        found = self.standing.get(entry.mirror)
        return found if found is not None and found.mirror == entry.index else None

    def source(self, entry: Standing, expected: int) -> Endpoint | None:
        """The endpoint in the word XDP keeps of a port's source."""
        return self.facing(entry.index, expected)

    def observed(self, entry: Standing) -> tuple[Endpoint | None, bool]:
        """Where the party of a port really sends from, and whether its address is confirmed."""
        return self._observed(entry, self.expected(entry.index))

    def target(self, entry: Standing) -> Endpoint | None:
        """Where the next packet of a rule goes: the learned address of this generation, else the signalled one."""
        return self._learned_target(entry) or (None if entry.refused else entry.wanted)

    def leaves(self, entry: Standing) -> bool:
        """Whether packets to the target need no user space: its next hop is resolved, or the way back is known."""
        target = self.target(entry)
        if entry.destination is not None and target is not None and entry.destination.ip == target.ip:
            return self.nexthops.ready(entry.destination)
        return bool(self.cold[entry.index]["via_ifindex"])

    def path(self, entry: Standing, packets: int) -> Path:
        """Where the packets of a rule go, with the program on all interfaces they come in by."""
        if entry.rule.treatment is _BLOCK and entry.rule.carries is not _RTCP:
            return _BLOCKED
        target = self.target(entry)
        if target is None:
            return _REFUSED if entry.refused else _NO_DESTINATION
        if target.ip not in self._address and not self.leaves(entry):
            return _NO_NEXT_HOP
        return _FAST if packets else _NO_PACKET

    def state(self, entry: Standing) -> StreamState:
        """The counters of a rule, and its path if the program is there to take it."""
        state, expected = read_state(self._hot_bytes, self._cold_bytes, entry.index)
        state.observed_source, state.confirmed = self._observed(entry, expected)
        if not measures_jitter(entry.rule.clocks):
            state.jitter_ms = None
        state.path = self.path(entry, state.packets)
        return state

    def _learned_target(self, entry: Standing) -> Endpoint | None:
        learned = self.learned(entry.index)
        return self.facing(entry.mirror, learned) if learned >> 48 == entry.target_generation else None

    def _observed(self, entry: Standing, expected: int) -> tuple[Endpoint | None, bool]:
        """What the word XDP keeps of a port's source says of its party."""
        generation, state = window(expected)
        if generation == entry.generation and state != _UNSEEN:
            return self.source(entry, expected), state == _CONFIRMED
        return entry.folded, entry.folded is not None
