"""Which of the relay's addresses a party gets: by the name the proxy gives, and by address family."""

from __future__ import annotations

from collections.abc import Sequence

from relay.errors import PortsExhausted
from relay.ports import Interface

__all__ = ["Interfaces", "Places", "draw", "goes_by", "version"]

Places = tuple[Interface, ...]
"""Addresses of one name and family: the first, then those to use when its ports have run out."""

IN_TURNS = "round-robin-calls"
"""The name that means any interface."""


def version(ip: str) -> int:
    """The IP version of an address."""
    return 6 if ":" in ip else 4


def goes_by(interface: Interface, name: str) -> bool:
    """Whether the proxy may call an interface so: by its name, or by BASE where that is BASE:SUFFIX."""
    return name in (interface.name, IN_TURNS) or interface.name.startswith(f"{name}:")


def draw(places: Places, now: float) -> tuple[Interface, int]:
    """A pair of ports on the first address that has one. Raises PortsExhausted."""
    for interface in places[:-1]:
        try:
            return interface, interface.pool.draw(now)
        except PortsExhausted:
            continue
    last = places[-1]
    return last, last.pool.draw(now)


class Interfaces:
    """All interfaces of a relay. The name of its own first one is taken where the proxy gives none."""

    def __init__(self, interfaces: Sequence[Interface]) -> None:
        given = [one for one in interfaces if one.home < 0]
        if not given:
            raise ValueError("a relay needs an interface of its own")
        self.all = tuple(interfaces)
        self.own = frozenset(ip for one in interfaces for ip in (one.address, one.advertised))
        """The relay's addresses, as bound and as shown."""
        self._given = given
        """Where calls are made: of a partner's addresses are only the calls it made there."""
        self._together: dict[tuple[str, int, int], Places] = {}
        """By name, family and home."""
        for one in interfaces:
            key = one.name, version(one.address), one.home
            self._together[key] = (*self._together.get(key, ()), one)
        self._names = list(dict.fromkeys(one.name for one in given))
        self._turns: dict[str, int] = {}
        """For each BASE, the place in its names where the next call begins to look."""
        self._unnamed = {family: self._first_of(family) for family in (4, 6)}

    def choose(self, name: str | None, family: int, warnings: list[str], asked: bool = True) -> Places:
        """The addresses of a name, of a family if it has any (0: of whichever comes first).

        What cannot be had is warned of; that the family is missing only if it was `asked` for.
        """
        if name is None:
            return self._default(family, warnings, asked)
        names = [one for one in self._names if one == name or one.startswith(f"{name}:") or name == IN_TURNS]
        if not names:
            places = self._default(family, [], False)
            warnings.append(f"no interface is called {name}: {places[0].name} is used")
            return places
        found = self._in_turn(name, names, family)
        if not found:
            found = self._in_turn(name, names, 0)
            if asked:
                warnings.append(f"interface {name} has no IPv{family} address: {found[0].address} is used")
        return found

    def placed(self, name: str, address: str) -> Places:
        """The addresses a party has its ports on whose first one goes by this name and address; nothing if none has it.

        Partners may call it otherwise: the address counts more than the name.
        """
        here = [one for one in self.all if one.address == address]
        if not here:
            return ()
        first = next((one for one in here if one.name == name), here[0])
        return self._together[first.name, version(address), first.home]

    def at(self, name: str, address: str, port: int) -> Interface | None:
        """The interface that has a port of an address, under this name if it can be; None where none has it."""
        here = [one for one in self.all if one.address == address and one.pool.low <= port <= one.pool.high]
        return next((one for one in here if one.name == name), here[0] if here else None)

    def kept(self, places: Places, name: str | None, family: int, warnings: list[str]) -> Places:
        """The same addresses, unless another name or family is asked for than they have."""
        here = places[0]
        named = name is None or goes_by(here, name)
        if named and (not family or family == version(here.address)):
            return places
        if name is not None and not any(goes_by(one, name) for one in self.all):
            warnings.append(f"no interface is called {name}: {here.name} is used")
            return places if not family else self.kept(places, None, family, warnings)
        wanted, family = here.name if name is None or named else name, family or version(here.address)
        beside = self._beside(wanted, family, here.home) if here.home >= 0 else ()
        found = beside or self.choose(wanted, family, warnings)
        return places if found[0] is here else found

    def _beside(self, name: str, family: int, home: int) -> Places:
        """Addresses of a partner by a name it goes by and a family, nothing where it has none."""
        for (_, kind, whose), places in self._together.items():
            if kind == family and whose == home and goes_by(places[0], name):
                return places
        return ()

    def _default(self, family: int, warnings: list[str], asked: bool) -> Places:
        places = self._unnamed.get(family) or self._of(self._names[0], 0)
        if asked and family and version(places[0].address) != family:
            warnings.append(f"no interface has an IPv{family} address: {places[0].address} is used")
        return places

    def _in_turn(self, base: str, names: list[str], family: int) -> Places:
        """Of several names the next one that has free ports, or the next one; nothing where none has the family."""
        found = [places for name in names if (places := self._of(name, family))]
        if len(found) < 2:
            return found[0] if found else ()
        start = self._turns.get(base, 0) % len(found)
        order = [*range(start, len(found)), *range(start)]
        chosen = next((turn for turn in order if any(one.pool.has_free for one in found[turn])), start)
        self._turns[base] = chosen + 1
        return found[chosen]

    def _of(self, name: str, family: int) -> Places:
        """The addresses of an exact name; of family 0, those of the family that was configured first."""
        if family:
            return self._together.get((name, family, -1), ())
        first = next(one for one in self._given if one.name == name)
        return self._together[name, version(first.address), -1]

    def _first_of(self, family: int) -> Places:
        """The addresses of the first name that has this family."""
        return next((places for name in self._names if (places := self._of(name, family))), ())
