"""The XDP program on the test bench: rules in words, packets from scapy, runs through BPF_PROG_TEST_RUN.

Party A (198.51.100.1:4000) sends to port 30000 of the relay (192.0.2.10), party B (203.0.113.5:5000) to port 30002.
A6, B6, PORT_A6 and PORT_B6 are the same over IPv6.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import numpy as np
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from relay.dataplane import abi, words
from relay.dataplane.addresses import fill_host
from relay.dataplane.libbpf import Object
from relay.dataplane.ring import RingReader
from relay.dataplane.tokens import Tokens
from relay.dataplane.words import rule_index, rule_port
from relay.types import Endpoint

XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT = 1, 2, 3, 4

RELAY, SECOND = "192.0.2.10", "192.0.2.20"
RELAY6, SECOND6 = "2001:db8:192::10", "2001:db8:192::20"
ADDRESSES = [RELAY, SECOND, RELAY6, SECOND6]
A, B = Endpoint("198.51.100.1", 4000), Endpoint("203.0.113.5", 5000)
PORT_A, PORT_B = Endpoint(RELAY, 30000), Endpoint(RELAY, 30002)
A6, B6 = Endpoint("2001:db8:198::1", 4000), Endpoint("2001:db8:203::5", 5000)
PORT_A6, PORT_B6 = Endpoint(RELAY6, 30000), Endpoint(RELAY6, 30002)
A_MAC, OWN_MAC, HOP_MAC, HOP_OWN_MAC = (
    "02:00:00:00:00:0a",
    "02:00:00:00:00:01",
    "02:00:00:00:00:0b",
    "02:00:00:00:00:02",
)
MTU = 1500
RATE = 1000
WINDOW = 750
ALONE, ORPHANED = 100_000, 200_000
"""Jiffies without a beat."""
SLOW_PACKETS = 16
DENIED, DENIED6 = "203.0.113.128/25", "2001:db8:203:8000::/49"

_TICK_SHIFT = 12  # about 16 s at 250 Hz: a test ends within one tick
_MARGIN = 250  # jiffies to the tick's end that a test needs at least
_LOOPBACK_IFINDEX = 1
_NEXTHOP = 1
_TOKENS = 64
_TOKEN = struct.Struct("=I")
_COPIES = struct.Struct("=IIIIII")
_EVENT = struct.Struct("=IIQ")


@dataclass(frozen=True)
class Run:
    """What became of one packet."""

    verdict: int
    data: bytes

    @property
    def packet(self) -> Packet:
        return Ether(self.data)


@dataclass(frozen=True)
class Event:
    kind: int
    port: Endpoint
    source: Endpoint | None
    state: int


@dataclass(frozen=True)
class Copy:
    kind: int
    port: Endpoint
    ifindex: int
    data: bytes
    mtu: int = 0


def datagram(
    source: Endpoint = A, to: Endpoint = PORT_A, payload: bytes = b"", ttl: int = 64, tos: int = 0, **udp: Any
) -> Packet:
    """A frame as it arrives; keywords go into the UDP header (chksum=0: without checksum)."""
    frame = Ether(src=A_MAC, dst=OWN_MAC)
    return frame / network(source, to, ttl, tos) / UDP(sport=source.port, dport=to.port, **udp) / payload


def leaving(source: Endpoint, to: Endpoint, payload: bytes = b"", ttl: int = 63, tos: int = 0, **udp: Any) -> Packet:
    """A frame as it leaves through the cached next hop."""
    frame = Ether(src=HOP_OWN_MAC, dst=HOP_MAC)
    return frame / network(source, to, ttl, tos) / UDP(sport=source.port, dport=to.port, **udp) / payload


def network(source: Endpoint, to: Endpoint, ttl: int = 64, tos: int = 0) -> Packet:
    """The IP header from one address to another of its family."""
    if ":" in source.ip:
        return IPv6(src=source.ip, dst=to.ip, hlim=ttl, tc=tos)
    return IP(src=source.ip, dst=to.ip, ttl=ttl, tos=tos)


def rtp(sequence: int, payload_type: int = 0, marker: bool = False, ssrc: int = 0x5EED, timestamp: int = 0) -> bytes:
    """An RTP packet with four bytes of payload (RFC 3550 section 5.1)."""
    second = payload_type | marker << 7
    return struct.pack(">BBHII", 0x80, second, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc) + b"abcd"


def rtcp(ssrc: int = 0x5EED) -> bytes:
    """An empty receiver report (RFC 3550 section 6.4.2)."""
    return struct.pack(">BBHI", 0x80, 201, 1, ssrc)


def mac(text: str) -> list[int]:
    return [int(part, 16) for part in text.split(":")]


class Switchboard:
    """The loaded program and its tables. `clear` between two tests."""

    def __init__(self, path: Path, rate: int = RATE, orphaned: int = ORPHANED) -> None:
        self.object = Object.open(path)
        self.object.check_layout(abi.DIGEST)
        settings = np.zeros((), abi.SETTINGS)
        settings["tick_shift"], settings["rate_per_tick"] = _TICK_SHIFT, rate
        settings["window_jiffies"], settings["slow_ticks"], settings["slow_packets"] = WINDOW, 4, SLOW_PACKETS
        settings["alone_jiffies"], settings["orphan_jiffies"] = ALONE, orphaned
        self.object.set_rodata("settings", settings.tobytes())
        for name in ("rules", "cold"):
            self.object.map(name).resize(len(ADDRESSES) * abi.PORTS)
        for name in ("peers", "tokens", "spare"):
            self.object.map(name).resize(_TOKENS)
        self.object.load()
        self.program, self._clocks = self.object.program("hairpin"), self.object.program("clocks")
        self.reassembled, self._beat = self.object.program("reassembled"), self.object.program("beat")
        self._touched: set[int] = set()
        self._rules = self.object.map("rules").array(abi.RULE)
        self._cold = self.object.map("cold").array(abi.COLD)
        self._nexthops = self.object.map("nexthops").array(abi.NEXTHOP)
        self._peers = self.object.map("peers").array(abi.IP6)
        self._forget_tokens()
        self._rings = {name: RingReader(self.object.map(name).fd, self.object.map(name).max_entries)
                       for name in ("events", "copies")}  # fmt: skip
        self._host = self.object.map("host").array(abi.HOST)
        fill_host(self._host, ADDRESSES, self._rules)
        self.object.map("devices").update(struct.pack("=I", 0), struct.pack("=I", _LOOPBACK_IFINDEX))
        self.deny(DENIED)
        self.deny(DENIED6)
        self.beat()

    def close(self) -> None:
        for ring in self._rings.values():
            ring.close()
        self.tokens.close()
        del self._rules, self._cold, self._nexthops, self._peers, self._host
        self.object.close()

    def _forget_tokens(self) -> None:
        """All tokens are spare, and no address has one."""
        table, spare = self.object.map("tokens"), self.object.map("spare")
        taken = table.keys()
        for key in taken:
            table.delete(key)
        self.spend_tokens()
        self._peers.view(np.uint8)[:] = 0
        self.tokens = Tokens(self._peers, table, spare)
        self.tokens.fill()

    def written_elsewhere(self) -> int:
        """How many rules hold anything, of those no test of this table asked for since `clear`."""
        idle = np.ones(len(self._rules), np.bool_)
        idle[list(self._touched)] = False
        return sum(int(table[idle].view(np.uint64).any()) for table in (self._rules, self._cold))

    def deny(self, network: str) -> None:
        parsed = ip_network(network)
        name = "denied" if parsed.version == 4 else "denied6"
        self.object.map(name).update(struct.pack("=I", parsed.prefixlen) + parsed.network_address.packed, b"\1")

    def clear(self) -> None:
        """Empty tables, counters and rings; a tick with some time left."""
        touched = list(self._touched)
        self._rules[touched] = 0
        self._cold[touched] = 0
        self._touched.clear()
        if self.tokens_taken():
            self.tokens.close()
            self._forget_tokens()
        self.set_nexthop()
        cpus = len(self._counter(0))
        for index in range(len(abi.COUNTERS)):
            handle = self.object.map("counters")
            handle.update_per_cpu(struct.pack("=I", index), [bytes(8)] * cpus)
        self.events()
        self.copies()
        self.beat()
        while self.jiffies() % (1 << _TICK_SHIFT) > (1 << _TICK_SHIFT) - _MARGIN:
            time.sleep(0.1)

    # What a test writes

    def beat(self, age: int = 0) -> None:
        """Let user space have beaten last so many jiffies ago."""
        self._beat.call(b"")
        self._host["beat"] -= age

    def set_nexthop(self, state: int = abi.NEXTHOP_READY, mtu: int = MTU, device: int = 0, vlan: int = 0) -> None:
        self._nexthops[_NEXTHOP] = (mac(HOP_MAC), state, mac(HOP_OWN_MAC), device, mtu, 0, vlan, [0, 0, 0])

    def token(self, ip: str) -> int:
        """The token of an IPv6 address, drawn if it has none."""
        return self.tokens.number(ip)

    def tokens_taken(self) -> int:
        """How many IPv6 addresses have a token."""
        return len(self.object.map("tokens").keys())

    def spend_tokens(self) -> list[bytes]:
        """Leave none to be drawn; gives back those there were."""
        return list(iter(self.object.map("spare").pop, None))

    def count_spare(self) -> int:
        """How many tokens can be drawn."""
        found = self.spend_tokens()
        self.object.map("spare").push(found)
        return len(found)

    def peer(self, endpoint: Endpoint | None, generation: int) -> int:
        """struct hp_peer of an endpoint of either family."""
        if endpoint is not None and ":" in endpoint.ip:
            return words.word(self.token(endpoint.ip), endpoint.port, generation)
        return words.peer(endpoint, generation)

    def endpoint_of(self, word: int, local: Endpoint) -> Endpoint | None:
        """The endpoint in a word about the party of a local address's family."""
        if ":" not in local.ip:
            return words.endpoint_of(word)
        token = words.word_address(word)
        return Endpoint(self.tokens.text(token), words.word_port(word)) if token else None

    def rule(self, local: Endpoint) -> Any:
        """The hot part of a port's rule, in place."""
        return self._rules[self.index(local)]

    def cold(self, local: Endpoint) -> Any:
        """The cold part of a port's rule, in place."""
        return self._cold[self.index(local)]

    def index(self, local: Endpoint) -> int:
        index = rule_index(ADDRESSES.index(local.ip), local.port)
        self._touched.add(index)
        return index

    def install(
        self,
        local: Endpoint,
        source: Endpoint,
        to: Endpoint | None,
        expected: Endpoint | None = None,
        flags: int = 0,
        tos: int = 0,
        generations: tuple[int, int] = (1, 1),
        nexthop: int = _NEXTHOP,
    ) -> None:
        """One rule: from `local` on to `to`, sent from `source`; `generations` of destination and expected source."""
        hot, cold = self.rule(local), self.cold(local)
        towards, own = generations
        hot["signalled"] = self.peer(to, towards)
        hot["nexthop"] = (nexthop, nexthop)
        cold["source"] = self.peer(expected, own)
        if ":" in source.ip:
            flags |= abi.TO_IP6
        hot["control"] = words.control(own, abi.LIVE | flags, tos, ADDRESSES.index(source.ip), source.port)

    def call(
        self,
        flags: int = 0,
        tos: int = 0,
        a: Endpoint | None = A,
        b: Endpoint | None = B,
        ports: tuple[Endpoint, Endpoint] = (PORT_A, PORT_B),
    ) -> None:
        """An ordinary call: A at the first port, B at the second, both learned anew."""
        self.install(ports[0], ports[1], b, a, flags, tos)
        self.install(ports[1], ports[0], a, b, flags, tos)

    def expect(self, local: Endpoint, source: Endpoint, state: int = abi.CONFIRMED, generation: int = 1) -> None:
        """Let a port's window stand on a source already."""
        self.rule(local)["expected"] = self.peer(source, generation << 2 | state)

    def steady_call(
        self,
        flags: int = 0,
        tos: int = 0,
        a: Endpoint = A,
        b: Endpoint = B,
        ports: tuple[Endpoint, Endpoint] = (PORT_A, PORT_B),
    ) -> None:
        """A call whose sources are confirmed."""
        self.call(flags, tos, a, b, ports)
        self.expect(ports[0], a)
        self.expect(ports[1], b)

    def end_window(self, local: Endpoint) -> None:
        """Let a port's learning window have been opened long ago."""
        self.cold(local)["window_tick"] = (self.jiffies() - WINDOW - 1) & 0xFFFFFFFF

    def refill(self, local: Endpoint) -> None:
        """Let a new tick and a new budget period begin for one port."""
        self.rule(local)["tick"] ^= 1
        self.cold(local)["slow_tick"] ^= 1

    # What a test runs and reads

    def run(self, packet: Packet | bytes, repeat: int = 1, ifindex: int = 0) -> Run:
        """Run the program on a frame that came in by an interface, the loopback device if it is 0."""
        result = self.program.test_run(bytes(packet), ifindex, repeat)
        return Run(result.verdict, result.data)

    def run_reassembled(self, packet: Packet) -> Run:
        """Run the program for what the kernel put together on an IP packet."""
        kind = b"\x86\xdd" if IPv6 in packet else b"\x08\x00"
        result = self.reassembled.test_run(bytes(12) + kind + bytes(packet))
        return Run(result.verdict, result.data)

    def jiffies(self) -> int:
        return int(struct.unpack("=QQ", self._clocks.call(bytes(16)))[0])

    def tick(self) -> int:
        return self.jiffies() >> _TICK_SHIFT & 0xFFFF

    def standing(self, local: Endpoint) -> tuple[Endpoint | None, int]:
        """The source a port expects and its window's state; (None, UNSEEN) if that is of another generation."""
        word = int(self.rule(local)["expected"])
        generation, state = words.window(word)
        current = int(self.rule(local)["control"]) & abi.GENERATION_MASK
        return (self.endpoint_of(word, local), state) if generation == current else (None, abi.UNSEEN)

    def learned(self, local: Endpoint) -> Endpoint | None:
        """The observed destination of a port, of whatever generation."""
        rule = self.rule(local)
        towards6 = int(rule["control"]) >> 16 & abi.TO_IP6
        return self.endpoint_of(int(rule["learned"]), PORT_A6 if towards6 else PORT_A)

    def _counter(self, index: int) -> list[int]:
        values = self.object.map("counters").lookup(struct.pack("=I", index))
        assert values is not None
        return [int(value[0]) for value in struct.iter_unpack("=Q", values)]

    def counters(self) -> dict[str, int]:
        """The counters that are not zero."""
        sums = {name: sum(self._counter(index)) for index, name in enumerate(abi.COUNTERS)}
        return {name: value for name, value in sums.items() if value}

    def drop_reason(self, local: Endpoint) -> str:
        return str(abi.COUNTERS[int(self.cold(local)["drop_reason"])])

    def _port(self, index: int) -> Endpoint:
        address, port = rule_port(index)
        return Endpoint(ADDRESSES[address], port)

    def events(self) -> list[Event]:
        found = []
        for record in self._rings["events"].read(1 << 20):
            kind, index, word = _EVENT.unpack_from(record)
            port = self._port(index)
            found.append(Event(kind, port, self.endpoint_of(word, port), words.window(word)[1]))
        return found

    def copies(self) -> list[Copy]:
        found = []
        for record in self._rings["copies"].read(1 << 20):
            kind, index, length, ifindex, mtu, _ = _COPIES.unpack_from(record)
            data = bytes(record[_COPIES.size : _COPIES.size + length])
            found.append(Copy(kind, self._port(index), ifindex, data, mtu))
        return found


def payload_of(packet: Packet) -> bytes:
    return bytes(packet[Raw]) if Raw in packet else b""
