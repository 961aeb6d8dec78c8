"""Packets that came up from XDP: those to a neighbour not yet resolved are sent on, copies of RTCP are handed over, and
who sends what does not fit the next link is told so.

Sending through a raw socket makes the kernel resolve the neighbour, so that the packets after it need no help. It works
with any source address of the relay, without forwarding switched on.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import socket
import struct
from collections import Counter
from collections.abc import Callable

from relay.dataplane import abi
from relay.dataplane.packets import addresses, datagram, fragments, is_ip6, too_big
from relay.dataplane.ring import RingReader
from relay.types import Endpoint

_COPY = struct.Struct("=IIIIII")
_BATCH = 256
_COMPLAINTS_PER_SECOND = 50

RtcpSink = Callable[[int, Endpoint, bytes], None]
"""Rule index, sender, compound RTCP packet."""


class RawSender:
    """Sends whole IP packets by the kernel's own routes and neighbours, and counts what became of them.

    `mtu` is asked for the largest packet that leaves from an address to another where the kernel refuses one.
    """

    def __init__(self, mtu: Callable[[str, str], int]) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_INET, kind, socket.IPPROTO_RAW)
        self._socket6: socket.socket | None = None
        with contextlib.suppress(OSError):  # a kernel without IPv6
            self._socket6 = socket.socket(socket.AF_INET6, kind, socket.IPPROTO_RAW)
        self._mtu = mtu
        self._identification = itertools.count(1)
        self.sent = 0
        self.failures: Counter[str] = Counter()

    def send(self, packet: bytes | memoryview) -> bool:
        """Send a packet from its IP header on. What the kernel refuses is counted by its error's name."""
        try:
            self._send(packet)
        except OSError as error:
            self.failures[errno.errorcode.get(error.errno or 0, "error").lower()] += 1
            return False
        self.sent += 1
        return True

    def close(self) -> None:
        self._socket.close()
        if self._socket6:
            self._socket6.close()

    def _send(self, packet: bytes | memoryview) -> None:
        source, destination = addresses(packet)
        channel = self._socket6 if is_ip6(packet) else self._socket
        if channel is None:
            raise OSError(errno.EAFNOSUPPORT, "no IPv6")
        try:
            channel.sendto(packet, (destination, 0))
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            for piece in fragments(packet, self._mtu(source, destination), next(self._identification) & 0xFFFFFFFF):
                channel.sendto(piece, (destination, 0))


class Complaints:
    """Tells senders of packets that are too big, each rule's once in a second, and not more than so many in all.

    `screen` says why nothing is sent to an address from a local one.
    """

    def __init__(
        self, sender: RawSender, screen: Callable[[Endpoint, str], str | None], clock: Callable[[], float]
    ) -> None:
        self._sender = sender
        self._screen = screen
        self._clock = clock
        self._second = 0
        self._told: set[int] = set()
        self.sent = 0

    def tell(self, index: int, packet: memoryview, mtu: int) -> None:
        """Answer a packet that came to the rule `index`: what would have fitted is `mtu` bytes of it."""
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._told.clear()
        content = datagram(packet)
        if index in self._told or len(self._told) >= _COMPLAINTS_PER_SECOND:
            return
        if content.source.port and self._screen(content.source, content.destination.ip) is None:
            self._told.add(index)
            self.sent += self._sender.send(too_big(packet, mtu))


class Copies:
    """Reads the ring of packet copies."""

    def __init__(self, ring: RingReader, sender: RawSender, complaints: Complaints, rtcp: RtcpSink) -> None:
        self._ring = ring
        self._sender = sender
        self._complaints = complaints
        self._rtcp = rtcp

    def read(self) -> None:
        """Handle what the ring holds; called when its descriptor is readable."""
        for record in self._ring.read(_BATCH):
            kind, index, length, _, mtu, _ = _COPY.unpack_from(record)
            packet = record[_COPY.size : _COPY.size + length]
            if kind == abi.COPY_UNRESOLVED:
                self._sender.send(packet)
            elif kind == abi.COPY_RTCP:
                content = datagram(packet)
                self._rtcp(index, content.source, content.payload)
            elif kind == abi.COPY_TOO_BIG:
                self._complaints.tell(index, packet, mtu)
