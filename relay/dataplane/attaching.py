"""Keeping the program attached where media come in, while interfaces, addresses and routes come and go.

What a driver does with redirected frames is asked or tried (relay.dataplane.probe); where to attach and how is chosen
by relay.dataplane.placement. Here is when: at the start, whenever the host has changed, and now and then where a device
may have changed unannounced.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from relay.dataplane.devices import Attachments, Devmap, Vlans, below_vlans
from relay.dataplane.opening import Opened
from relay.dataplane.placement import Placement, devices_of
from relay.dataplane.probe import EgressProbe, check_checksum
from relay.errors import DataplaneError
from relay.nic.links import Link
from relay.nic.watch import LINKS, HostWatch

__all__ = ["Attaching"]

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 30.0  # between two tries of a device that does not say whether it takes redirected frames
# What only a default route leads to: RFC 5737, RFC 3849, and no address that samples give to hosts.
_ANYWHERE, _ANYWHERE6 = "203.0.113.254", "2001:db8:ffff::1"
_REMEMBERED = 16


class Attaching:
    """The interfaces the program stands on and those packets leave by, kept right.

    `opened` has the tables, and the links of a former relay; `media` are the local addresses, `names` the interfaces
    to attach to instead of those found, `mode` auto, native or generic; `in_use` gives the devices of next hops.
    """

    def __init__(
        self,
        watch: HostWatch,
        opened: Opened,
        media: Sequence[str],
        mode: str,
        names: Sequence[str],
        in_use: Callable[[], set[int]],
    ) -> None:
        self._watch = watch
        self._tables = tables = opened.tables
        self._adopted = opened.adopted
        self._media = tuple(media)
        self._in_use = in_use
        self._loop = asyncio.get_running_loop()
        self._devmap = Devmap(tables.devices)
        self._probe = EgressProbe(tables.program("probe"), watch.kernel)
        self._vlans = Vlans(tables.vlans)
        self._attachments = Attachments(tables.program("hairpin"), watch.kernel.xdp_program, opened.pins)
        self._placement = Placement(self._attachments, self._devmap, self._leaves, mode, names)
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._absences = Absences()
        self.standing = False
        """Whether the program is attached anywhere, as it was found when last looked at."""

    async def start(self) -> None:
        """Attach. Raises DataplaneError where there is nothing to attach to or the program does not work there."""
        self.links_changed()
        if self._adopted:
            self._take_over()
        else:
            self._check_checksum()
            await self._stand()
        self._timer = self._loop.call_later(_RETRY_SECONDS, self._retry)

    async def renew(self) -> None:
        """Run the programs that stand in the tables by now. Raises BpfError."""
        self._probe.program = self._tables.program("probe")
        await self._attachments.replace(self._tables.program("hairpin"))

    def close(self, keep: bool = False) -> None:
        """Let go of all interfaces, or leave the program there as it is pinned; safe to call twice."""
        self._stop()
        if self._timer:
            self._timer.cancel()
        self._timer = None
        if keep:
            self._attachments.release()
        else:
            self._attachments.detach()

    def host_changed(self) -> None:
        """Links, addresses or routes are others now: attach to what follows from them."""
        self._stop()
        self._task = self._loop.create_task(self._stand_again())

    def links_changed(self) -> None:
        """Links are others now: those that are gone have no place in the devmap, those that came back have theirs."""
        self._devmap.follow(self._watch.links)
        self._vlans.follow(self._watch.links)

    def look(self) -> None:
        """See whether the program is attached; the kernel is not asked for every stream that is looked at."""
        self.standing = bool(self._placement.attached())

    def slot(self, ifindex: int) -> int | None:
        """The place of an egress device in the devmap; one that is new may need the program, too."""
        if ifindex not in self._devmap.devices() and self._timer:
            self._watch.soon(LINKS)
        return self._devmap.slot(ifindex)

    def flaw(self) -> str:
        """Why packets may not come in here, empty where they do."""
        if not self.standing:
            return "the XDP program is attached to no interface"
        return "; ".join(self._absences.addresses())

    def describe(self) -> list[str]:
        """Interfaces, mode and why, and what is missing."""
        return [*self._placement.describe(), *self._absences.describe()]

    def _stop(self) -> None:
        if self._task:
            self._task.cancel()

    async def _stand(self) -> None:
        self._place()
        if not self.standing:
            raise DataplaneError("no network interface leads to the media addresses: name one with --attach=IF")
        await self._probe_egress()

    def _take_over(self) -> None:
        """Stand where the former relay did, in its mode, and find out in the background whether that is right still.

        A relay that was generic had a reason, which is looked for before anything is attached natively.
        """
        self._slots(self._devices())
        if self._placement.take_over(self._watch.links):
            self._place()
        self.look()
        self._task = self._loop.create_task(self._stand_again(known=False))

    async def _stand_again(self, known: bool = True) -> None:
        try:
            if not known:
                await self._try_egress()
            await self._stand()
        except (DataplaneError, OSError) as error:  # an interface may go while it is looked at
            _log.error("cannot attach: %s", error)

    def _place(self) -> None:
        """Attach where packets come in, and where those of next hops in use leave."""
        links, devices = self._watch.links, self._devices()
        self._slots(devices)
        self._placement.place(links, devices)
        self.look()
        here = {str(address.interface.ip) for address in self._watch.addresses}
        self._absences.see(self._placement.names(), {link.name for link in links.values()})
        self._absences.see_addresses([ip for ip in self._media if ip not in here])

    def _slots(self, devices: set[int]) -> list[int]:
        """Places in the devmap of the devices that frames really leave by."""
        below = {link.index for ifindex in devices if (link := below_vlans(self._watch.links, ifindex))}
        return [slot for ifindex in below if (slot := self._devmap.slot(ifindex)) is not None]

    def _devices(self) -> set[int]:
        """Devices to attach to; one that was found once stays while it exists."""
        watch = self._watch
        in_use = self._in_use() | self._placement.attached()
        outward = (watch.kernel.route(_ANYWHERE6 if ":" in ip else _ANYWHERE, ip) for ip in self._media)
        default = {route.ifindex for route in outward if route}
        return devices_of(self._media, watch.addresses, watch.links, in_use, default)

    def _retry(self) -> None:
        self._timer = self._loop.call_later(_RETRY_SECONDS, self._retry)
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._retry_egress())

    async def _retry_egress(self) -> None:
        """Try again what was tried and may have changed unannounced; what stands is touched only if something has."""
        changed = [await self._retry_link(link) for link in self._egress() if self._is_mute(link)]
        if any(changed):
            await self._stand_again()
            _log.warning("a veth's peer began or ceased to poll: %s", "; ".join(self._placement.describe()))

    async def _retry_link(self, link: Link) -> bool:
        """Whether a device does otherwise than when it was tried before, which still counts meanwhile."""
        before = self._probe.verdict(link)
        try:
            return before is not None and await self._probe.run(link, self._devmap.slot(link.index) or 0) != before
        except (DataplaneError, OSError) as error:  # an interface may go while it is looked at
            _log.warning("cannot try whether frames leave by %s: %s", link.name, error)
            return False

    def _leaves(self, link: Link) -> bool | None:
        """What the device says of itself, and where it was tried, what came of it."""
        features = self._watch.netdev.features(link.index)
        if features and not features.takes_redirects:
            return False
        return self._probe.verdict(link)

    def _is_tried(self, link: Link) -> bool:
        """Devices that say nothing are tried, and veth; some cards do not count what they are redirected."""
        return link.running and (link.kind == "veth" or self._watch.netdev.features(link.index) is None)

    def _is_mute(self, link: Link) -> bool:
        """A veth takes redirects while its peer polls, and before Linux 6.3 it does not tell when that changes."""
        return link.running and link.kind == "veth" and self._watch.netdev.features(link.index) is None

    def _check_checksum(self) -> None:
        """Needs a device a frame might leave by; without one there is nothing to forward yet either."""
        if slots := self._slots(self._devices()):
            check_checksum(self._tables, self._media[0], slots[0])
            self._tables.zero_counters()

    async def _probe_egress(self) -> None:
        """Try the devices that packets leave by and that were not tried as they are now; go generic if one fails."""
        if self._placement.native and not await self._try_egress():
            self._place()

    async def _try_egress(self) -> bool:
        """Whether frames leave by all devices that were not tried as they are now."""
        untried = [link for link in self._egress() if self._is_tried(link) and self._probe.verdict(link) is None]
        results = [await self._probe.run(link, self._devmap.slot(link.index) or 0) for link in untried]
        return all(results)

    def _egress(self) -> list[Link]:
        """Devices that packets may leave by."""
        return [self._watch.links[ifindex] for ifindex in self._devmap.devices() if ifindex in self._watch.links]


class Absences:
    """What the operator is to know of interfaces and media addresses that are missing, or were."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._gone: dict[str, bool] = {}
        """Interfaces that went, the latest last, and whether they are back."""
        self._addresses: list[str] = []

    def see(self, attached: set[str], present: set[str]) -> None:
        """The interfaces attached to now, and all there are."""
        for name in self._seen - present:
            self._gone.pop(name, None)
            self._gone[name] = False
            _log.warning("interface %s has gone: what went through it waits until it is back", name)
        for name in attached & self._gone.keys():
            if not self._gone[name]:
                self._gone[name] = True
                _log.warning("interface %s is back, and attached to again", name)
        self._seen = (self._seen & present) | attached
        for name in list(self._gone)[:-_REMEMBERED]:
            del self._gone[name]

    def see_addresses(self, missing: list[str]) -> None:
        """The media addresses that are on no interface now."""
        for ip in missing:
            if ip not in self._addresses:
                _log.warning("media address %s is on no interface any more", ip)
        for ip in self._addresses:
            if ip not in missing:
                _log.warning("media address %s is back", ip)
        self._addresses = missing

    def describe(self) -> list[str]:
        """A line for each."""
        lines = [f"interface {name} {_RETURNED if back else _GONE}" for name, back in self._gone.items()]
        return lines + self.addresses()

    def addresses(self) -> list[str]:
        """A line for each media address that is missing."""
        return [f"media address {ip} is on no interface" for ip in self._addresses]


_GONE, _RETURNED = "has gone", "was gone, and is attached to again"
