"""Which data plane forwards: the one that was asked for, or the best that can be had here, and why no better one.

A plane shows whether it works by its start alone, so each is tried in turn: native XDP, generic XDP (the XDP plane goes
from one to the other by itself), then sockets. Libraries are loaded for the plane that needs them only.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from control.config import Config
from relay.dataplane import Dataplane, Listener
from relay.errors import DataplaneError
from relay.types import Endpoint

__all__ = ["Chosen", "Hearing", "choose"]

log = logging.getLogger("hairpin")

_SLOW = "XDP cannot be had, every packet goes through a socket: %s"
_FORWARDS = (
    "the tables in {} forward for a relay before this one, and --dataplane={} would take ports from them: start with "
    "--dataplane=xdp, or end those calls with `hairpin flush`"
)
_MODES = {"auto": "auto", "xdp": "native", "xdp-generic": "generic"}


class Chosen(NamedTuple):
    """A data plane that runs."""

    plane: Dataplane
    texts: Mapping[str, str]
    """What its counters mean."""
    sockets: Callable[[], Iterable[Endpoint]]
    """The ports it holds sockets at, which no other program's are."""
    close: Callable[[bool], Awaitable[None]]
    """Ends it; True leaves standing what outlives the relay, where there is any such thing."""


class Hearing:
    """Listens to a plane for those who are made after it, since they install their rules in it."""

    def __init__(self) -> None:
        self.listener: Listener | None = None
        """Whom to pass the news on to; without a rule there is none."""

    def learned(self, local: Endpoint, source: Endpoint, confirmed: bool) -> None:
        if self.listener is not None:
            self.listener.learned(local, source, confirmed)

    def rtcp(self, local: Endpoint, source: Endpoint, payload: bytes) -> None:
        if self.listener is not None:
            self.listener.rtcp(local, source, payload)


async def choose(config: Config, addresses: tuple[str, ...], listener: Listener, pins: Path | None = None) -> Chosen:
    """Start a plane that serves these media addresses. Raises DataplaneError saying why it cannot be had.

    Whoever asks for one plane by name gets that one or an error; `auto` settles for less and says so in the log.
    `pins`: where XDP's tables are to outlive the relay. Where they stand, no other plane is started beside them.
    """
    if pins is not None and _stands(pins):
        if config.dataplane in ("memory", "userspace"):
            raise DataplaneError(_FORWARDS.format(pins, config.dataplane))
        return await _adopt(config, addresses, listener, pins)
    if config.dataplane == "memory":
        return await _memory(listener)
    if config.dataplane == "userspace":
        return await _userspace(config, addresses, listener, "sockets were asked for")
    loopback = [ip for ip in addresses if ip_address(ip).is_loopback]
    if loopback and config.dataplane == "auto" and not config.no_fallback:
        reason = f"it does not serve the loopback address {loopback[0]}"
        if len(loopback) < len(addresses):
            log.warning(_SLOW, reason)
        return await _userspace(config, addresses, listener, reason)
    try:
        return await _xdp(config, addresses, listener, pins)
    except DataplaneError as error:
        if config.dataplane != "auto" or config.no_fallback:
            raise DataplaneError(f"{error}; or do without XDP: --dataplane=userspace") from error
        log.warning(_SLOW, error)
        return await _userspace(config, addresses, listener, str(error))


def _stands(pins: Path) -> bool:
    """Whether tables forward for a relay before this one. Raises DataplaneError where that cannot be seen."""
    if not pins.is_dir():
        return False
    from relay.dataplane.pins import stands

    return stands(pins)


async def _adopt(config: Config, addresses: tuple[str, ...], listener: Listener, pins: Path) -> Chosen:
    """Take over what stands. Raises DataplaneError that says how to be rid of it."""
    try:
        return await _xdp(config, addresses, listener, pins)
    except DataplaneError as error:
        if "hairpin flush" in str(error):
            raise
        raise DataplaneError(f"{error}; what stands in {pins} forwards on, and `hairpin flush` ends it") from error


async def _memory(listener: Listener) -> Chosen:
    from relay.dataplane.memory import MemoryDataplane

    plane = MemoryDataplane()
    await plane.start(listener)
    return Chosen(plane, {}, tuple, lambda keep: plane.close())


async def _xdp(config: Config, addresses: tuple[str, ...], listener: Listener, pins: Path | None) -> Chosen:
    from relay.dataplane.xdp import COUNTER_TEXTS, XdpDataplane, XdpSettings

    plane = XdpDataplane(
        XdpSettings(
            addresses=addresses,
            interfaces=config.attach,
            mode=_MODES[config.dataplane],
            max_addresses=config.max_addresses,
            port_rate=config.port_rate,
            slow_rate=config.slow_rate,
            deny=config.deny_peer,
            instance=config.instance,
            pins=pins,
            orphan_seconds=config.orphan_limit if pins is not None else 0,
        )
    )
    await plane.start(listener)
    return Chosen(plane, COUNTER_TEXTS, tuple, plane.close)


async def _userspace(config: Config, addresses: tuple[str, ...], listener: Listener, reason: str) -> Chosen:
    from relay.dataplane.abi import COUNTER_TEXTS
    from relay.dataplane.userspace import COUNTER_TEXTS as OWN_TEXTS
    from relay.dataplane.userspace import UserspaceDataplane, UserspaceSettings

    listeners = (*config.listen_ng, *config.listen_tcp_ng, *config.listen_http, *config.listen_https)
    plane = UserspaceDataplane(
        UserspaceSettings(
            addresses=addresses,
            port_rate=config.port_rate,
            slow_rate=config.slow_rate,
            deny=config.deny_peer,
            commanded=frozenset(listener.port for listener in listeners),
            reason=reason,
        )
    )
    await plane.start(listener)
    return Chosen(plane, {**COUNTER_TEXTS, **OWN_TEXTS}, plane.sockets, lambda keep: plane.close())
