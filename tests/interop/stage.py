"""The stage of calls through a real Kamailio: telephones that do one step at a time, and relays to choose among."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

from relay.types import Endpoint
from tests.handset import Dialogue, Handset
from tests.lab import Host, Lab, join_core, standard_network
from tests.line import Line
from tests.peers import SIP_PORT, Relay, kamailio_log, start_kamailio

RELAY6, PROXY6 = "fd99::3", "fd99::2"
PATIENCE = 10.0

_COMPLAINT = re.compile(r"^.*\b(?:WARNING|ERROR|CRITICAL|ALERT)\b.*$", re.MULTILINE)


class Stage:
    """The standard network with one proxy, and whatever a test places beside it.

    Telephones stay from scene to scene, as do relays and Kamailios as long as scenes want them the same.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.network = standard_network(lab)
        self.proxy = Endpoint(self.network.PROXY_ADDRESS, SIP_PORT)
        for host, address in ((self.network.relay, RELAY6), (self.network.proxy, PROXY6)):
            host.ip("address", "add", f"{address}/64", "dev", "eth0", "nodad")
        self._handsets: dict[str, Handset] = {}
        self._relays: dict[str, tuple[object, Relay]] = {}
        self._kamailios: dict[str, tuple[object, Host, subprocess.Popen[str]]] = {}
        self._lines: list[Line] = []
        self._read: dict[Path, int] = {}
        self.excused: list[str] = []
        """Parts of log lines that a scene provokes."""

    def host(self, name: str, address: str) -> Host:
        """A host on the operator's network, made where it is not there yet."""
        for host in self.lab.hosts:
            if host.name == name:
                return host
        host = self.lab.host(name)
        if ":" in address:
            self.lab.cable(host, "eth0", self.network.core, f"to-{name}", napi=True)
            self.network.core.ip("link", "set", f"to-{name}", "master", "bridge")
            host.ip("address", "add", f"{address}/64", "dev", "eth0", "nodad")
        else:
            join_core(self.lab, self.network, host, address)
        return host

    # -- telephones

    def handset(self, name: str, address: str, proxy: Endpoint | None = None) -> Handset:
        """The telephone of a host."""
        if name not in self._handsets:
            self._handsets[name] = Handset(self.host(name, address), address, proxy or self.proxy)
        return self._handsets[name]

    @property
    def caller(self) -> Handset:
        return self.handset("caller", self.network.CALLER_ADDRESS)

    @property
    def callee(self) -> Handset:
        return self.handset("callee", self.network.CALLEE_ADDRESS)

    def line(self, handset: Handset) -> Line:
        """Sockets for the media of one call."""
        line = Line(handset.host, handset.address)
        self._lines.append(line)
        return line

    # -- what serves them

    def relay(self, *options: str, host: Host | None = None, address: str = "") -> Relay:
        """A relay with these options, on the network's own host where no other is named."""
        host, address = host or self.network.relay, address or self.network.RELAY_ADDRESS
        if host.name in self._relays:
            wanted, relay = self._relays[host.name]
            if wanted == (address, options) and relay.process.poll() is None:
                return relay
            self._end_relay(host.name)
        relay = Relay(host, address, "--delete-delay=0", *options)
        self._relays[host.name] = (address, options), relay
        return relay

    def _end_relay(self, name: str) -> None:
        _, relay = self._relays.pop(name)
        relay.stop()
        self._read.pop(relay.log, None)

    def kamailio(
        self,
        *relays: Endpoint | str,
        host: Host | None = None,
        addresses: tuple[str, ...] = (),
        flags: str = "replace-origin",
        define: tuple[str, ...] = (),
    ) -> subprocess.Popen[str]:
        """A Kamailio that has these relays, on the proxy's host where no other is named."""
        host, addresses = host or self.network.proxy, addresses or (self.proxy.ip,)
        wanted = relays, addresses, flags, define
        if host.name in self._kamailios:
            running, _, process = self._kamailios[host.name]
            if running == wanted and process.poll() is None:
                return process
            host.end(process)
        process = start_kamailio(host, *addresses, relays=relays, flags=flags, define=define)
        self._kamailios[host.name] = wanted, host, process
        return process

    # -- calls

    def call(self, caller: Handset, callee: Handset, uri: str = "", ip: str = "") -> Call:
        """A call that was dialled and answered, with lines of both sides; the caller takes `ip` for its address."""
        call = Call(self, caller, callee, uri or callee.uri, ip)
        call.second.order("RING")
        call.first.expect("180")
        call.answer()
        return call

    # -- the end of a scene

    def settle(self) -> None:
        """Assert that relays hold nothing and that nobody complained."""
        for _, relay in self._relays.values():
            until = time.monotonic() + PATIENCE
            while any(held(relay)) and time.monotonic() < until:
                time.sleep(0.1)
            assert held(relay) == (0, 0, 0), f"{relay.ng} holds (calls, rules, ports) {held(relay)}"
        complaints = [self._complaints(relay.log) for _, relay in self._relays.values()]
        complaints += [self._complaints(kamailio_log(host)) for _, host, _ in self._kamailios.values()]
        complaints += [self._complaints(handset.errors, ".+") for handset in self._handsets.values()]
        lines = [line for found in complaints for line in found]
        bad = [line for line in lines if not any(words in line for words in self.excused)]
        assert not bad, "\n".join(bad)

    def _complaints(self, log: Path, pattern: str = _COMPLAINT.pattern) -> list[str]:
        text = log.read_text(errors="replace") if log.exists() else ""
        fresh, self._read[log] = text[self._read.get(log, 0) :], len(text)
        return re.findall(pattern, fresh, re.MULTILINE)

    def clear(self) -> None:
        """Close what was for one scene."""
        for line in self._lines:
            line.close()
        self._lines.clear()
        self.excused.clear()

    def strike(self) -> None:
        """End all relays and Kamailios, so that the next scene begins with fresh ones."""
        for _, host, process in self._kamailios.values():
            host.end(process)
        self._kamailios.clear()
        for name in list(self._relays):
            self._end_relay(name)


def held(relay: Relay) -> tuple[int, int, int]:
    """Calls, rules and ports that a relay holds."""
    ports = sum(interface["ports_used"] for interface in relay.operator("status")[0]["interfaces"])
    return len(relay.operator("list")), len(relay.operator("rules")), ports


class Call:
    """A call between two telephones, `first` and `one` on the caller's side."""

    def __init__(self, stage: Stage, caller: Handset, callee: Handset, uri: str, ip: str = "") -> None:
        self.one, self.other = stage.line(caller), stage.line(callee)
        self.first: Dialogue = caller.dial(uri, self.one.audio(ip=ip))
        self.second, offer = callee.invited(self.first.call_id)
        self.other.follow(offer)

    def answer(self) -> None:
        """The callee lifts the receiver."""
        self.second.order("ANSWER", self.other.audio())
        self.one.follow(self.first.expect("200"))
        self.second.expect("ACK")

    def offer(self, offer: str, answer: str, *, back: bool = False) -> tuple[str, str]:
        """A re-INVITE by the caller, or `back` from the callee; returns what each side saw of the other's SDP."""
        sides = [(self.first, self.one), (self.second, self.other)]
        (mine, my_line), (theirs, their_line) = sides[::-1] if back else sides
        mine.order("OFFER", offer)
        offered = their_line.follow(theirs.expect("INVITE"))
        theirs.order("ANSWER", answer)
        answered = my_line.follow(mine.expect("200"))
        theirs.expect("ACK")
        return offered, answered

    def refused(self, offer: str, *, back: bool = False) -> None:
        """A re-INVITE by the caller, or `back` from the callee, that the other side refuses."""
        mine, theirs = (self.second, self.first) if back else (self.first, self.second)
        mine.order("OFFER", offer)
        theirs.expect("INVITE")
        theirs.order("DECLINE")
        mine.expect("488")
        theirs.expect("ACK")

    def hang_up(self, *, back: bool = False) -> None:
        """The caller hangs up, or `back` the callee."""
        mine, theirs = (self.second, self.first) if back else (self.first, self.second)
        mine.order("HANGUP")
        theirs.expect("BYE")
        mine.expect("200")
