"""The BPF object in the kernel: sized, told its constants, loaded, its tables mapped."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from relay.dataplane import abi
from relay.dataplane.libbpf import Map, Object, Program
from relay.dataplane.ring import RingReader

_HERE = Path(__file__).resolve().parent
_PACKAGED = _HERE / "relay.bpf.o"
OBJECT = _PACKAGED if _PACKAGED.exists() else _HERE.parents[1] / "build" / "relay.bpf.o"
"""The object as installed, or as `make build` leaves it in a checkout."""

_TICKS_PER_SECOND = 4
_WINDOW_SECONDS = 3
_ALONE_SECONDS = 5  # without a beat; a relay that is started again takes less
_WORD = 0xFFFFFFFF
_HZ_CHOICES = (100, 250, 300, 1000)
_HZ_SAMPLE_SECONDS = 0.1
_CLOCKS = struct.Struct("=QQ")  # struct hp_clock_reading
_MAX_SLOW_PACKETS = 255
_BY_RULE, _BY_TOKEN = ("rules", "cold"), ("peers", "tokens", "spare")

MAPS = (
    *(*_BY_RULE, "host", "nexthops", "devices", "vlans", "denied", "denied6"),
    *(*_BY_TOKEN, "counters", "events", "copies", "sinks"),
)
"""The maps that all programs of the object stand on."""
PROGRAMS = ("hairpin", "reassembled", "probe", "clocks", "beat", "sink")


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the program is made for: `rules` table elements, packets per second a port and a rule's slow path take.

    `peers` elements for IPv6 addresses of parties, one of which is never used. The program goes on forwarding for
    `orphan_seconds` without a beat, 0: for ever.
    """

    rules: int
    port_rate: int
    slow_rate: int
    peers: int = 1
    orphan_seconds: int = 0


def constants(sizes: Sizes, hz: int) -> bytes:
    """struct hp_settings on a kernel that counts `hz` jiffies a second; a tick is a power of two near 1/4 s."""
    shift = max(round(np.log2(hz / _TICKS_PER_SECOND)), 0)
    tick_seconds = (1 << shift) / hz
    settings = np.zeros((), abi.SETTINGS)
    settings["tick_shift"] = shift
    settings["rate_per_tick"] = max(round(sizes.port_rate * tick_seconds), 1)
    settings["window_jiffies"] = _WINDOW_SECONDS * hz
    settings["slow_ticks"] = max(round(1 / tick_seconds), 1)
    settings["slow_packets"] = min(sizes.slow_rate, _MAX_SLOW_PACKETS)
    settings["alone_jiffies"] = _ALONE_SECONDS * hz
    settings["orphan_jiffies"] = min(sizes.orphan_seconds * hz, _WORD)
    return settings.tobytes()


def nearest_hz(jiffies: int, nanoseconds: int) -> int:
    """The tick rate a kernel is built with, from what two looks at its clocks lie apart."""
    measured = jiffies * 1e9 / nanoseconds
    return min(_HZ_CHOICES, key=lambda choice: abs(np.log(max(measured, 1.0) / choice)))


class Source(Protocol):
    """Where maps and programs come from: a loaded object, or pins."""

    def map(self, name: str) -> Map: ...

    def program(self, name: str) -> Program: ...

    def close(self) -> None: ...


class Tables:
    """The programs and maps in use. Numbers in mapped arrays change under the reader's eyes."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.rules = self._array("rules", abi.RULE)
        self.cold = self._array("cold", abi.COLD)
        self.host = self._array("host", abi.HOST)
        self.nexthops = self._array("nexthops", abi.NEXTHOP)
        self.devices, self.vlans = source.map("devices"), source.map("vlans")
        self.sinks = source.map("sinks")
        self.denied, self.denied6 = source.map("denied"), source.map("denied6")
        self.peers = self._array("peers", abi.IP6)
        self.tokens, self.spare = source.map("tokens"), source.map("spare")
        self._counters = source.map("counters")
        self.events = self._ring("events")
        self.copies = self._ring("copies")

    def program(self, name: str) -> Program:
        """A program by the name of its function."""
        return self._source.program(name)

    def beat(self) -> None:
        """Tell the program that somebody keeps the tables; once a second. Raises BpfError."""
        self._source.program("beat").call(b"")

    def zero_counters(self) -> None:
        """Count from here on: what self-tests counted is nobody's traffic."""
        for position in range(len(abi.COUNTERS)):
            key = struct.pack("=I", position)
            cpus = len(self._counters.lookup(key) or b"") // 8
            self._counters.update_per_cpu(key, [bytes(8)] * cpus)

    def counters(self) -> dict[str, int]:
        """Occurrences and drop reasons by name, all CPUs together."""
        found = {}
        for position, name in enumerate(abi.COUNTERS):
            values = self._counters.lookup(struct.pack("=I", position)) or b""
            found[name] = sum(memoryview(values).cast("Q"))
        return found

    def close(self) -> None:
        """Unmap and unload; safe to call twice."""
        self.events.close()
        self.copies.close()
        del self.rules, self.cold, self.host, self.nexthops, self.peers
        self._source.close()

    def _array(self, name: str, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        return self._source.map(name).array(dtype)

    def _ring(self, name: str) -> RingReader:
        ring = self._source.map(name)
        return RingReader(ring.fd, ring.max_entries)


def load(path: Path, sizes: Sizes, settings: bytes, standing: Source | None = None) -> Object:
    """Load the object with these constants, on maps of its own or on those that stand. Raises DataplaneError."""
    loaded = Object.open(path)
    try:
        loaded.check_layout(abi.DIGEST)
        loaded.set_rodata("settings", settings)
        if standing is None:
            _resize(loaded, sizes.rules, sizes.peers)
        else:
            for name in MAPS:
                loaded.map(name).reuse(standing.map(name).fd)
        loaded.load()
    except BaseException:
        loaded.close()
        raise
    return loaded


def _resize(opened: Object, rules: int, peers: int) -> None:
    for name in _BY_RULE:
        opened.map(name).resize(rules)
    for name in _BY_TOKEN:
        opened.map(name).resize(peers)


def silence(source: Source) -> int:
    """Jiffies since the last beat. Raises BpfError."""
    jiffies, _ = _CLOCKS.unpack(source.program("clocks").call(bytes(_CLOCKS.size)))
    return int(jiffies) - int(source.map("host").array(abi.HOST)["beat"][0])


async def measure_hz(path: Path) -> int:
    """Jiffies per second: two looks at the kernel's clocks through the object's own program for it."""
    with Object.open(path) as probe:
        probe.check_layout(abi.DIGEST)
        _resize(probe, 1, 1)
        probe.load(only="clocks")
        clocks = probe.program("clocks")
        jiffies, nanoseconds = _CLOCKS.unpack(clocks.call(bytes(_CLOCKS.size)))
        await asyncio.sleep(_HZ_SAMPLE_SECONDS)
        later_jiffies, later_nanoseconds = _CLOCKS.unpack(clocks.call(bytes(_CLOCKS.size)))
    return nearest_hz(later_jiffies - jiffies, later_nanoseconds - nanoseconds)
