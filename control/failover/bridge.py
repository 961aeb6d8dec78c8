"""The program ExaBGP runs to be told by a relay: a Unix socket on one side, ExaBGP's API on the other.

    process hairpin { run /usr/bin/python3 -S -E .../control/failover/bridge.py SOCKET; encoder json; }

It keeps to the standard library, starts by itself and outlives the relay. A relay says in one line of JSON all that is
to be announced, once a second and whenever that changes:

    {"grace": 15, "routes": {"192.0.2.1/32": {"role": "primary", "attributes": "next-hop self med 100", "lone": false}}}

and is answered each time, and at changes, by what ExaBGP has confirmed, what it refused and which sessions stand.
Without a word from any relay for the grace, all is withdrawn but what is marked as lone: no partner would take that
over.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections import deque

__all__ = ["Bridge", "main"]

MAX_LINE = 65536
MAX_ROUTES = 64
MAX_PEERS = 64
MAX_OUTPUT = 1 << 20
"""Bytes that wait for ExaBGP to read them; beyond, nothing more is told until it has."""
RETRY = 10.0
"""Seconds after which ExaBGP is asked again for what it has refused."""
FRESH = 3.0
"""Seconds since the last word of a relay in which no other one is listened to."""
TAKEN = b'{"error": "another relay speaks to it; each needs an ExaBGP of its own"}\n'
FAMILIES = ("ipv4 unicast", "ipv6 unicast")


class Bridge:
    """What is wanted, what ExaBGP has confirmed, and the commands that make one of the other. No socket, no clock."""

    def __init__(self) -> None:
        self.wanted: dict[str, dict[str, object]] = {}
        self.held: dict[str, dict[str, object]] = {}
        self.refused: dict[str, tuple[str, float]] = {}
        """Prefix -> attributes ExaBGP did not take, and when."""
        self.peers: dict[str, str] = {}
        self.grace = 0.0
        self._heard: float | None = None
        self._told = False
        self._sent: deque[tuple[str, dict[str, object] | None]] = deque()
        """Commands ExaBGP has not answered yet; a prefix of "" is an End-of-RIB."""

    def hear(self, line: bytes, now: float) -> None:
        """A relay's line. Raises ValueError saying what is wrong with it; nothing has changed then."""
        try:
            said = json.loads(line)
            grace, routes = float(said["grace"]), dict(said["routes"])
            wanted = {prefix: _route(prefix, route) for prefix, route in routes.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"a line is an object of grace and routes: {error!r}") from None
        if len(wanted) > MAX_ROUTES or not 0 < grace <= 86400:
            raise ValueError(f"at most {MAX_ROUTES} routes and a grace of up to a day")
        self.wanted, self.grace, self._heard = wanted, grace, now
        self.refused = {prefix: what for prefix, what in self.refused.items() if prefix in wanted}

    def commands(self, now: float) -> list[str]:
        """What ExaBGP is to be told at this moment."""
        made = [command for prefix in sorted({*self.wanted, *self.held, *self._on_the_way()})
                for command in self._command(prefix, now)]  # fmt: skip
        if not self._sent and self._heard is not None and not self._told:
            self._told = True
            made += self._end_of_rib()
        return made

    def read(self, line: str, now: float) -> list[str]:
        """A line of ExaBGP: an answer, in the order of the commands, or news. Returns commands that follow from it."""
        if line in ("done", "error"):
            self._answered(line == "done", now)
            return []
        try:
            state = json.loads(line)["neighbor"]
            peer, what = str(state["address"]["peer"]), str(state["state"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return []
        if peer in self.peers or len(self.peers) < MAX_PEERS:
            self.peers[peer] = what
        return self._end_of_rib() if what == "up" and self._told else []

    def lapse(self, now: float) -> list[str]:
        """Drop what is not to stand without a relay, once the grace is over; returns what is to be logged."""
        if self._heard is None or now - self._heard <= self.grace:
            return []
        gone = [prefix for prefix, route in self.wanted.items() if not route["lone"]]
        lone = [prefix for prefix in self.wanted if prefix not in gone]
        self._heard = None
        for prefix in gone:
            del self.wanted[prefix]
        lost = f"no word from the relay for {self.grace:.0f} s"
        return [
            *([f"{lost}: withdrawn: {', '.join(gone)}"] if gone else []),
            *([f"ALARM: {lost}, and no partner would serve {', '.join(lone)}: the route stays"] if lone else []),
        ]

    def report(self) -> bytes:
        """The answer to a relay."""
        said = {
            "held": {prefix: route["role"] for prefix, route in self.held.items()},
            "done": self._settled(),
            "refused": {prefix: attributes for prefix, (attributes, _) in self.refused.items()},
            "peers": self.peers,
        }
        return json.dumps(said).encode() + b"\n"

    def taken(self, now: float) -> bool:
        """Whether a relay has spoken just before."""
        return self._heard is not None and now - self._heard < FRESH

    def _settled(self) -> bool:
        return not self._sent and self.held == self.wanted

    def _on_the_way(self) -> dict[str, dict[str, object] | None]:
        """What each prefix will be when all that was sent is confirmed."""
        return {prefix: route for prefix, route in self._sent if prefix}

    def _command(self, prefix: str, now: float) -> list[str]:
        wanted, then = self.wanted.get(prefix), self._on_the_way().get(prefix, self.held.get(prefix))
        if then is not None and wanted is not None and then["attributes"] == wanted["attributes"]:
            if prefix in self.held and prefix not in self._on_the_way():
                self.held[prefix] = wanted
            return []
        if wanted is None:
            if then is None:
                return []
            self._sent.append((prefix, None))
            return [f"withdraw route {prefix} {then['attributes']}"]
        attributes, when = self.refused.get(prefix, ("", 0.0))
        if attributes == wanted["attributes"] and now - when < RETRY:
            return []
        self._sent.append((prefix, wanted))
        return [f"announce route {prefix} {wanted['attributes']}"]

    def _answered(self, done: bool, now: float) -> None:
        if not self._sent:
            return
        prefix, route = self._sent.popleft()
        if not prefix:
            return
        if done:
            self.refused.pop(prefix, None)
        if done and route is not None:
            self.held[prefix] = route
        elif done:
            self.held.pop(prefix, None)
        elif route is not None:
            self.refused[prefix] = str(route["attributes"]), now

    def _end_of_rib(self) -> list[str]:
        """With `manual-eor` the router waits for this before it forgets what it knew of us (RFC 4724 section 4)."""
        self._sent.extend(("", None) for _ in FAMILIES)
        return [f"announce eor {family}" for family in FAMILIES]


def _route(prefix: object, route: dict[str, object]) -> dict[str, object]:
    role, attributes, lone = route["role"], route["attributes"], route["lone"]
    words = (prefix, role, attributes)
    if not all(isinstance(word, str) and word.isprintable() and ";" not in word for word in words):
        raise ValueError("prefix, role and attributes must be one line of text each")
    return {"role": role, "attributes": attributes, "lone": bool(lone)}


class Pump:
    """The bridge between its pipes and sockets. It listens to one relay: two would undo each other's routes."""

    def __init__(self, bridge: Bridge, path: str) -> None:
        self._bridge = bridge
        self._selector = selectors.DefaultSelector()
        self._listening = _listen(path)
        self._relay: socket.socket | None = None
        self._from_relay = self._from_exabgp = self._to_exabgp = b""
        for fd in (0, 1):
            os.set_blocking(fd, False)
        self._selector.register(0, selectors.EVENT_READ, self._exabgp)
        self._selector.register(self._listening, selectors.EVENT_READ, self._accept)

    def run(self) -> None:
        """Until ExaBGP closes its end."""
        running = True
        while running:
            for key, _ in self._selector.select(0.5):
                running = key.data() is not False and running
            now = time.monotonic()
            for line in self._bridge.lapse(now):
                _log(line)
            if len(self._to_exabgp) < MAX_OUTPUT:
                self._tell(self._bridge.commands(now))
            self._write()

    def _exabgp(self) -> bool:
        data = os.read(0, MAX_LINE)
        *lines, self._from_exabgp = (self._from_exabgp + data).split(b"\n")
        self._from_exabgp = self._from_exabgp[-MAX_LINE:]
        for line in lines:
            self._tell(self._bridge.read(line.decode("utf-8", "replace").strip(), time.monotonic()))
        if lines:
            self._answer()
        return bool(data)

    def _accept(self) -> None:
        relay, _ = self._listening.accept()
        for _ in range(2):  # its last words, and that it is gone, may wait to be read
            if self._relay is not None:
                self._hear(self._relay)
        if self._relay is not None and self._bridge.taken(time.monotonic()):
            with contextlib.suppress(OSError), relay:
                relay.send(TAKEN)
            return
        self._drop()
        relay.setblocking(False)
        self._relay = relay
        self._selector.register(relay, selectors.EVENT_READ, lambda: self._hear(relay))
        self._answer()

    def _hear(self, relay: socket.socket) -> None:
        if relay is not self._relay:  # dropped since the selector saw it readable
            return
        try:
            data = relay.recv(MAX_LINE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, self._from_relay = (self._from_relay + data).split(b"\n")
        try:
            for line in lines[-1:]:  # each says everything: the last one counts
                self._bridge.hear(line, time.monotonic())
            if len(self._from_relay) > MAX_LINE:
                raise ValueError(f"a line has at most {MAX_LINE} bytes")
        except ValueError as error:
            _log(f"a relay that cannot be understood is dropped: {error}")
            data = b""
        if not data:
            self._drop()
        elif lines:
            self._tell(self._bridge.commands(time.monotonic()))
            self._answer()

    def _answer(self) -> None:
        if self._relay is None:
            return
        try:
            self._relay.send(self._bridge.report())
        except OSError:  # it does not read, or is gone
            self._drop()

    def _drop(self) -> None:
        if self._relay is not None:
            self._selector.unregister(self._relay)
            self._relay.close()
            self._relay = None
        self._from_relay = b""

    def _tell(self, commands: list[str]) -> None:
        self._to_exabgp += "".join(f"{command}\n" for command in commands).encode()
        self._write()

    def _write(self) -> None:
        """Hand over what ExaBGP takes; the rest waits for the next turn, half a second at most."""
        try:
            while self._to_exabgp:
                self._to_exabgp = self._to_exabgp[os.write(1, self._to_exabgp) :]
        except BlockingIOError:
            return


def _listen(path: str) -> socket.socket:
    """In place of what a bridge before this one left; open to the own user (and root) only."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.setblocking(False)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    before = os.umask(0o177)
    listening.bind(path)
    os.umask(before)
    listening.listen(4)
    return listening


def _log(text: str) -> None:
    print(f"hairpin's bridge: {text}", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """Bridge until ExaBGP ends; the argument is the socket's path."""
    if len(arguments) != 1:
        _log("one argument is needed, the path of the socket for the relay")
        return 2
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for ExaBGP, which closes our input when it ends
    try:
        pump = Pump(Bridge(), arguments[0])
    except OSError as error:
        _log(f"cannot listen at {arguments[0]}: {error.strerror}")
        return 1
    pump.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
