"""The ng protocol's UDP sockets: datagrams in, replies out.

Each listener owns one socket, read by the event loop a batch at a time: a burst costs one wake-up, and no burst keeps
timers waiting. A reply leaves from the address its request came to, also where the socket is bound to all addresses.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from control.ng import message
from relay.types import Endpoint

__all__ = ["Counters", "NgServer"]

log = logging.getLogger(__name__)

Handler = Callable[[dict[str, Any], Endpoint, float], dict[str, Any]]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_DATAGRAM = 65_535
MAX_REPLY = 65_507
"""UDP payload that fits into an IPv4 packet."""
BATCH = 64
"""Datagrams read per wake-up, so that a flood leaves time to everything else."""
RECEIVE_BUFFER = 8 << 20
"""Bytes of socket buffer: what proxies send while the daemon is busy for a second or two."""
MAX_KNOWN_SOURCES = 4096
"""Sources whose verdict of the allow list is remembered."""
COMPLAINT_INTERVAL = 1.0
"""Seconds between two log lines of one kind that strangers or broken requests could cause at will."""

# Linux numbers that the socket module of Python 3.11 does not name.
SO_RCVBUFFORCE = 33
SO_MEMINFO = 55
IP_PKTINFO = 8
MEMINFO_DROPS = 8
"""Which word of SO_MEMINFO counts the datagrams that found the buffer full."""
CONTROL_SIZE = 64
"""Room for one pktinfo of either family."""


@dataclass(slots=True)
class Counters:
    """What became of the datagrams."""

    requests: int = 0
    """Handed to the handler."""
    repeats: int = 0
    """Answered from memory, or waiting for the first one's reply."""
    replies: int = 0
    """Datagrams sent."""
    malformed: int = 0
    """No ng message; answered with an error where there was a cookie."""
    strangers: int = 0
    """From an address that may not command the relay; not answered."""
    failures: int = 0
    """The handler raised: a fault of the relay's, with a traceback in the log."""
    oversize: int = 0
    """The reply did not fit a datagram; an error went out instead."""
    unsent_full: int = 0
    """The socket's send buffer was full; the proxy's repeat gets the reply."""
    unsent_error: int = 0
    """The kernel refused to send."""


class NgServer:
    """Answers ng requests on any number of UDP addresses.

    `handle` turns a request's dictionary, its sender and the time into the reply's dictionary. Only sources in `allow`
    are heard on listeners that are not on loopback. `clock` gives monotonic seconds.
    """

    def __init__(self, handle: Handler, allow: Sequence[Network], clock: Callable[[], float]) -> None:
        self.counters = Counters()
        self._handle = handle
        self._allow = tuple(allow)
        self._clock = clock
        self._cookies = message.CookieCache()
        self._listeners: list[_Listener] = []
        self._known: dict[str, bool] = {}
        self._complained: dict[str, float] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def endpoints(self) -> list[Endpoint]:
        """Where the server listens, with the port the kernel chose where it was asked for port 0."""
        return [listener.endpoint for listener in self._listeners]

    def statistics(self) -> dict[str, int]:
        """The counters, what the kernel dropped because the daemon did not read in time, and the memory of replies."""
        return {
            **asdict(self.counters),
            "receive_drops": sum(listener.drops() for listener in self._listeners),
            "remembered": len(self._cookies),
            "remembered_too_many": self._cookies.crowded,
        }

    async def start(self, endpoint: Endpoint) -> None:
        """Listen on one more address; port 0 takes a free one. Raises OSError that names the address it cannot have."""
        listener = _Listener(endpoint)
        self._listeners.append(listener)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listener.socket.fileno(), self._readable, listener)
        log.info("ng: listening on %s, %s", listener.endpoint, self._who(listener))
        if listener.buffer < RECEIVE_BUFFER:
            log.info("ng: receive buffer is %d kB (net.core.rmem_max limits it)", listener.buffer >> 10)

    def close(self) -> None:
        """Stop listening; safe to call twice. To be called on the event loop's thread."""
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            if self._loop is not None:
                self._loop.remove_reader(listener.socket.fileno())
            listener.socket.close()
            log.info("ng: closed %s", listener.endpoint)

    def _who(self, listener: _Listener) -> str:
        if listener.loopback:
            return "from this host"
        return "from " + (", ".join(map(str, self._allow)) or "nobody (no network is allowed)")

    def _readable(self, listener: _Listener) -> None:
        now = self._clock()
        for _ in range(BATCH):
            try:
                datagram, source, local = listener.receive()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._complain("receive", "ng: cannot receive on %s: %s", listener.endpoint, error)
                return
            self._datagram(listener, datagram, source, local, now)

    def _datagram(self, listener: _Listener, datagram: bytes, address: Address, local: bytes, now: float) -> None:
        source = Endpoint(address[0], address[1])
        if not listener.loopback and not self._allowed(source.ip):
            self.counters.strangers += 1
            self._complain("stranger", "ng: %s is not in the allowed networks, not answered", source)
            return
        for reply in self.answer(datagram, source, now):
            self._send(listener, reply, address, local)

    def answer(self, datagram: bytes, source: Endpoint, now: float) -> list[bytes]:
        """The datagrams to send back for one received: none, one, or several where repeats had been waiting."""
        cookie = datagram[: datagram.find(b" ", 0, message.MAX_COOKIE + 1) + 1]
        if not cookie.strip():
            self._malformed(source, "No cookie in message")
            return []
        exchange, repeated = self._cookies.begin(source, cookie, datagram, now)
        if repeated:
            self.counters.repeats += 1
            return [exchange.reply] if exchange.reply is not None else []
        reply = self._reply(datagram, source, now)
        return [reply] * self._cookies.finish(exchange, reply)

    def _reply(self, datagram: bytes, source: Endpoint, now: float) -> bytes:
        try:
            request = message.decode(datagram)
        except message.MessageError as error:
            self._malformed(source, f"{error} ({error.detail})" if error.detail else str(error))
            return _error(error.cookie or b"", error.encoding, str(error))
        self.counters.requests += 1
        try:
            reply = message.encode(request.cookie, request.encoding, self._handle(request.body, source, now))
        except Exception:
            self.counters.failures += 1
            self._complain("failure", "ng: request from %s failed", source, exc_info=True)
            return _error(request.cookie, request.encoding, "Internal error")
        if len(reply) > MAX_REPLY:
            self.counters.oversize += 1
            self._complain("oversize", "ng: a reply of %d bytes to %s does not fit a datagram", len(reply), source)
            return _error(request.cookie, request.encoding, "Reply too large")
        return reply

    def _send(self, listener: _Listener, reply: bytes, address: Address, local: bytes) -> None:
        try:
            listener.send(reply, address, local)
        except (BlockingIOError, InterruptedError):
            self.counters.unsent_full += 1
        except OSError as error:
            self.counters.unsent_error += 1
            self._complain("send", "ng: cannot send %d bytes to %s: %s", len(reply), address[0], error)
        else:
            self.counters.replies += 1

    def _malformed(self, source: Endpoint, reason: str) -> None:
        self.counters.malformed += 1
        self._complain("malformed", "ng: no ng message from %s: %s", source, reason)

    def _allowed(self, ip: str) -> bool:
        """Whether a source may command the relay. The verdict is kept: working it out costs as much as a request."""
        verdict = self._known.get(ip)
        if verdict is None:
            if len(self._known) >= MAX_KNOWN_SOURCES:
                self._known.clear()
            address = ipaddress.ip_address(ip.partition("%")[0])
            verdict = self._known[ip] = any(address in network for network in self._allow)
        return verdict

    def _complain(self, kind: str, text: str, *arguments: object, exc_info: bool = False) -> None:
        """Log what others can cause at will, at most one line of a kind per interval."""
        now = self._clock()
        if now - self._complained.get(kind, float("-inf")) < COMPLAINT_INTERVAL:
            return
        self._complained[kind] = now
        log.error(text, *arguments, exc_info=True) if exc_info else log.warning(text, *arguments)


def _error(cookie: bytes, encoding: message.Encoding, reason: str) -> bytes:
    return message.encode(cookie, encoding, {"result": "error", "error-reason": reason})


Address = tuple[Any, ...]
"""A socket address as the socket module gives it; IPv6 has flow and scope behind address and port."""


class _Listener:
    """One bound socket. Bound to all addresses, it learns from pktinfo to which of them each datagram came."""

    def __init__(self, endpoint: Endpoint) -> None:
        address = ipaddress.ip_address(endpoint.ip)
        self._v6 = address.version == 6
        self._any = address.is_unspecified
        self.loopback = address.is_loopback
        self.socket = socket.socket(socket.AF_INET6 if self._v6 else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._prepare(endpoint)
        except OSError as error:
            self.socket.close()
            raise OSError(error.errno, f"cannot listen for ng on {endpoint}: {error.strerror}") from error
        self.endpoint = Endpoint(endpoint.ip, self.socket.getsockname()[1])
        self.buffer = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2

    def _prepare(self, endpoint: Endpoint) -> None:
        self.socket.setblocking(False)
        if self._v6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if self._any and self._v6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        elif self._any:
            self.socket.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        except PermissionError:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self.socket.bind(endpoint)

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
