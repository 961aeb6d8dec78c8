"""How long a call may stand, and when to look at it again."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from math import inf

from relay.call import Call
from relay.keeper import Keeper
from relay.media import Held
from relay.settings import Settings
from relay.types import Endpoint

__all__ = ["Agenda", "glance", "review"]

_LOOKS = 12
"""A call is looked at this often within its shortest limit, and ends late by that share of it at most."""
_END = tuple[float, str]
"""When a call ends if nothing comes any more, and what that is called."""
_Packets = Callable[[Endpoint], int]


class Agenda:
    """When to look at which call: one time for each, and none for a call that has ended, which nothing here keeps."""

    __slots__ = ("_calls", "_numbers", "_times")

    def __init__(self) -> None:
        self._times: list[tuple[float, int]] = []
        """A heap of all plans, void ones among them until their time."""
        self._calls: dict[int, Call] = {}
        """By the numbers of the plans that hold."""
        self._numbers = count(1)

    def __len__(self) -> int:
        """Plans, those that are void included."""
        return len(self._times)

    def plan(self, call: Call, at: float) -> None:
        """Look at a call at the time `at`; an earlier plan for it is void."""
        self.cancel(call)
        call.due, call.plan = at, next(self._numbers)
        self._calls[call.plan] = call
        heapq.heappush(self._times, (at, call.plan))

    def cancel(self, call: Call) -> None:
        """Look at a call no more."""
        self._calls.pop(call.plan, None)

    def take(self, now: float) -> Call | None:
        """The next call that is due, which has no plan then."""
        times = self._times
        while times and times[0][0] <= now:
            call = self._calls.pop(heapq.heappop(times)[1], None)
            if call is not None:
                return call
        return None


def glance(settings: Settings) -> float:
    """Seconds between two looks at a call."""
    limits = settings.timeout, settings.silent_timeout, settings.offer_timeout
    return max(1.0, min((limit for limit in limits if limit > 0), default=3600.0) / _LOOKS)


def review(call: Call, settings: Settings, packets: _Packets, keeper: Keeper, now: float) -> tuple[str | None, float]:
    """(why a call has to end with all its branches, or None; when to look again). `packets` that came to a port."""
    final = call.created + (settings.final_timeout or inf)
    if final <= now:
        return "final timeout", inf
    ends = [_silence(member, settings, packets, keeper, now) for member in call.members() if member.deleted is None]
    end, reason = max(ends, key=_when) if len(ends) > 1 else ends[0]
    return (None, min(end, final, now + glance(settings))) if end > now else (reason, inf)


def _when(end: _END) -> float:
    return end[0]


def _silence(call: Call, settings: Settings, packets: _Packets, keeper: Keeper, now: float) -> _END:
    """The end by silence: the most patient stream decides. What a partner heard counts like what came here."""
    limit, reason = _limit(call, settings, None)
    since = max(call.last_signal, call.awake)
    end = since + limit
    if any(call.streams()):
        end = 0.0
    for mine, theirs in call.sides():
        limit, name = _limit(call, settings, mine.sends_to(theirs))
        seen = since
        if mine.line.held is not None:
            seen = max(seen, _heard(mine.line.held, packets, keeper, now))
        for stream in mine.streams:
            assert stream.local is not None
            count = packets(stream.local)
            if count != stream.count:
                stream.count, stream.seen = count, now
                return now + limit, name
            if (left := max(stream.seen, seen, keeper.heard(stream.local)) + limit) > end:
                end, reason = left, name
    return end, reason


def _heard(held: Held, packets: _Packets, keeper: Keeper, now: float) -> float:
    """When a packet last came to the ports that are in force until the answer."""
    locals_ = [rule.local for kept in held.rules for rule in kept]
    count = sum([packets(local) for local in locals_])
    if count != held.count:
        held.count, held.seen = count, now
    return max([held.seen, *[keeper.heard(local) for local in locals_]])


def _limit(call: Call, settings: Settings, sends: bool | None) -> _END:
    """How long a stream may be silent, and what its end is called."""
    if not call.answered:
        return settings.offer_timeout or inf, "offer timeout"
    if not sends:
        return settings.silent_timeout or inf, "silent timeout"
    return settings.timeout or inf, "timeout"
