"""What every data plane promises (relay.dataplane.Dataplane), as tests to be run over each of them.

A test file derives a class from `DataplaneContract` and provides the fixtures `plane` (started, with `listener`),
`listener`, and `arrive`: a function that makes a UDP packet reach a local port, and returns when the plane has dealt
with it and has told its listener. A plane that forwards derives from `ForwardingContract` and provides `reached`, too;
once for parties of each address family. Between the families, `Forwarding` is what matters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_network

from relay.dataplane import Dataplane
from relay.types import Carries, Endpoint, Path, Rule, StreamState, Treatment

Arrive = Callable[[Endpoint, Endpoint, bytes], None]
"""Local port, source, payload."""
Reached = Callable[[Endpoint], list[tuple[bytes, Endpoint]]]
"""What has reached a party since it was asked last, from where; the first time its telephone is switched on."""

Succeed = Callable[[], tuple[Dataplane, Arrive]]
"""Ends the process of a plane, which keeps all that is in force, and gives the plane of the next one."""

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


def above(endpoint: Endpoint) -> Endpoint:
    """Where RTCP goes that is not multiplexed."""
    return Endpoint(endpoint.ip, endpoint.port + 1)


def ports_of(bitmap: bytes) -> list[int]:
    """The ports whose bit is set."""
    return [port for port in range(8 * len(bitmap)) if bitmap[port >> 3] >> (port & 7) & 1]


def with_payload_type(payload_type: int) -> bytes:
    return RTP[:1] + bytes([payload_type]) + RTP[2:]


class Parties:
    """Derived classes may put other addresses here, as long as the plane serves LOCAL and can reach the parties.

    LOCAL_BOB is what faces Bob, where that is another address or of another family.
    """

    LOCAL = "192.0.2.1"
    LOCAL_BOB: str | None = None
    ALICE = Endpoint("198.51.100.10", 4000)
    BOB = Endpoint("203.0.113.20", 5000)
    STRANGER = Endpoint("198.51.100.66", 6000)

    @property
    def facing_alice(self) -> Endpoint:
        return Endpoint(self.LOCAL, 30000)

    @property
    def facing_bob(self) -> Endpoint:
        return Endpoint(self.LOCAL_BOB or self.LOCAL, 30010)

    def pair(self, alice: Endpoint | None, bob: Endpoint | None, epochs: tuple[int, int] = (1, 1)) -> list[Rule]:
        """The two rules of a call's RTP."""
        a, b = self.facing_alice, self.facing_bob
        carries = Carries.RTP | Carries.RTCP
        return [
            Rule(a, b, bob, epochs[1], alice, epochs[0], carries),
            Rule(b, a, alice, epochs[0], bob, epochs[1], carries),
        ]

    def bridged(self) -> list[Rule]:
        """Alice has RTP and RTCP on one port, Bob on two."""
        a, b = self.pair(self.ALICE, self.BOB)
        both, rtp, rtcp = Carries.RTP | Carries.RTCP, Carries.RTP, Carries.RTCP
        above_a, above_b = above(self.facing_alice), above(self.facing_bob)
        return [
            a._replace(carries=both, split=True),
            b._replace(carries=rtp),
            Rule(above_a, above_b, above(self.BOB), 1, self.ALICE, 1, rtcp),
            Rule(above_b, above_a, self.ALICE, 1, above(self.BOB), 1, rtcp, joined=True),
        ]

    def two_ports(self) -> list[Rule]:
        """Both have RTP and RTCP on two."""
        a, b, above_a, above_b = self.bridged()
        return [
            a._replace(carries=Carries.RTP, split=False),
            b,
            above_a._replace(signalled_source=above(self.ALICE)),
            above_b._replace(destination=above(self.ALICE), joined=False),
        ]

    def treated(self, treatment: Treatment) -> list[Rule]:
        """Of what Alice sends: type 8 has its silence, 101 is telephone-event."""
        a, b = self.pair(self.ALICE, self.BOB)
        a = a._replace(clocks=((8, 8000), (0, 8000)), event_types=(101,), fills=((8, 0xD5),))
        return [a._replace(treatment=treatment), b]


class DataplaneContract(Parties):
    """What every plane promises."""

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

    def test_a_source_that_others_saw_counts_where_none_was_seen(self, plane: Dataplane, arrive: Arrive) -> None:
        behind_nat = Endpoint(self.ALICE.ip, 61000)
        first, second = self.pair(self.ALICE, self.BOB)
        plane.install([first, second])
        plane.install([first._replace(known_source=behind_nat)])
        state = plane.state(self.facing_alice)
        assert (state.observed_source, state.confirmed) == (behind_nat, True)
        arrive(self.facing_alice, self.STRANGER, RTP)
        assert plane.state(self.facing_alice).foreign == 1

    def test_a_source_that_others_saw_does_not_displace_one_that_was_seen(
        self, plane: Dataplane, arrive: Arrive
    ) -> None:
        first, second = self.pair(self.ALICE, self.BOB)
        plane.install([first, second])
        arrive(self.facing_alice, self.ALICE, RTP)
        plane.install([first._replace(known_source=Endpoint(self.ALICE.ip, 61000))])
        state = plane.state(self.facing_alice)
        assert (state.observed_source, state.confirmed) == (self.ALICE, True)

    def test_a_new_epoch_may_come_with_a_source_that_others_saw(self, plane: Dataplane, arrive: Arrive) -> None:
        behind_nat = Endpoint(self.ALICE.ip, 61000)
        plane.install(self.pair(self.ALICE, self.BOB))
        arrive(self.facing_alice, self.ALICE, RTP)
        first, second = self.pair(Endpoint(self.ALICE.ip, self.ALICE.port + 100), self.BOB, (2, 1))
        plane.install([first._replace(known_source=behind_nat), second])
        state = plane.state(self.facing_alice)
        assert (state.observed_source, state.confirmed) == (behind_nat, True)

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

    def test_octets_outlast_their_calls(self, plane: Dataplane, arrive: Arrive) -> None:
        before = plane.octets()
        plane.install(self.pair(self.ALICE, self.BOB))
        arrive(self.facing_alice, self.ALICE, RTP)
        arrive(self.facing_bob, self.BOB, RTP)
        assert plane.octets() == before + 2 * len(RTP)
        plane.remove([self.facing_alice, self.facing_bob], 0)
        plane.install(self.pair(self.ALICE, self.BOB))
        assert plane.octets() == before + 2 * len(RTP)
        arrive(self.facing_alice, self.ALICE, RTP)
        assert plane.octets() == before + 3 * len(RTP)

    def test_what_was_heard_is_told_once(self, plane: Dataplane, arrive: Arrive) -> None:
        plane.heard(self.facing_alice.ip)
        plane.install(self.pair(self.ALICE, self.BOB))
        assert plane.heard(self.facing_alice.ip) == b""
        arrive(self.facing_alice, self.ALICE, RTP)
        found = plane.heard(self.facing_alice.ip)
        assert len(found) == 65536 // 8
        assert ports_of(found) == [self.facing_alice.port]
        assert plane.heard(self.facing_alice.ip) == b""

    def test_odd_and_even_ports_are_heard_in_their_places(self, plane: Dataplane, arrive: Arrive) -> None:
        plane.heard(self.facing_alice.ip)
        plane.install(self.two_ports())
        for local, source in ((self.facing_alice, self.ALICE), (above(self.facing_alice), above(self.ALICE))):
            arrive(local, source, RTP)
        port = self.facing_alice.port
        assert ports_of(plane.heard(self.facing_alice.ip)) == [port, port + 1]

    def test_a_port_that_begins_anew_was_not_heard(self, plane: Dataplane, arrive: Arrive) -> None:
        plane.install(self.pair(self.ALICE, self.BOB))
        arrive(self.facing_alice, self.ALICE, RTP)
        plane.remove([self.facing_alice, self.facing_bob], 30)
        plane.heard(self.facing_alice.ip)
        plane.install(self.pair(self.ALICE, self.BOB))
        assert plane.heard(self.facing_alice.ip) == b""

    def test_an_address_that_is_not_served_hears_nothing(self, plane: Dataplane) -> None:
        assert plane.heard("192.0.2.250") == b""

    def test_a_stream_says_where_it_is_forwarded(self, plane: Dataplane) -> None:
        plane.install(self.pair(self.ALICE, self.BOB))
        assert isinstance(plane.state(self.facing_alice).path, Path)


class Inheriting(Parties):
    """What a plane promises whose rules outlive its process. Derived classes provide `succeed`, too."""

    def test_what_is_in_force_is_inherited(self, plane: Dataplane, succeed: Succeed) -> None:
        plane.install(self.two_ports())
        after, _ = succeed()
        assert set(after.inherited()) == {rule.local for rule in self.two_ports()}
        assert after.rules() == []
        assert after.state(self.facing_alice) == StreamState()
        after.install(self.two_ports()[:2])
        assert set(after.inherited()) == {rule.local for rule in self.two_ports()[2:]}
        assert set(after.rules()) == {self.facing_alice, self.facing_bob}

    def test_counters_and_sources_go_on(self, plane: Dataplane, arrive: Arrive, succeed: Succeed) -> None:
        behind_nat = Endpoint(self.ALICE.ip, self.ALICE.port + 100)
        plane.install(self.pair(self.ALICE, self.BOB))
        arrive(self.facing_alice, behind_nat, RTP)
        before = plane.state(self.facing_alice)
        after, arrive = succeed()
        arrive(self.facing_alice, behind_nat, RTP)
        assert ports_of(after.heard(self.facing_alice.ip)) == [self.facing_alice.port]
        after.install(self.pair(self.ALICE, self.BOB))
        state = after.state(self.facing_alice)
        assert (state.packets, state.bytes) == (2, 2 * len(RTP))
        assert (state.observed_source, state.confirmed) == (before.observed_source, before.confirmed)

    def test_a_party_that_moved_meanwhile_is_learned_anew(
        self, plane: Dataplane, arrive: Arrive, succeed: Succeed
    ) -> None:
        plane.install(self.pair(self.ALICE, self.BOB))
        arrive(self.facing_alice, self.ALICE, RTP)
        arrive(self.facing_bob, self.BOB, RTP)
        after, arrive = succeed()
        moved = Endpoint(self.ALICE.ip, self.ALICE.port + 100)
        after.install(self.pair(moved, self.BOB, (2, 1)))
        state = after.state(self.facing_alice)
        assert (state.packets, state.observed_source) == (1, None)
        assert after.state(self.facing_bob).observed_source == self.BOB
        arrive(self.facing_alice, moved, RTP)
        assert after.state(self.facing_alice).observed_source == moved

    def test_what_nobody_claims_is_removed(self, plane: Dataplane, arrive: Arrive, succeed: Succeed) -> None:
        plane.install(self.pair(self.ALICE, self.BOB))
        after, arrive = succeed()
        after.remove(after.inherited(), 0)
        assert after.inherited() == after.rules() == []
        after.install(self.pair(self.ALICE, self.BOB))
        assert after.packets(self.facing_alice) == 0
        arrive(self.facing_alice, self.ALICE, RTP)
        assert after.packets(self.facing_alice) == 1

    def test_it_is_inherited_by_the_one_after_the_next(self, plane: Dataplane, succeed: Succeed) -> None:
        plane.install(self.pair(self.ALICE, self.BOB))
        after, _ = succeed()
        after.install(self.pair(self.ALICE, self.BOB)[:1])
        after, _ = succeed()
        assert set(after.inherited()) == {self.facing_alice, self.facing_bob}


class Ending(Parties):
    """What is promised of the end: apart, for those that one plane serves for several tests."""

    def test_closing_twice_is_safe(self, plane: Dataplane) -> None:
        asyncio.run(plane.close())
        asyncio.run(plane.close())


class Forwarding(Parties):
    """What is promised of the packets that leave."""

    def test_media_pass_from_the_port_that_faces_the_other_party(
        self, plane: Dataplane, arrive: Arrive, reached: Reached
    ) -> None:
        assert (reached(self.ALICE), reached(self.BOB)) == ([], [])
        plane.install(self.pair(self.ALICE, self.BOB))
        arrive(self.facing_alice, self.ALICE, RTP)
        assert reached(self.BOB) == [(RTP, self.facing_bob)]
        arrive(self.facing_bob, self.BOB, RTCP)
        assert reached(self.ALICE) == [(RTCP, self.facing_alice)]

    def test_what_is_opaque_passes(self, plane: Dataplane, arrive: Arrive, reached: Reached) -> None:
        reached(self.BOB)
        plane.install([rule._replace(carries=Carries.OPAQUE) for rule in self.pair(self.ALICE, self.BOB)])
        for payload in (b"", b"\x00", b"\xff" * 7, bytes(1200)):
            arrive(self.facing_alice, self.ALICE, payload)
            assert reached(self.BOB) == [(payload, self.facing_bob)]

    def test_answers_go_to_where_a_party_really_sends_from(
        self, plane: Dataplane, arrive: Arrive, reached: Reached
    ) -> None:
        moved = Endpoint(self.ALICE.ip, self.ALICE.port + 100)
        reached(moved)
        plane.install(self.pair(self.ALICE, self.BOB))
        arrive(self.facing_alice, moved, RTP)
        arrive(self.facing_bob, self.BOB, RTP)
        assert reached(moved) == [(RTP, self.facing_alice)]

    def test_a_restored_call_goes_on_where_its_parties_are_known_to_be(
        self, plane: Dataplane, arrive: Arrive, reached: Reached
    ) -> None:
        """From the first packet on, in both directions, and from nowhere else under strict-source."""
        behind_nat = Endpoint(self.ALICE.ip, self.ALICE.port + 100)
        for party in (self.ALICE, self.BOB, behind_nat):
            reached(party)
        facing_alice, facing_bob = (rule._replace(strict_source=True) for rule in self.pair(self.ALICE, self.BOB))
        plane.install([facing_alice._replace(known_source=behind_nat), facing_bob._replace(known_source=self.BOB)])
        arrive(self.facing_bob, self.BOB, RTP)
        assert reached(behind_nat) == [(RTP, self.facing_alice)]
        arrive(self.facing_alice, behind_nat, RTP)
        assert reached(self.BOB) == [(RTP, self.facing_bob)]
        arrive(self.facing_alice, self.STRANGER, RTP)
        assert reached(self.BOB) == []
        assert plane.state(self.facing_alice).observed_source == behind_nat

    def test_nothing_is_sent_to_networks_that_are_denied_later(
        self, plane: Dataplane, arrive: Arrive, reached: Reached
    ) -> None:
        reached(self.BOB)
        plane.install(self.pair(self.ALICE, self.BOB))
        plane.deny([ip_network(self.BOB.ip)])
        arrive(self.facing_alice, self.ALICE, RTP)
        assert reached(self.BOB) == []
        assert plane.state(self.facing_alice).path is Path.REFUSED
        plane.deny([])
        arrive(self.facing_alice, self.ALICE, RTP)
        assert reached(self.BOB) == [(RTP, self.facing_bob)]

    def test_what_was_learned_is_denied_later_too(self, plane: Dataplane, arrive: Arrive, reached: Reached) -> None:
        moved = Endpoint(self.ALICE.ip, self.ALICE.port + 100)
        reached(moved)
        plane.install(self.pair(self.ALICE, self.BOB))
        arrive(self.facing_alice, moved, RTP)
        plane.deny([ip_network(moved.ip)])
        arrive(self.facing_bob, self.BOB, RTP)
        assert reached(moved) == []

    def test_a_party_with_one_port_talks_to_one_with_two(
        self, plane: Dataplane, arrive: Arrive, reached: Reached
    ) -> None:
        """RFC 5761 on Alice's side only."""
        for party in (self.ALICE, self.BOB, above(self.BOB)):
            reached(party)
        plane.install(self.bridged())
        arrive(self.facing_alice, self.ALICE, RTP)
        assert reached(self.BOB) == [(RTP, self.facing_bob)]
        arrive(self.facing_alice, self.ALICE, RTCP)
        assert reached(above(self.BOB)) == [(RTCP, above(self.facing_bob))]
        assert reached(self.BOB) == []
        arrive(self.facing_bob, self.BOB, RTP)
        arrive(above(self.facing_bob), above(self.BOB), RTCP)
        assert reached(self.ALICE) == [(RTP, self.facing_alice), (RTCP, self.facing_alice)]

    def test_what_is_learned_at_the_one_port_is_learned_for_both(
        self, plane: Dataplane, arrive: Arrive, reached: Reached
    ) -> None:
        moved = Endpoint(self.ALICE.ip, self.ALICE.port + 100)
        reached(moved)
        plane.install(self.bridged())
        arrive(self.facing_alice, moved, RTP)
        arrive(self.facing_bob, self.BOB, RTP)
        arrive(above(self.facing_bob), above(self.BOB), RTCP)
        assert reached(moved) == [(RTP, self.facing_alice), (RTCP, self.facing_alice)]

    def test_a_party_goes_over_to_a_port_of_its_own_for_rtcp(
        self, plane: Dataplane, arrive: Arrive, reached: Reached
    ) -> None:
        for party in (self.ALICE, above(self.ALICE)):
            reached(party)
        plane.install(self.bridged())
        arrive(self.facing_alice, self.ALICE, RTP)
        arrive(self.facing_alice, self.ALICE, RTCP)
        plane.install(self.two_ports())
        arrive(above(self.facing_bob), above(self.BOB), RTCP)
        assert reached(above(self.ALICE)) == [(RTCP, above(self.facing_alice))]
        assert reached(self.ALICE) == []
        arrive(above(self.facing_alice), above(self.ALICE), RTCP)
        assert plane.state(above(self.facing_alice)).observed_source == above(self.ALICE)

    def test_a_party_goes_over_to_one_port_and_back(self, plane: Dataplane, arrive: Arrive, reached: Reached) -> None:
        moved = Endpoint(self.ALICE.ip, self.ALICE.port + 100)
        for party in (self.ALICE, above(self.ALICE), moved):
            reached(party)
        plane.install(self.two_ports())
        arrive(above(self.facing_alice), moved, RTCP)
        arrive(above(self.facing_bob), above(self.BOB), RTCP)
        assert reached(moved) == [(RTCP, above(self.facing_alice))]
        plane.install(self.bridged())
        arrive(above(self.facing_bob), above(self.BOB), RTCP)
        assert reached(self.ALICE) == [(RTCP, self.facing_alice)]
        plane.install(self.two_ports())
        arrive(above(self.facing_bob), above(self.BOB), RTCP)
        assert reached(above(self.ALICE)) == [(RTCP, above(self.facing_alice))]
        assert reached(moved) == []

    def test_rtcp_at_the_one_port_reaches_the_listener(self, plane: Dataplane, listener: Heard, arrive: Arrive) -> None:
        plane.install(self.bridged())
        arrive(self.facing_alice, self.ALICE, RTP)
        arrive(self.facing_alice, self.ALICE, RTCP)
        assert listener.reports == [(self.facing_alice, self.ALICE, RTCP)]
        assert plane.packets(self.facing_alice) == 2

    def test_blocked_media_are_taken_and_dropped(self, plane: Dataplane, arrive: Arrive, reached: Reached) -> None:
        reached(self.BOB)
        plane.install(self.treated(Treatment.BLOCK))
        arrive(self.facing_alice, self.ALICE, RTP)
        arrive(self.facing_alice, self.ALICE, RTCP)
        assert reached(self.BOB) == [(RTCP, self.facing_bob)]
        state = plane.state(self.facing_alice)
        assert (state.observed_source, state.packets, state.last_drop) == (self.ALICE, 2, "blocked")
        assert state.path is Path.BLOCKED
        assert plane.state(self.facing_bob).path is not Path.BLOCKED

    def test_a_block_begins_and_ends_in_the_middle_of_a_call(
        self, plane: Dataplane, arrive: Arrive, reached: Reached
    ) -> None:
        reached(self.BOB)
        for treatment in (Treatment.PASS, Treatment.BLOCK, Treatment.PASS):
            plane.install(self.treated(treatment))
            arrive(self.facing_alice, self.ALICE, RTP)
        assert len(reached(self.BOB)) == 2
        assert plane.packets(self.facing_alice) == 3

    def test_silenced_media_keep_their_headers(self, plane: Dataplane, arrive: Arrive, reached: Reached) -> None:
        reached(self.BOB)
        plane.install(self.treated(Treatment.SILENCE))
        voice, unknown = with_payload_type(8), with_payload_type(0)
        extended = b"\x91" + voice[1:12] + b"\x00\x00\x00\x07" + b"\xbe\xde\x00\x01" + b"\x10\x01\x00\x00" + voice[12:]
        for packet in (voice, unknown, extended, RTCP):
            arrive(self.facing_alice, self.ALICE, packet)
        silence = b"\xd5" * 160
        found = [payload for payload, _ in reached(self.BOB)]
        assert found == [voice[:12] + silence, extended[:24] + silence, RTCP]
        assert plane.state(self.facing_alice).last_drop == "blocked"

    def test_blocked_events_leave_the_voice(self, plane: Dataplane, arrive: Arrive, reached: Reached) -> None:
        reached(self.BOB)
        plane.install(self.treated(Treatment.BLOCK_EVENTS))
        voice, event = with_payload_type(8), with_payload_type(101)
        for packet in (voice, event, voice):
            arrive(self.facing_alice, self.ALICE, packet)
        assert [payload for payload, _ in reached(self.BOB)] == [voice, voice]


class ForwardingContract(Forwarding, DataplaneContract, Ending):
    """What a plane promises that forwards."""
