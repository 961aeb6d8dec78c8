"""The ng protocol's UDP sockets: datagrams in, replies out.

Each listener owns one socket, read by the event loop a batch at a time: a burst costs one wake-up, and no burst keeps
timers waiting. When a batch does not empty the socket, what follows is read ahead of its answers and answered in turns
(control.ng.turns), so that a source that floods the socket keeps nobody else from being heard. A reply leaves from the
address its request came to, also where the socket is bound to all addresses.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import struct
from collections.abc import Iterator
from functools import partial
from typing import Any

from control.ng.service import Service
from control.ng.sockets import IP_PKTINFO, RECEIVE_BUFFER, buffer_of, open_datagrams, prepare
from control.ng.turns import Turns
from relay.types import Endpoint

__all__ = ["NgServer"]

log = logging.getLogger(__name__)

MAX_DATAGRAM = 65_535
BATCH = 64
"""Datagrams answered per wake-up, so that a flood leaves time to everything else."""
READ_AHEAD = 4096
"""Datagrams read per wake-up while more come than are answered: to read one takes a fraction of an answer's time."""

SO_MEMINFO = 55
"""Linux's number, which the socket module of Python 3.11 does not name."""
MEMINFO_DROPS = 8
"""Which word of SO_MEMINFO counts the datagrams that found the buffer full."""
CONTROL_SIZE = 64
"""Room for one pktinfo of either family."""


class NgServer:
    """Brings `service` the requests of any number of UDP addresses."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._listeners: list[Listener] = []
        self._turns: Turns[Arrived] = Turns()
        self._serving: asyncio.Handle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def endpoints(self) -> list[Endpoint]:
        """Where the server listens, with the port the kernel chose where it was asked for port 0."""
        return [listener.endpoint for listener in self._listeners]

    def statistics(self) -> dict[str, int]:
        """Datagrams the kernel dropped because the daemon did not read in time, and those a flood lost of its own."""
        return {"receive_drops": sum(one.drops() for one in self._listeners), "flooded": self._turns.lost}

    async def start(self, endpoint: Endpoint, given: socket.socket | None = None) -> None:
        """Listen on one more address, by the socket `given` if there is one; port 0 takes a free one.

        Raises OSError that names the address it cannot have.
        """
        listener = Listener(endpoint, given)
        self._listeners.append(listener)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listener.socket.fileno(), self._readable, listener)
        log.info("ng: listening on %s, %s", listener.endpoint, self.service.open_to(listener.endpoint))
        if listener.buffer < RECEIVE_BUFFER:
            log.info("ng: receive buffer is %d kB (net.core.rmem_max limits it)", listener.buffer >> 10)

    def pause(self) -> None:
        """Answer all that was read and read no more: what comes from here on waits for who has the sockets next."""
        for listener in self._listeners:
            if self._loop is not None:
                self._loop.remove_reader(listener.socket.fileno())
        while self._turns:
            self._serve()

    def close(self) -> None:
        """Stop listening; safe to call twice. To be called on the event loop's thread."""
        listeners, self._listeners = self._listeners, []
        if self._serving is not None:
            self._serving.cancel()
            self._serving = None
        for listener in listeners:
            if self._loop is not None:
                self._loop.remove_reader(listener.socket.fileno())
            listener.socket.close()
            log.info("ng: closed %s", listener.endpoint)

    def _readable(self, listener: Listener) -> None:
        """Answer as it comes; in turns once that is too slow."""
        if not self._turns:
            for arrived in self._arrivals(listener, BATCH):
                self._answer(*arrived)
            if not listener.full:
                return
        for arrived in self._arrivals(listener, READ_AHEAD):
            self._turns.put(arrived[2][0], arrived, len(arrived[1]))
        self._serve()

    def _arrivals(self, listener: Listener, count: int) -> Iterator[Arrived]:
        """Up to so many datagrams of those that may command; `listener.full` tells whether there may be more."""
        listener.full = False
        for _ in range(count):
            try:
                datagram, address, local = listener.receive()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.service.complain("receive", "ng: cannot receive on %s: %s", listener.endpoint, error)
                return
            if listener.loopback or self.service.allowed(address[0]):
                yield listener, datagram, address, local
            else:
                self.service.stranger(Endpoint(address[0], address[1]))
        listener.full = True

    def _serve(self) -> None:
        """Answer a batch of those that wait, and the rest after others had their time."""
        for _ in range(BATCH):
            if not self._turns:
                return
            self._answer(*self._turns.take())
        if self._serving is None and self._loop is not None:
            self._serving = self._loop.call_soon(self._serve_more)

    def _serve_more(self) -> None:
        self._serving = None
        self._serve()

    def _answer(self, listener: Listener, datagram: bytes, address: Address, local: bytes) -> None:
        replies = self.service.answer(datagram, Endpoint(address[0], address[1]), self.service.clock())
        if replies:
            self.service.gate.after(partial(self._send_all, listener, replies, address, local))

    def _send_all(self, listener: Listener, replies: list[bytes], address: Address, local: bytes) -> None:
        for reply in replies:
            self._send(listener, reply, address, local)

    def _send(self, listener: Listener, reply: bytes, address: Address, local: bytes) -> None:
        counters = self.service.counters
        try:
            listener.send(reply, address, local)
        except (BlockingIOError, InterruptedError):
            counters.unsent_full += 1
        except OSError as error:
            counters.unsent_error += 1
            self.service.complain("send", "ng: cannot send %d bytes to %s: %s", len(reply), address[0], error)
        else:
            counters.replies += 1


Address = tuple[Any, ...]
"""A socket address as the socket module gives it; IPv6 has flow and scope behind address and port."""
Arrived = tuple["Listener", bytes, Address, bytes]
"""A datagram: where it came in, its bytes, its sender, and what a reply needs to leave from the same address."""


class Listener:
    """One bound socket. Bound to all addresses, it learns from pktinfo to which of them each datagram came."""

    def __init__(self, endpoint: Endpoint, given: socket.socket | None = None) -> None:
        address = ipaddress.ip_address(endpoint.ip)
        self._v6 = address.version == 6
        self._any = address.is_unspecified
        self.full = False
        """The last batch left datagrams in the socket."""
        self.loopback = address.is_loopback
        if given is not None:
            prepare(given, endpoint)
        self.socket = given or open_datagrams(endpoint)
        self.endpoint = Endpoint(endpoint.ip, self.socket.getsockname()[1])
        self.buffer = buffer_of(self.socket)

    def receive(self) -> tuple[bytes, Address, bytes]:
        """Datagram, sender, and what `send` needs to answer from the same address (nothing where there is but one)."""
        if not self._any:
            data, address = self.socket.recvfrom(MAX_DATAGRAM)
            return data, address, b""
        data, control, _, address = self.socket.recvmsg(MAX_DATAGRAM, CONTROL_SIZE)
        return data, address, self._reply_from(control)

    def _reply_from(self, control: list[tuple[int, int, bytes]]) -> bytes:
        """The pktinfo to send with: the address the datagram came to, and the interface where only that tells which."""
        for level, kind, data in control:
            if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
                link_local = data[0] == 0xFE and data[1] & 0xC0 == 0x80
                return data if link_local else data[:16] + bytes(4)
            if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
                return bytes(4) + data[4:8] + bytes(4)
        return b""

    def send(self, data: bytes, address: Address, local: bytes) -> None:
        if not local:
            self.socket.sendto(data, address)
        elif self._v6:
            self.socket.sendmsg([data], [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, local)], 0, address)
        else:
            self.socket.sendmsg([data], [(socket.IPPROTO_IP, IP_PKTINFO, local)], 0, address)

    def drops(self) -> int:
        """What the kernel dropped at this socket since it was opened."""
        info = self.socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4 * (MEMINFO_DROPS + 1))
        return int(struct.unpack_from("=I", info, 4 * MEMINFO_DROPS)[0])
