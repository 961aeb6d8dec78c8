"""From calls to rules, what changes between two sets of them, and where media never goes."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from relay.call import Signal
from relay.flows import Screen, clocks, difference, refusal, rules
from relay.types import Carries, Endpoint, Learning, PayloadType
from tests.calls import ALICE, BOB, HOST, Stage, above, audio


@pytest.mark.parametrize(
    ("ip", "reason"),
    [
        ("127.0.0.1", "a loopback address"),
        ("127.8.8.8", "a loopback address"),
        ("::1", "a loopback address"),
        ("::ffff:127.0.0.1", "an IPv4 address written as IPv6"),
        ("::ffff:203.0.113.1", "an IPv4 address written as IPv6"),
        ("::203.0.113.1", "an IPv4 address written as IPv6"),
        ("::2", "an IPv4 address written as IPv6"),
        ("64:ff9b::7f00:1", "a loopback address behind a translation to IPv4"),
        ("64:ff9b::e000:1", "a multicast address behind a translation to IPv4"),
        ("64:ff9b::a9fe:a9fe", "a link-local address behind a translation to IPv4"),
        ("64:ff9b::", "an unspecified address behind a translation to IPv4"),
        ("64:ff9b::cb00:7101", None),
        ("2002:7f00:1::1", "a loopback address behind a translation to IPv4"),
        ("2002:ffff:ffff::", "the broadcast address behind a translation to IPv4"),
        ("2002:cb00:7101::1", None),
        ("224.0.0.1", "a multicast address"),
        ("239.255.0.1", "a multicast address"),
        ("ff02::1", "a multicast address"),
        ("255.255.255.255", "the broadcast address"),
        ("240.0.0.1", "a reserved address"),
        ("0.0.0.0", "an unspecified address"),
        ("0.1.2.3", "an unspecified address"),
        ("::", "an unspecified address"),
        ("169.254.1.1", "a link-local address"),
        ("fe80::1", "a link-local address"),
        ("fe80::1%eth0", "an address with a scope"),
        ("2001:db8::1%1", "an address with a scope"),
        ("::1%lo", "an address with a scope"),
        ("example.org", "not an IP address"),
        ("198.51.100.1", None),
        ("10.0.0.1", None),
        ("2001:db8::1", None),
    ],
)
def test_unsafe_destinations_are_refused(ip: str, reason: str | None) -> None:
    assert refusal(Endpoint(ip, 4000), loopback_ok=False) == reason


def test_loopback_is_right_for_a_leg_on_loopback() -> None:
    assert refusal(Endpoint("127.0.0.2", 4000), loopback_ok=True) is None


def test_denied_networks_are_refused() -> None:
    denied = [ip_network("198.51.100.0/24"), ip_network("2001:db8::/32")]
    text = "an address media is not sent to (own or denied)"
    assert refusal(Endpoint("198.51.100.9", 1), loopback_ok=False, denied=denied) == text
    assert refusal(Endpoint("2001:db8::9", 1), loopback_ok=False, denied=denied) == text
    assert refusal(Endpoint("198.51.101.9", 1), loopback_ok=False, denied=denied) is None
    for ip in ("64:ff9b::c633:6409", "2002:c633:6409::1"):
        found = refusal(Endpoint(ip, 1), loopback_ok=False, denied=denied)
        assert found == f"{text} behind a translation to IPv4"
    assert refusal(Endpoint("64:ff9b::c633:6509", 1), loopback_ok=False, denied=denied) is None


def test_a_screen_says_the_same_again_and_knows_its_side() -> None:
    screen = Screen([ip_network("198.51.100.0/24")])
    for _ in range(2):
        assert screen(Endpoint("127.0.0.1", 9), HOST) == "a loopback address"
        assert screen(Endpoint("127.0.0.1", 9), "127.0.0.1") is None
        assert screen(Endpoint("198.51.100.1", 9), HOST) is not None
        assert screen(Endpoint("203.0.113.1", 9), HOST) is None
    assert screen(Endpoint("2001:db8::1", 9), HOST) == "of another address family than this relay's side"


def test_jitter_is_measured_on_media_only() -> None:
    types = (
        PayloadType(0, "PCMU", 8000),
        PayloadType(13, "CN", 8000),
        PayloadType(98, "cn", 16000),
        PayloadType(101, "telephone-event", 8000),
        PayloadType(102, "Telephone-Event", 48000),
        PayloadType(111, "opus", 48000),
    )
    assert clocks(types) == ((0, 8000), (111, 48000))


def test_at_most_four_clocks_fit_a_rule() -> None:
    assert len(clocks(tuple(PayloadType(96 + n, "x", 8000) for n in range(9)))) == 4


def test_an_audio_call_has_four_mirrored_rules() -> None:
    stage = Stage()
    stage.offer()
    stage.answer()
    a, b = stage.ports()
    found = rules(stage.registry.query("c1"))
    assert set(found) == {a, b, above(a), above(b)}
    assert (found[a].source, found[a].destination, found[a].signalled_source) == (b, BOB, ALICE)
    assert (found[b].source, found[b].destination, found[b].signalled_source) == (a, ALICE, BOB)
    assert found[above(a)].destination == above(BOB)
    assert {found[a].carries, found[b].carries} == {Carries.RTP}
    assert {found[above(a)].carries, found[above(b)].carries} == {Carries.RTCP}
    assert found[a].clocks == ((0, 8000),)
    assert found[above(a)].clocks == ()


def test_before_the_answer_early_media_has_its_way() -> None:
    stage = Stage()
    stage.offer()
    a, b = stage.ports()
    found = rules(stage.registry.query("c1"))
    assert (found[b].destination, found[b].signalled_source) == (ALICE, None)
    assert (found[a].destination, found[a].signalled_source) == (None, ALICE)


def test_muxed_media_needs_one_port_a_leg() -> None:
    stage = Stage()
    stage.offer([audio(ALICE, mux=True)])
    a, b = stage.ports()
    both = Carries.RTP | Carries.RTCP
    pending = rules(stage.registry.query("c1"))
    assert set(pending) == {a, b, above(a), above(b)}
    assert pending[a].carries == both
    stage.answer([audio(BOB, mux=True)])
    found = rules(stage.registry.query("c1"))
    assert set(found) == {a, b}
    assert found[a].carries == both


def test_mux_that_is_not_answered_is_off() -> None:
    stage = Stage()
    stage.offer([audio(ALICE, mux=True)])
    stage.answer([audio(BOB)])
    a, _ = stage.ports()
    found = rules(stage.registry.query("c1"))
    assert len(found) == 4
    assert found[a].carries == Carries.RTP


def test_what_is_not_rtp_is_opaque() -> None:
    stage = Stage()
    stage.offer([audio(ALICE, protocol="udptl", kind="image")])
    stage.answer([audio(BOB, protocol="udptl", kind="image")])
    found = rules(stage.registry.query("c1"))
    assert set(found) == set(stage.ports())
    assert all(rule.carries == Carries.OPAQUE and rule.clocks == () for rule in found.values())


def test_options_of_the_call_are_in_its_rules() -> None:
    stage = Stage()
    signal = Signal(
        received_from=ALICE.ip,
        tos=187,
        strict_source=True,
        media_handover=True,
        learning=Learning.HEURISTIC,
    )
    stage.offer(signal=signal)
    a, _ = stage.ports()
    rule = rules(stage.registry.query("c1"))[a]
    assert (rule.tos, rule.strict_source, rule.media_handover) == (184, True, True)
    assert (rule.learning, rule.preferred_source) == (Learning.HEURISTIC, ALICE.ip)


def test_a_refused_endpoint_is_no_destination() -> None:
    stage = Stage()
    stage.offer([audio(Endpoint("127.0.0.1", 4000))])
    stage.answer()
    a, b = stage.ports()
    found = rules(stage.registry.query("c1"))
    assert found[b].destination is None
    assert found[a].signalled_source is None
    assert found[a].destination == BOB


def test_the_difference_holds_what_changed_and_what_went() -> None:
    stage = Stage()
    stage.offer()
    call = stage.registry.query("c1")
    before = dict(call.rules)
    stage.answer()
    a, b = stage.ports()
    after = rules(call)
    install, remove = difference(before, after)
    assert {rule.local for rule in install} == {a, b, above(a), above(b)}
    assert remove == []
    assert difference(after, after) == ([], [])
    gone = {local: rule for local, rule in after.items() if local != a}
    assert difference(after, gone) == ([], [a])
