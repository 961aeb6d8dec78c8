"""Packets that came up from XDP: those to a neighbour not yet resolved are sent on, copies of RTCP are handed over.

Sending through a raw socket makes the kernel resolve the neighbour, so that the packets after it need no help. It works
with any source address of the relay, without forwarding switched on.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections import Counter
from collections.abc import Callable

from relay.dataplane import abi
from relay.dataplane.ring import RingReader
from relay.types import Endpoint

_COPY = struct.Struct("=IIII")
_UDP_HEADER = 8
_DESTINATION = slice(16, 20)
_SOURCE = slice(12, 16)
_BATCH = 256

RtcpSink = Callable[[int, Endpoint, bytes], None]
"""Rule index, sender, compound RTCP packet."""


class RawSender:
    """Sends whole IPv4 packets by the kernel's own routes and neighbours, and counts what became of them."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_RAW)
        self.sent = 0
        self.failures: Counter[str] = Counter()

    def send(self, packet: memoryview) -> None:
        """Send a packet from its IP header on. What the kernel refuses is counted by its error's name."""
        try:
            self._socket.sendto(packet, (socket.inet_ntoa(packet[_DESTINATION]), 0))
        except OSError as error:
            self.failures[errno.errorcode.get(error.errno or 0, "error").lower()] += 1
        else:
            self.sent += 1

    def close(self) -> None:
        self._socket.close()


class Copies:
    """Reads the ring of packet copies."""

    def __init__(self, ring: RingReader, sender: RawSender, rtcp: RtcpSink) -> None:
        self._ring = ring
        self._sender = sender
        self._rtcp = rtcp

    def read(self) -> None:
        """Handle what the ring holds; called when its descriptor is readable."""
        for record in self._ring.read(_BATCH):
            kind, index, length, _ = _COPY.unpack_from(record)
            packet = record[_COPY.size : _COPY.size + length]
            if kind == abi.COPY_UNRESOLVED:
                self._sender.send(packet)
            elif kind == abi.COPY_RTCP:
                self._hand_over(index, packet)

    def _hand_over(self, index: int, packet: memoryview) -> None:
        header = (packet[0] & 0xF) * 4
        source = Endpoint(socket.inet_ntoa(packet[_SOURCE]), int.from_bytes(packet[header : header + 2], "big"))
        end = header + int.from_bytes(packet[header + 4 : header + 6], "big")
        self._rtcp(index, source, bytes(packet[header + _UDP_HEADER : end]))
