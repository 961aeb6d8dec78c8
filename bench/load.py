"""A proxy that commands calls at a steady rate, and sees how soon replies come and when a partner has the calls."""

from __future__ import annotations

import heapq
import select
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Event, Thread
from types import TracebackType
from typing import Self

from bench.calls import Call
from control.ng.bencode import encode

__all__ = ["Load", "Pings", "Server"]

Server = tuple[str, int]

POLL = 0.001
"""Seconds between two questions whether the partner has a call."""
GIVEN_UP = 10.0
"""Seconds after which a command, or a call that the partner does not show, counts as lost."""
REPEAT = 1.0
"""Seconds until a command is sent again, as the proxy does."""
SO_RCVBUFFORCE = 33
PING = 0.01
BUFFER = 4 << 20
"""Bytes of replies that may wait until they are read."""


@dataclass(slots=True)
class _Command:
    """A command that waits for its reply."""

    call: Call
    name: str
    datagram: bytes
    first: float
    sent: float


@dataclass(slots=True)
class Load:
    """Offers `rate` calls a second at `owner`, answers each at once, and deletes it `hold` seconds later.

    Of every `sample`-th call it asks `partner` from the answer's reply on until both parties are known there.
    """

    open: Callable[[], socket.socket]
    owner: Server
    partner: Server
    rate: float
    hold: float
    sample: int
    replies: list[float] = field(default_factory=list)
    """Seconds that each reply took, from the first time the command was sent."""
    lags: list[float] = field(default_factory=list)
    lost: int = 0
    """Commands without a reply, or with one that refuses."""
    unseen: int = 0
    """Sampled calls that the partner did not show in time."""
    late: float = 0.0
    """How far behind its schedule the proxy itself was at most."""
    standing: dict[str, Call] = field(default_factory=dict)
    """Answered calls that were not deleted, by Call-ID."""
    _waiting: dict[bytes, _Command] = field(default_factory=dict)
    _asked: dict[bytes, tuple[Call, float]] = field(default_factory=dict)
    _due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _number: int = 0
    _commands: socket.socket = field(init=False)
    _questions: socket.socket = field(init=False)

    def run(self, calls: Iterator[Call], seconds: float, keep: bool = False) -> None:
        """Begin calls for so many seconds, and see them to their ends; `keep`: those that stand then go on standing."""
        self._commands, self._questions = self.open(), self.open()
        self._commands.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        with self._commands, self._questions:
            begin = time.monotonic()
            for turn in range(round(seconds * self.rate)):
                self._at(begin + turn / self.rate, lambda: self._command(next(calls), "offer"))
            end = begin + seconds
            while self._due or self._waiting or self._asked:
                if keep and time.monotonic() > end and not self._waiting and not self._asked:
                    break
                self._turn()
        self._due.clear()

    def _at(self, when: float, what: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._due, (when, self._number, what))

    def _turn(self) -> None:
        wait = self._due[0][0] - time.monotonic() if self._due else REPEAT
        ready, _, _ = select.select([self._commands, self._questions], [], [], min(max(wait, 0.0), REPEAT / 4))
        if self._commands in ready:
            self._reply(self._commands.recv(65536))
        if self._questions in ready:
            self._shown(self._questions.recv(65536))
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            when, _, what = heapq.heappop(self._due)
            self.late = max(self.late, now - when)
            what()
        if not ready:
            self._repeat(now)

    # -- commands

    def _command(self, call: Call, name: str) -> None:
        self._number += 1
        cookie = b"load_%d" % self._number
        datagram = cookie + b" " + encode(call.request(name))
        now = time.monotonic()
        self._waiting[cookie] = _Command(call, name, datagram, now, now)
        self._commands.sendto(datagram, self.owner)

    def _reply(self, datagram: bytes) -> None:
        cookie, _, reply = datagram.partition(b" ")
        command = self._waiting.pop(cookie, None)
        if command is None:
            return
        now = time.monotonic()
        self.replies.append(now - command.first)
        if b"6:result2:ok" not in reply:
            self.lost += 1
            return
        call_id = str(command.call.request("delete")["call-id"])
        if command.name == "offer":
            self._command(command.call, "answer")
        elif command.name == "answer":
            self.standing[call_id] = command.call
            self._at(now + self.hold, lambda: self._command(command.call, "delete"))
            if command.call.number % self.sample == 0:
                self._ask(command.call, now)
        else:
            del self.standing[call_id]

    def _repeat(self, now: float) -> None:
        for cookie, command in list(self._waiting.items()):
            if now - command.first > GIVEN_UP:
                del self._waiting[cookie]
                self.lost += 1
            elif now - command.sent > REPEAT:
                command.sent = now
                self._commands.sendto(command.datagram, self.owner)
        for cookie, (_, since) in list(self._asked.items()):
            if now - since > GIVEN_UP:
                del self._asked[cookie]
                self.unseen += 1

    # -- what the partner shows

    def _ask(self, call: Call, since: float) -> None:
        self._number += 1
        cookie = b"query_%d" % self._number
        self._asked[cookie] = call, since
        request = {"call-id": call.request("delete")["call-id"], "command": "query"}
        self._questions.sendto(cookie + b" " + encode(request), self.partner)

    def _shown(self, datagram: bytes) -> None:
        cookie, _, reply = datagram.partition(b" ")
        call, since = self._asked.pop(cookie, (None, 0.0))
        if call is None:
            return
        now = time.monotonic()
        if b"%08x-callee" % call.number in reply:
            self.lags.append(now - since)
        elif now - since > GIVEN_UP:
            self.unseen += 1
        else:
            self._at(now + POLL, lambda: self._ask(call, since))


class Pings:
    """Pings a relay a hundred times a second while it is used, and keeps how long each answer took."""

    def __init__(self, opened: socket.socket, server: Server) -> None:
        self.took: list[float] = []
        self._socket, self._server = opened, server
        self._over = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        self._socket.settimeout(GIVEN_UP)
        number = 0
        while not self._over.is_set():
            number += 1
            began = time.monotonic()
            self._socket.sendto(b"ping_%d d7:command4:pinge" % number, self._server)
            try:
                while not self._socket.recv(65536).startswith(b"ping_%d " % number):
                    continue
            except OSError:
                continue
            self.took.append(time.monotonic() - began)
            self._over.wait(PING)
