"""A keeper for tests: it writes down what it is told, and answers what the test has it answer."""

from __future__ import annotations

from collections.abc import Callable

from control.sdp import recall
from relay import snapshot
from relay.call import Call
from relay.types import Endpoint
from tests.calls import Stage

__all__ = ["OFFSET", "Told", "copied", "written"]

OFFSET = 1_700_000_000.0


class Told:
    """The keeper of a stage."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.records: dict[str, bytes] = {}
        """What stood in the journal after each change."""
        self.stage: Stage | None = None
        self.asked: list[str] = []
        self.waiting: dict[str, Callable[[], object]] = {}
        """What restores a call that is fetched."""
        self.ungoverned: set[str] = set()
        self.partners: dict[Endpoint, float] = {}
        """When partners heard ports."""

    def keep(self, stage: Stage) -> Stage:
        self.stage = stage
        stage.registry.keeper = self
        return stage

    def changed(self, head: Call) -> None:
        head.deed.foreign = False
        self.events.append(f"changed {head.call_id}")
        if self.stage is not None:
            self.records[head.call_id] = written(self.stage, head.call_id)

    def noticed(self, head: Call) -> None:
        self.events.append(f"noticed {head.call_id}")

    def ended(self, head: Call, reason: str) -> None:
        assert head.rules, "told while its ports still count"
        self.events.append(f"ended {head.call_id}: {reason}")

    def fetch(self, call_id: str) -> bool:
        self.asked.append(call_id)
        restore = self.waiting.pop(call_id, None)
        if restore is not None:
            restore()
        return restore is not None

    def dismiss(self, call_id: str) -> None:
        self.events.append(f"dismissed {call_id}")

    def governs(self, head: Call) -> bool:
        return head.call_id not in self.ungoverned

    def heard(self, local: Endpoint) -> float:
        return self.partners.get(local, 0.0)


def written(stage: Stage, call_id: str = "c1") -> bytes:
    """A call's snapshot."""
    members = stage.registry.query(call_id).members()
    return snapshot.encode(members, stage.plane, OFFSET, recall.written)


def copied(source: Stage, target: Stage, call_id: str = "c1", foreign: bool = True) -> Call:
    """Hand a call to another relay, as its partner or the journal does."""
    members = target.registry.read(written(source, call_id), OFFSET, recall.read, target.now)
    members[0].deed.foreign = foreign
    target.registry.receive(members, target.now)
    return members[0]
