"""Nodes that hold each other's calls, with everything between them failing at random.

Whatever happens, no call whose parties talk ends by a timer; and when all is well again, every node has every live call
with the same rules and the same owner, nobody has one that has ended, and no port has been given out twice.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from control.replication.ownership import DOUBT
from relay.call import Call
from relay.errors import HairpinError
from relay.types import Endpoint, Rule
from tests.nodes import TERMS, World, address

CALLER, CALLEE = Endpoint("198.51.100.10", 4000), Endpoint("203.0.113.20", 5000)
NODES = st.integers(1, 3)
WHICH = st.integers(0, 3)
CALLS = 4
"""That talk at once at most."""
PARTED = 200.0
"""Seconds that nodes are apart at most: word of an ended call is kept for longer."""


REWRITTEN = 3.0
"""Seconds after which a node has written again what Redis lost: one that ends before takes it along."""


class Pair(RuleBasedStateMachine):
    """Two or three nodes, a few calls."""

    @initialize(
        number=st.sampled_from([2, 2, 3]), shifts=st.sampled_from([(0.0,) * 3, (0.0,) * 3, (0.0, 30.0, -3600.0)])
    )
    def begin(self, number: int, shifts: tuple[float, ...]) -> None:
        self.world = World(number, shifts=shifts)
        self.made = 0
        self.apart = 0.0
        self.emptied: dict[int, float] = {}
        """Nodes whose keyspace was emptied, and for how long they have been able to write again what it held."""
        self.commanded: dict[str, tuple[int, float]] = {}
        """Where and when each call got its last command."""
        self.incarnations: dict[str, str] = {}
        self.unsure: set[str] = set()
        """Calls that got two commands at once, or by clocks that differ: which was the last is in doubt."""
        self.seen = dict.fromkeys(self.world.nodes, 0)
        for node in self.world.keyspaces:
            self.set_up(node)
        self.world.run(1)

    # -- commands

    @rule(node=NODES)
    def set_up(self, node: int) -> None:
        if node in self.world.nodes and self.world[node].replicator.ready and len(self.world.talking) < CALLS:
            self.made += 1
            self._command(node, f"c{self.made}")

    @rule(node=NODES, which=WHICH, port=st.sampled_from([4000, 4002, 4004]))
    def reinvite(self, node: int, which: int, port: int) -> None:
        call_id = self._which(which, node)
        if call_id is not None:
            self._command(node, call_id, Endpoint(CALLER.ip, port))

    @rule(node=NODES)
    def use_a_call_id_again(self, node: int) -> None:
        """At a node that knows of the end: by clocks alone it is not sure which of two calls is the later one."""
        ended = [call_id for call_id in self.commanded if call_id not in self.world.talking]
        if node not in self.world.nodes or not ended or len(self.world.talking) >= CALLS:
            return
        here, call_id = self.world[node], ended[0]
        known = here.replicator.over(call_id, self.incarnations[call_id])
        if known and here.find(call_id) is None and here.replicator.ready:
            self._command(node, call_id)

    @rule(node=NODES, which=WHICH, delay=st.sampled_from([0.0, 0.0, 5.0]))
    def hang_up(self, node: int, which: int, delay: float) -> None:
        call_id = self._which(which, node)
        if call_id is not None:
            self.world.hang_up(node, call_id, delay)

    def _command(self, node: int, call_id: str, caller: Endpoint = CALLER) -> None:
        before, at = self.commanded.get(call_id, (node, 0.0))
        if self.world.now - at <= 2 * DOUBT or (before != node and any(self.world.shifts)):
            self.unsure.add(call_id)
        self.incarnations[call_id] = self.world.set_up(node, call_id, caller, CALLEE).deed.incarnation
        self.commanded[call_id] = node, self.world.now

    def _which(self, which: int, node: int) -> str | None:
        """One of the calls that talk, as far as a node knows of it."""
        registry = self.world[node].registry if node in self.world.nodes else ()
        known = {call.call_id: call.deed.incarnation for call in registry}
        talking = [one for one in sorted(self.world.talking) if known.get(one) == self.incarnations[one]]
        return talking[which % len(talking)] if talking else None

    # -- time, routes and operators

    @rule(seconds=st.sampled_from([0.25, 1.0, 3.0, 8.0, 30.0, 75.0]))
    def wait(self, seconds: float) -> None:
        self._run(seconds)

    @rule(home=NODES, to=st.sets(NODES, min_size=1, max_size=2))
    def route(self, home: int, to: set[int]) -> None:
        if home in self.world.routes and to <= set(self.world.keyspaces):
            self.world.routes[home] = set(to)

    @rule(home=NODES, heir=NODES)
    def withdraw(self, home: int, heir: int) -> None:
        if home in self.world.nodes and heir in self.world.nodes and home != heir:
            self.world[home].replicator.announced[address(home)] = "none"
            self.world.routes[home] = {heir}

    @rule(node=NODES)
    def announce(self, node: int) -> None:
        if node in self.world.nodes:
            self.world[node].replicator.announced[address(node)] = "primary"
            self.world.routes[node] = {node}

    @rule(node=NODES, home=NODES, take=st.booleans())
    def order(self, node: int, home: int, take: bool) -> None:
        if node in self.world.nodes:
            replicator = self.world[node].replicator
            if take:
                replicator.take(address(home))
                return
            with suppress(HairpinError):  # there may be nobody to take them
                replicator.release(address(home))

    # -- faults

    @rule(node=NODES)
    def crash(self, node: int) -> None:
        if node in self.world.nodes and len(self.world.nodes) > 1 and node not in self.emptied:
            self.world.crash(node)

    @rule(node=NODES)
    def restart(self, node: int) -> None:
        if node in self.world.keyspaces and node not in self.world.nodes:
            self._restart(node)

    @precondition(lambda self: self.apart < PARTED)
    @rule(node=NODES)
    def part(self, node: int) -> None:
        if node in self.world.nodes:
            self.world[node].store.connect(False)

    @rule(node=NODES)
    def join(self, node: int) -> None:
        if node in self.world.nodes:
            self.world[node].store.connect(True)

    @precondition(lambda self: len(self.world.nodes) == self.world.number)
    @rule(keyspace=NODES)
    def flush(self, keyspace: int) -> None:
        self.emptied[keyspace] = 0.0
        self.world.redis.empty(keyspace)

    @precondition(lambda self: len(self.world.nodes) == self.world.number)
    @rule()
    def redis_restarts_empty(self) -> None:
        self.emptied = dict.fromkeys(self.world.keyspaces, 0.0)
        for node in self.world.nodes.values():
            node.store.connect(False)
        self.world.redis.empty()
        self._join_all()

    @rule(lose=st.sampled_from([0.0, 0.5, 1.0]), twice=st.sampled_from([0.0, 0.5]), reorder=st.booleans())
    def spoil_notifications(self, lose: float, twice: float, reorder: bool) -> None:
        faults = self.world.redis.faults
        faults.lose, faults.twice, faults.reorder = lose, twice, reorder

    def _restart(self, node: int) -> None:
        self.world.start(node)
        self.seen[node] = 0

    def _join_all(self) -> None:
        for node in self.world.nodes.values():
            node.store.connect(True)

    def _run(self, seconds: float) -> None:
        apart = len(self.world.nodes) < self.world.number
        apart |= not all(node.store.connected for node in self.world.nodes.values())
        self.apart = self.apart + seconds if apart else 0.0
        if self.apart > PARTED:
            self._join_all()
        self.world.run(seconds)
        for keyspace, node in self.world.nodes.items():
            if keyspace in self.emptied and node.store.connected:
                self.emptied[keyspace] += seconds
        self.emptied = {keyspace: long for keyspace, long in self.emptied.items() if long < REWRITTEN}

    # -- what holds

    @invariant()
    def no_timer_ends_a_call_that_talks(self) -> None:
        for keyspace, node in self.world.nodes.items() if hasattr(self, "world") else ():
            fresh, self.seen[keyspace] = node.ended[self.seen[keyspace] :], len(node.ended)
            assert not [one for one in fresh if one[1] != "deleted" and one[0] in self.world.talking]

    @invariant()
    def no_port_is_given_out_twice(self) -> None:
        for node in self.world.nodes.values() if hasattr(self, "world") else ():
            given: dict[Endpoint, str] = {}
            for call_id, pairs in self.world.talking.items():
                if node.find(call_id) is not None:
                    for local, _ in pairs:
                        assert given.setdefault(local, call_id) == call_id

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self._heal()
        self.no_timer_ends_a_call_that_talks()
        live = set(self.world.talking)
        for keyspace, node in self.world.nodes.items():
            standing = {call.call_id for call in node.registry}
            assert standing <= live, f"node {keyspace} has {standing - live}, which ended"
            assert standing >= live, f"node {keyspace} lost {live - standing}"
        for call_id in live:
            self._agrees(call_id)

    def _heal(self) -> None:
        """All is well again, for as long as two comparisons take."""
        self.spoil_notifications(0.0, 0.0, False)
        for keyspace in self.world.keyspaces:
            if keyspace not in self.world.nodes:
                self._restart(keyspace)
            self.world.routes[keyspace] = {keyspace}
            self.world[keyspace].replicator.announced.clear()
        self._join_all()
        self.world.run(2.5 * TERMS.compare)
        self.world.settle()

    def _agrees(self, call_id: str) -> None:
        """All nodes say the same of a call."""
        calls = {keyspace: node.registry.query(call_id) for keyspace, node in self.world.nodes.items()}
        deeds = [replace(call.deed, foreign=False) for call in calls.values()]
        assert all(_same(deed) == _same(deeds[0]) for deed in deeds), deeds
        assert [keyspace for keyspace, call in calls.items() if not call.deed.foreign] == [deeds[0].owner]
        rules = [_rules(call) for call in calls.values()]
        assert all(one == rules[0] for one in rules)
        if call_id not in self.unsure:
            assert {local for local, _ in self.world.talking[call_id]} <= rules[0].keys()


def _same(deed: object) -> str:
    return repr(deed)


def _rules(call: Call) -> dict[Endpoint, Rule]:
    """What a call's rules say, but for counts of changes, which each node has of its own."""
    return {
        rule.local: rule._replace(known_source=None, destination_epoch=0, source_epoch=0)
        for member in call.members()
        for rule in member.rules.values()
    }


TestPair = Pair.TestCase
TestPair.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
