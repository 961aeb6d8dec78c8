"""The generator object from Python: fill its flow table, order a run, read what came back (generator.bpf.c)."""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.rtp import RTP

from bench.flows import Flow, pack
from bench.report import ROOT
from relay.dataplane.btf import Struct
from relay.dataplane.libbpf import Link, Object, TestRun, XdpMode

__all__ = ["OBJECT", "PACKET_SIZE", "Generator", "Order", "Target"]

OBJECT = ROOT / "build" / "generator.bpf.o"
_PAYLOAD = bytes(range(160))
"""20 ms of G.711."""
_SAMPLES = 160
_STEPS, _CHASES = 1 << 16, 4
"""Looks in one run of the program, as in generator.bpf.c, and runs."""
_SEED = 1
_WINDOW = 256
"""Packets on their way: what the ring of one veth holds."""
_U32 = struct.Struct("=I")
PACKET_SIZE = 14 + 20 + 8 + 12 + len(_PAYLOAD)
_REFLECTOR_SLOT = 3
"""TARGETS - 1 of generator.bpf.c."""


class Target(enum.IntEnum):
    """Whose stream of packets goes on; the value is the slot of its cursor and of its device."""

    RELAY = 0
    REFLECTOR = 1
    BASELINE = 2


@dataclass(frozen=True, slots=True)
class Order:
    """What to send; MACs as `aa:bb:cc:dd:ee:ff`."""

    target: Target
    destination_mac: str
    source_mac: str
    rate: float = 0.0
    """Packets per second at most; 0 for no limit. Either way no faster than they come back."""
    sink: int = 0
    """Interface index of the sink they come back to."""
    burst: int = 64


class Generator:
    """A loaded generator. Closing it lets go of all it attached."""

    def __init__(self, path: Path = OBJECT) -> None:
        self._object = Object.open(path)
        self._dtypes = {entry.name: _dtype(entry) for entry in self._object.layout("gen_").structs}
        self._object.load()
        self._flows = self._object.map("flows").array(self._dtypes["gen_flow"])
        self._order = self._object.map("orders").array(self._dtypes["gen_order"])
        self._cursors = self._object.map("cursors").array(self._dtypes["gen_cursor"])
        self._sunk = self._object.map("sunk").array(np.dtype("u8"))
        self._links: list[Link] = []
        self._count = 0
        self._packet = bytes(Ether(type=0x0800) / IP() / UDP() / RTP() / _PAYLOAD)

    def set_flows(self, flows: Sequence[Flow]) -> None:
        """Send these flows in this order from now on; every stream goes on with its next packet."""
        if not 0 < len(flows) <= len(self._flows):
            raise ValueError(f"1 to {len(self._flows)} flows, not {len(flows)}")
        self._flows[: len(flows)] = pack(flows, _PAYLOAD, self._flows.dtype)
        self._count = len(flows)
        self._cursors["position"] = 0
        self._cursors["pass"] += 1

    def set_device(self, target: Target, ifindex: int) -> None:
        """The device that packets for `target` are sent into; called inside the device's namespace."""
        self._object.map("devices").update(_U32.pack(target), _U32.pack(ifindex))

    def attach_sink(self, ifindex: int) -> None:
        """Count and end the media that arrives at this interface."""
        self._links.append(self._object.program("sink").attach_xdp(ifindex, XdpMode.NATIVE))

    def attach_reflector(self, ifindex: int) -> None:
        """Send back whatever UDP arrives at this interface; called inside its namespace."""
        self._object.map("devices").update(_U32.pack(_REFLECTOR_SLOT), _U32.pack(ifindex))
        self._links.append(self._object.program("reflect").attach_xdp(ifindex, XdpMode.NATIVE))

    def sunk(self, ifindex: int) -> int:
        """Media packets that have arrived at this interface's sink."""
        return int(self._sunk[ifindex % len(self._sunk)])

    def send(self, order: Order, packets: int) -> None:
        """Send live packets, in one long call: each call costs some 25 ms of tearing down."""
        self._place(order)
        self._object.program("send").test_run(self._packet, repeat=packets, live_frames=True)

    def empty(self, name: str) -> int:
        """The descriptor of an empty program, `empty_tx` or `empty_redirect`, to compare with."""
        return self._object.program(name).fd

    def chase(self, lines: int) -> float:
        """Nanoseconds of one look into a table of so many lines of 64 bytes, each telling where to look next."""
        table = self._object.map("lines").array(self._dtypes["gen_line"])
        order = np.random.default_rng(_SEED).permutation(lines)
        table["next"][order] = np.roll(order, -1)
        program = self._object.program("chase")
        program.test_run(self._packet, repeat=_CHASES)
        return program.test_run(self._packet, repeat=_CHASES).duration / _STEPS

    def drive(self, order: Order, program: int, packets: int, ifindex: int) -> TestRun:
        """Hand packets to the program with this descriptor as if they came in on `ifindex`; nothing is sent."""
        self._place(order)
        self._object.map("under_test").update(_U32.pack(0), _U32.pack(program))
        return self._object.program("drive").test_run(self._packet, ifindex, packets)

    def close(self) -> None:
        """Detach everything and free the tables."""
        for link in self._links:
            link.close()
        self._links.clear()
        self._object.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _place(self, order: Order) -> None:
        row = self._order[0]
        row["target"] = row["device"] = order.target
        row["flows"] = self._count
        row["burst"] = order.burst
        row["interval"] = round(order.burst / order.rate * 1e9) if order.rate else 0
        row["destination_mac"] = _mac(order.destination_mac)
        row["source_mac"] = _mac(order.source_mac)
        row["samples"] = _SAMPLES
        row["window"] = _WINDOW
        row["sink"] = order.sink % len(self._sunk)
        cursor = self._cursors[order.target]
        cursor["lost"] = cursor["sent"] - self._sunk[order.sink % len(self._sunk)]


def _dtype(entry: Struct) -> np.dtype[Any]:
    shapes = [(field.name, field.kind, () if field.length is None else (field.length,)) for field in entry.fields]
    return np.dtype(shapes)


def _mac(text: str) -> list[int]:
    return list(bytes.fromhex(text.replace(":", "")))
