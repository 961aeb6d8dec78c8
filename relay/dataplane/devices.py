"""Where the program is attached and where packets may leave: devices, their places in the devmap, native or generic."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import struct
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass

from relay.dataplane import abi
from relay.dataplane.libbpf import BpfError, Link, Map, MapFull, Program, XdpMode
from relay.dataplane.pins import Pins
from relay.dataplane.words import be16
from relay.errors import DataplaneError
from relay.nic import links as nic

_STACKED = ("vlan", "macvlan", "bridge")
_INDEX = struct.Struct("=I")
_VLAN = struct.Struct("=IHxx")  # struct hp_vlan
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
        self._slots: dict[int, int] = {}  # those that a former process entered, too
        free = []
        for slot in range(abi.DEVICES):
            if found := table.lookup(_INDEX.pack(slot)):
                self._slots[int(_INDEX.unpack(found)[0])] = slot
            else:
                free.append(slot)
        self._free = deque(free)

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


class Vlans:
    """The program's own view of VLAN devices: the kernel names them where it is asked for a way."""

    def __init__(self, table: Map) -> None:
        self._table = table
        self._standing = set(table.keys())

    def follow(self, links: Mapping[int, nic.Link]) -> None:
        """Enter what there is now: each one's lower device and tag."""
        wanted = {_INDEX.pack(link.index): link for link in links.values() if link.vlan and link.lower in links}
        for key in self._standing - wanted.keys():
            self._table.delete(key)
        self._standing = set(wanted)
        for key, link in wanted.items():
            with contextlib.suppress(MapFull):  # beyond 4096: the way known last serves
                self._table.update(key, _VLAN.pack(link.lower, be16(link.vlan)))


class Attachments:
    """The program's links to interfaces, all in one mode: what comes in natively can only leave natively.

    `standing` names the XDP program an interface carries already. With `pins` links outlive the process, and those
    that stand there are taken over.
    """

    def __init__(self, program: Program, standing: Callable[[int], int], pins: Pins | None = None) -> None:
        self._program = program
        self._standing = standing
        self._pins = pins
        self._links: dict[int, Link] = {}
        self.points: dict[int, Point] = {}
        self.mode = XdpMode.NATIVE
        self.refused = ""
        """Why native XDP cannot be had, where it was tried in vain."""
        if pins:
            self._adopt(pins)

    def attach(self, points: Mapping[int, Point]) -> None:
        """Attach where it is not yet, and let go where it is no longer wanted. Raises BpfError."""
        self._drop_dead()
        for ifindex in self._links.keys() - points.keys():
            self._links.pop(ifindex).detach()
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
            link.detach()
        self._links.clear()

    def release(self) -> None:
        """Leave the program where it is pinned, for another process."""
        for link in self._links.values():
            link.close()
        self._links.clear()

    def refuse(self, reason: str) -> None:
        """Remember, also for the next process, why native XDP cannot be had."""
        self.refused = reason
        if self._pins:
            self._pins.refuse(reason)

    async def replace(self, program: Program) -> None:
        """Put another program in the place of this one everywhere, losing no packet. Raises BpfError."""
        self._program = program
        for link in [link.duplicate() for link in self._links.values()]:
            with closing(link):
                try:
                    await asyncio.to_thread(link.update, program)
                except BpfError:
                    if link.ifindex():  # else its interface has gone
                        raise

    def _adopt(self, pins: Pins) -> None:
        self.refused = pins.said.refused
        for ifindex, (mode, link) in pins.links().items():
            if self._links and mode is not self.mode:
                link.detach()
            else:
                self.mode = mode
                self._links[ifindex] = link

    def _attach(self, point: Point) -> Link:
        try:
            link = self._program.attach_xdp(point.ifindex, self.mode)
        except BpfError as error:
            if error.errno == errno.EBUSY:
                program = self._standing(point.ifindex)
                raise DataplaneError(
                    f"{point.name} carries XDP program {program} already (`bpftool prog show id {program}`): "
                    "end what attached it (a former relay's: `hairpin flush` with its options), "
                    "or name other interfaces with --attach"
                ) from error
            raise
        if self._pins:
            try:
                self._pins.keep(link, point.ifindex, self.mode)
            except BaseException:
                link.close()
                raise
        return link

    def _drop_dead(self) -> None:
        for ifindex in [index for index, link in self._links.items() if link.ifindex() != index]:
            self._links.pop(ifindex).detach()
