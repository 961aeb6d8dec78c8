"""The ng protocol over TCP: any number of messages on a connection, replies in the order of their requests.

No connection has a task or a thread of its own, and none can hold up the others: a burst of requests is worked off in
batches, a client that sends half a message or does not read its replies is dropped, and when too many connections are
open the one that has been silent for the longest makes room.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from dataclasses import asdict, dataclass
from functools import partial
from typing import cast

from control.ng.framing import Frames, FramingError
from control.ng.service import Service, refusal
from control.ng.sockets import open_stream, prepare
from relay.types import Endpoint

__all__ = ["NgStreams"]

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 1024
BATCH = 64
"""Messages answered before others have their turn."""
PATIENCE = 10.0
"""Seconds a client may take to complete a message, or to read what waits for it."""
IDLE = 3600.0
"""Seconds without a message after which a connection is closed."""
SWEEP = 1.0
"""Seconds between two looks at the connections' patience."""
UNREAD = 256 << 10
"""Bytes that may wait for one client; it is not heard until it has read most of them."""
ALL_UNREAD = 64 << 20
"""Bytes that may wait for all clients that are slow to read."""
KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))
"""A peer that is gone without a word is noticed after two minutes."""


@dataclass(slots=True)
class Counters:
    """What became of the connections."""

    accepted: int = 0
    made_room: int = 0
    """Closed, idle as they were, for new ones beyond the limit."""
    broken: int = 0
    """Closed for bytes that are no message."""
    slow: int = 0
    """Closed for half a message, or for replies that were not read."""
    idle: int = 0
    """Closed after an hour of silence."""


class NgStreams:
    """Brings `service` the requests of any number of TCP addresses."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.counters = Counters()
        self.connections: set[Connection] = set()
        self._listeners: list[tuple[Endpoint, asyncio.Server]] = []
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def endpoints(self) -> list[Endpoint]:
        """Where the server listens, with the port the kernel chose where it was asked for port 0."""
        return [endpoint for endpoint, _ in self._listeners]

    def statistics(self) -> dict[str, int]:
        """The counters, and how many connections are open."""
        return {"open": len(self.connections), **asdict(self.counters)}

    async def start(self, asked: Endpoint, given: socket.socket | None = None) -> None:
        """Listen on one more address, by the socket `given` if there is one; port 0 takes a free one.

        Raises OSError that names the address it cannot have.
        """
        if given is not None:
            prepare(given, asked)
        listening = given or open_stream(asked)
        endpoint = Endpoint(asked.ip, listening.getsockname()[1])
        loopback = ipaddress.ip_address(asked.ip).is_loopback
        loop = asyncio.get_running_loop()
        self._listeners.append((endpoint, await loop.create_server(lambda: Connection(self, loopback), sock=listening)))
        if self._sweeper is None:
            self._sweep()
        log.info("ng: listening on tcp %s, %s", endpoint, self.service.open_to(endpoint))

    def close(self) -> None:
        """Stop listening and close all connections; safe to call twice. To be called on the event loop's thread."""
        listeners, self._listeners = self._listeners, []
        for endpoint, server in listeners:
            server.close()
            log.info("ng: closed tcp %s", endpoint)
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for connection in list(self.connections):
            connection.drop()

    def admit(self, connection: Connection) -> None:
        """One more connection; where there is no room, the one that was silent for the longest goes."""
        while len(self.connections) >= MAX_CONNECTIONS:
            self.counters.made_room += 1
            oldest = min(self.connections, key=lambda one: one.heard)
            self.service.complain("connections", "ng: %d TCP connections are open: an idle one of %s makes room",
                                  MAX_CONNECTIONS, oldest.source)  # fmt: skip
            oldest.drop()
        self.counters.accepted += 1
        self.connections.add(connection)

    def crowded(self) -> bool:
        """Whether more waits for slow readers than there is memory for."""
        return sum(connection.unread() for connection in self.connections if connection.stuck) > ALL_UNREAD

    def _sweep(self) -> None:
        now = self.service.clock()
        for connection in list(self.connections):
            connection.review(now)
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP, self._sweep)


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Have the kernel notice peers that are gone without a word."""
    connected = transport.get_extra_info("socket")
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE:
        connected.setsockopt(socket.IPPROTO_TCP, name, value)


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: NgStreams, trusted: bool) -> None:
        self.source = Endpoint("", 0)
        self.heard = server.service.clock()
        """When its last complete message came, or it itself."""
        self.stuck: float | None = None
        """Since when it has not read what waits for it."""
        self._server = server
        self._trusted = trusted
        self._frames = Frames()
        self._begun: float | None = None
        """When the message began that is not complete."""
        self._continuing: asyncio.Handle | None = None
        self._ended = False
        self._closing = False
        """It is closed as soon as the replies on their way are sent."""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected; strangers are not heard."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own are not derived from it
        address = transport.get_extra_info("peername")
        if address is None:  # it is gone already
            self.drop()
            return
        self.source = Endpoint(address[0], address[1])
        if not self._trusted and not self._server.service.allowed(self.source.ip):
            self._server.service.stranger(self.source)
            self.drop()
            return
        self._server.admit(self)
        keep_alive(transport)
        self._transport.set_write_buffer_limits(UNREAD)

    def connection_lost(self, error: Exception | None) -> None:
        """It is over, whoever ended it."""
        self._server.connections.discard(self)
        if self._continuing is not None:
            self._continuing.cancel()

    def data_received(self, data: bytes) -> None:
        """More of the stream came."""
        if self._closing:
            return
        if self._begun is None:
            self._begun = self._server.service.clock()
        self._frames.feed(data)
        if self._continuing is None and self.stuck is None:
            self._work()

    def eof_received(self) -> bool:
        """The client has said all; it still gets its replies."""
        self._ended = True
        if self._continuing is None and self.stuck is None:
            self._close()
        return True

    def pause_writing(self) -> None:
        """It does not read its replies: it is not heard until it does."""
        self.stuck = self._server.service.clock()
        self._transport.pause_reading()
        if self._server.crowded():
            self._too_slow("too much waits for it and others to read")

    def resume_writing(self) -> None:
        """It has read most of what waited."""
        self.stuck = None
        self._continue()

    def unread(self) -> int:
        """Bytes that wait for it."""
        return self._transport.get_write_buffer_size()

    def drop(self) -> None:
        """Close at once, whatever waits."""
        self._server.connections.discard(self)
        self._transport.abort()

    def review(self, now: float) -> None:
        """Close a connection that has gone beyond all patience."""
        if self.stuck is not None and now - self.stuck > PATIENCE:
            self._too_slow("it does not read its replies")
        elif self._begun is not None and now - self._begun > PATIENCE:
            self._too_slow(f"{len(self._frames)} bytes are no complete message")
        elif now - self.heard > IDLE:
            self._server.counters.idle += 1
            self.drop()

    def _work(self) -> None:
        """Answer what is complete, and go on later where that is much."""
        self._continuing = None
        service = self._server.service
        now = service.clock()
        try:
            for _ in range(BATCH):
                message = self._frames.take()
                if message is None:
                    return self._all_done()
                self.heard = self._begun = now
                for reply in service.answer(message, self.source, now, stream=True):
                    service.gate.after(partial(self._send, reply))
                    service.counters.replies += 1
                if self.stuck is not None or self._transport.is_closing():
                    return None
        except FramingError as error:
            return self._refuse(error)
        self._transport.pause_reading()
        return self._continue()

    def _send(self, reply: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(reply)

    def _close(self) -> None:
        """End the connection behind the replies that are on their way, and hear no more of it.

        What still comes is read all the same: bytes left in the socket would have the kernel reset the connection, and
        the client lose its replies.
        """
        self._closing = True
        self._server.service.gate.after(self._transport.close)

    def _all_done(self) -> None:
        if not self._frames:
            self._begun = None
        if self._ended:
            self._close()
        elif not self._transport.is_reading():
            self._transport.resume_reading()

    def _continue(self) -> None:
        if self._continuing is None and not self._transport.is_closing():
            self._continuing = asyncio.get_running_loop().call_soon(self._work)

    def _refuse(self, error: FramingError) -> None:
        """Tell what was wrong, where there is a cookie to tell it under, and close."""
        self._server.counters.broken += 1
        self._server.service.malformed(self.source, f"{error}; its TCP connection is closed")
        if error.cookie:
            self._server.service.gate.after(partial(self._send, refusal(error.cookie, str(error))))
        self._close()

    def _too_slow(self, why: str) -> None:
        self._server.counters.slow += 1
        self._server.service.complain("slow", "ng: the TCP connection of %s is closed: %s", self.source, why)
        self.drop()
