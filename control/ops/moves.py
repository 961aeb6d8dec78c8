"""The operators' commands that move addresses and calls between relays, as the relay carries them out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from control.ops.operators import Arguments, Handler, OperatorError
from relay.errors import HairpinError
from relay.registry import Registry

__all__ = ["Announcer", "Moves", "Owner"]

log = logging.getLogger(__name__)


class Announcer(Protocol):
    """Who announces addresses (control.failover.failover). Orders return the addresses they hold for."""

    @property
    def draining(self) -> bool:
        """Whether a drain goes on, also one from before a restart."""

    def withdraw(self, ip: str | None, force: bool) -> list[str]:
        """Raises HairpinError where that would leave an address unserved."""

    def announce(self, ip: str | None, force: bool) -> list[str]:
        """Raises HairpinError where it would not be served well."""

    def drain(self) -> list[str]:
        """Announced as about to go, then withdrawn."""

    def resume(self) -> list[str]:
        """Announced again."""

    def status(self) -> dict[str, Any]:
        """What `hairpin status` shows of the addresses."""


class Owner(Protocol):
    """Who owns calls (control.replication.replicator)."""

    def take(self, ip: str) -> int:
        """How many calls of an address are being taken."""

    def release(self, ip: str) -> int:
        """The keyspace of the partner that is asked to take the calls. Raises HairpinError where there is none."""


class Moves:
    """Orders on addresses; `owner` is None for a relay without partners."""

    def __init__(
        self, announcer: Announcer, owner: Owner | None, registry: Registry, clock: Callable[[], float]
    ) -> None:
        self._announcer = announcer
        self._owner = owner
        self._registry = registry
        self._clock = clock
        """Unix seconds, as they stand at what happens to an address."""

    def handlers(self) -> Mapping[str, Handler]:
        """The commands by name."""
        return {
            "withdraw": self._withdraw,
            "announce": self._announce,
            "drain": self._drain,
            "resume": self._resume,
            "active": self._active,
            "standby": self._standby,
            "addresses": self._addresses,
        }

    def _withdraw(self, arguments: Arguments) -> Iterator[Any]:
        yield self._ordered(arguments, "withdraws", self._announcer.withdraw)

    def _announce(self, arguments: Arguments) -> Iterator[Any]:
        yield self._ordered(arguments, "announces", self._announcer.announce)

    def _ordered(
        self, arguments: Arguments, does: str, order: Callable[[str | None, bool], list[str]]
    ) -> dict[str, Any]:
        ip, force, at = _address(arguments), arguments.get("force") is True, self._clock()
        with _told(arguments, f"{does} %s{', by force' if force else ''}"):
            return {"addresses": order(ip, force), "at": at}

    def _drain(self, arguments: Arguments) -> Iterator[Any]:
        registry = self._registry
        registry.draining = True
        calls = registry.counts()
        who, left = arguments.get("operator"), calls["standing"] + calls["deleted"]
        log.warning("an operator (%s) drains the relay: new calls are refused; calls left: %d", who, left)
        yield {"addresses": self._announcer.drain(), **self._drained()}

    def _resume(self, arguments: Arguments) -> Iterator[Any]:
        self._registry.draining = False
        log.warning("an operator (%s) resumes: new calls are taken again", arguments.get("operator"))
        yield {"addresses": self._announcer.resume(), **self._drained()}

    def _drained(self) -> dict[str, Any]:
        return {"draining": self._registry.draining, "calls": self._registry.counts()}

    def _active(self, arguments: Arguments) -> Iterator[Any]:
        owner = self._with_partners()
        with _told(arguments, "takes the calls of %s"):
            for ip in self._meant(arguments):
                yield {"address": ip, "calls": owner.take(ip)}

    def _standby(self, arguments: Arguments) -> Iterator[Any]:
        owner = self._with_partners()
        with _told(arguments, "releases the calls of %s"):
            for ip in self._meant(arguments):
                yield {"address": ip, "partner": owner.release(ip)}

    def _addresses(self, arguments: Arguments) -> Iterator[Any]:
        yield self._announcer.status()

    def _with_partners(self) -> Owner:
        if self._owner is None:
            raise OperatorError("this relay has no partners: give it redis and subscribe-keyspace")
        return self._owner

    def _meant(self, arguments: Arguments) -> list[str]:
        known = [row["address"] for row in self._announcer.status()["addresses"]]
        ip = _address(arguments)
        if ip is not None and ip not in known:
            raise OperatorError(f"{ip} is no service address of this relay: see `hairpin status`")
        return known if ip is None else [ip]


@contextmanager
def _told(arguments: Arguments, does: str) -> Iterator[None]:
    """Log what an operator does to an address, and where it was refused."""
    log.warning(f"an operator (%s) {does}", arguments.get("operator"), _address(arguments) or "all addresses")
    try:
        yield
    except HairpinError as error:
        log.warning("the operator (%s) is refused that: %s", arguments.get("operator"), error)
        raise


def _address(arguments: Arguments) -> str | None:
    ip = arguments.get("address")
    if ip is not None and not isinstance(ip, str):
        raise OperatorError("address must be text")
    return ip
