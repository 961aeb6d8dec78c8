"""The BPF object in the kernel: sized, told its constants, loaded, its tables mapped."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from relay.dataplane import abi
from relay.dataplane.libbpf import Object, Program
from relay.dataplane.ring import RingReader

_HERE = Path(__file__).resolve().parent
_PACKAGED = _HERE / "relay.bpf.o"
OBJECT = _PACKAGED if _PACKAGED.exists() else _HERE.parents[1] / "build" / "relay.bpf.o"
"""The object as installed, or as `make build` leaves it in a checkout."""

_TICKS_PER_SECOND = 4
_WINDOW_SECONDS = 3
_HZ_CHOICES = (100, 250, 300, 1000)
_HZ_SAMPLE_SECONDS = 0.1
_CLOCKS = struct.Struct("=QQ")  # struct hp_clock_reading
_MAX_SLOW_PACKETS = 255
_BY_RULE, _BY_TOKEN = ("rules", "cold"), ("peers", "tokens", "spare")


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the program is made for: `rules` table elements, packets per second a port and a rule's slow path take.

    `peers` elements for IPv6 addresses of parties, one of which is never used.
    """

    rules: int
    port_rate: int
    slow_rate: int
    peers: int = 1


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
    return settings.tobytes()


def nearest_hz(jiffies: int, nanoseconds: int) -> int:
    """The tick rate a kernel is built with, from what two looks at its clocks lie apart."""
    measured = jiffies * 1e9 / nanoseconds
    return min(_HZ_CHOICES, key=lambda choice: abs(np.log(max(measured, 1.0) / choice)))


class Tables:
    """The loaded object's programs and maps. Numbers in mapped arrays change under the reader's eyes."""

    def __init__(self, loaded: Object) -> None:
        self._object = loaded
        self.rules = self._array("rules", abi.RULE)
        self.cold = self._array("cold", abi.COLD)
        self.host = self._array("host", abi.HOST)
        self.nexthops = self._array("nexthops", abi.NEXTHOP)
        self.devices = loaded.map("devices")
        self.sinks = loaded.map("sinks")
        self.denied, self.denied6 = loaded.map("denied"), loaded.map("denied6")
        self.peers = self._array("peers", abi.IP6)
        self.tokens, self.spare = loaded.map("tokens"), loaded.map("spare")
        self._counters = loaded.map("counters")
        self.events = self._ring("events")
        self.copies = self._ring("copies")
        self._before: dict[str, int] = {}

    @classmethod
    async def load(cls, path: Path, sizes: Sizes) -> Tables:
        """Load the object, for the tick rate this kernel turns out to have. Raises DataplaneError."""
        hz = await _measure_hz(path)
        loaded = Object.open(path)
        try:
            loaded.check_layout(abi.DIGEST)
            loaded.set_rodata("settings", constants(sizes, hz))
            for name in _BY_RULE:
                loaded.map(name).resize(sizes.rules)
            for name in _BY_TOKEN:
                loaded.map(name).resize(sizes.peers)
            loaded.load()
            return cls(loaded)
        except BaseException:
            loaded.close()
            raise

    def program(self, name: str) -> Program:
        """A program of the object."""
        return self._object.program(name)

    def zero_counters(self) -> None:
        """Count from here on: what self-tests counted is nobody's traffic."""
        self._before = {}
        self._before = self.counters()

    def counters(self) -> dict[str, int]:
        """Occurrences and drop reasons by name, all CPUs together."""
        found = {}
        for position, name in enumerate(abi.COUNTERS):
            values = self._counters.lookup(struct.pack("=I", position)) or b""
            found[name] = sum(memoryview(values).cast("Q")) - self._before.get(name, 0)
        return found

    def close(self) -> None:
        """Unmap and unload; safe to call twice."""
        self.events.close()
        self.copies.close()
        del self.rules, self.cold, self.host, self.nexthops, self.peers
        self._object.close()

    def _array(self, name: str, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        return self._object.map(name).array(dtype)

    def _ring(self, name: str) -> RingReader:
        ring = self._object.map(name)
        return RingReader(ring.fd, ring.max_entries)


async def _measure_hz(path: Path) -> int:
    """Jiffies per second: two looks at the kernel's clocks through the object's own program for it."""
    with Object.open(path) as probe:
        probe.check_layout(abi.DIGEST)
        for name in _BY_RULE + _BY_TOKEN:
            probe.map(name).resize(1)
        probe.load(only="clocks")
        clocks = probe.program("clocks")
        jiffies, nanoseconds = _CLOCKS.unpack(clocks.call(bytes(_CLOCKS.size)))
        await asyncio.sleep(_HZ_SAMPLE_SECONDS)
        later_jiffies, later_nanoseconds = _CLOCKS.unpack(clocks.call(bytes(_CLOCKS.size)))
    return nearest_hz(later_jiffies - jiffies, later_nanoseconds - nanoseconds)
