"""Local ports: pairs drawn at random from a range, one pool per local address.

A pair is an even port for RTP and the odd one above it for RTCP (RFC 3550 section 11). Which pair is drawn cannot be
guessed, so an attacker who wants to inject media has to spray the whole range. A pair that was let go rests for a
while, so that late packets of an ended call do not meet a new one; when nothing else is left, the one that rests
longest is used.

A service address that several nodes may serve has the same range on all of them, and no two draw the same pair: each
node that may take it over has a slice of its own (`slices`), and the address's home draws from the rest. Pairs that
others drew are claimed here as their calls come.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from relay.errors import PortsExhausted, PortsTaken

__all__ = ["Interface", "PortPool", "Span", "lent", "slices"]

Span = tuple[int, int]
"""The lowest and the highest port of a range, both included."""

_OUT, _DRAWN, _RESTING = 0, 1, 2
_BUSY, _LENT, _HELD = 1, 2, 4
"""Why a pair is not drawn though no call has it; any of them may hold at once."""


class PortPool:
    """The even/odd pairs of one local address within `low` to `high`, both included.

    Every draw and release is O(1), also when the pool is nearly full: `_order` holds all pairs, those that may be drawn
    first, and `_where` the place of each: six bytes per pair. `random` gives numbers from 0.0 up to but not 1.0 that an
    attacker cannot foresee. `lent` are the ports that other nodes draw from.
    """

    __slots__ = (
        "_barred",
        "_first",
        "_free",
        "_lent",
        "_order",
        "_random",
        "_resting",
        "_state",
        "_where",
        "drawn",
        "high",
        "low",
    )

    def __init__(self, low: int, high: int, random: Callable[[], float], lent: Sequence[Span] = ()) -> None:
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
        self._barred = bytearray(pairs)
        self._free = pairs
        self._resting: OrderedDict[int, float] = OrderedDict()
        """Pairs that were let go, longest ago first, and until when they rest."""
        self._random = random
        self._lent: tuple[Span, ...] = ()
        self.lend(lent)

    @property
    def pairs(self) -> int:
        """All pairs of the range."""
        return len(self._order)

    @property
    def available(self) -> int:
        """Pairs that can be drawn now, the resting ones included."""
        return self._free + sum([not self._barred[pair] for pair in self._resting])

    @property
    def has_free(self) -> bool:
        """Whether any pair can be drawn now; cheaper than counting them."""
        return bool(self._free or self.available)

    def draw(self, now: float) -> int:
        """Take a pair; returns its even port. Raises PortsExhausted."""
        resting = self._resting
        while resting and next(iter(resting.values())) <= now:
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

    def check(self, port: int) -> None:
        """Raise PortsTaken where `port` begins no pair of this range, or a call has it."""
        pair, odd = divmod(port - self._first, 2)
        if odd or not 0 <= pair < len(self._state):
            raise PortsTaken(f"port {port} begins no pair between {self.low} and {self.high}")
        if self._state[pair] == _DRAWN:
            raise PortsTaken(f"port {port} belongs to another call")

    def claim(self, port: int) -> None:
        """Take the pair of even port `port`, which another node or an earlier process has drawn.

        It may be free, resting, held, left out or another node's to draw. Raises PortsTaken where `check` does.
        """
        self.check(port)
        pair = (port - self._first) // 2
        if self._state[pair] == _RESTING:
            del self._resting[pair]
        elif not self._barred[pair]:
            self._withdraw(pair)
        self._state[pair] = _DRAWN
        self._barred[pair] &= ~_HELD
        self.drawn += 1

    def release(self, port: int, until: float) -> None:
        """Give back the pair of even port `port`; it rests until the time `until` as long as others are free."""
        pair, odd = divmod(port - self._first, 2)
        if odd or not 0 <= pair < len(self._state) or self._state[pair] != _DRAWN:
            raise ValueError(f"port {port} was not drawn from this pool")
        self._state[pair] = _RESTING
        self.drawn -= 1
        self._resting[pair] = until

    def rest(self, ports: Iterable[int], until: float) -> None:
        """Let pairs rest that an earlier process let go of."""
        for pair in self._pairs_of(ports):
            if self._state[pair] == _OUT and not self._barred[pair]:
                self._withdraw(pair)
                self._state[pair] = _RESTING
                self._resting[pair] = until

    def skip(self, ports: Iterable[int]) -> None:
        """Leave out pairs of which other programs hold a port; replaces what an earlier call left out.

        A pair that a call holds already stays with it.
        """
        self._bar_only(_BUSY, self._pairs_of(ports))

    def hold(self, ports: Iterable[int]) -> None:
        """Leave alone pairs that still forward for calls that are not here yet, until these claim them or `unhold`."""
        for pair in self._pairs_of(ports):
            self._bar(pair, _HELD)

    def unhold(self) -> None:
        """No more calls will come for what is held."""
        self._bar_only(_HELD, set())

    def lend(self, spans: Sequence[Span]) -> None:
        """Draw from none of these ranges of ports; replaces what was lent before. What calls have stays with them."""
        self._lent = tuple(spans)
        inside: set[int] = set()
        for low, high in spans:
            inside |= self._pairs_of(range(max(low, self._first), min(high, self.high) + 1))
        self._bar_only(_LENT, inside)

    def widen(self, low: int, high: int) -> None:
        """Take a range that holds the present one; what is in use stays so. Raises ValueError for others."""
        if not 1 <= low <= self.low < self.high <= high <= 65535:
            raise ValueError(f"{low} to {high} does not hold the range {self.low} to {self.high}")
        first = low + (low & 1)
        shift, pairs = (self._first - first) // 2, (high + 1 - first) // 2
        state, barred = bytearray(pairs), bytearray(pairs)
        state[shift : shift + len(self._state)] = self._state
        barred[shift : shift + len(self._barred)] = self._barred
        self._resting = OrderedDict([(pair + shift, until) for pair, until in self._resting.items()])
        free = [pair for pair in range(pairs) if state[pair] == _OUT and not barred[pair]]
        rest = [pair for pair in range(pairs) if state[pair] != _OUT or barred[pair]]
        self._order, self._where = array("H", free + rest), array("H", range(pairs))
        for place, pair in enumerate(self._order):
            self._where[pair] = place
        self.low, self.high, self._first, self._state, self._free = low, high, first, state, len(free)
        self._barred = barred
        self.lend(self._lent)

    def _pairs_of(self, ports: Iterable[int]) -> set[int]:
        """The pairs of this range that some ports belong to."""
        found = {(port - self._first) // 2 for port in ports if self._first <= port <= self.high}
        found.discard(len(self._order))  # an even port at the very end has no odd one above it
        return found

    def _bar_only(self, reason: int, wanted: set[int]) -> None:
        """Bar these pairs for a reason, and no others."""
        for pair in range(len(self._barred)):
            if pair in wanted:
                self._bar(pair, reason)
            elif self._barred[pair] & reason:
                self._unbar(pair, reason)

    def _bar(self, pair: int, reason: int) -> None:
        if self._state[pair] == _OUT and not self._barred[pair]:
            self._withdraw(pair)
        self._barred[pair] |= reason

    def _unbar(self, pair: int, reason: int) -> None:
        self._barred[pair] &= ~reason
        if self._state[pair] == _OUT and not self._barred[pair]:
            self._restore(pair)

    def _wake(self) -> None:
        pair, _ = self._resting.popitem(last=False)
        self._state[pair] = _OUT
        if not self._barred[pair]:
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
    home: int = -1
    """Keyspace of the node that gives out its ports and makes calls on it; -1: this node."""


# -- who draws what of a shared range


def slices(low: int, high: int, shares: Sequence[tuple[int, float]]) -> dict[int, Span]:
    """The part of a range that each node draws from as a guest: (keyspace, share of the range), cut from its top.

    Pairs stay whole. Raises ValueError where a share has no pair in it, or the shares leave none for the home.
    """
    first = low + (low & 1)
    pairs = top = (high + 1 - first) // 2
    found: dict[int, Span] = {}
    for keyspace, share in shares:
        bottom = top - int(pairs * share)
        if not 0 < bottom < top:
            kind = "nothing for the home of the address" if bottom < top else f"no pair for keyspace {keyspace}"
            raise ValueError(f"of the ports {low} to {high} the slices leave {kind}")
        found[keyspace] = first + 2 * bottom, first + 2 * top - 1
        top = bottom
    return found


def lent(low: int, high: int, cut: Mapping[int, Span], home: int, here: int) -> list[Span]:
    """What node `here` leaves to others of a range of node `home` (-1: its own), by the slices that are cut from it."""
    if home in (-1, here):
        return [span for keyspace, span in cut.items() if keyspace != here]
    if here not in cut:
        return [(low, high)]
    bottom, top = cut[here]
    return [span for span in ((low, bottom - 1), (top + 1, high)) if span[0] <= span[1]]
