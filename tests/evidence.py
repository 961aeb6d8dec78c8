"""What really happened to the packets, told by captures and the kernel's counters and not by the relay itself.

One capture stands on the wire to the relay and sees all that enters and leaves it. Another stands on the relay's own
interface, above XDP: what the XDP program forwards never gets there, so whatever media it sees has gone through the
kernel's network stack. Media that it sees leaving was sent by the daemon (the slow path).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.lab import Lab, Network, capture_fields
from tests.peers import NG_PORT

SLOW_PER_NEXT_HOP = 5
"""Packets that may take the slow path while a neighbour is being resolved."""
MEDIA_PORTS = (30000, 40000)
"""The relay's ports for media, by default."""
HEADERS = 96
"""Bytes kept of each packet: all headers that are looked at."""
FIELDS = ("ip.src", "ip.dst", "udp.srcport", "udp.dstport", "ip.dsfield", "ip.ttl", "eth.dst", "icmp.type")


@dataclass
class Evidence:
    """Counts of packets; RTP and RTCP are told apart by their ports, even and odd."""

    arrived: Counter[str] = field(default_factory=Counter)
    """RTP and RTCP that entered the relay, on the wire."""
    left: Counter[str] = field(default_factory=Counter)
    """RTP and RTCP that left it, on the wire."""
    marks: Counter[int] = field(default_factory=Counter)
    """The TOS byte of media that left."""
    ttls: Counter[int] = field(default_factory=Counter)
    """TTL of media that left."""
    unreachables: int = 0
    """ICMP destination unreachable that left the relay."""
    reached_stack: int = 0
    """Media that entered the kernel's stack."""
    slow: Counter[str] = field(default_factory=Counter)
    """Media that left through the kernel's stack, by the next hop's MAC address."""
    ng_requests: int = 0
    """ng datagrams that entered the stack through the interface."""
    udp: dict[str, int] = field(default_factory=dict)
    """Growth of the kernel's UDP counters."""

    @property
    def forwarded_in_xdp(self) -> int:
        return self.left.total() - self.slow.total()


class Witness:
    """Takes evidence from its making until `testify`."""

    def __init__(self, lab: Lab, network: Network) -> None:
        self._relay = network.RELAY_ADDRESS
        media = f"udp portrange {MEDIA_PORTS[0]}-{MEDIA_PORTS[1]} and not port {NG_PORT}"
        self._wire = network.core.capture(network.RELAY_PORT, lab.folder / "wire.pcapng", f"({media}) or icmp", HEADERS)
        self._stack = network.relay.capture(
            "eth0", lab.folder / "stack.pcapng", f"({media}) or (udp dst port {NG_PORT})", HEADERS
        )
        self._host = network.relay
        self._before = self._host.snmp("Udp")

    def testify(self) -> Evidence:
        """End the captures and count."""
        after = self._host.snmp("Udp")
        found = Evidence(udp={name: after[name] - value for name, value in self._before.items()})
        for row in capture_fields(self._wire.stop(), "ip", FIELDS):
            self._on_the_wire(found, row)
        for row in capture_fields(self._stack.stop(), "ip", FIELDS):
            self._in_the_stack(found, row)
        return found

    def _on_the_wire(self, found: Evidence, row: list[str]) -> None:
        source, destination, source_port, destination_port, tos, ttl, _, icmp = row
        if icmp:
            found.unreachables += source == self._relay and icmp.startswith("3")
        elif source == self._relay:
            found.left[kind(source_port)] += 1
            found.marks[int(tos, 16)] += 1
            found.ttls[int(ttl)] += 1
        elif destination == self._relay:
            found.arrived[kind(destination_port)] += 1

    def _in_the_stack(self, found: Evidence, row: list[str]) -> None:
        source, _, _, destination_port, _, _, next_hop, _ = row
        if source == self._relay:
            found.slow[next_hop] += 1
        elif int(destination_port) == NG_PORT:
            found.ng_requests += 1
        else:
            found.reached_stack += 1


def kind(port: str) -> str:
    """What a port of the relay carries: RTP on even ones, RTCP on odd ones (RFC 3550 section 11)."""
    return "RTCP" if int(port) % 2 else "RTP"
