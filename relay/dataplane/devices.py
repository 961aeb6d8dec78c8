"""Where the program is attached and where packets may leave: devices, their places in the devmap, native or generic."""

from __future__ import annotations

import errno
import struct
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from relay.dataplane import abi
from relay.dataplane.libbpf import BpfError, Link, Map, Program, XdpMode
from relay.errors import DataplaneError
from relay.nic import links as nic

_STACKED = ("vlan", "macvlan", "bridge")
_INDEX = struct.Struct("=I")
_DEEPEST = 8  # devices upon each other that the kernel allows


@dataclass(frozen=True, slots=True)
class Point:
    """An interface to attach to; `generic` says why only generic XDP will do there, "" where native may be tried."""

    ifindex: int
    name: str
    generic: str = ""


def attach_points(links: Mapping[int, nic.Link], devices: Iterable[int]) -> dict[int, Point]:
    """The lowest devices that packets of `devices` come in through: what is below a VLAN, a bond's slaves.

    The program reads the tags itself. On a macvlan or bridge device, and a VLAN whose tags it does not write, generic
    XDP sees what the lower device has unwrapped for it.
    """
    points: dict[int, Point] = {}
    for index in devices:
        link = below_vlans(links, index)
        if link is None or link.loopback or len(link.mac) != 6:
            continue
        slaves = [lower for lower in links.values() if link.kind == "bond" and lower.master == link.index]
        for lower in slaves or [link]:
            reason = f"{lower.name} is a {lower.kind} device" if lower.kind in _STACKED else ""
            points[lower.index] = Point(lower.index, lower.name, reason)
    return points


def below_vlans(links: Mapping[int, nic.Link], index: int) -> nic.Link | None:
    """The device whose frames carry the tags of a VLAN device, another device itself."""
    link = links.get(index)
    for _ in range(_DEEPEST):
        if link is None or not link.vlan or link.lower not in links:
            break
        link = links[link.lower]
    return link


class Devmap:
    """Places of egress devices in the map that redirects go through."""

    def __init__(self, table: Map) -> None:
        self._table = table
        self._slots: dict[int, int] = {}
        self._free = deque(range(abi.DEVICES))

    def slot(self, ifindex: int) -> int | None:
        """The place of a device, made at first need; None where it cannot have one."""
        if ifindex in self._slots:
            return self._slots[ifindex]
        if not self._free:
            return None
        slot = self._free[0]
        if not self._enter(slot, ifindex):
            return None
        self._slots[ifindex] = self._free.popleft()
        return slot

    def follow(self, links: Mapping[int, nic.Link]) -> None:
        """Free the places of devices that are gone; the kernel has emptied them already.

        So it has those of devices that went and are back under their number, unnoticed in between.
        """
        for ifindex in self._slots.keys() - links.keys():
            self._free.append(self._slots.pop(ifindex))
        for ifindex, slot in self._slots.items():
            if self._table.lookup(_INDEX.pack(slot)) is None:
                self._enter(slot, ifindex)

    def devices(self) -> set[int]:
        """The devices packets may leave by."""
        return set(self._slots)

    def _enter(self, slot: int, ifindex: int) -> bool:
        try:
            self._table.update(_INDEX.pack(slot), _INDEX.pack(ifindex))
        except BpfError:
            return False
        return True


class Attachments:
    """The program's links to interfaces, all in one mode: what comes in natively can only leave natively.

    `standing` names the XDP program an interface carries already.
    """

    def __init__(self, program: Program, standing: Callable[[int], int]) -> None:
        self._program = program
        self._standing = standing
        self._links: dict[int, Link] = {}
        self.points: dict[int, Point] = {}
        self.mode = XdpMode.NATIVE

    def attach(self, points: Mapping[int, Point]) -> None:
        """Attach where it is not yet, and let go where it is no longer wanted. Raises BpfError."""
        self._drop_dead()
        for ifindex in self._links.keys() - points.keys():
            self._links.pop(ifindex).close()
        self.points = dict(points)
        for ifindex, point in points.items():
            if ifindex not in self._links:
                self._links[ifindex] = self._attach(point)

    def switch(self, mode: XdpMode, points: Mapping[int, Point]) -> None:
        """Attach everywhere in another mode. The kernel allows one mode at a time: for a moment there is none."""
        if mode is not self.mode:
            self.detach()
            self.mode = mode
        self.attach(points)

    def attached(self) -> set[int]:
        """Interfaces the program is attached to at this moment."""
        self._drop_dead()
        return set(self._links)

    def detach(self) -> None:
        """Let go of all interfaces."""
        for link in self._links.values():
            link.close()
        self._links.clear()

    def _attach(self, point: Point) -> Link:
        try:
            return self._program.attach_xdp(point.ifindex, self.mode)
        except BpfError as error:
            if error.errno == errno.EBUSY:
                program = self._standing(point.ifindex)
                raise DataplaneError(
                    f"{point.name} carries XDP program {program} already (`bpftool prog show id {program}`): "
                    "end what attached it, or name other interfaces with --attach"
                ) from error
            raise

    def _drop_dead(self) -> None:
        for ifindex in [index for index, link in self._links.items() if link.ifindex() != index]:
            self._links.pop(ifindex).close()
