"""Choosing where the program is attached, and native or generic; looked at again whenever links change.

Native XDP hands a redirected frame straight to the driver of the device it leaves by, and not every driver takes it at
every moment: a veth only while its peer polls (NAPI: an XDP program or GRO there), some cards only while they run XDP
themselves. Generic XDP leaves by the ordinary way of any device. So the choice is one for all interfaces: native if it
attaches everywhere and every device that packets leave by takes redirects, else generic with the reason kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from relay.dataplane.devices import Attachments, Devmap, Point, attach_points, below_vlans
from relay.dataplane.libbpf import BpfError, XdpMode
from relay.errors import DataplaneError
from relay.nic.ethtool import driver, strips_vlan_tags
from relay.nic.links import Address, Link

Leaves = Callable[[Link], bool | None]
"""Whether frames redirected to a device leave by it; None where that is not known yet."""


class Placement:
    """The interfaces the program stands on. `names` overrides the choice; `mode` is auto, native or generic."""

    def __init__(
        self, attachments: Attachments, devmap: Devmap, leaves: Leaves, mode: str, names: Sequence[str] = ()
    ) -> None:
        self._attachments = attachments
        self._devmap = devmap
        self._leaves = leaves
        self._mode = mode
        self._names = tuple(names)
        self._reason = ""
        self._mistagged = ""
        self._placed = self._taken_over = False

    def place(self, links: Mapping[int, Link], devices: Iterable[int]) -> None:
        """Attach to what `devices` stand for, in the best mode that works. Raises DataplaneError."""
        devices = set(devices)
        points = attach_points(links, self._named(links) if self._names else devices)
        reason = self._native_reason(points) or self._standing_reason(links)
        if not reason:
            reason = self._try_native(points, links)
        if reason and self._mode == "native":
            self._attachments.detach()
            raise DataplaneError(f"native XDP does not work here: {reason}")
        self._mistagged = _mistagged(links, devices) if reason else ""
        if self._mistagged and not (self._placed or self._taken_over):
            self._attachments.detach()
            raise DataplaneError(self._mistagged if self._mode == "generic" else f"{self._mistagged}; {reason}")
        if reason:
            self._attachments.switch(XdpMode.GENERIC, points)
        self._reason = reason
        self._placed = True

    def take_over(self, links: Mapping[int, Link]) -> bool:
        """Stand where a former relay left the program; False if `place` might interrupt it to try native XDP."""
        attached = self._attachments.attached() & links.keys()
        self._attachments.points = {index: Point(index, links[index].name) for index in attached}
        self._reason = self._standing_reason(links)
        self._taken_over = True
        return self.native or bool(self._reason) or self._mode == "generic"

    @property
    def native(self) -> bool:
        return self._attachments.mode is XdpMode.NATIVE

    def attached(self) -> set[int]:
        """Interfaces that packets come in through."""
        return self._attachments.attached()

    def names(self) -> set[str]:
        """The names of these."""
        attached = self._attachments.attached()
        return {point.name for index, point in self._attachments.points.items() if index in attached}

    def describe(self) -> list[str]:
        """One line per interface and what becomes of VLAN tags there, and why it is not native."""
        attached = sorted(self.names())
        mode = self._attachments.mode.name.lower()
        lines = [f"{mode} XDP on {name} ({driver(name) or 'no driver name'}), {tags_of(name)}" for name in attached]
        if self._reason and attached:
            lines.append(f"not native: {self._reason}")
        if self._mistagged and attached:
            lines.append(self._mistagged)
        return lines or ["attached to no interface"]

    def _named(self, links: Mapping[int, Link]) -> list[int]:
        by_name = {link.name: link.index for link in links.values()}
        missing = [name for name in self._names if name not in by_name]
        if missing and not self._placed:
            raise DataplaneError(f"there is no interface {missing[0]} to attach to")
        return [by_name[name] for name in self._names if name in by_name]

    def _native_reason(self, points: Mapping[int, Point]) -> str:
        if self._mode == "generic":
            return "generic XDP was asked for"
        return next((point.generic for point in points.values() if point.generic), "")

    def _standing_reason(self, links: Mapping[int, Link]) -> str:
        """Why a plane that is generic already stays so: a try would interrupt its traffic."""
        if self._attachments.mode is not XdpMode.GENERIC:
            return ""
        return self._attachments.refused or self._egress_reason(links)

    def _try_native(self, points: Mapping[int, Point], links: Mapping[int, Link]) -> str:
        """Attach natively; gives back why it will not do."""
        try:
            self._attachments.switch(XdpMode.NATIVE, points)
        except BpfError as error:
            self._attachments.refuse(str(error))
            return str(error)
        return self._egress_reason(links)

    def _egress_reason(self, links: Mapping[int, Link]) -> str:
        for ifindex in self._devmap.devices():
            link = links.get(ifindex)
            if link and link.up and self._leaves(link) is False:
                return f"{link.name} does not take redirected frames"
        return ""


def _mistagged(links: Mapping[int, Link], devices: Iterable[int]) -> str:
    """What generic XDP gets wrong on a VLAN whose tags the card strips, "" where there is none.

    The tag that the card took out stays beside the frame, unseen by the program, and is put into it once more.
    """
    for index in devices:
        below = below_vlans(links, index)
        if below and below.index != index and strips_vlan_tags(below.name):
            advice = f"`ethtool -K {below.name} rxvlan off`"
            wrong = f"generic XDP sends packets of {links[index].name} on with a tag too many"
            return f"{wrong}, as {below.name} strips tags: {advice}"
    return ""


def tags_of(interface: str) -> str:
    """Where XDP finds the VLAN tags of what comes in by an interface."""
    return "tags stripped by the card" if strips_vlan_tags(interface) else "tags on the wire"


def devices_of(
    media: Iterable[str],
    addresses: Sequence[Address],
    links: Mapping[int, Link],
    in_use: set[int],
    default: set[int],
) -> set[int]:
    """Devices packets come in through: those that carry a media address, and those of next hops `in_use`.

    For an address that stands on a loopback or dummy device also the `default` route's, or else every one with an
    address: its packets may come from anywhere.
    """
    wanted = set(media)
    carrying = {address.ifindex for address in addresses if str(address.interface.ip) in wanted}
    homeless = {
        index for index in carrying if index in links and (links[index].loopback or links[index].kind == "dummy")
    }
    found = carrying - homeless | in_use
    if homeless:
        found |= default or {address.ifindex for address in addresses} - homeless
    return found
