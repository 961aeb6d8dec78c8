"""How the XDP plane is to run, and what its tables and program are made for by that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from relay.dataplane import abi
from relay.dataplane.host import Network, room_for
from relay.dataplane.program import OBJECT, Sizes

__all__ = ["XdpSettings"]


@dataclass(frozen=True, slots=True)
class XdpSettings:
    """How the plane is to run."""

    addresses: tuple[str, ...]
    """Local media addresses, of either family."""
    interfaces: tuple[str, ...] = ()
    """Interfaces to attach to, instead of those found by address and route."""
    mode: str = "auto"
    """auto, native or generic."""
    max_addresses: int = 16
    port_rate: int = 2000
    """Packets a second one port takes; the rest is dropped early."""
    slow_rate: int = 16
    """Packets and events a second one rule may send to user space."""
    deny: tuple[Network, ...] = ()
    """Networks media is never sent to."""
    object_path: Path = OBJECT
    instance: int = 0
    pins: Path | None = None
    """Folder of this instance in a BPF file system, where tables and program outlive the process; None: nowhere."""
    orphan_seconds: int = 0
    """How long they forward after it, with nobody to take over; 0: for ever."""

    def sizes(self) -> Sizes:
        """What it takes; tables that are pinned have room for addresses that may come. Raises DataplaneError."""
        rules = room_for(self.addresses, self.max_addresses)
        rates = self.port_rate, self.slow_rate
        if self.pins:
            return Sizes(self.max_addresses * abi.PORTS, *rates, abi.PEERS, self.orphan_seconds)
        return Sizes(rules, *rates, abi.PEERS if any(":" in ip for ip in self.addresses) else 1)
