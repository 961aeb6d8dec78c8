"""The mapped table of next hops: which of its entries are free, and what stands in them (struct hp_nexthop)."""

from __future__ import annotations

from collections import deque
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from relay.dataplane import abi

__all__ = ["Entries", "Way"]

_WORDS = abi.NEXTHOP.itemsize // 8
_MTU = 4  # 32-bit words before it in an entry
_VLAN = 12  # 16-bit words before it


class Way(NamedTuple):
    """How frames leave by a device."""

    source: int
    """The device's MAC address, and its place in the devmap above it."""
    mtu: int
    tag: int
    """Of 802.1Q, as the wire has it; 0: none."""


class Entries:
    """`held` are those that rules of a former process send to: they are nobody's to take until they are let go."""

    def __init__(self, table: npt.NDArray[Any], held: AbstractSet[int]) -> None:
        self._words = table.view(np.uint8).data.cast("Q")
        self._halves = self._words.cast("B").cast("I")
        self._shorts = self._words.cast("B").cast("H")
        self._capacity = len(table)
        self._held = held
        self._unclaimed = set(held)
        self._top = max(held, default=0) + 1
        self._free: deque[int] = deque(index for index in range(1, self._top) if index not in held)

    def close(self) -> None:
        """Let go of the mapped memory."""
        self._shorts.release()
        self._halves.release()
        self._words.release()

    def ready(self, index: int) -> bool:
        """Whether packets leave by an entry."""
        return self._words[index * _WORDS] >> 48 == abi.NEXTHOP_READY

    def take(self) -> int | None:
        """A free entry, None where there is none."""
        if self._top < self._capacity:
            self._top += 1
            return self._top - 1
        return self._free.popleft() if self._free else None

    def claim(self, index: int, mac: bytes, way: Way | None) -> bool:
        """Keep a held entry, if nobody has yet and it leads to where packets are to go, or to nobody.

        `mac` is empty where the neighbour is not known: what stands is the best there is.
        """
        if index not in self._unclaimed or (self.ready(index) and not self._leads_to(index, mac, way)):
            return False
        self._unclaimed.discard(index)
        return True

    def is_held(self, index: int) -> bool:
        """Whether rules of a former process may send by an entry, besides those that are known."""
        return index in self._held

    def settle(self) -> None:
        """No rule is left of a former process that was not taken over: let go what none of them kept."""
        for index in sorted(self._unclaimed):
            self.free(index)
        self._unclaimed.clear()
        self._held = frozenset()

    def free(self, index: int) -> None:
        """Send nothing by an entry, and let it be taken."""
        self._words[index * _WORDS] = 0
        self._free.append(index)

    def write(self, index: int, mac: bytes, way: Way | None) -> None:
        """Store an entry; its state last when it becomes usable, first when it ceases.

        Another VLAN of a standing entry begins with a moment without one: the tag is not in the words of the MACs.
        """
        base = index * _WORDS
        if not mac or way is None:
            self._words[base] = 0
            return
        if self._shorts[base * 4 + _VLAN] != way.tag:
            self._words[base] = 0
            self._shorts[base * 4 + _VLAN] = way.tag
        self._words[base + 1] = way.source
        self._halves[base * 2 + _MTU] = way.mtu
        self._words[base] = _usable(mac)

    def _leads_to(self, index: int, mac: bytes, way: Way | None) -> bool:
        base = index * _WORDS
        if way is None or (mac and self._words[base] != _usable(mac)):
            return False
        return way.source == self._words[base + 1] and way.tag == self._shorts[base * 4 + _VLAN]


def _usable(mac: bytes) -> int:
    """The first word of an entry that leads to a neighbour."""
    return int.from_bytes(mac, "little") | abi.NEXTHOP_READY << 48
