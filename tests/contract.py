"""What every data plane promises (relay.dataplane.Dataplane), as tests to be run over each of them.

A test file derives a class from `DataplaneContract` and provides the fixtures `plane` (started, with `listener`),
`listener`, and `arrive`: a function that makes a UDP packet reach a local port, and returns when the plane has dealt
with it and has told its listener.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from relay.dataplane import Dataplane
from relay.types import Carries, Endpoint, Path, Rule, StreamState

Arrive = Callable[[Endpoint, Endpoint, bytes], None]
"""Local port, source, payload."""

RTP = bytes.fromhex("8000000100000000cafe0001") + b"\xff" * 160
RTCP = bytes.fromhex("80c90001cafe0001")


@dataclass
class Heard:
    """A listener that remembers."""

    sources: list[tuple[Endpoint, Endpoint, bool]] = field(default_factory=list)
    reports: list[tuple[Endpoint, Endpoint, bytes]] = field(default_factory=list)

    def learned(self, local: Endpoint, source: Endpoint, confirmed: bool) -> None:
        self.sources.append((local, source, confirmed))

    def rtcp(self, local: Endpoint, source: Endpoint, payload: bytes) -> None:
        self.reports.append((local, source, payload))


class DataplaneContract:
    """Derived classes may put other addresses here, as long as the plane serves LOCAL and can reach the parties."""

    LOCAL = "192.0.2.1"
    ALICE = Endpoint("198.51.100.10", 4000)
    BOB = Endpoint("203.0.113.20", 5000)
    STRANGER = Endpoint("198.51.100.66", 6000)

    @property
    def facing_alice(self) -> Endpoint:
        return Endpoint(self.LOCAL, 30000)

    @property
    def facing_bob(self) -> Endpoint:
        return Endpoint(self.LOCAL, 30010)

    def pair(self, alice: Endpoint | None, bob: Endpoint | None, epochs: tuple[int, int] = (1, 1)) -> list[Rule]:
        """The two rules of a call's RTP."""
        a, b = self.facing_alice, self.facing_bob
        carries = Carries.RTP | Carries.RTCP
        return [
            Rule(a, b, bob, epochs[1], alice, epochs[0], carries),
            Rule(b, a, alice, epochs[0], bob, epochs[1], carries),
        ]

    def test_a_fresh_plane_holds_nothing(self, plane: Dataplane) -> None:
        assert plane.rules() == []
        assert plane.state(self.facing_alice) == StreamState()
        assert plane.packets(self.facing_alice) == 0

    def test_it_says_what_it_is(self, plane: Dataplane) -> None:
        assert plane.name
        assert plane.describe()
        assert all(isinstance(value, int) for value in plane.counters().values())

    def test_rules_are_in_force_until_removed(self, plane: Dataplane) -> None:
        plane.install(self.pair(self.ALICE, self.BOB))
        assert set(plane.rules()) == {self.facing_alice, self.facing_bob}
        plane.remove([self.facing_alice, self.facing_bob], 0)
        assert plane.rules() == []

    def test_removing_what_is_not_there_does_nothing(self, plane: Dataplane) -> None:
        plane.remove([self.facing_alice], 5)
        plane.install(self.pair(self.ALICE, self.BOB))
        plane.remove([self.facing_alice], 5)
        plane.remove([self.facing_alice], 5)
        assert plane.rules() == [self.facing_bob]

    def test_removal_takes_any_iterable(self, plane: Dataplane) -> None:
        plane.install(self.pair(self.ALICE, self.BOB))
        plane.remove({self.facing_alice: None, self.facing_bob: None}, 1)
        assert plane.rules() == []

    def test_a_rule_may_have_no_destination_yet(self, plane: Dataplane) -> None:
        plane.install(self.pair(self.ALICE, None, (1, 0)))
        plane.install(self.pair(self.ALICE, self.BOB))
        assert set(plane.rules()) == {self.facing_alice, self.facing_bob}

    def test_packets_are_counted_by_payload(self, plane: Dataplane, arrive: Arrive) -> None:
        plane.install(self.pair(self.ALICE, self.BOB))
        arrive(self.facing_alice, self.ALICE, RTP)
        arrive(self.facing_alice, self.ALICE, RTP)
        state = plane.state(self.facing_alice)
        assert (state.packets, state.bytes) == (2, 2 * len(RTP))
        assert plane.packets(self.facing_alice) == 2
        assert plane.packets(self.facing_bob) == 0

    def test_state_is_a_picture_not_a_window(self, plane: Dataplane, arrive: Arrive) -> None:
        plane.install(self.pair(self.ALICE, self.BOB))
        before = plane.state(self.facing_alice)
        arrive(self.facing_alice, self.ALICE, RTP)
        assert before.packets == 0

    def test_the_signalled_source_is_confirmed_at_once(self, plane: Dataplane, listener: Heard, arrive: Arrive) -> None:
        plane.install(self.pair(self.ALICE, self.BOB))
        arrive(self.facing_alice, self.ALICE, RTP)
        state = plane.state(self.facing_alice)
        assert (state.observed_source, state.confirmed) == (self.ALICE, True)
        assert listener.sources[-1] == (self.facing_alice, self.ALICE, True)

    def test_a_confirmed_party_is_not_moved_by_strangers(self, plane: Dataplane, arrive: Arrive) -> None:
        plane.install(self.pair(self.ALICE, self.BOB))
        arrive(self.facing_alice, self.ALICE, RTP)
        arrive(self.facing_alice, self.STRANGER, RTP)
        state = plane.state(self.facing_alice)
        assert state.observed_source == self.ALICE
        assert state.foreign == 1

    def test_changing_one_party_keeps_the_others_counters_and_source(self, plane: Dataplane, arrive: Arrive) -> None:
        plane.install(self.pair(self.ALICE, self.BOB))
        arrive(self.facing_alice, self.ALICE, RTP)
        plane.install(self.pair(self.ALICE, self.STRANGER, (1, 2)))
        state = plane.state(self.facing_alice)
        assert (state.packets, state.observed_source, state.confirmed) == (1, self.ALICE, True)

    def test_a_new_epoch_forgets_the_source_and_keeps_the_counters(self, plane: Dataplane, arrive: Arrive) -> None:
        plane.install(self.pair(self.ALICE, self.BOB))
        arrive(self.facing_alice, self.ALICE, RTP)
        moved = Endpoint(self.ALICE.ip, self.ALICE.port + 100)
        plane.install(self.pair(moved, self.BOB, (2, 1)))
        state = plane.state(self.facing_alice)
        assert (state.packets, state.observed_source, state.confirmed) == (1, None, False)
        arrive(self.facing_alice, moved, RTP)
        assert plane.state(self.facing_alice).observed_source == moved

    def test_a_port_begins_anew_after_removal(self, plane: Dataplane, arrive: Arrive) -> None:
        plane.install(self.pair(self.ALICE, self.BOB))
        arrive(self.facing_alice, self.ALICE, RTP)
        plane.remove([self.facing_alice, self.facing_bob], 30)
        assert plane.state(self.facing_alice) == StreamState()
        arrive(self.facing_alice, self.ALICE, RTP)
        plane.install(self.pair(self.ALICE, self.BOB))
        assert plane.packets(self.facing_alice) == 0
        assert plane.state(self.facing_alice).observed_source is None

    def test_a_known_source_starts_confirmed(self, plane: Dataplane, arrive: Arrive) -> None:
        behind_nat = Endpoint(self.ALICE.ip, 61000)
        first, second = self.pair(self.ALICE, self.BOB)
        plane.install([first._replace(known_source=behind_nat), second])
        arrive(self.facing_alice, self.STRANGER, RTP)
        state = plane.state(self.facing_alice)
        assert (state.observed_source, state.confirmed, state.foreign) == (behind_nat, True, 1)

    def test_rtcp_from_the_expected_source_reaches_the_listener(
        self, plane: Dataplane, listener: Heard, arrive: Arrive
    ) -> None:
        plane.install(self.pair(self.ALICE, self.BOB))
        arrive(self.facing_alice, self.ALICE, RTP)
        arrive(self.facing_alice, self.ALICE, RTCP)
        assert listener.reports == [(self.facing_alice, self.ALICE, RTCP)]

    def test_rtcp_from_strangers_does_not(self, plane: Dataplane, listener: Heard, arrive: Arrive) -> None:
        plane.install(self.pair(self.ALICE, self.BOB))
        arrive(self.facing_alice, self.ALICE, RTP)
        arrive(self.facing_alice, self.STRANGER, RTCP)
        assert listener.reports == []

    def test_a_stream_says_where_it_is_forwarded(self, plane: Dataplane) -> None:
        plane.install(self.pair(self.ALICE, self.BOB))
        assert isinstance(plane.state(self.facing_alice).path, Path)

    def test_closing_twice_is_safe(self, plane: Dataplane) -> None:
        asyncio.run(plane.close())
        asyncio.run(plane.close())
