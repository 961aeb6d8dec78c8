"""Telephones' media: real RTP and RTCP between real sockets, for many calls in one thread, and an account of it all.

A Party is one telephone's side of one call: two sockets, what it sent and what reached it. The Agent sends each packet
when it is due and reads whatever arrives. Packets are PCMU, 20 ms each; every RTCP packet is a compound of a sender or
receiver report and SDES (RFC 3550 section 6).
"""

from __future__ import annotations

import heapq
import os
import random
import selectors
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from relay.types import Endpoint
from tests.lab import Host

PERIOD = 0.020
"""Seconds of speech in one packet."""
SAMPLES = 160
"""Samples in one packet: the step of the timestamp at 8 kHz."""
SILENCE = b"\xff" * SAMPLES
REPORT_PERIOD = 0.5
"""Seconds between RTCP packets: more often than RFC 3550 section 6.2 asks for, so that short calls have some."""
NTP_EPOCH = 2_208_988_800
RECEIVE_BUFFER = 1 << 20
SO_TIMESTAMPNS = 35
"""Of asm-generic/socket.h: the kernel says with each datagram when it came."""

Schedule = list[tuple[float, int]]
"""When to send which packet: (seconds from the start, index), sorted."""


@dataclass
class Received:
    """What reached one party from one SSRC."""

    packets: int = 0
    sequences: set[int] = field(default_factory=set)
    """Extended sequence numbers."""
    highest: int = -1
    reordered: int = 0
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    """When each packet reached the host, in Unix seconds of its kernel, and its extended sequence number."""

    def add(self, sequence: int, at: float = 0.0) -> None:
        self.packets += 1
        extended = sequence if self.highest < 0 else extend(sequence, self.highest)
        if extended not in self.sequences and extended < self.highest:
            self.reordered += 1
        self.highest = max(self.highest, extended)
        self.sequences.add(extended)
        self.arrivals.append((at, extended))

    @property
    def duplicates(self) -> int:
        return self.packets - len(self.sequences)


def extend(sequence: int, highest: int) -> int:
    """The extended sequence number nearest to the highest so far (RFC 3550 A.1)."""
    return highest + ((sequence - highest + 0x8000) & 0xFFFF) - 0x8000


@dataclass(eq=False)
class Party:
    """One telephone's side of one call."""

    local: Endpoint
    rtp: socket.socket
    rtcp: socket.socket
    ssrc: int
    first_sequence: int
    first_timestamp: int
    remote_rtp: Endpoint | None = None
    remote_rtcp: Endpoint | None = None
    rtp_sent: int = 0
    rtcp_sent: int = 0
    sent_at: dict[int, float] = field(default_factory=dict)
    """When the RTP packet of an index was sent, in Unix seconds."""
    refused: int = 0
    """Sends that the kernel refused, an ICMP unreachable among them."""
    received: dict[int, Received] = field(default_factory=dict)
    """By SSRC."""
    rtcp_received: int = 0
    reports_on_us: int = 0
    """Report blocks in received RTCP that speak of this party's SSRC."""
    tos: Counter[int] = field(default_factory=Counter)
    """The TOS byte of all packets received."""
    sources: Counter[Endpoint] = field(default_factory=Counter)
    """Where RTP came from."""
    strange: int = 0
    """Datagrams that are neither RTP nor RTCP."""

    @property
    def rtp_received(self) -> int:
        return sum(stream.packets for stream in self.received.values())

    def packet(self, index: int) -> bytes:
        """The RTP packet of this index, with the marker bit on the first (RFC 3551 section 4.1)."""
        sequence = (self.first_sequence + index) & 0xFFFF
        timestamp = (self.first_timestamp + index * SAMPLES) & 0xFFFFFFFF
        return struct.pack("!BBHII", 0x80, 0 if index else 0x80, sequence, timestamp, self.ssrc) + SILENCE

    def report(self, now: float) -> bytes:
        """A compound RTCP packet: SR, or RR before anything was sent, with SDES (RFC 3550 section 6.1)."""
        blocks = [self._block(ssrc, stream) for ssrc, stream in list(self.received.items())[:31]]
        body = struct.pack("!I", self.ssrc)
        if self.rtp_sent:
            timestamp = (self.first_timestamp + self.rtp_sent * SAMPLES) & 0xFFFFFFFF
            seconds, fraction = int(now), int(now % 1 * (1 << 32))
            octets = self.rtp_sent * SAMPLES & 0xFFFFFFFF
            body += struct.pack("!IIIII", seconds + NTP_EPOCH, fraction, timestamp, self.rtp_sent, octets)
        report = rtcp_packet(200 if self.rtp_sent else 201, len(blocks), body + b"".join(blocks))
        name = f"{self.local.port}@{self.local.ip}".encode()
        item = struct.pack("!IBB", self.ssrc, 1, len(name)) + name + b"\0"
        return report + rtcp_packet(202, 1, item)

    @staticmethod
    def _block(ssrc: int, stream: Received) -> bytes:
        lost = max(0, stream.highest - min(stream.sequences) + 1 - stream.packets) & 0xFFFFFF
        return struct.pack("!IIIIII", ssrc, lost, stream.highest & 0xFFFFFFFF, 0, 0, 0)

    def take_rtp(self, data: bytes, source: Endpoint, at: float) -> None:
        if len(data) < 12 or data[0] >> 6 != 2:
            self.strange += 1
            return
        sequence, ssrc = struct.unpack_from("!H4xI", data, 2)
        self.received.setdefault(ssrc, Received()).add(sequence, at)
        self.sources[source] += 1

    def take_rtcp(self, data: bytes) -> None:
        if len(data) < 8 or data[1] not in (200, 201):
            self.strange += 1
            return
        self.rtcp_received += 1
        first = 28 if data[1] == 200 else 8
        spoken_of = (struct.unpack_from("!I", data, first + 24 * n)[0] for n in range(data[0] & 31))
        self.reports_on_us += sum(ssrc == self.ssrc for ssrc in spoken_of)

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()


def rtcp_packet(kind: int, count: int, body: bytes) -> bytes:
    """One RTCP packet with its header, padded with zeros to whole words."""
    body += bytes(-len(body) % 4)
    return struct.pack("!BBH", 0x80 | count, kind, len(body) // 4) + body


def open_party(host: Host, address: str, port: int, source: random.Random, tos: int = 0) -> Party:
    """Bind a party's sockets on a host: RTP on `port`, RTCP on the next one. It marks its own packets with `tos`."""

    def bound(number: int) -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        opened.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
        opened.setblocking(False)
        opened.bind((address, number))
        return opened

    rtp, rtcp = host.call(lambda: (bound(port), bound(port + 1)))
    words = (source.getrandbits(32), source.getrandbits(16), source.getrandbits(32))
    return Party(Endpoint(address, port), rtp, rtcp, *words)


def steady(packets: int) -> Schedule:
    """Every packet in time."""
    return [(index * PERIOD, index) for index in range(packets)]


def impaired(
    packets: int,
    source: random.Random,
    *,
    loss: float = 0,
    duplication: float = 0,
    reordering: float = 0,
    jitter: float = 0,
) -> Schedule:
    """What a bad network makes of a stream: shares of packets lost, doubled, and late by more than one packet's time.

    `jitter` is the standard deviation of the delay in seconds, kept below half a packet's time so that it reorders
    nothing by itself. The first and last packets always pass in order, so that all counts have the same bounds.
    """
    schedule: Schedule = []
    for index in range(packets):
        due = index * PERIOD + min(abs(source.gauss(0, jitter)), PERIOD * 0.45)
        inner = 3 < index < packets - 4
        if inner and source.random() < loss:
            continue
        if inner and source.random() < reordering:
            due += PERIOD * 1.5
        schedule.append((due, index))
        if inner and source.random() < duplication:
            schedule.append((due + PERIOD / 4, index))
    return sorted(schedule)


class Agent:
    """Sends and receives for all parties in a thread of its own. Use it as a context manager; it closes its parties."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._orders: deque[Callable[[], None]] = deque()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._wake_read, self._wake_write = os.pipe()
        self._parties: list[Party] = []
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="media")

    def __enter__(self) -> Agent:
        self._selector.register(self._wake_read, selectors.EVENT_READ, lambda: os.read(self._wake_read, 4096))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._order(self._end)
        self._thread.join()
        self._selector.close()
        for party in self._parties:
            party.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def add(self, parties: Iterable[Party]) -> None:
        """Receive for these parties from now on."""
        for party in parties:
            self._parties.append(party)
            self._order(partial(self._listen, party))

    def talk(self, party: Party, rtp: Endpoint, rtcp: Endpoint, schedule: Schedule) -> None:
        """Start to send a schedule of packets, and RTCP as long as it lasts."""
        party.remote_rtp, party.remote_rtcp = rtp, rtcp
        self._order(lambda: self._begin(party, schedule, time.monotonic()))

    def _order(self, action: Callable[[], None]) -> None:
        self._orders.append(action)
        os.write(self._wake_write, b"x")

    def _end(self) -> None:
        self._ended = True

    def _run(self) -> None:
        # Telephones have processors of their own.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -10)
        while not self._ended:
            wait = self._due[0][0] - time.monotonic() if self._due else None
            # All that came is read before more is sent: on a busy machine, reading would fall behind for good.
            while ready := self._selector.select(wait if wait is None else max(0.0, wait)):
                for key, _ in ready:
                    key.data()
                wait = 0.0
            while self._orders:
                self._orders.popleft()()
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()

    def _at(self, when: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._due, (when, self._count, action))

    def _listen(self, party: Party) -> None:
        self._selector.register(party.rtp, selectors.EVENT_READ, lambda: self._receive(party, party.rtp))
        self._selector.register(party.rtcp, selectors.EVENT_READ, lambda: self._receive(party, party.rtcp))

    @staticmethod
    def _receive(party: Party, opened: socket.socket) -> None:
        try:
            data, ancillary, _, (ip, port) = opened.recvmsg(2048, 128)
        except (BlockingIOError, ConnectionRefusedError):
            return
        party.tos.update(value[0] for level, kind, value in ancillary if (level, kind) == (0, socket.IP_TOS))
        if opened is party.rtp:
            stamps = (struct.unpack("qq", value) for _, kind, value in ancillary if kind == SO_TIMESTAMPNS)
            seconds, nanoseconds = next(stamps)
            party.take_rtp(data, Endpoint(ip, port), seconds + nanoseconds / 1e9)
        else:
            party.take_rtcp(data)

    def _begin(self, party: Party, schedule: Schedule, start: float) -> None:
        end = start + schedule[-1][0]

        def send(position: int) -> None:
            index = schedule[position][1]
            party.sent_at.setdefault(index, time.time())
            self._send(party, party.rtp, party.packet(index), party.remote_rtp)
            if position + 1 < len(schedule):
                self._at(start + schedule[position + 1][0], lambda: send(position + 1))

        def report(when: float) -> None:
            self._send(party, party.rtcp, party.report(time.time()), party.remote_rtcp)
            if when + REPORT_PERIOD < end:
                self._at(when + REPORT_PERIOD, lambda: report(when + REPORT_PERIOD))

        self._at(start + schedule[0][0], lambda: send(0))
        self._at(start + REPORT_PERIOD / 2, lambda: report(start + REPORT_PERIOD / 2))

    @staticmethod
    def _send(party: Party, opened: socket.socket, data: bytes, remote: Endpoint | None) -> None:
        assert remote
        try:
            opened.sendto(data, remote)
        except (BlockingIOError, ConnectionRefusedError):
            party.refused += 1
            return
        if opened is party.rtp:
            party.rtp_sent += 1
        else:
            party.rtcp_sent += 1
