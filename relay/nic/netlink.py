"""Netlink sockets that speak pyroute2's messages and never wait.

pyroute2 knows the messages; its sockets do not suit the relay. The synchronous ones refuse to run inside an event loop,
uvloop refuses the asynchronous ones, and both are done for at the first lost event. The kernel answers a netlink
request within the send call itself, so a plain socket does: the answer is there to be read when `send` returns.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from pyroute2.netlink import (
    NETLINK_ADD_MEMBERSHIP,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    SOL_NETLINK,
)
from pyroute2.netlink.marshal import Marshal

RECEIVE_SIZE = 1 << 16
_EVENT_BUFFER = 4 << 20  # bytes; a full route table announced at once must fit
_SO_RCVBUFFORCE = 33

Message = Any
"""A message of pyroute2: its fields and `attrs` by name, its `header`."""


class Overrun(Exception):
    """Events were lost because the socket's buffer was full: everything must be read again."""


def open_socket(protocol: int, kind: int = 0) -> socket.socket:
    """A netlink socket of the network namespace the caller is in."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | kind, protocol)
    opened.bind((0, 0))
    return opened


def raw(attribute: Any) -> bytes:
    """The bytes of an attribute as the kernel sent them; pyroute2 takes every link-layer address for six bytes."""
    cell = attribute.cell[1]
    return bytes(cell.data[cell.offset + 4 : cell.offset + cell.length])


def unchained(message: Message) -> Message:
    """A message without its attributes' references to themselves: it goes as soon as it has been read.

    Else it would wait, and its datagram with it, for the collector of cycles, which the daemon lets run seldom.
    """
    message.chain.clear()
    for attribute in dict.get(message, "attrs", ()):  # pyroute2's own get() searches the attributes
        attribute.cell[1].chain.clear()
    return message


def attributes(message: Message) -> dict[str, Any]:
    """A message's attributes by name, each decoded when its `value` is asked for."""
    return {attribute.name: attribute for attribute in message["attrs"]}


class Netlink:
    """Questions to one netlink protocol, answered at once.

    `messages` has pyroute2's class for each type of message that is read; of others only the header is decoded.
    """

    def __init__(self, protocol: int, messages: Mapping[int, Any]) -> None:
        self._socket = open_socket(protocol)
        self._marshal = Marshal()
        self.messages = self._marshal.msg_map = dict(messages)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def request(self, message: Message, kind: int, flags: int = 0) -> list[Message]:
        """Ask, and return all messages of the answer. Raises OSError with the kernel's errno."""
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        end = 0 if flags & NLM_F_DUMP == NLM_F_DUMP else NLM_F_ACK  # what tells that nothing follows
        message["header"].update(type=kind, flags=NLM_F_REQUEST | flags | end, sequence_number=self._sequence)
        message.encode()
        self._socket.send(unchained(message).data)
        return list(self._answer())

    def _answer(self) -> Iterator[Message]:
        while True:
            for message in map(unchained, self._marshal.parse(self._socket.recv(RECEIVE_SIZE))):
                header = message["header"]
                if header["sequence_number"] != self._sequence:
                    continue
                if header["error"]:
                    code = header["error"].args[0]
                    raise OSError(code, os.strerror(code))
                if header["type"] in (NLMSG_ERROR, NLMSG_DONE):
                    return
                yield message


class Subscription:
    """Multicast events of one netlink protocol, for a reader on the event loop."""

    def __init__(self, protocol: int, groups: tuple[int, ...], messages: Mapping[int, Any] | None = None) -> None:
        self._socket = open_socket(protocol, socket.SOCK_NONBLOCK)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _EVENT_BUFFER)
        except PermissionError:  # an ordinary user's buffer grows to net.core.rmem_max; a loss shows as an Overrun
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _EVENT_BUFFER)
        self._marshal = Marshal()
        self._marshal.msg_map = dict(messages or {})
        for group in groups:
            self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self, limit: int = 32) -> list[Message]:
        """What has arrived, at most `limit` datagrams (2 ms). Raises Overrun where the kernel had to drop events."""
        events: list[Message] = []
        for _ in range(limit):
            try:
                datagram = self._socket.recv(RECEIVE_SIZE)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                raise Overrun from None
            events += map(unchained, self._marshal.parse(datagram))
        return events
