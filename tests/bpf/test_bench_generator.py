"""The benches' generator writes the packets it says: valid checksums, RTP that goes on, every flow in its turn."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.rtp import RTP

from bench.flows import Flow
from bench.generator import PACKET_SIZE, Generator, Order, Target
from relay.types import Endpoint

HOUSE = Path(__file__).resolve().parents[2]
FLOWS = [Flow(Endpoint(f"198.51.100.{n}", 10_000 + n), Endpoint("192.0.2.1", 40_000 + 2 * n)) for n in range(1, 4)]
ORDER = Order(Target.BASELINE, "02:00:00:00:00:02", "02:00:00:00:00:01")
XDP_TX = 3


@pytest.fixture
def generator() -> Iterator[Generator]:
    if not shutil.which("clang"):
        pytest.skip("needs clang: run `make develop`")
    subprocess.run(["make", "--silent", "--directory", HOUSE / "bench"], check=True)
    with Generator() as made:
        made.set_flows(FLOWS)
        yield made


def packets(generator: Generator, count: int) -> list[Ether]:
    """The next packets, each from a run of its own."""
    runs = [generator.drive(ORDER, generator.empty("empty_tx"), 1, 0) for _ in range(count)]
    assert {run.verdict for run in runs} == {XDP_TX}
    return [Ether(run.data) for run in runs]


def test_flows_take_turns_and_each_goes_on_with_its_rtp(generator: Generator) -> None:
    seen = packets(generator, 7)
    assert [packet[UDP].dport for packet in seen] == [flow.destination.port for flow in [*FLOWS, *FLOWS, FLOWS[0]]]
    first, second, third = (RTP(bytes(packet[UDP].payload)) for packet in (seen[0], seen[3], seen[6]))
    assert [second.sequence - first.sequence, third.sequence - second.sequence] == [1, 1]
    assert [second.timestamp - first.timestamp, third.timestamp - second.timestamp] == [160, 160]
    assert first.sourcesync == second.sourcesync
    assert len({RTP(bytes(packet[UDP].payload)).sourcesync for packet in seen}) == len(FLOWS)


def test_every_packet_is_valid_on_the_wire(generator: Generator) -> None:
    for packet, flow in zip(packets(generator, 6), FLOWS * 2, strict=True):
        assert len(packet) == PACKET_SIZE
        assert (packet.dst, packet.src) == (ORDER.destination_mac, ORDER.source_mac)
        assert (packet[IP].src, packet[IP].dst) == (flow.source.ip, flow.destination.ip)
        assert packet[UDP].sport == flow.source.port
        rebuilt = packet.copy()
        del rebuilt[IP].chksum, rebuilt[UDP].chksum
        assert bytes(rebuilt.__class__(bytes(rebuilt))) == bytes(packet)


def test_a_repeated_run_begins_each_packet_anew(generator: Generator) -> None:
    run = generator.drive(ORDER, generator.empty("empty_tx"), 301, 0)
    assert run.verdict == XDP_TX
    packet = Ether(run.data)
    assert packet[IP].ttl == 64
    assert packet[UDP].dport == FLOWS[0].destination.port


def test_a_new_table_must_fit(generator: Generator) -> None:
    with pytest.raises(ValueError, match="1 to 262144 flows, not 0"):
        generator.set_flows([])
