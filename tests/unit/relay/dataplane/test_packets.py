"""Packets made by hand, against scapy's idea of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP, defragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, defragment6
from scapy.packet import Packet

from relay.dataplane.packets import Datagram, addresses, checksum, datagram, fragments, udp_packet
from relay.types import Endpoint

ENDS = (Endpoint("192.0.2.1", 4000), Endpoint("198.51.100.7", 30000))
ENDS6 = (Endpoint("2001:db8::1", 4000), Endpoint("fd00:1::7", 30000))


@pytest.mark.parametrize("ends", [ENDS, ENDS6])
@given(payload=st.binary(max_size=300))
def test_a_datagram_is_wrapped_as_others_do_it(ends: tuple[Endpoint, Endpoint], payload: bytes) -> None:
    content = Datagram(*ends, payload)
    packet = udp_packet(content, ttl=17, tos=0xB8)
    source, to = ends
    ports = UDP(sport=source.port, dport=to.port) / payload
    if ":" in source.ip:
        expected: Packet = IPv6(src=source.ip, dst=to.ip, hlim=17, tc=0xB8) / ports
    else:
        expected = IP(src=source.ip, dst=to.ip, ttl=17, tos=0xB8, id=0) / ports
    assert packet == bytes(expected)
    assert datagram(packet) == content
    assert addresses(packet) == (source.ip, to.ip)


def test_the_sum_of_a_sound_packet_is_none() -> None:
    assert checksum(udp_packet(Datagram(*ENDS, b"x"), 64, 0)[:20]) == 0xFFFF


@pytest.mark.parametrize("mtu", [68, 576, 1499, 1500])
@pytest.mark.parametrize("size", [1, 40, 600, 3000])
def test_pieces_fit_and_make_the_whole(mtu: int, size: int) -> None:
    packet = udp_packet(Datagram(*ENDS, (bytes(range(256)) * 12)[:size]), 64, 184)
    pieces = list(fragments(packet, mtu, 7))
    assert all(len(piece) <= mtu for piece in pieces)
    assert {(IP(piece).id, IP(piece).tos) for piece in pieces} == {(7, 184)}
    (whole,) = defragment([IP(piece) for piece in pieces])  # type: ignore[no-untyped-call]
    assert bytes(whole[UDP]) == packet[20:]


@pytest.mark.parametrize("mtu", [1280, 1499, 1500])
@pytest.mark.parametrize("size", [1300, 3000])
def test_ipv6_pieces_fit_and_make_the_whole(mtu: int, size: int) -> None:
    packet = udp_packet(Datagram(*ENDS6, (bytes(range(256)) * 12)[:size]), 64, 184)
    pieces = list(fragments(packet, mtu, 0x12345678))
    assert all(len(piece) <= mtu for piece in pieces)
    assert {IPv6(piece)[IPv6ExtHdrFragment].id for piece in pieces} == {0x12345678}
    whole = defragment6([IPv6(piece) for piece in pieces])  # type: ignore[no-untyped-call]
    assert bytes(whole[UDP]) == packet[40:]
    assert (whole.tc, whole.plen) == (184, size + 8)
