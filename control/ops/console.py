"""The operators' commands as the relay carries them out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from control.ops import views
from control.ops.operators import Arguments, Handler, OperatorError
from relay.call import Call
from relay.dataplane import Dataplane
from relay.ports import Interface
from relay.registry import Registry

log = logging.getLogger(__name__)


class Console:
    """Calls, rules and state of one relay for its operators.

    `about` tells what the daemon knows of itself; `texts` says what the data plane's counters and drop reasons mean.
    """

    def __init__(
        self,
        registry: Registry,
        plane: Dataplane,
        about: Callable[[], dict[str, Any]],
        clock: Callable[[], float],
        texts: Mapping[str, str],
    ) -> None:
        self._registry = registry
        self._plane = plane
        self._about = about
        self._clock = clock
        self._texts = texts

    def handlers(self) -> Mapping[str, Handler]:
        """The commands by name."""
        return {
            "list": self._list,
            "show": self._show,
            "terminate": self._terminate,
            "status": self._status,
            "rules": self._rules,
        }

    def _list(self, arguments: Arguments) -> Iterator[Any]:
        return (views.call_row(call, self._plane, self._clock()) for call in self._registry)

    def _show(self, arguments: Arguments) -> Iterator[Any]:
        yield views.call_detail(self._named(arguments), self._plane, self._clock(), self._texts)

    def _terminate(self, arguments: Arguments) -> Iterator[Any]:
        call = self._named(arguments)
        log.info("an operator (%s) terminates it", arguments.get("operator"), extra={"call_id": call.call_id})
        self._registry.terminate(call.call_id, self._clock())
        yield {"call_id": call.call_id}

    def _rules(self, arguments: Arguments) -> Iterator[Any]:
        for call in self._registry:
            yield from views.rule_rows(call, self._plane)

    def _status(self, arguments: Arguments) -> Iterator[Any]:
        registry, about = self._registry, self._about()
        yield {
            **about,
            "dataplane": [self._plane.name, *self._plane.describe()],
            "draining": registry.draining,
            "calls": registry.counts(),
            "interfaces": [_interface(interface) for interface in registry.interfaces],
            "texts": dict(self._texts),
            "counters": {
                **about["counters"],
                "data plane": dict(self._plane.counters()),
                "calls ended": dict(registry.closed),
                "calls that left": dict(registry.forgotten),
            },
        }

    def _named(self, arguments: Arguments) -> Call:
        name = arguments.get("call")
        call = self._registry.find(name) if isinstance(name, str) else None
        if call is None:
            raise OperatorError(f"no call has the Call-ID {name!r}: see `hairpin list`")
        return call


def _interface(interface: Interface) -> dict[str, Any]:
    pool = interface.pool
    return {
        "name": interface.name,
        "address": interface.address,
        "ports_used": 2 * pool.drawn,
        "ports_free": 2 * pool.available,
    }
