"""What is not for a port of ours passes byte for byte, and leaves no trace in any table."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet

from relay.dataplane import abi
from relay.types import Endpoint
from tests.bpf.switchboard import (
    A_MAC,
    OWN_MAC,
    PORT_A,
    RELAY,
    SECOND,
    XDP_DROP,
    XDP_PASS,
    XDP_REDIRECT,
    A,
    Switchboard,
    datagram,
)

ETHERNET = Ether(src=A_MAC, dst=OWN_MAC)
HEAD = IP(src=A.ip, dst=RELAY)
TO_PORT = UDP(sport=A.port, dport=PORT_A.port)

FOREIGN: dict[str, Packet | bytes] = {
    "another port": datagram(to=Endpoint(RELAY, PORT_A.port + 1)),
    "the same port of another local address": datagram(to=Endpoint(SECOND, PORT_A.port)),
    "another address": datagram(to=Endpoint("192.0.2.11", PORT_A.port)),
    "address 0.0.0.0, what a free slot holds": datagram(to=Endpoint("0.0.0.0", PORT_A.port)),
    "TCP": ETHERNET / HEAD / TCP(sport=A.port, dport=PORT_A.port),
    "ICMP": ETHERNET / HEAD / ICMP() / b"ping",
    "IPv6": ETHERNET / IPv6(src="2001:db8::1", dst="2001:db8::2") / TO_PORT,
    "three VLAN tags": ETHERNET / Dot1Q(vlan=7) / Dot1Q(vlan=8) / Dot1Q(vlan=9) / HEAD / TO_PORT,
    "another port behind a VLAN tag": ETHERNET / Dot1Q(vlan=7) / HEAD / UDP(sport=A.port, dport=PORT_A.port + 1),
    "cut off in the VLAN tag": bytes(ETHERNET / Dot1Q(vlan=7))[:17],
    "ARP": ETHERNET / ARP(pdst=RELAY),
    "a fragment to another address": ETHERNET / IP(src=A.ip, dst="192.0.2.11", flags="MF") / TO_PORT,
    "a fragment of TCP": ETHERNET / IP(src=A.ip, dst=RELAY, proto=6, frag=10) / TO_PORT,
    "IP version 5": ETHERNET / IP(src=A.ip, dst=RELAY, version=5) / TO_PORT,
    "a header length under five words": ETHERNET / IP(src=A.ip, dst=RELAY, ihl=4) / TO_PORT,
    "cut off in the UDP header": bytes(datagram())[: 14 + 20 + 7],
    "cut off in the IP header": bytes(datagram())[: 14 + 19],
    "an Ethernet header alone": bytes(datagram())[:14],
    "a header length beyond the frame": bytes(
        ETHERNET / IP(src=A.ip, dst=RELAY, ihl=15, proto=17) / TO_PORT
    )[: 14 + 20 + 8],
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_traffic_passes_untouched(board: Switchboard, name: str) -> None:
    board.steady_call()
    hot, cold = board.rule(PORT_A).tobytes(), board.cold(PORT_A).tobytes()
    frame = bytes(FOREIGN[name])
    run = board.run(frame)
    assert (run.verdict, run.data) == (XDP_PASS, frame)
    assert board.counters() == {}
    assert (board.rule(PORT_A).tobytes(), board.cold(PORT_A).tobytes()) == (hot, cold)


def test_the_same_packet_to_a_port_of_ours_does_not_pass(board: Switchboard) -> None:
    board.steady_call()
    assert board.run(datagram()).verdict == XDP_REDIRECT


def mutated(packet: Packet) -> st.SearchStrategy[bytes]:
    """Frames a few bytes away from a good one, cut or lengthened."""
    frame = bytes(packet)
    changes = st.lists(st.tuples(st.integers(0, len(frame) - 1), st.integers(0, 255)), max_size=4)

    def change(found: list[tuple[int, int]], cut: int, more: bytes) -> bytes:
        altered = bytearray(frame)
        for position, value in found:
            altered[position] = value
        return bytes(altered[: max(len(frame) - cut, 14)]) + more

    return st.builds(change, changes, st.sampled_from([0, 0, 1, 4, 12, 20, 40]), st.binary(max_size=30))


def is_fragment(frame: bytes) -> bool:
    return IP in (packet := Ether(frame)) and bool(packet[IP].frag or packet[IP].flags.MF)


@pytest.mark.fuzz
@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frame=st.one_of(st.binary(min_size=14, max_size=200), mutated(datagram(payload=b"\x80\x00" + bytes(30)))))
def test_any_frame_has_one_of_three_fates(board: Switchboard, frame: bytes) -> None:
    board.call(abi.RTP | abi.RTCP)
    board.refill(PORT_A)
    before = sum(board.counters().values())
    run = board.run(frame)
    assert run.verdict in (XDP_DROP, XDP_PASS, XDP_REDIRECT)
    if run.verdict != XDP_REDIRECT:
        assert run.data == frame
    if run.verdict == XDP_PASS:
        assert sum(board.counters().values()) - before <= is_fragment(frame)
    else:
        assert sum(board.counters().values()) > before
