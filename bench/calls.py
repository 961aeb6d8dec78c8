"""Calls as a proxy commands them: ng requests as Kamailio 5.6 shapes them, and a client that keeps many in flight."""

from __future__ import annotations

import re
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.flows import Flow
from control.ng.bencode import encode
from relay.types import Endpoint

__all__ = ["CALLEES", "CALLERS", "FLAGS", "Call", "CommandFailed", "Proxy", "make_calls"]

CALLERS = tuple(f"10.120.{place // 250}.{place % 250 + 1}" for place in range(1000))
CALLEES = tuple(f"10.130.0.{place + 1}" for place in range(16))
FLAGS = "trust-address replace-origin replace-session-connection ICE=remove RTP/AVP"
"""What an ordinary proxy asks for, as it stands in its configuration."""
_PROXY_PROCESSES = 8
_PATIENCE = 1.0
"""Seconds until a request is sent again, rtpengine_tout_ms of the proxy."""
_ATTEMPTS = 5
_BUFFER = 4 << 20
_ADDRESS = re.compile(rb"\r\nc=IN IP4 ([0-9.]+)")
_PORT = re.compile(rb"\r\nm=audio (\d+) ")
_SDP = """v=0\r
o=- {session} 1 IN IP4 {ip}\r
s=-\r
c=IN IP4 {ip}\r
t=0 0\r
m=audio {port} RTP/AVP 0 8 9 18 101\r
a=rtpmap:0 PCMU/8000\r
a=rtpmap:8 PCMA/8000\r
a=rtpmap:9 G722/8000\r
a=rtpmap:18 G729/8000\r
a=fmtp:18 annexb=no\r
a=rtpmap:101 telephone-event/8000\r
a=fmtp:101 0-16\r
a=ptime:20\r
a=sendrecv\r
"""


class CommandFailed(Exception):
    """The relay refused a command or never answered it."""


@dataclass(slots=True)
class Call:
    """One call between two parties, and the relay's ports in it once they are known."""

    number: int
    caller: Endpoint
    callee: Endpoint
    interface: str | None = None
    """Name of the relay's local address, None for its first one."""
    towards_callee: Endpoint | None = None
    """Where the callee sends to: the offer as the relay rewrote it."""
    towards_caller: Endpoint | None = None

    def request(self, command: str) -> dict[str, Any]:
        """A request with its keys in the order in which Kamailio 5.6 puts them on the wire.

        They are what `rtpengine_manage(FLAGS)` makes of its flags, which go along with a delete as well.
        """
        party = self.callee if command == "answer" else self.caller
        body: dict[str, Any] = {"supports": ["load limit"]}
        if command != "delete":
            body["sdp"] = _SDP.format(session=1_545_997_027 + self.number, ip=party.ip, port=party.port)
        body["ICE"] = "remove"
        if self.interface:
            body["direction"] = [self.interface, self.interface]
        body["flags"] = ["trust-address"]
        body["replace"] = ["origin", "session-connection"]
        body["transport-protocol"] = "RTP/AVP"
        body["call-id"] = f"{self.number:08x}-1dd2-4c9b-9c0e-3f1c2b6a7d55@{self.caller.ip}"
        body["received-from"] = ["IP4", party.ip]
        body["from-tag"] = f"as{self.number:08x}"
        if command == "answer":
            body["to-tag"] = f"{self.number:08x}-callee"
        body["command"] = command
        return body

    def take(self, command: str, reply: bytes) -> None:
        """Note the relay's port in the reply to an offer or an answer."""
        if b"6:result2:ok" not in reply:
            raise CommandFailed(f"{command} of call {self.number}: {reply[:300].decode(errors='replace')}")
        if command == "offer":
            self.towards_callee = _media(reply)
        elif command == "answer":
            self.towards_caller = _media(reply)

    def flows(self) -> list[Flow]:
        """The RTP of both directions of an answered call."""
        if not self.towards_caller or not self.towards_callee:
            raise CommandFailed(f"call {self.number} has no ports: it was not answered")
        return [Flow(self.caller, self.towards_caller), Flow(self.callee, self.towards_callee)]


def make_calls(numbers: Iterable[int], interfaces: Sequence[str | None] = (None,)) -> list[Call]:
    """Calls from many subscribers to a few carriers, spread over the relay's interfaces, each with ports of its own."""
    return [
        Call(number, _party(number, CALLERS), _party(number, CALLEES), interfaces[number % len(interfaces)])
        for number in numbers
    ]


def _party(number: int, addresses: Sequence[str]) -> Endpoint:
    turn, place = divmod(number, len(addresses))
    return Endpoint(addresses[place], 10_000 + 2 * turn % 50_000)


def _media(reply: bytes) -> Endpoint:
    """The address of an SDP with one section, whose c= may stand before or within that section."""
    address, port = _ADDRESS.search(reply), _PORT.search(reply)
    if not address or not port:
        raise CommandFailed(f"no audio in the relay's SDP: {reply[:300].decode(errors='replace')}")
    return Endpoint(address[1].decode(), int(port[1]))


@dataclass(slots=True)
class _Errand:
    """One call on its way through its commands."""

    call: Call
    commands: deque[str]
    datagram: bytes = b""
    sent: float = 0.0
    attempts: int = 0


@dataclass(slots=True)
class Proxy:
    """A client that keeps `in_flight` calls busy with one command each, and repeats what is not answered."""

    socket: socket.socket
    server: tuple[str, int]
    in_flight: int = 32
    repeats: int = 0
    _sequence: int = 0
    _waiting: dict[bytes, _Errand] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self.socket.settimeout(_PATIENCE)

    def wait(self, seconds: float, alive: Callable[[], bool]) -> None:
        """Wait until the relay answers a ping. Raises TimeoutError if it does not in time or is no longer alive."""
        self.socket.settimeout(0.2)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and alive():
            self.socket.sendto(b"0_0_0 d7:command4:pinge", self.server)
            try:
                answered = b"4:pong" in self.socket.recv(65536)
            except TimeoutError:
                continue
            if answered:
                self.socket.settimeout(_PATIENCE)
                return
        raise TimeoutError(f"no answer to a ping from {self.server[0]}:{self.server[1]}")

    def run(self, calls: Iterable[Call], commands: Sequence[str]) -> None:
        """Take every call through these commands, one after the other. Raises CommandFailed at the first refusal."""
        errands = (_Errand(call, deque(commands)) for call in calls)
        for _ in range(self.in_flight):
            self._begin(errands)
        while self._waiting:
            try:
                datagram = self.socket.recv(65536)
            except TimeoutError:
                self._repeat()
                continue
            cookie, _, reply = datagram.partition(b" ")
            errand = self._waiting.pop(cookie, None)
            if errand is not None:
                self._advance(errand, reply, errands)

    def _begin(self, errands: Iterator[_Errand]) -> None:
        errand = next(errands, None)
        if errand is not None:
            self._send(errand)

    def _advance(self, errand: _Errand, reply: bytes, errands: Iterator[_Errand]) -> None:
        errand.call.take(errand.commands.popleft(), reply)
        if errand.commands:
            self._send(errand)
        else:
            self._begin(errands)

    def _send(self, errand: _Errand) -> None:
        self._sequence += 1
        cookie = b"0_%d_%d" % (2000 + self._sequence % _PROXY_PROCESSES, self._sequence)
        errand.datagram = cookie + b" " + encode(errand.call.request(errand.commands[0]))
        errand.attempts = 0
        self._waiting[cookie] = errand
        self._transmit(errand)

    def _transmit(self, errand: _Errand) -> None:
        errand.attempts += 1
        errand.sent = time.monotonic()
        self.socket.sendto(errand.datagram, self.server)

    def _repeat(self) -> None:
        now = time.monotonic()
        for errand in self._waiting.values():
            if now - errand.sent < _PATIENCE:
                continue
            if errand.attempts >= _ATTEMPTS:
                raise CommandFailed(f"no answer to {errand.commands[0]} of call {errand.call.number}")
            self.repeats += 1
            self._transmit(errand)
