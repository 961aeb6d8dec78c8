"""The field of the fast path's bench: one sender, and two ways out and back, through the relay and through a reflector.

    sender --- veth --- relay         hairpin, its calls set up over ng
           \\-- veth --- reflector     swaps MACs and sends back

One core sends. All that happens to a packet afterwards, from the receive at the relay to the frame's release at the
sink, happens in kernel threads (threaded NAPI) on the other core, whose scheduler time is the figure. They run with
real-time priority, the sink's above the relay's: so each takes whole batches, and no other program comes between.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from bench.calls import Call, make_calls
from bench.flows import Flow, shuffled
from bench.generator import Generator, Order, Target
from bench.processes import find_thread, thread_cpu_ns
from bench.relays import PORTS, Relay, hairpin
from bench.variants import load_variant, open_program
from relay.dataplane.libbpf import TestRun
from tests.lab import Host, Lab, LabError, command

__all__ = ["RELAY_CORE", "SENDER_CORE", "Cost", "Field"]

SENDER_CORE, RELAY_CORE = 0, 1
PORT_RATE = 1_000_000
"""Packets per second one port takes: the highest the relay can be told, for one flow may be all there is."""
WINDOW = 3.2
"""Seconds after which a learning window is closed."""
WARM_RATE = 100_000
DRAIN = 0.03
"""Seconds for the last packets of a run to come back."""
_SEED = 1
_NATIVE = 1
"""XDP_ATTACHED_DRV of linux/if_link.h."""
_ROUTER = "10.98.0.1"
_CALLS_PER_ADDRESS = (PORTS[1] - PORTS[0]) // 4
_SINK_PRIORITY, _RELAY_PRIORITY = 2, 1


class Cost(NamedTuple):
    """One run through one way. CPU in nanoseconds of all the threads it passed."""

    sent: int
    returned: int
    seconds: float
    relay_ns: int
    sink_ns: int
    daemon_ns: int

    @property
    def per_packet(self) -> float:
        """Nanoseconds of CPU per packet that came back."""
        return (self.relay_ns + self.sink_ns + self.daemon_ns) / max(self.returned, 1)

    @property
    def relay_per_packet(self) -> float:
        """The relay's own threads alone, without the sink."""
        return (self.relay_ns + self.daemon_ns) / max(self.returned, 1)


@dataclass(slots=True)
class Way:
    """One way out and back: a veth pair between the sender and a host."""

    target: Target
    host: Host
    name: str
    """Of the interface on both sides, with a letter in front."""
    sender_index: int
    host_index: int
    sender_mac: str
    host_mac: str

    @property
    def near(self) -> str:
        return f"s{self.name}"

    @property
    def far(self) -> str:
        return f"h{self.name}"

    def order(self, rate: float) -> Order:
        return Order(self.target, self.host_mac, self.sender_mac, rate, self.sender_index)


class Field:
    """Sender, relay and reflector, for calls of up to `flows` flows. Use it as a context manager."""

    def __init__(self, flows: int) -> None:
        self._stack = ExitStack()
        self._addresses = [f"10.98.1.{place + 1}" for place in range(1 + (flows - 1) // 2 // _CALLS_PER_ADDRESS)]
        self.calls: list[Call] = []

    def __enter__(self) -> Self:
        with self._stack:
            self._build()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *how: Any) -> None:
        self._stack.close()

    def _build(self) -> None:
        lab = self._stack.enter_context(Lab())
        self.generator = self._stack.enter_context(Generator())
        self._directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._sender = lab.host("sender")
        self.relay_way = self._way(lab, Target.RELAY)
        self.reflector_way = self._way(lab, Target.REFLECTOR)
        reflector = self.reflector_way
        reflector.host.call(lambda: self.generator.attach_reflector(reflector.host_index))
        self._address()
        self.relay = self._start_relay()
        self._thread(self.relay_way)
        self._thread(self.reflector_way)
        self._identity = _attached_program(self.relay_way.host, self.relay_way.far)
        self.program = open_program(self._identity)
        self._stack.callback(os.close, self.program)

    def _way(self, lab: Lab, target: Target) -> Way:
        host, name = lab.host(target.name.lower()), f"{target.value}x{os.getpid()}"
        lab.cable(self._sender, f"s{name}", host, f"h{name}")
        sender_index = self._sender.call(lambda: socket.if_nametoindex(f"s{name}"))
        host_index = host.call(lambda: socket.if_nametoindex(f"h{name}"))
        way = Way(target, host, name, sender_index, host_index, self._sender.mac(f"s{name}"), host.mac(f"h{name}"))
        self._sender.call(lambda: self.generator.attach_sink(sender_index))
        self._sender.call(lambda: self.generator.set_device(target, sender_index))
        return way

    def _thread(self, way: Way) -> None:
        """Let both ends of a way poll in kernel threads; once both carry programs, for that is what makes them poll."""
        for end, interface in ((self._sender, way.near), (way.host, way.far)):
            enable = f"echo 1 > /sys/class/net/{interface}/threaded"
            command("ip", "netns", "exec", end.namespace, "sh", "-c", enable)

    def _address(self) -> None:
        """The sender is the relay's router; the parties behind it need no addresses, the sink takes what they get."""
        way = self.relay_way
        self._sender.ip("address", "add", f"{_ROUTER}/16", "dev", way.near)
        for address in self._addresses:
            way.host.ip("address", "add", f"{address}/16", "dev", way.far)
        way.host.ip("route", "add", "default", "via", _ROUTER)

    def _start_relay(self) -> Relay:
        options = [f"--port-rate={PORT_RATE}", "--max-addresses=16"]
        line = hairpin(self._addresses, *options)
        relay = Relay("hairpin", self.relay_way.host, line, self._directory / "hairpin.log")
        relay.start()
        return relay

    def grow(self, flows: int) -> int:
        """Set up calls until there are this many flows, and let the relay learn them. Returns the calls standing."""
        names = [f"a{place}" for place in range(len(self._addresses))]
        more = make_calls(range(len(self.calls), (flows + 1) // 2), names)
        self.relay.proxy.run(more, ("offer", "answer"))
        self.calls += more
        everything = [flow for call in self.calls for flow in call.flows()][:flows]
        self.generator.set_flows(shuffled(everything, _SEED))
        self._warm_up(everything)
        return len(self.calls)

    def _warm_up(self, flows: Sequence[Flow]) -> None:
        """Every flow's first packet opens its learning window, the first one after that time closes it."""
        self.send(self.relay_way, len(flows), WARM_RATE)
        time.sleep(WINDOW)
        self.send(self.relay_way, len(flows), WARM_RATE)
        cost = self.send(self.relay_way, len(flows), WARM_RATE)
        if cost.returned < 0.99 * cost.sent:
            raise LabError(f"the relay forwarded {cost.returned} packets of {cost.sent}")

    def send(self, way: Way, packets: int, rate: float) -> Cost:
        """Send one round of packets down a way, at `rate` packets per second (0: as fast as it goes)."""
        threads = self._threads(way)
        before = [self.generator.sunk(way.sender_index), *map(thread_cpu_ns, threads), self._daemon_ns(way)]
        clock = time.monotonic()
        self._sender.call(lambda: self._send_pinned(way.order(rate), packets))
        seconds = time.monotonic() - clock
        time.sleep(DRAIN)
        after = [self.generator.sunk(way.sender_index), *map(thread_cpu_ns, threads), self._daemon_ns(way)]
        returned, relay, sink, daemon = (late - early for late, early in zip(after, before, strict=True))
        return Cost(packets, returned, seconds, relay, sink, daemon)

    def _send_pinned(self, order: Order, packets: int) -> None:
        os.sched_setaffinity(0, {SENDER_CORE})
        self.generator.send(order, packets)

    def _daemon_ns(self, way: Way) -> int:
        return self.relay.cpu_ns() if way is self.relay_way else 0

    def _threads(self, way: Way) -> tuple[int, int]:
        """The kernel threads of a way, found anew: they are others whenever a program was attached meanwhile."""
        relay, sink = find_thread(f"napi/{way.far}-"), find_thread(f"napi/{way.near}-")
        for thread, priority in ((relay, _RELAY_PRIORITY), (sink, _SINK_PRIORITY)):
            os.sched_setaffinity(thread, {RELAY_CORE})
            os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))
        return relay, sink

    def load_variant(self, path: Path) -> int:
        """A descriptor of another build of the relay's program, on the tables of the one that is attached."""
        variant = self.relay_way.host.call(lambda: load_variant(path, self._identity))
        self._stack.callback(variant.close)
        return variant.program("hairpin").fd

    def drive_relay(self, program: int, packets: int) -> TestRun:
        """Hand packets to the relay's attached program, or a variant, rules and all, by BPF_PROG_TEST_RUN."""
        way = self.relay_way
        return way.host.call(lambda: self._drive_pinned(way.order(0), program, packets, way.host_index))

    def drive_empty(self, name: str, packets: int) -> TestRun:
        """The same with an empty program of the generator's, which is what has to be subtracted."""
        way = self.relay_way
        order = Order(Target.BASELINE, way.host_mac, way.sender_mac)
        program = self.generator.empty(name)
        return way.host.call(lambda: self._drive_pinned(order, program, packets, way.host_index))

    def chase(self, lines: int) -> float:
        """Nanoseconds this core takes to fetch one line out of so many, less what the fetching costs by itself."""
        return self._sender.call(lambda: self._chase_pinned(lines) - self._chase_pinned(1))

    def _chase_pinned(self, lines: int) -> float:
        os.sched_setaffinity(0, {RELAY_CORE})
        return self.generator.chase(lines)

    def _drive_pinned(self, order: Order, program: int, packets: int, ifindex: int) -> TestRun:
        os.sched_setaffinity(0, {RELAY_CORE})
        return self.generator.drive(order, program, packets, ifindex)


def _attached_program(host: Host, interface: str) -> int:
    """The number of the XDP program natively attached to an interface. Raises LabError where there is none."""
    (link,) = json.loads(host.ip("-json", "link", "show", interface))
    attached = link.get("xdp", {})
    if attached.get("mode") != _NATIVE:
        raise LabError(f"the relay has attached no native XDP program to {interface}")
    return int(attached["prog"]["id"])
