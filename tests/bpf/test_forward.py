"""What a rule makes of a packet: addresses, ports, TTL, TOS, checksums."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP, IPOption_Timestamp
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from relay.dataplane import abi
from relay.types import Endpoint
from tests.bpf.switchboard import (
    A_MAC,
    OWN_MAC,
    PORT_A,
    PORT_B,
    SECOND,
    XDP_REDIRECT,
    A,
    B,
    Switchboard,
    datagram,
    leaving,
)


def folded_pseudo_header(packet: Packet) -> int:
    """What a sender with checksum offload leaves in the UDP header."""
    head = packet[IP]
    length = len(bytes(head[UDP]))
    words = struct.unpack(">6H", bytes(Ether(bytes(packet))[IP])[12:20] + struct.pack(">HH", 17, length))
    total: int = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_a_packet_of_each_party_reaches_the_other(board: Switchboard) -> None:
    board.steady_call()
    there = board.run(datagram(A, PORT_A, b"from a"))
    back = board.run(datagram(B, PORT_B, b"from b!"))
    assert (there.verdict, there.data) == (XDP_REDIRECT, bytes(leaving(PORT_B, B, b"from a")))
    assert (back.verdict, back.data) == (XDP_REDIRECT, bytes(leaving(PORT_A, A, b"from b!")))
    assert board.counters() == {"forwarded": 2}


def test_packets_and_bytes_count_udp_payload_of_what_arrived(board: Switchboard) -> None:
    board.steady_call()
    for size in (0, 1, 160):
        board.run(datagram(payload=bytes(size)))
    assert (board.rule(PORT_A)["packets"], board.rule(PORT_A)["bytes"]) == (3, 161)
    assert board.rule(PORT_B)["packets"] == 0


def test_a_packet_leaves_from_another_local_address(board: Switchboard) -> None:
    outside = Endpoint(SECOND, 40000)
    board.install(PORT_A, outside, B, A)
    board.install(outside, PORT_A, A, B)
    assert board.run(datagram()).data == bytes(leaving(outside, B))
    assert board.run(datagram(B, outside)).data == bytes(leaving(PORT_A, A))


@pytest.mark.parametrize("size", [0, 1, 2, 7, 8, 9, 15, 171, 172, 173, 1471, 1472])
@pytest.mark.parametrize("checksum", ["full", "partial", "absent"])
def test_the_checksum_is_right_for_every_length(board: Switchboard, size: int, checksum: str) -> None:
    board.steady_call()
    payload = bytes(index * 7 & 0xFF for index in range(size))
    arriving, sent = datagram(payload=payload), leaving(PORT_B, B, payload)
    if checksum == "partial":
        arriving[UDP].chksum = folded_pseudo_header(arriving)
    if checksum == "absent":
        arriving[UDP].chksum = sent[UDP].chksum = 0
    assert board.run(arriving).data == bytes(sent)


@pytest.mark.parametrize("partial", [False, True])
def test_a_checksum_of_zero_is_sent_as_all_ones(board: Switchboard, partial: bool) -> None:
    board.steady_call()
    blank = Ether(bytes(leaving(PORT_B, B, b"\0\0")))
    payload = struct.pack(">H", blank[UDP].chksum)
    arriving = datagram(payload=payload)
    if partial:
        arriving[UDP].chksum = folded_pseudo_header(arriving)
    assert board.run(arriving).packet[UDP].chksum == 0xFFFF


def test_a_wrong_checksum_is_not_made_right(board: Switchboard) -> None:
    board.steady_call()
    right = Ether(bytes(leaving(PORT_B, B, b"damaged")))[UDP].chksum
    arrived = Ether(bytes(datagram(payload=b"damaged")))[UDP].chksum
    assert board.run(datagram(payload=b"damaged", chksum=arrived ^ 0x0101)).packet[UDP].chksum != right


@pytest.mark.fuzz
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    source=st.tuples(st.integers(0x0B000000, 0x7EFFFFFF), st.integers(1, 65535)),
    to=st.tuples(st.integers(0x80000000, 0xA0000000), st.integers(1, 65535)),
    payload=st.binary(max_size=300),
    ttl=st.integers(2, 255),
    tos=st.integers(0, 255),
    rule_tos=st.integers(0, 63).map(lambda dscp: dscp << 2),
    partial=st.booleans(),
)
def test_any_packet_leaves_as_scapy_would_have_written_it(
    board: Switchboard,
    source: tuple[int, int],
    to: tuple[int, int],
    payload: bytes,
    ttl: int,
    tos: int,
    rule_tos: int,
    partial: bool,
) -> None:
    party, other = (Endpoint(str(IPv4Address(number)), port) for number, port in (source, to))
    board.install(PORT_A, PORT_B, other, party, tos=rule_tos)
    board.install(PORT_B, PORT_A, party, other)
    board.expect(PORT_A, party)
    arriving = datagram(party, PORT_A, payload, ttl, tos)
    if partial:
        arriving[UDP].chksum = folded_pseudo_header(arriving)
    expected = leaving(PORT_B, other, payload, ttl - 1, rule_tos | tos & 3)
    assert board.run(arriving).data == bytes(expected)


@pytest.mark.parametrize(
    ("flags", "rule_tos", "arriving", "leaves"),
    [
        (0, 0, 0xB8, 0),
        (0, 184, 0, 184),
        (0, 184, 0x03, 187),
        (0, 0, 0xBA, 0x02),
        (0, 40, 0xB9, 41),
        (abi.KEEP_TOS, 0, 0xB8, 0xB8),
        (abi.KEEP_TOS, 184, 0x2B, 0x2B),
    ],
)
def test_the_rule_writes_dscp_and_never_ecn(
    board: Switchboard, flags: int, rule_tos: int, arriving: int, leaves: int
) -> None:
    board.steady_call(flags, rule_tos)
    assert board.run(datagram(payload=b"x", tos=arriving)).data == bytes(leaving(PORT_B, B, b"x", tos=leaves))


@pytest.mark.parametrize(("arriving", "leaves"), [(255, 254), (64, 63), (2, 1)])
def test_the_ttl_is_carried_over_minus_one(board: Switchboard, arriving: int, leaves: int) -> None:
    board.steady_call()
    assert board.run(datagram(ttl=arriving)).data == bytes(leaving(PORT_B, B, ttl=leaves))


@pytest.mark.parametrize("partial", [False, True])
def test_ip_options_are_kept(board: Switchboard, partial: bool) -> None:
    board.steady_call()
    options = [IPOption_Timestamp(internet_address="0.0.0.0", timestamp=0)]
    arriving, sent = datagram(payload=b"odd"), leaving(PORT_B, B, b"odd")
    arriving[IP].options = sent[IP].options = options
    if partial:
        arriving[UDP].chksum = folded_pseudo_header(arriving)
    assert board.run(arriving).data == bytes(sent)


@pytest.mark.parametrize("partial", [False, True])
def test_ethernet_padding_is_not_part_of_the_packet(board: Switchboard, partial: bool) -> None:
    board.steady_call()
    arriving, sent = datagram(payload=b"abc"), leaving(PORT_B, B, b"abc")
    if partial:
        arriving[UDP].chksum = folded_pseudo_header(arriving)
    padding = b"\xff" * 15
    assert board.run(bytes(arriving) + padding).data == bytes(sent) + padding
    assert board.rule(PORT_A)["bytes"] == 3


def test_a_udp_length_shorter_than_the_ip_payload_is_what_counts(board: Switchboard) -> None:
    board.steady_call()
    frame = Ether(src=A_MAC, dst=OWN_MAC) / IP(src=A.ip, dst=PORT_A.ip)
    arriving = frame / UDP(sport=A.port, dport=PORT_A.port, len=11, chksum=0) / Raw(b"abc trailing")
    assert board.run(arriving).verdict == XDP_REDIRECT
    assert board.rule(PORT_A)["bytes"] == 3


def test_a_rule_without_live_word_is_no_rule(board: Switchboard) -> None:
    board.steady_call()
    board.rule(PORT_A)["control"] = 0
    frame = bytes(datagram())
    assert board.run(frame).data == frame
    assert board.counters() == {}
