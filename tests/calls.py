"""Calls for tests: a registry on the memory data plane, and short ways to speak to it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any

from control.ng import bencode
from control.ng.commands import Commands
from relay.call import Call, Signal
from relay.dataplane.memory import MemoryDataplane
from relay.ports import Interface, PortPool
from relay.registry import Outcome, Registry, Settings
from relay.types import Carries, Direction, Endpoint, MediaDescription, PayloadType, Rule

HOST = "192.0.2.1"
"""The relay's address."""
ALICE = Endpoint("198.51.100.10", 4000)
BOB = Endpoint("203.0.113.20", 5000)
PROXY = Endpoint("192.0.2.250", 2222)

PCMU = PayloadType(0, "PCMU", 8000)
EVENTS = PayloadType(101, "telephone-event", 8000)


def above(endpoint: Endpoint) -> Endpoint:
    """The RTCP endpoint of an RTP endpoint."""
    return Endpoint(endpoint.ip, endpoint.port + 1)


def audio(
    endpoint: Endpoint,
    *,
    mux: bool = False,
    direction: Direction = Direction.SENDRECV,
    held: bool = False,
    rejected: bool = False,
    protocol: str = "RTP/AVP",
    kind: str = "audio",
    payload_types: tuple[PayloadType, ...] = (PCMU, EVENTS),
) -> MediaDescription:
    """One m-line of a party that wants its media at `endpoint`."""
    is_rtp = protocol.startswith("RTP/") and not rejected
    return MediaDescription(
        kind,
        protocol,
        None if rejected else endpoint,
        above(endpoint) if is_rtp else None,
        mux,
        direction,
        rejected,
        held,
        payload_types if is_rtp else (),
    )


def sdp(endpoint: Endpoint, *lines: str, media: str = "audio", protocol: str = "RTP/AVP") -> str:
    """A body with one m-line, and more lines below it."""
    head = (
        "v=0",
        f"o=- 1 1 IN IP4 {endpoint.ip}",
        "s=-",
        f"c=IN IP4 {endpoint.ip}",
        "t=0 0",
        f"m={media} {endpoint.port} {protocol} 0",
    )
    return "".join(f"{line}\r\n" for line in (*head, *lines))


class Stage:
    """A relay without sockets, whose time stands where the test puts it."""

    def __init__(
        self, low: int = 30000, high: int = 30999, limit: int | None = None, advertised: str = HOST, **settings: Any
    ) -> None:
        self.now = 100.0
        self.plane = MemoryDataplane(limit)
        self.pool = PortPool(low, high, random.Random(7).random)
        self.interface = Interface("default", HOST, advertised, self.pool)
        self.ended: list[tuple[str, str]] = []
        self.registry = Registry(self.plane, [self.interface], Settings(**settings), lambda: self.now, self._end)
        asyncio.run(self.plane.start(self.registry))
        self.commands = Commands(self.registry, 0.0, 1_700_000_000.0)

    def _end(self, call: Call, reason: str) -> None:
        self.ended.append((call.call_id, reason))

    def serve(self, interfaces: Sequence[Interface]) -> None:
        """Begin again, with other interfaces."""
        old = self.registry
        self.registry = Registry(self.plane, interfaces, old.settings, lambda: self.now, self._end)
        asyncio.run(self.plane.start(self.registry))
        self.commands = Commands(self.registry, self.now, 0.0)

    def offer(
        self,
        media: Sequence[MediaDescription] = (audio(ALICE),),
        signal: Signal = Signal(),  # noqa: B008 - immutable
        call_id: str = "c1",
        tags: tuple[str, str | None] = ("alice", None),
    ) -> Outcome:
        outcome = self.registry.offer(call_id, *tags, media, signal, self.now)
        self.registry.passed_on(outcome)
        return outcome

    def answer(
        self,
        media: Sequence[MediaDescription] = (audio(BOB),),
        signal: Signal = Signal(),  # noqa: B008 - immutable
        call_id: str = "c1",
        tags: tuple[str, str] = ("alice", "bob"),
    ) -> Outcome:
        outcome = self.registry.answer(call_id, *tags, media, signal, self.now)
        self.registry.passed_on(outcome)
        return outcome

    def delete(self, call_id: str = "c1", **how: Any) -> Call | None:
        return self.registry.delete(call_id, self.now, **how)

    def wait(self, seconds: float) -> None:
        """Let time pass, with the timers running each second."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + 1, end)
            self.registry.tick(self.now)

    def command(self, name: str, **keys: Any) -> dict[str, Any]:
        """An ng command, underscores for hyphens in its keys; the reply as the proxy reads it."""
        request = {"command": name, **{key.replace("_", "-"): value for key, value in keys.items()}}
        reply: dict[str, Any] = bencode.decode(bencode.encode(self.commands.handle(request, PROXY, self.now)))
        return reply

    def ports(self, call_id: str = "c1", index: int = 0) -> tuple[Endpoint, Endpoint]:
        """The RTP ports that face the caller and the callee."""
        first, second = (leg.medias[index].rtp.local for leg in self.registry.query(call_id).legs)
        assert first is not None
        assert second is not None
        return first, second

    def check(self) -> None:
        """What holds at any time: ports, rules and calls agree."""
        booked: list[tuple[str, int]] = []
        locals_: set[Endpoint] = set()
        for call in self.members():
            assert not call.freed
            locals_ |= call.rules.keys()
            booked += [(interface.address, port) for interface, port in call.pairs()]
        assert len(booked) == len(set(booked)), "a pair is booked twice"
        assert len(booked) == self.drawn, "a pair leaked"
        assert set(self.plane.rules()) == locals_
        assert {(local.ip, local.port & ~1) for local in locals_} == set(booked)
        for local, rule in self.plane.installed.items():
            owner = self.registry.owner(local)
            assert owner is not None
            assert owner.rules[local] == rule
            check_mirror(rule, self.plane.installed[rule.source], self.plane.installed)

    def members(self) -> list[Call]:
        """All calls with their branches."""
        return [member for call in self.registry for member in call.members()]

    @property
    def drawn(self) -> int:
        """Pairs that calls hold, on all interfaces."""
        return sum(pool.drawn for pool in {id(one.pool): one.pool for one in self.registry.interfaces}.values())


def two_families(pairs: int = 500, limit: int | None = None, **settings: Any) -> Stage:
    """A stage with more interfaces: `default` and `base:1` of both families, `inner` and `base:2` of IPv4."""
    stage = Stage(30000, 29999 + 2 * pairs, limit, **settings)
    high, draw = stage.pool.high, random.Random(8).random
    places = [("default", "2001:db8::1"), ("inner", "10.0.0.1"), ("base:1", "10.0.1.1"), ("base:1", "2001:db8::2")]
    more = [Interface(name, ip, ip, PortPool(30000, high, draw)) for name, ip in [*places, ("base:2", "10.0.2.1")]]
    stage.serve([stage.interface, *more])
    return stage


def check_mirror(rule: Rule, mirrored: Rule, installed: Mapping[Endpoint, Rule]) -> None:
    """That two rules which name each other agree on who is where, and on what each party has on one port."""
    if mirrored.source != rule.local:
        return
    assert mirrored.destination == rule.signalled_source
    assert mirrored.destination_epoch == rule.source_epoch
    assert not (rule.split and mirrored.split)
    assert not (rule.joined and mirrored.joined)
    assert (rule.carries is Carries.RTCP) == (mirrored.carries is Carries.RTCP)
    assert (rule.carries is Carries.OPAQUE) == (mirrored.carries is Carries.OPAQUE)
    if rule.split:
        assert rule.carries == Carries.RTP | Carries.RTCP
        assert installed[above(rule.source)].joined
        assert installed[above(rule.source)].destination_epoch == rule.source_epoch
    if rule.joined:
        assert rule.carries is Carries.RTCP
