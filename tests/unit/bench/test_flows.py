"""The generator's flow table against scapy's own packets."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from bench.flows import Flow, ones_sum, pack, shuffled
from relay.types import Endpoint

DTYPE = np.dtype(
    [
        ("source", ">u4"),
        ("destination", ">u4"),
        ("source_port", ">u2"),
        ("destination_port", ">u2"),
        ("ip_check", "u2"),
        ("udp_sum", "u2"),
    ]
)
ENDPOINTS = st.builds(
    lambda address, port: Endpoint(".".join(str(byte) for byte in address), port),
    st.binary(min_size=4, max_size=4),
    st.integers(1, 65535),
)
FLOWS = st.lists(st.builds(Flow, ENDPOINTS, ENDPOINTS), min_size=1, max_size=5)


def reference_packet(flow: Flow, ssrc: int, payload: bytes) -> IP:
    """What the generator has to write for sequence and timestamp 0, with checksums by scapy."""
    rtp = bytes([0x80, 0]) + bytes(6) + ssrc.to_bytes(4, "big") + payload
    ip = IP(src=flow.source.ip, dst=flow.destination.ip, ttl=64, id=0, flags="DF")
    packet = Ether() / ip / UDP(sport=flow.source.port, dport=flow.destination.port) / rtp
    rebuilt: IP = Ether(bytes(packet))[IP]
    return rebuilt


@given(FLOWS, st.binary(max_size=200))
def test_checksums_are_those_of_the_packets_on_the_wire(flows: list[Flow], payload: bytes) -> None:
    table = pack(flows, payload, DTYPE)
    for place, flow in enumerate(flows):
        packet = reference_packet(flow, place + 1, payload)
        assert int(table[place]["ip_check"]).to_bytes(2, "little") == bytes(packet)[10:12]
        written = ~int(table[place]["udp_sum"]) & 0xFFFF or 0xFFFF
        assert written.to_bytes(2, "little") == bytes(packet)[26:28]


def test_addresses_stand_in_network_order() -> None:
    row = pack([Flow(Endpoint("192.0.2.1", 1000), Endpoint("198.51.100.2", 40000))], b"", DTYPE)[0]
    assert row.tobytes()[:12] == bytes([192, 0, 2, 1, 198, 51, 100, 2, 1000 >> 8, 1000 & 255, 40000 >> 8, 40000 & 255])


def test_shuffling_keeps_every_flow_once_and_changes_the_order() -> None:
    flows = [Flow(Endpoint("192.0.2.1", port), Endpoint("192.0.2.2", port)) for port in range(1000, 2000)]
    mixed = shuffled(flows, seed=1)
    assert sorted(mixed) == flows
    neighbours = sum(1 for one, two in pairwise(mixed) if two.source.port == one.source.port + 1)
    assert neighbours < 20
    assert mixed == shuffled(flows, seed=1) != shuffled(flows, seed=2)


def test_the_sum_folds_every_carry() -> None:
    assert int(ones_sum(*[np.array([0xFFFF], np.uint64)] * 3)[0]) == 0xFFFF
    assert int(ones_sum(np.array([0xFFFF], np.uint64), np.array([1], np.uint64))[0]) == 1
