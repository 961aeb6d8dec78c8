"""Datagrams that came in fragments, forwarded from user space.

XDP sees fragments and not their datagram, so it leaves them to the kernel, which puts them together and looks for a
socket. There is none at a media port, and the kernel would tell the sender so: a small program at this look-up
(ebpf/sink.h) gives it one socket of each family instead. What this socket takes goes through the XDP program's own
rules by a test run, and leaves by a raw socket. That costs some 50 us a datagram, and is kept within a budget.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass

from relay.dataplane.libbpf import BpfError, Link, Map, Program
from relay.dataplane.packets import Datagram, udp_packet
from relay.dataplane.slowpath import RawSender
from relay.types import Endpoint

__all__ = ["Reassembly"]

_XDP_TX = 3
_LARGEST = 4096 - 256 - 384  # bytes of a frame in a test run: a page without its headroom and the kernel's record
_QUEUE = 1 << 18  # bytes
_PERIOD = 0.1  # seconds
_PER_PERIOD = 100  # datagrams
_PER_PORT = 25  # of these, to one port: who floods one call leaves room for others
_COST_DROPPED = 0.1  # of a datagram beyond its port's share, against one that is forwarded
_BATCH = 20  # datagrams in one turn of the event loop
_ANCILLARY = 256
_SO_MEMINFO, _DROPS = 55, struct.Struct("=32xI")
_INT = struct.Struct("=i")


@dataclass(frozen=True, slots=True)
class _Family:
    """What differs between the address families."""

    number: int
    head: bytes
    """Of an Ethernet frame."""
    loopback: str
    level: int
    options: tuple[int, ...]
    """Asked of a socket: the destination meant, TTL or hop limit, TOS byte or traffic class; IPv6 alone."""
    destination: int
    """Kind of the ancillary data that has it, in this struct sockaddr."""
    address: struct.Struct
    ttl: int


_IP4 = _Family(
    *(socket.AF_INET, bytes(12) + b"\x08\x00", "127.0.0.1", socket.IPPROTO_IP),
    *((20, 12, socket.IP_RECVTOS), 20, struct.Struct("!2xH4s"), socket.IP_TTL),
)
_IP6 = _Family(
    *(socket.AF_INET6, bytes(12) + b"\x86\xdd", "::1", socket.IPPROTO_IPV6),
    *((74, socket.IPV6_RECVHOPLIMIT, socket.IPV6_RECVTCLASS, socket.IPV6_V6ONLY), 74),
    *(struct.Struct("!2xH4x16s"), socket.IPV6_HOPLIMIT),
)
_FAMILIES = (_IP4, _IP6)  # their places in the map `sinks`

Forward = Callable[[Datagram, int, int], None]
"""A datagram, its TTL or hop limit, its TOS byte or traffic class."""


class Reassembly:
    """Takes such datagrams and sends them on. `reason` says why it cannot, "" where it can."""

    def __init__(self, program: Program, sender: RawSender) -> None:
        self._program = program
        self._sender = sender
        self._held = ExitStack()
        self._sinks: list[Sink] = []
        self._lookup: Link | None = None
        self.reason = ""
        self.forwarded = 0
        self.too_long = 0
        self.failed = 0

    def start(self, loop: asyncio.AbstractEventLoop, media: Iterable[str], lookup: Program, sinks: Map) -> None:
        """Have the kernel hand over what is for ports with a rule at the media addresses, in this network namespace."""
        try:
            for place in sorted({int(":" in ip) for ip in media}):
                sink = self._held.enter_context(closing(Sink(loop, _FAMILIES[place], self.forward)))
                self._sinks.append(sink)
                sinks.update(struct.pack("=I", place), struct.pack("=Q", sink.fileno()))
            self._lookup = self._held.enter_context(lookup.attach_lookup())
        except (BpfError, OSError) as error:
            self.close()
            self.reason = str(error)

    def renew(self, program: Program, lookup: Program) -> None:
        """Run other programs from here on. Raises BpfError."""
        self._program = program
        if self._lookup is not None:
            self._lookup.update(lookup)

    @property
    def lost(self) -> int:
        """Datagrams beyond what is forwarded in a second: of one port, or of all, for which the queue had no room."""
        return sum(sink.lost for sink in self._sinks)

    def describe(self) -> list[str]:
        """For the operator: how many went this way, or why none can; nothing where none has come yet."""
        if self.reason:
            return [f"fragments are not forwarded: {self.reason}"]
        if not self.forwarded:
            return []
        return [f"{self.forwarded} datagrams came in fragments and were forwarded from user space"]

    def forward(self, content: Datagram, ttl: int, tos: int) -> None:
        """Let the program decide on a datagram as on any packet, and send what it makes of it."""
        head = (_IP6 if ":" in content.source.ip else _IP4).head
        frame = head + udp_packet(content, ttl, tos)
        if len(frame) > _LARGEST:
            self.too_long += 1
            return
        try:
            result = self._program.test_run(frame)
        except BpfError:  # short of memory, or interrupted
            self.failed += 1
            return
        if result.verdict == _XDP_TX:
            self.forwarded += self._sender.send(result.data[len(head) :])

    def close(self) -> None:
        """Leave such datagrams to the kernel again; safe to call twice."""
        self._lookup = None
        self._held.close()
        self._sinks.clear()


class Sink:
    """The socket that takes the datagrams of one family, and no more of them in a period than its budget allows.

    A port has a share of it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, family: _Family, forward: Forward) -> None:
        self._loop = loop
        self._family = family
        self._forward = forward
        self._socket = _open(family)
        self._left: float = _PER_PERIOD
        self._shares: Counter[Endpoint] = Counter()
        self._beyond_share = 0
        self._renewal: asyncio.TimerHandle | None = None
        loop.add_reader(self._socket.fileno(), self._read)

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def lost(self) -> int:
        """Datagrams there was no room for in its queue, or in the share of their port."""
        in_queue = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _DROPS.size)
        return self._beyond_share + int(_DROPS.unpack(in_queue)[0])

    def close(self) -> None:
        """Take no more; safe to call twice."""
        if self._renewal:
            self._renewal.cancel()
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def _read(self) -> None:
        if self._renewal is None:
            self._renewal = self._loop.call_later(_PERIOD, self._renew)
        for _ in range(_BATCH):
            if self._left < 1:
                break
            try:
                payload, ancillary, _, source = self._socket.recvmsg(65535, _ANCILLARY)
            except BlockingIOError:
                return
            self._take(payload, ancillary, Endpoint(*source[:2]))
        if self._left < 1:
            self._loop.remove_reader(self._socket.fileno())

    def _renew(self) -> None:
        self._renewal = None
        if self._left < 1:
            self._loop.add_reader(self._socket.fileno(), self._read)
        self._left = _PER_PERIOD
        self._shares.clear()

    def _take(self, payload: bytes, ancillary: list[tuple[int, int, bytes]], source: Endpoint) -> None:
        family = self._family
        ttl = tos = 0
        destination: Endpoint | None = None
        for _, kind, data in ancillary:
            if kind == family.destination:
                port, packed = family.address.unpack_from(data)
                destination = Endpoint(socket.inet_ntop(family.number, packed), port)
            elif kind == family.ttl:
                ttl = _INT.unpack(data)[0]
            else:
                tos = data[0]
        if destination is not None and self._has_share(destination):
            self._forward(Datagram(source, destination, payload), ttl, tos)

    def _has_share(self, port: Endpoint) -> bool:
        """Whether one more datagram to a port may be forwarded in this period, which is paid for either way."""
        self._shares[port] += 1
        if self._shares[port] > _PER_PORT:
            self._left -= _COST_DROPPED
            self._beyond_share += 1
            return False
        self._left -= 1
        return True


def _open(family: _Family) -> socket.socket:
    """A socket that is told of each datagram where it was meant to go, and how it came. Raises OSError."""
    opened = socket.socket(family.number, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _QUEUE)
        for option in family.options:
            opened.setsockopt(family.level, option, 1)
        opened.bind((family.loopback, 0))
    except OSError:
        opened.close()
        raise
    return opened
