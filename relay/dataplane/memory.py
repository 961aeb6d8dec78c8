"""The data plane that forwards nothing: it keeps rules and counts what tests and dry runs tell it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields
from ipaddress import IPv4Network, IPv6Network
from operator import attrgetter

from relay.dataplane import Listener
from relay.dataplane.heard import port_bitmap
from relay.errors import DataplaneError
from relay.types import Endpoint, Path, Rule, StreamState

__all__ = ["MemoryDataplane"]

_fields = attrgetter(*(field.name for field in fields(StreamState)))


class MemoryDataplane:
    """Rules in a dictionary. `limit` rules at most, None for any number.

    It inherits what `former` has in force, as if that one's process had ended in this moment.
    """

    name = "memory"

    def __init__(self, limit: int | None = None, former: MemoryDataplane | None = None) -> None:
        self.limit = limit
        self.installed: dict[Endpoint, Rule] = {}
        self.lingering: dict[Endpoint, float] = {}
        """Ports out of force, and for how many seconds they drop in silence."""
        self._left: dict[Endpoint, Rule] = former._in_force() if former is not None else {}
        states = former._states if former is not None else {}
        self._states: dict[Endpoint, StreamState] = {
            local: StreamState(*_fields(state)) for local, state in states.items()
        }
        self._counters: Counter[str] = Counter()
        self._listener: Listener | None = None
        self._octets = 0
        self._heard: dict[str, set[int]] = {}

    async def start(self, listener: Listener) -> None:
        """Nothing can fail here."""
        self._listener = listener

    async def close(self) -> None:
        """Forget all rules."""
        self._listener = None
        self.installed.clear()
        self._left.clear()
        self._states.clear()

    def describe(self) -> list[str]:
        """One line for the operator."""
        return ["rules are kept, no packet is forwarded"]

    def install(self, rules: Iterable[Rule]) -> None:
        """Put rules in force. Raises DataplaneError, with none of them in force, where the limit is in the way."""
        rules = list(rules)
        fresh = sum(rule.local not in self.installed and rule.local not in self._left for rule in rules)
        standing = len(self.installed) + len(self._left)
        if self.limit is not None and standing + fresh > self.limit:
            raise DataplaneError(f"no room for {fresh} more rules beside {standing}")
        for rule in rules:
            self._change(rule)
        self._counters["installed"] += len(rules)

    def remove(self, locals_: Iterable[Endpoint], linger: float) -> None:
        """Take rules out of force; ports that have none are passed over."""
        for local in locals_:
            if (self.installed.pop(local, None) or self._left.pop(local, None)) is not None:
                del self._states[local]
                self.lingering[local] = linger
                self._counters["removed"] += 1

    def state(self, local: Endpoint) -> StreamState:
        """A copy of a port's counters, so that nobody changes them from outside."""
        return StreamState(*_fields(self._states[local])) if local in self.installed else StreamState()

    def packets(self, local: Endpoint) -> int:
        """Packets admitted at one port."""
        return self._states[local].packets if local in self.installed else 0

    def deny(self, networks: Iterable[IPv4Network | IPv6Network]) -> None:
        """Nothing is sent anywhere."""

    def octets(self) -> int:
        """UDP payload that arrived at ports with a rule."""
        return self._octets

    def inherited(self) -> list[Endpoint]:
        """Ports that the former plane had in force, and that no rule was installed at since."""
        return list(self._left)

    def closing(self) -> list[Endpoint]:
        """Ports that were taken out of force with a time to linger."""
        return list(self.lingering)

    def heard(self, ip: str) -> bytes:
        """Which ports of a local address took packets since this was last asked."""
        return port_bitmap(self._heard.pop(ip, ()))

    def rules(self) -> list[Endpoint]:
        """Ports with a rule in force."""
        return list(self.installed)

    def counters(self) -> Mapping[str, int]:
        """How many rules came and went."""
        return dict(self._counters)

    def _in_force(self) -> dict[Endpoint, Rule]:
        return self._left | self.installed

    def _change(self, rule: Rule) -> None:
        old, known = self.installed.get(rule.local) or self._left.pop(rule.local, None), rule.known_source
        self.installed[rule.local] = rule
        if old is None:
            self.lingering.pop(rule.local, None)
            self._heard.get(rule.local.ip, set()).discard(rule.local.port)
            self._states[rule.local] = StreamState(observed_source=known, confirmed=known is not None, path=Path.MEMORY)
            return
        state = self._states[rule.local]
        if old.source_epoch != rule.source_epoch or (known is not None and state.observed_source is None):
            state.observed_source, state.confirmed = known, known is not None

    # -- what packets would do

    def arrive(
        self, local: Endpoint, source: Endpoint, size: int = 172, packets: int = 1, confirm: bool = True
    ) -> None:
        """Let packets of `size` bytes of payload arrive at a port from `source`, and say so to the listener."""
        state = self._states.get(local)
        if state is None:
            self._counters["no_rule"] += packets
            return
        state.packets += packets
        state.bytes += packets * size
        self._octets += packets * size
        self._heard.setdefault(local.ip, set()).add(local.port)
        if state.confirmed and source != state.observed_source:
            state.foreign += packets
            return
        known = (state.observed_source, state.confirmed)
        state.observed_source, state.confirmed = source, confirm
        if self._listener is not None and known != (source, confirm):
            self._listener.learned(local, source, confirm)

    def arrive_rtcp(self, local: Endpoint, source: Endpoint, payload: bytes) -> None:
        """Let one compound RTCP packet arrive at a port, with its copy for the listener."""
        self.arrive(local, source, len(payload))
        state = self._states.get(local)
        if state is not None and state.observed_source == source and self._listener is not None:
            self._listener.rtcp(local, source, payload)
