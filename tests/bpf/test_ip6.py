"""IPv6 in, IPv6 out: what is taken and what passes, what leaves, and the tokens that words name addresses by."""

from __future__ import annotations

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from relay.dataplane import abi, words
from relay.dataplane.addresses import address_slot6
from relay.types import Endpoint
from tests.bpf.switchboard import (
    A6,
    A_MAC,
    B6,
    OWN_MAC,
    PORT_A6,
    PORT_B6,
    RELAY6,
    SECOND6,
    SLOW_PACKETS,
    XDP_DROP,
    XDP_PASS,
    XDP_REDIRECT,
    Switchboard,
    datagram,
    leaving,
    rtcp,
    rtp,
)

PORTS = (PORT_A6, PORT_B6)
ETHERNET = Ether(src=A_MAC, dst=OWN_MAC)
HEAD = IPv6(src=A6.ip, dst=RELAY6)
TO_PORT = UDP(sport=A6.port, dport=PORT_A6.port) / b"payload"
FAR, FAR_TOO = Endpoint("2001:db8:bad::1", 1234), Endpoint("2001:db8:bad::2", 4321)


def steady(board: Switchboard, flags: int = 0, tos: int = 0) -> None:
    board.steady_call(flags, tos, A6, B6, PORTS)


def call(board: Switchboard, flags: int = 0) -> None:
    board.call(flags, 0, A6, B6, PORTS)


def unfinished_sum(packet: Packet) -> int:
    """The sum of the pseudo-header alone: what a sender with checksum offload leaves in the UDP header."""
    head = packet[IPv6]
    octets = bytes(Ether(bytes(packet))[IPv6])[8:40] + struct.pack(">II", len(bytes(head[UDP])), 17)
    total: int = sum(struct.unpack(">20H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


FOREIGN: dict[str, Packet | bytes] = {
    "another port": datagram(A6, Endpoint(RELAY6, PORT_A6.port + 1)),
    "the same port of another local address": datagram(A6, Endpoint(SECOND6, PORT_A6.port)),
    "another address": datagram(A6, Endpoint("2001:db8:192::11", PORT_A6.port)),
    "the unspecified address, what a free slot holds": datagram(A6, Endpoint("::", PORT_A6.port)),
    "TCP": ETHERNET / HEAD / TCP(sport=A6.port, dport=PORT_A6.port),
    "ICMPv6": ETHERNET / HEAD / ICMPv6EchoRequest(),
    "hop-by-hop options": ETHERNET / HEAD / IPv6ExtHdrHopByHop() / TO_PORT,
    "destination options": ETHERNET / HEAD / IPv6ExtHdrDestOpt() / TO_PORT,
    "a fragment to another address": ETHERNET / IPv6(src=A6.ip, dst="2001:db8::1") / IPv6ExtHdrFragment(m=1) / TO_PORT,
    "a fragment of TCP": ETHERNET / HEAD / IPv6ExtHdrFragment(m=1) / TCP(),
    "IP version 4": ETHERNET / IPv6(src=A6.ip, dst=RELAY6, version=4) / TO_PORT,
    "cut off in the UDP header": bytes(datagram(A6, PORT_A6))[: 14 + 40 + 7],
    "cut off in the IP header": bytes(datagram(A6, PORT_A6))[: 14 + 39],
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_traffic_passes_untouched(board: Switchboard, name: str) -> None:
    steady(board)
    hot, cold = board.rule(PORT_A6).tobytes(), board.cold(PORT_A6).tobytes()
    frame = bytes(FOREIGN[name])
    run = board.run(frame)
    assert (run.verdict, run.data) == (XDP_PASS, frame)
    assert board.counters() == {}
    assert (board.rule(PORT_A6).tobytes(), board.cold(PORT_A6).tobytes()) == (hot, cold)


@pytest.mark.parametrize(("offset", "more"), [(0, 1), (10, 1), (10, 0)])
def test_fragments_to_one_of_our_addresses_pass_and_are_counted(board: Switchboard, offset: int, more: int) -> None:
    steady(board)
    frame = bytes(ETHERNET / HEAD / IPv6ExtHdrFragment(offset=offset, m=more, nh=17) / TO_PORT)
    run = board.run(frame)
    assert (run.verdict, run.data) == (XDP_PASS, frame)
    assert board.counters() == {"fragments": 1}


def test_a_packet_of_each_party_reaches_the_other(board: Switchboard) -> None:
    steady(board)
    there = board.run(datagram(A6, PORT_A6, b"from a"))
    back = board.run(datagram(B6, PORT_B6, b"from b!"))
    assert (there.verdict, there.data) == (XDP_REDIRECT, bytes(leaving(PORT_B6, B6, b"from a")))
    assert (back.verdict, back.data) == (XDP_REDIRECT, bytes(leaving(PORT_A6, A6, b"from b!")))
    assert board.counters() == {"forwarded": 2}
    assert (board.rule(PORT_A6)["packets"], board.rule(PORT_A6)["bytes"]) == (1, 6)


@pytest.mark.parametrize("size", [0, 1, 2, 7, 8, 9, 171, 172, 173, 1451, 1452])
@pytest.mark.parametrize("unfinished", [False, True])
def test_the_checksum_is_right_for_every_length(board: Switchboard, size: int, unfinished: bool) -> None:
    steady(board)
    payload = bytes(index * 7 & 0xFF for index in range(size))
    arriving = datagram(A6, PORT_A6, payload)
    if unfinished:
        arriving[UDP].chksum = unfinished_sum(arriving)
    assert board.run(arriving).data == bytes(leaving(PORT_B6, B6, payload))


@pytest.mark.parametrize("unfinished", [False, True])
def test_a_checksum_of_zero_is_sent_as_all_ones(board: Switchboard, unfinished: bool) -> None:
    steady(board)
    blank = Ether(bytes(leaving(PORT_B6, B6, b"\0\0")))
    arriving = datagram(A6, PORT_A6, struct.pack(">H", blank[UDP].chksum))
    if unfinished:
        arriving[UDP].chksum = unfinished_sum(arriving)
    assert board.run(arriving).packet[UDP].chksum == 0xFFFF


def test_a_wrong_checksum_is_not_made_right(board: Switchboard) -> None:
    steady(board)
    arrived = Ether(bytes(datagram(A6, PORT_A6, b"damaged")))[UDP].chksum
    sent = board.run(datagram(A6, PORT_A6, b"damaged", chksum=arrived ^ 0x0101)).packet
    assert sent[UDP].chksum != Ether(bytes(leaving(PORT_B6, B6, b"damaged")))[UDP].chksum


@pytest.mark.parametrize(
    "frame",
    [
        datagram(A6, PORT_A6, b"payload", chksum=0),
        datagram(A6, PORT_A6, b"payload", len=7),
        datagram(A6, PORT_A6, b"payload", len=16),
        bytes(datagram(A6, PORT_A6, b"payload"))[:-1],
        ETHERNET / IPv6(src=A6.ip, dst=RELAY6, plen=14) / TO_PORT,
    ],
    ids=[
        "no checksum",
        "UDP length under its header",
        "beyond the packet",
        "beyond the frame",
        "IPv6 length too small",
    ],
)
def test_what_contradicts_itself_is_a_drop(board: Switchboard, frame: Packet | bytes) -> None:
    steady(board)
    run = board.run(frame)
    assert (run.verdict, run.data) == (XDP_DROP, bytes(frame))
    assert board.counters() == {"malformed": 1}
    assert board.rule(PORT_A6)["packets"] == 0


@pytest.mark.parametrize(
    ("flags", "rule_tos", "arriving", "leaves"),
    [(0, 184, 0, 184), (0, 184, 0x03, 187), (0, 0, 0xBA, 0x02), (abi.KEEP_TOS, 184, 0x2B, 0x2B)],
)
def test_the_traffic_class_is_treated_as_the_tos_is(
    board: Switchboard, flags: int, rule_tos: int, arriving: int, leaves: int
) -> None:
    steady(board, flags, rule_tos)
    assert board.run(datagram(A6, PORT_A6, b"x", tos=arriving)).data == bytes(leaving(PORT_B6, B6, b"x", tos=leaves))


def test_the_flow_label_is_not_carried_over(board: Switchboard) -> None:
    steady(board)
    frame = datagram(A6, PORT_A6, b"x")
    frame[IPv6].fl = 0xABCDE
    assert board.run(frame).data == bytes(leaving(PORT_B6, B6, b"x"))


@pytest.mark.parametrize(("arriving", "leaves"), [(255, 254), (2, 1)])
def test_the_hop_limit_is_carried_over_minus_one(board: Switchboard, arriving: int, leaves: int) -> None:
    steady(board)
    assert board.run(datagram(A6, PORT_A6, ttl=arriving)).data == bytes(leaving(PORT_B6, B6, ttl=leaves))


def test_the_last_hop_is_not_ours(board: Switchboard) -> None:
    steady(board)
    assert board.run(datagram(A6, PORT_A6, ttl=1)).verdict == XDP_DROP
    assert board.drop_reason(PORT_A6) == "ttl"


def test_ethernet_padding_is_not_part_of_the_packet(board: Switchboard) -> None:
    steady(board)
    padding = b"\xff" * 15
    frame = bytes(datagram(A6, PORT_A6, b"abc")) + padding
    assert board.run(frame).data == bytes(leaving(PORT_B6, B6, b"abc")) + padding
    assert board.rule(PORT_A6)["bytes"] == 3


def test_rtp_is_followed_and_rtcp_copied(board: Switchboard) -> None:
    call(board, abi.RTP | abi.RTCP)
    board.run(datagram(A6, PORT_A6, rtcp()))
    for sequence in (1, 2, 4):
        board.run(datagram(A6, PORT_A6, rtp(sequence)))
    (copy,) = board.copies()
    assert (copy.kind, copy.port) == (abi.COPY_RTCP, PORT_A6)
    assert copy.data == bytes(datagram(A6, PORT_A6, rtcp())[IPv6])
    assert (board.rule(PORT_A6)["sequence"], board.rule(PORT_A6)["ssrc"]) == (abi.FIRST_CYCLE + 4, 0x5EED)


def test_a_packet_without_next_hop_goes_up_rewritten(board: Switchboard) -> None:
    steady(board)
    board.set_nexthop(state=abi.NEXTHOP_NONE)
    assert board.run(datagram(A6, PORT_A6, b"hello")).verdict == XDP_DROP
    (copy,) = board.copies()
    assert (copy.kind, copy.data) == (abi.COPY_UNRESOLVED, bytes(leaving(PORT_B6, B6, b"hello")[IPv6]))


class TestLearning:
    def test_who_is_expected_needs_no_token_of_its_own(self, board: Switchboard) -> None:
        call(board)
        taken = board.tokens_taken()
        board.run(datagram(A6, PORT_A6))
        assert board.standing(PORT_A6) == (A6, abi.CONFIRMED)
        assert board.learned(PORT_B6) == A6
        assert board.tokens_taken() == taken

    def test_an_address_behind_nat_is_learned_and_answered_the_way_it_came(self, board: Switchboard) -> None:
        call(board)
        board.run(datagram(FAR, PORT_A6))
        assert board.standing(PORT_A6) == (FAR, abi.OPEN)
        (event,) = board.events()
        assert (event.kind, event.port, event.source) == (abi.EVENT_LEARNED, PORT_A6, FAR)
        answer = board.run(datagram(B6, PORT_B6, b"answer"))
        assert answer.data[14:] == bytes(leaving(PORT_A6, FAR, b"answer"))[14:]
        assert (answer.packet.dst, answer.packet.src) == (A_MAC, OWN_MAC)

    def test_two_rules_name_an_address_by_one_token(self, board: Switchboard) -> None:
        call(board)
        board.run(datagram(FAR, PORT_A6))
        before = board.tokens_taken()
        board.run(datagram(Endpoint(FAR.ip, 99), PORT_B6))
        assert board.tokens_taken() == before
        assert words.word_address(int(board.rule(PORT_A6)["expected"])) == board.token(FAR.ip)
        assert words.word_address(int(board.rule(PORT_B6)["expected"])) == board.token(FAR.ip)

    def test_a_port_of_the_same_address_is_another_source(self, board: Switchboard) -> None:
        steady(board, abi.STRICT)
        assert board.run(datagram(Endpoint(A6.ip, 9), PORT_A6)).verdict == XDP_DROP
        assert board.drop_reason(PORT_A6) == "source_mismatch"

    @pytest.mark.parametrize("flags", [0, abi.STRICT])
    def test_a_stranger_at_a_closed_window_draws_no_token(self, board: Switchboard, flags: int) -> None:
        steady(board, flags)
        taken = board.tokens_taken()
        verdict = board.run(datagram(FAR, PORT_A6)).verdict
        assert verdict == (XDP_DROP if flags else XDP_REDIRECT)
        assert board.tokens_taken() == taken
        assert board.cold(PORT_A6)["foreign"] == 1

    def test_a_stranger_that_is_about_to_stand_does(self, board: Switchboard) -> None:
        steady(board, abi.HANDOVER)
        board.run(datagram(FAR, PORT_A6))
        assert board.standing(PORT_A6) == (FAR, abi.CONFIRMED)
        assert board.learned(PORT_B6) == FAR

    def test_the_tokens_one_port_draws_are_bounded(self, board: Switchboard) -> None:
        call(board)
        before = board.tokens_taken()
        for number in range(SLOW_PACKETS + 10):
            board.run(datagram(Endpoint(f"2001:db8:bad::{number:x}", 9), PORT_A6))
        assert 0 < board.tokens_taken() - before <= SLOW_PACKETS
        assert board.counters()["no_token"] > 0

    def test_without_spare_tokens_those_who_have_one_still_learn(self, board: Switchboard) -> None:
        call(board)
        board.spend_tokens()
        assert board.run(datagram(FAR, PORT_A6)).verdict == XDP_DROP
        assert board.run(datagram(A6, PORT_A6)).verdict == XDP_REDIRECT
        assert board.standing(PORT_A6) == (A6, abi.CONFIRMED)


REFUSED = {
    "unspecified": "::",
    "loopback": "::1",
    "multicast": "ff02::1",
    "link-local": "fe80::1",
    "the end of link-local": "febf::1",
    "an IPv4 address": "::ffff:198.51.100.1",
    "an IPv4 address of another kind": "::198.51.100.1",
    "the least of these": "::2",
    "loopback behind NAT64": "64:ff9b::7f00:1",
    "link-local behind NAT64": "64:ff9b::a9fe:1",
    "multicast behind 6to4": "2002:e000:1::1",
    "loopback behind 6to4": "2002:7f00:1::1",
    "denied behind NAT64": "64:ff9b::cb00:71c8",
    "denied behind 6to4": "2002:cb00:71c8::",
    "a denied network": "2001:db8:203:8000::1",
}


@pytest.mark.parametrize("name", REFUSED)
def test_addresses_that_are_never_answered(board: Switchboard, name: str) -> None:
    call(board)
    assert board.run(datagram(Endpoint(REFUSED[name], 4000), PORT_A6)).verdict == XDP_DROP
    assert board.drop_reason(PORT_A6) == "source_refused"
    assert board.learned(PORT_B6) is None


@pytest.mark.parametrize(
    "address",
    [
        "::1",
        "fec0::1",
        "2001:db8:203:7fff::1",
        "::fffe:102:304",
        "64:ff9b::c633:6401",
        "64:ff9b:1::7f00:1",
        "2002:c633:6401::1",
    ],
)
def test_addresses_beside_those_are_learned(board: Switchboard, address: str) -> None:
    call(board, abi.LOOPBACK)
    assert board.run(datagram(Endpoint(address, 4000), PORT_A6)).verdict == XDP_REDIRECT
    assert board.learned(PORT_B6) == Endpoint(address, 4000)


def test_port_zero_is_never_answered(board: Switchboard) -> None:
    call(board)
    assert board.run(datagram(Endpoint(A6.ip, 0), PORT_A6)).verdict == XDP_DROP
    assert board.drop_reason(PORT_A6) == "source_refused"


class TestPasses:
    def test_a_port_of_ours_is_the_next_rule_in_the_same_run(self, board: Switchboard) -> None:
        near, far = Endpoint(SECOND6, 31000), Endpoint(SECOND6, 31002)
        board.call(0, 0, A6, near, PORTS)
        board.call(0, 0, PORT_B6, B6, (near, far))
        run = board.run(datagram(A6, PORT_A6, b"chain"))
        assert run.data == bytes(leaving(far, B6, b"chain", ttl=62))
        assert board.standing(near) == (PORT_B6, abi.CONFIRMED)
        assert board.cold(far)["via_ifindex"] == 0
        back = board.run(datagram(B6, far, b"back"))
        assert back.data == bytes(leaving(PORT_A6, A6, b"back", ttl=62))

    def test_a_local_address_without_rule_is_never_sent_to(self, board: Switchboard) -> None:
        board.call(0, 0, A6, Endpoint(SECOND6, 31000), PORTS)
        assert board.run(datagram(A6, PORT_A6)).verdict == XDP_DROP
        assert board.drop_reason(PORT_A6) == "no_rule_at_destination"


class TestAddressTable:
    ADDRESSES = ("2001:db8::1", "fd00:1:2:3:4:5:6:7", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "100::64")

    @pytest.fixture(autouse=True)
    def _restore(self, board: Switchboard) -> object:
        table = board.object.map("host").array(abi.HOST)
        before = table.copy()
        yield
        table[:] = before

    def look_up(self, board: Switchboard, slots: dict[int, bytes], to: bytes) -> int:
        steady(board)
        table = board.object.map("host").array(abi.HOST)[0]
        table["slot6"] = 0
        for slot, octets in slots.items():
            table["slot6"][slot % abi.ADDRESS_SLOTS] = ((list(octets),), 2, 1)
        frame = bytearray(bytes(datagram(A6, PORT_A6)))
        frame[14 + 24 : 14 + 40] = to
        return board.run(bytes(frame)).verdict

    @pytest.mark.parametrize("text", ADDRESSES)
    def test_an_address_is_found_in_its_slot_and_those_behind_it(self, board: Switchboard, text: str) -> None:
        octets = bytes(IPv6(dst=text))[24:40]
        home = address_slot6(int.from_bytes(octets))
        others = {home + step: bytes([11, step, *range(14)]) for step in range(abi.ADDRESS_PROBES + 1)}
        for step in range(abi.ADDRESS_PROBES):
            assert self.look_up(board, others | {home + step: octets}, octets) == XDP_REDIRECT
        assert self.look_up(board, others | {home + abi.ADDRESS_PROBES: octets}, octets) == XDP_PASS
        assert self.look_up(board, {home + 1: octets}, octets) == XDP_PASS, "a free slot ends the search"


@pytest.mark.fuzz
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    source=st.integers(1, 65535),
    to=st.integers(1, 65535),
    payload=st.binary(max_size=300),
    ttl=st.integers(2, 255),
    tos=st.integers(0, 255),
    rule_tos=st.integers(0, 63).map(lambda dscp: dscp << 2),
    unfinished=st.booleans(),
)
def test_any_packet_leaves_as_scapy_would_have_written_it(
    board: Switchboard, source: int, to: int, payload: bytes, ttl: int, tos: int, rule_tos: int, unfinished: bool
) -> None:
    party, other = Endpoint(A6.ip, source), Endpoint(B6.ip, to)
    board.steady_call(0, rule_tos, party, other, PORTS)
    arriving = datagram(party, PORT_A6, payload, ttl, tos)
    if unfinished:
        arriving[UDP].chksum = unfinished_sum(arriving)
    assert board.run(arriving).data == bytes(leaving(PORT_B6, other, payload, ttl - 1, rule_tos | tos & 3))
