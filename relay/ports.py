"""Local ports: pairs drawn at random from a range, one pool per local address.

A pair is an even port for RTP and the odd one above it for RTCP (RFC 3550 section 11). Which pair is drawn cannot be
guessed, so an attacker who wants to inject media has to spray the whole range. A pair that was let go rests for a
while, so that late packets of an ended call do not meet a new one; when nothing else is left, the one that rests
longest is used.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from relay.errors import PortsExhausted

__all__ = ["Interface", "PortPool"]

_OUT, _DRAWN, _RESTING = 0, 1, 2


class PortPool:
    """The even/odd pairs of one local address within `low` to `high`, both included.

    Every draw and release is O(1), also when the pool is nearly full: `_order` holds all pairs, the free ones first,
    and `_where` the place of each: five bytes per pair. `random` gives numbers from 0.0 up to but not 1.0 that an
    attacker cannot foresee.
    """

    __slots__ = (
        "_busy",
        "_first",
        "_free",
        "_order",
        "_random",
        "_resting",
        "_state",
        "_where",
        "drawn",
        "high",
        "low",
    )

    def __init__(self, low: int, high: int, random: Callable[[], float]) -> None:
        if not 1 <= low < high <= 65535:
            raise ValueError(f"no port range: {low} to {high}")
        self.low, self.high = low, high
        self.drawn = 0
        """Pairs in use by calls."""
        self._first = low + (low & 1)
        pairs = (high + 1 - self._first) // 2
        if pairs < 1:
            raise ValueError(f"no even port followed by an odd one between {low} and {high}")
        self._order = array("H", range(pairs))
        self._where = array("H", range(pairs))
        self._state = bytearray(pairs)
        self._free = pairs
        self._busy: frozenset[int] = frozenset()
        self._resting: deque[tuple[float, int]] = deque()
        self._random = random

    @property
    def pairs(self) -> int:
        """All pairs of the range."""
        return len(self._order)

    @property
    def available(self) -> int:
        """Pairs that can be drawn now, the resting ones included."""
        return self._free + sum(1 for _, pair in self._resting if pair not in self._busy)

    @property
    def has_free(self) -> bool:
        """Whether any pair can be drawn now; cheaper than counting them."""
        return bool(self._free or self.available)

    def draw(self, now: float) -> int:
        """Take a pair; returns its even port. Raises PortsExhausted."""
        resting = self._resting
        while resting and resting[0][0] <= now:
            self._wake()
        while not self._free:
            if not resting:
                raise PortsExhausted
            self._wake()
        pair = self._order[int(self._random() * self._free)]
        self._withdraw(pair)
        self._state[pair] = _DRAWN
        self.drawn += 1
        return self._first + 2 * pair

    def release(self, port: int, until: float) -> None:
        """Give back the pair of even port `port`; it rests until the time `until` as long as others are free."""
        pair, odd = divmod(port - self._first, 2)
        if odd or not 0 <= pair < len(self._state) or self._state[pair] != _DRAWN:
            raise ValueError(f"port {port} was not drawn from this pool")
        self._state[pair] = _RESTING
        self.drawn -= 1
        self._resting.append((until, pair))

    def skip(self, ports: Iterable[int]) -> None:
        """Leave out pairs of which other programs hold a port; replaces what an earlier call left out.

        A pair that a call holds already stays with it.
        """
        busy = frozenset((port - self._first) // 2 for port in ports if self._first <= port <= self.high)
        busy &= frozenset(range(len(self._order)))
        for pair in busy - self._busy:
            if self._state[pair] == _OUT:
                self._withdraw(pair)
        for pair in self._busy - busy:
            if self._state[pair] == _OUT:
                self._restore(pair)
        self._busy = busy

    def widen(self, low: int, high: int) -> None:
        """Take a range that holds the present one; what is in use stays so. Raises ValueError for others."""
        if not 1 <= low <= self.low < self.high <= high <= 65535:
            raise ValueError(f"{low} to {high} does not hold the range {self.low} to {self.high}")
        first = low + (low & 1)
        shift, pairs = (self._first - first) // 2, (high + 1 - first) // 2
        state = bytearray(pairs)
        state[shift : shift + len(self._state)] = self._state
        self._busy = frozenset(pair + shift for pair in self._busy)
        self._resting = deque((until, pair + shift) for until, pair in self._resting)
        free = [pair for pair in range(pairs) if state[pair] == _OUT and pair not in self._busy]
        rest = [pair for pair in range(pairs) if state[pair] != _OUT or pair in self._busy]
        self._order, self._where = array("H", free + rest), array("H", range(pairs))
        for place, pair in enumerate(self._order):
            self._where[pair] = place
        self.low, self.high, self._first, self._state, self._free = low, high, first, state, len(free)

    def _wake(self) -> None:
        _, pair = self._resting.popleft()
        self._state[pair] = _OUT
        if pair not in self._busy:
            self._restore(pair)

    def _withdraw(self, pair: int) -> None:
        self._free -= 1
        self._exchange(pair, self._free)

    def _restore(self, pair: int) -> None:
        self._exchange(pair, self._free)
        self._free += 1

    def _exchange(self, pair: int, place: int) -> None:
        """Swap `pair` with whatever stands at `place` in the order."""
        order, where = self._order, self._where
        other, here = order[place], where[pair]
        order[place], order[here] = pair, other
        where[pair], where[other] = place, here


@dataclass(frozen=True, slots=True)
class Interface:
    """One logical interface: a name for the proxy, a local address with its ports, and the address shown in SDP."""

    name: str
    address: str
    advertised: str
    pool: PortPool
