"""Netlink messages and sockets, as small as the relay's questions.

pyroute2's synchronous calls refuse to run inside an event loop and its asynchronous ones take about 200 us, while a
route is looked up in the middle of an offer. The kernel answers a netlink request within the send call itself, so a
plain socket needs neither: the answer is there to be read when `send` returns.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_CREATE = 0x400

NLMSG_ERROR = 2
NLMSG_DONE = 3
_NLA_TYPE_MASK = 0x3FFF  # without the marks "nested" and "network order"

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")
_RECEIVE_SIZE = 1 << 16
_EVENT_BUFFER = 4 << 20  # bytes; a full route table announced at once must fit

Message = tuple[int, memoryview]
"""Type and body (without the netlink header) of one message."""


class Overrun(Exception):
    """Events were lost because the socket's buffer was full: everything must be read again."""


def attribute(kind: int, data: bytes) -> bytes:
    """Encode one attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(4 + len(data), kind) + data + bytes(-len(data) % 4)


def attributes(body: memoryview, offset: int = 0) -> dict[int, memoryview]:
    """The attributes that start at `offset` of a message's body, the last one of a type winning; junk ends the walk."""
    found: dict[int, memoryview] = {}
    end = len(body)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < 4 or offset + length > end:
            break
        found[kind & _NLA_TYPE_MASK] = body[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def u32(data: memoryview) -> int:
    """The value of a 32-bit attribute in host order."""
    return int(struct.unpack_from("=I", data)[0])


def text(data: memoryview) -> str:
    """The value of a string attribute, without its terminating zero."""
    return bytes(data).split(b"\0", 1)[0].decode(errors="replace")


def messages(datagram: bytes) -> Iterator[tuple[int, int, memoryview]]:
    """Split a datagram into (type, sequence, body)."""
    view = memoryview(datagram)
    offset = 0
    while offset + _HEADER.size <= len(view):
        length, kind, _, sequence, _ = _HEADER.unpack_from(view, offset)
        if length < _HEADER.size or offset + length > len(view):
            return
        yield kind, sequence, view[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


class Netlink:
    """One netlink socket of the network namespace it was opened in."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.bind((0, 0))
        self._sequence = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def request(self, kind: int, body: bytes, flags: int = 0) -> list[Message]:
        """Ask, and return all messages of the answer. Raises OSError with the kernel's errno."""
        self._sequence = sequence = (self._sequence + 1) & 0xFFFFFFFF
        head = _HEADER.pack(_HEADER.size + len(body), kind, NLM_F_REQUEST | flags, sequence, 0)
        self._socket.send(head + body)
        answer: list[Message] = []
        while True:
            for kind, number, payload in messages(self._socket.recv(_RECEIVE_SIZE)):
                if number != sequence:
                    continue
                if kind == NLMSG_DONE:
                    return answer
                if kind == NLMSG_ERROR:
                    error = -_ERROR.unpack_from(payload)[0]
                    if error:
                        raise OSError(error, os.strerror(error))
                    return answer
                answer.append((kind, payload))
                if not flags & (NLM_F_DUMP | NLM_F_ACK):
                    return answer


class Subscription:
    """Multicast events of one netlink protocol, for a reader on the event loop."""

    def __init__(self, protocol: int, groups: tuple[int, ...]) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, protocol)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _EVENT_BUFFER)
        self._socket.bind((0, 0))
        for group in groups:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self, limit: int = 64) -> list[Message]:
        """What has arrived, at most `limit` datagrams. Raises Overrun where the kernel had to drop events."""
        events: list[Message] = []
        for _ in range(limit):
            try:
                datagram = self._socket.recv(_RECEIVE_SIZE)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                raise Overrun from None
            events += [(kind, body) for kind, _, body in messages(datagram)]
        return events


_SO_RCVBUFFORCE = 33
_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1
