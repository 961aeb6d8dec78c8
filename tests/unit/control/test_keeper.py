"""Calls that are kept: written down with each command, and restored by the next process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvloop

from control import keeper as keeper_module
from control import restoring as restoring_module
from control.journal import Journal
from control.keeper import CallKeeper
from control.log import NOTICE
from control.ng import bencode
from control.ng.service import Service
from control.replication.record import Record, decode, encode
from control.sdp import recall
from control.sdp.party import Memory
from relay.call import Call
from relay.dataplane.memory import MemoryDataplane
from relay.errors import PortsExhausted, UnknownCall
from relay.interfaces import Interfaces
from relay.ports import Interface, PortPool
from relay.types import Endpoint
from tests.calls import ALICE, BOB, HOST, PROXY, Stage, sdp
from tests.keeping import copied

UNIX = 1_700_000_000.0


def run(scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(scenario, 20))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110, there is nobody who would tell
            await asyncio.sleep(0.002)


class Partners:
    """What other nodes were told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Record, bool]] = []
        self.dead: set[tuple[str, str]] = set()

    def put(self, call_id: str, record: bytes, dead: bool) -> None:
        self.told.append((call_id, decode(record), dead))

    def over(self, call_id: str, incarnation: str) -> bool:
        return (call_id, incarnation) in self.dead

    def governs(self, head: Call) -> bool:
        return not head.deed.foreign

    def heard(self, local: Endpoint) -> float:
        return 17.0


class Heir(MemoryDataplane):
    """A plane in whose tables the ports of a former process stand."""

    def __init__(self, left: Iterable[Endpoint]) -> None:
        super().__init__()
        self.left = list(left)

    def inherited(self) -> list[Endpoint]:
        return [local for local in self.left if local not in self.installed]

    def remove(self, locals_: Iterable[Endpoint], linger: float) -> None:
        locals_ = list(locals_)
        self.left = [local for local in self.left if local not in locals_]
        super().remove(locals_, linger)


def staged(left: Iterable[Endpoint], interfaces: Sequence[Interface]) -> Stage:
    """A relay whose plane has what a former process left; to be made in a thread, for it runs a loop of its own."""
    stage = Stage()
    stage.plane = Heir(left)
    stage.serve(interfaces or [stage.interface])
    return stage


class Node:
    """A process: a relay whose calls are kept."""

    def __init__(self, stage: Stage, folder: Path, keyspace: int = 0, partners: bool = True) -> None:
        self.stage = stage
        loop = asyncio.get_running_loop()
        self.journal = Journal.open(folder, loop, keyspace=keyspace, patience=60.0)
        self.keeper = CallKeeper(
            stage.registry,
            self.journal,
            loop,
            keyspace=keyspace,
            clock=lambda: stage.now,
            unix=lambda: UNIX + stage.now,
            noise=lambda: 7,
        )
        self.partners = Partners()
        self.keeper.partners = self.partners if partners else None
        stage.registry.keeper = self.keeper
        self.keeper.hold()

    async def restored(self) -> Node:
        """Restore all there is."""
        self.keeper.start()
        await until(lambda: not self.keeper.status()["waiting"])
        return self

    def records(self) -> dict[str, Record]:
        """What was given to the journal and waits to be written."""
        return {call: decode(data) for call, data in self.journal._batch.calls.items() if data is not None}

    def call(self, call_id: str) -> Call:
        return self.stage.registry.query(call_id)

    def die(self) -> None:
        """End as by a kill, with what waits written."""
        self.journal.close()
        self.keeper.close()


async def node(
    folder: Path,
    keyspace: int = 0,
    left: Iterable[Endpoint] = (),
    interfaces: Sequence[Interface] = (),
    partners: bool = True,
) -> Node:
    return Node(await asyncio.to_thread(staged, left, interfaces), folder, keyspace, partners)


def elsewhere() -> Interface:
    """An interface that calls of the one before are not on."""
    return Interface("default", "192.0.2.99", "192.0.2.99", PortPool(30000, 30999, lambda: 0.5))


def small(pairs: int) -> Interface:
    """The interface of a stage, with few ports."""
    return Interface("default", HOST, HOST, PortPool(30000, 29999 + 2 * pairs, lambda: 0.5))


# -- through a restart


def test_calls_are_there_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = await node(tmp_path)
        for number in range(5):
            name = f"c{number}"
            first.stage.command("offer", call_id=name, from_tag="alice", sdp=sdp(ALICE))
            first.stage.command("answer", call_id=name, from_tag="alice", to_tag="bob", sdp=sdp(BOB))
        first.stage.command("delete", call_id="c3", from_tag="alice", delete_delay=0)
        first.stage.command("silence media", call_id="c4", all="all")
        ports = {name: first.stage.ports(name) for name in ("c0", "c1", "c2", "c4")}
        rules = dict(first.stage.plane.installed)
        first.die()
        second = await (await node(tmp_path)).restored()
        assert second.stage.registry.call_ids(9) == ["c0", "c1", "c2", "c4"]
        assert {name: second.stage.ports(name) for name in ports} == ports
        assert second.stage.plane.installed == rules
        assert second.stage.command("answer", call_id="c1", from_tag="alice", to_tag="bob", sdp=sdp(BOB))["sdp"]
        assert second.keeper.status() == {"not written down": 0, "restored": 4, "waiting": 0, "not restored": {}}
        second.stage.check()
        second.die()
        third = await (await node(tmp_path)).restored()
        assert len(third.stage.registry) == 4
        third.die()

    run(scenario())


def test_what_a_party_was_sent_is_remembered(tmp_path: Path) -> None:
    """The version in o= goes on from where it was (RFC 3264 section 8)."""

    async def scenario() -> None:
        keys = {"call_id": "c", "from_tag": "alice", "replace": ["SDP-version"]}
        first = await node(tmp_path)
        one = first.stage.command("offer", sdp=sdp(ALICE), **keys)["sdp"]
        assert "o=- 1 1 " in one
        first.die()
        second = await (await node(tmp_path)).restored()
        assert second.stage.command("offer", sdp=sdp(ALICE), **keys)["sdp"] == one
        assert "o=- 1 2 " in second.stage.command("offer", sdp=sdp(ALICE, "a=sendonly"), **keys)["sdp"]
        second.die()

    run(scenario())


def test_a_command_restores_the_call_it_names_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = await node(tmp_path)
        first.stage.offer(call_id="a")
        first.stage.offer(call_id="b")
        ports = first.stage.ports("b")
        first.die()
        second = await node(tmp_path)
        second.keeper.start()
        assert second.stage.answer(call_id="b").media[0].rtp
        assert second.stage.ports("b") == ports
        assert len(second.stage.registry) == 1
        with pytest.raises(UnknownCall):
            second.stage.registry.query("c")
        await until(lambda: len(second.stage.registry) == 2)
        second.stage.check()
        second.die()

    run(scenario())


def test_restoring_is_cut_into_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restoring_module, "SLICE", 0.0)

    async def scenario() -> None:
        first = await node(tmp_path)
        for number in range(20):
            first.stage.offer(call_id=str(number))
        first.die()
        second = await node(tmp_path)
        second.keeper.start()
        counts = set()
        while second.keeper.status()["waiting"]:
            counts.add(len(second.stage.registry))
            await asyncio.sleep(0)
        assert len(counts) >= 10
        second.die()

    run(scenario())


def test_a_new_call_is_given_no_port_of_one_that_waits(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = await node(tmp_path, interfaces=[small(8)])
        for number in range(3):
            first.stage.offer(call_id=str(number))
        first.die()
        second = await node(tmp_path, interfaces=[small(8)])
        assert second.stage.offer(call_id="new").media[0].rtp is not None
        reply = second.stage.command("offer", call_id="more", from_tag="alice", sdp=sdp(ALICE))
        assert reply["result"] == "error"
        await second.restored()
        assert len(second.stage.registry) == 4
        second.stage.check()
        second.die()

    run(scenario())


def test_ports_are_kept_also_after_a_start_that_put_only_some_calls_in_force(tmp_path: Path) -> None:
    """Tables that are new (another network namespace) are filled call by call; a relay may die in the middle of it."""

    async def scenario() -> None:
        first = await node(tmp_path, interfaces=[small(6)])
        first.stage.offer(call_id="a")
        rules = first.stage.plane.rules()
        first.stage.offer(call_id="b")
        first.die()
        second = await node(tmp_path, interfaces=[small(6)])
        second.die()  # with "a" in force
        third = await node(tmp_path, left=rules, interfaces=[small(6)])
        third.stage.offer(call_id="new")
        with pytest.raises(PortsExhausted):
            third.stage.offer(call_id="more")
        await third.restored()
        assert sorted(third.stage.registry.call_ids(9)) == ["a", "b", "new"]
        third.stage.check()
        third.die()
        fourth = await node(tmp_path, left=third.stage.plane.rules(), interfaces=[small(6)])
        assert not fourth.journal.anew
        fourth.die()

    run(scenario())


def test_ports_that_were_let_go_of_before_that_was_written_are_not_drawn_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = await node(tmp_path, interfaces=[small(4)])
        first.stage.offer(call_id="a")
        facing, other = first.stage.ports("a")
        first.die()
        second = await node(tmp_path, left=[facing], interfaces=[small(4)])  # its answer had let go of the other
        second.die()
        third = Node(await asyncio.to_thread(staged, [facing], [small(4)]), tmp_path)
        third.stage.plane.lingering[other] = 30.0
        third.keeper.hold()
        third.stage.offer(call_id="new")
        await third.restored()
        assert sorted(third.stage.registry.call_ids(9)) == ["a", "new"]
        third.stage.check()
        third.die()

    run(scenario())


def test_what_is_in_force_without_a_call_is_removed_when_all_are_restored(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = await node(tmp_path)
        first.stage.offer(call_id="a")
        rules = first.stage.plane.rules()
        first.die()
        stray = [Endpoint(HOST, port) for port in range(31000, 31000 + 600)]
        second = await node(tmp_path, left=[*rules, *stray])
        second.keeper.start()
        await until(lambda: second.stage.plane.inherited() == [])
        assert second.stage.plane.rules() == rules
        second.stage.offer(call_id="b")
        second.stage.check()
        second.die()

    run(scenario())


def test_no_port_is_drawn_before_all_that_is_left_is_removed(tmp_path: Path) -> None:
    """It is removed in pieces: a call in between would lose its rules."""

    async def scenario() -> None:
        pairs = 300
        left = [Endpoint(HOST, port) for port in range(30000, 30000 + 2 * pairs)]
        process = await node(tmp_path, left=left, interfaces=[small(pairs)])
        process.keeper.start()
        while not process.stage.plane.rules():
            await asyncio.sleep(0)
            with contextlib.suppress(PortsExhausted):
                process.stage.offer(call_id="a")
        assert process.stage.plane.inherited() == []
        process.die()

    run(scenario())


def test_a_call_that_comes_while_what_is_left_is_removed_keeps_its_rules(tmp_path: Path) -> None:
    """Partners hand calls over as soon as all of the journal stand, on ports that are still to be cleared."""

    async def scenario() -> None:
        first = await node(tmp_path / "first")
        first.stage.offer(call_id="a")
        rules = first.stage.plane.rules()
        first.die()
        stray = [Endpoint(HOST, port) for port in range(31000, 31000 + 600)]
        second = await node(tmp_path / "second", left=[*stray, *rules])
        second.keeper.start()
        await second.keeper.restored()
        copied(first.stage, second.stage, "a")
        await until(lambda: second.stage.plane.inherited() == [])
        assert second.stage.plane.rules() == rules
        second.stage.check()
        second.die()

    run(scenario())


def test_a_call_that_ended_elsewhere_meanwhile_is_not_restored(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = await node(tmp_path)
        first.stage.offer(call_id="a")
        incarnation = first.call("a").deed.incarnation
        first.die()
        second = await node(tmp_path)
        second.partners.dead.add(("a", incarnation))
        await second.restored()
        assert len(second.stage.registry) == 0
        second.die()
        third = await (await node(tmp_path)).restored()
        assert len(third.stage.registry) == 0
        third.die()

    run(scenario())


# -- what cannot be restored


def test_what_cannot_be_restored_is_kept_named_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(restoring_module, "RETRY", 0.02)
    caplog.set_level(NOTICE)

    async def scenario() -> None:
        first = await node(tmp_path)
        for name in ("a", "b", "c"):
            first.stage.offer(call_id=name)
        rules = first.stage.plane.rules()
        first.die()
        second = await node(tmp_path, left=rules, interfaces=[elsewhere()])
        await second.restored()
        reason = f"no interface here has the address {HOST}"
        assert second.keeper.status()["not restored"] == {reason: 3}
        assert len([record for record in caplog.records if reason in record.getMessage()]) == 1
        assert second.stage.plane.inherited() == rules  # they go on being forwarded
        assert "3 are not, `hairpin status` says why; 0 ports had no call" in caplog.text
        await asyncio.sleep(0.1)
        assert second.keeper.status()["not restored"] == {reason: 3}
        second.die()
        third = await node(tmp_path, left=rules, interfaces=[elsewhere()])
        await third.restored()
        registry = third.stage.registry
        registry._places = Interfaces([small(500)])  # the interface comes back
        registry.interfaces = (small(500),)
        await until(lambda: len(registry) == 3)
        assert third.keeper.status()["not restored"] == {}
        third.die()

    run(scenario())


def test_a_port_that_is_taken_keeps_a_call_out_until_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring_module, "RETRY", 0.02)

    async def scenario() -> None:
        first = await node(tmp_path, interfaces=[small(2)])
        first.stage.offer(call_id="a")
        first.die()
        second = await node(tmp_path, interfaces=[small(2)])
        second.stage.registry.unhold()
        second.stage.offer(call_id="thief")
        await second.restored()
        assert any("port" in reason for reason in second.keeper.status()["not restored"])
        second.stage.delete("thief", delay=0.0)
        second.stage.wait(300)
        await until(lambda: second.stage.registry.find("a"))
        second.stage.check()
        second.die()

    run(scenario())


def test_what_cannot_be_restored_ends_when_its_proxy_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restoring_module, "RETRY", 0.02)

    async def scenario() -> None:
        first = await node(tmp_path, interfaces=[small(2)])
        first.stage.offer(call_id="a")
        first.journal.put("odd", b"garbage")
        rules = first.stage.plane.rules()
        first.die()
        second = await (await node(tmp_path, left=rules, interfaces=[elsewhere()])).restored()
        second.stage.command("delete", call_id="a", from_tag="alice", via_branch="another")
        assert sum(second.keeper.status()["not restored"].values()) == 2
        assert second.stage.command("delete", call_id="a", from_tag="alice")["warning"]
        assert second.stage.command("delete", call_id="odd", from_tag="alice")["warning"]
        assert second.keeper.status()["not restored"] == {}
        assert [(name, dead) for name, _, dead in second.partners.told] == [("a", True)]
        await until(lambda: second.stage.plane.inherited() == [])
        second.die()
        third = await (await node(tmp_path, interfaces=[small(2)])).restored()
        assert len(third.stage.registry) == 0
        assert third.keeper.status()["not restored"] == {}
        third.die()

    run(scenario())


def test_what_may_have_ended_unwritten_takes_no_port_from_a_call_that_is_in_force(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = await node(tmp_path, interfaces=[small(3)])
        first.stage.offer(call_id="ended")
        free, _ = first.stage.ports("ended")
        first.die()  # in the moment before it was written that the call has ended
        second = await node(tmp_path, interfaces=[small(3)])
        second.stage.registry.unhold()
        second.stage.registry.hold([free])
        second.stage.offer(call_id="live")
        rules = second.stage.plane.rules()
        second.die()
        third = await (await node(tmp_path, left=rules, interfaces=[small(3)])).restored()
        assert third.stage.registry.call_ids(9) == ["live"]
        assert any("port" in reason for reason in third.keeper.status()["not restored"])
        third.stage.command("delete", call_id="ended", from_tag="alice")
        assert third.stage.plane.rules() == rules
        third.stage.check()
        third.die()

    run(scenario())


def test_records_of_a_newer_version_and_garbage_are_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        journal = Journal.open(tmp_path, asyncio.get_running_loop())
        newer = b'[99,"newer"]\n'
        odd = {
            "newer": newer,
            "garbage": b"\xff\xfe\x00",
            "other": encode(Record("not it", "i", 1, 0, 1)),
            "body": encode(Record("body", "i", 1, 0, 1, body=b"[99]")),
        }
        for name, data in odd.items():
            journal.put(name, data)
        journal.close()
        for _ in range(2):
            one = await (await node(tmp_path)).restored()
            assert sum(one.keeper.status()["not restored"].values()) == 4
            assert {name: one.journal.record(name) for name in odd} == odd
            one.stage.offer(call_id="fine")
            one.stage.delete("fine", delay=0.0)
            one.die()

    run(scenario())


def test_a_fault_of_the_relay_costs_one_call_and_not_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read(value: object) -> Memory:
        raise ZeroDivisionError

    async def scenario() -> None:
        first = await node(tmp_path)
        keys = {"from_tag": "alice", "sdp": sdp(ALICE)}
        first.stage.command("offer", call_id="a", replace=["SDP-version"], **keys)
        first.stage.command("offer", call_id="b", **keys)
        first.die()
        monkeypatch.setattr(recall, "read", read)
        second = await (await node(tmp_path)).restored()
        assert second.stage.registry.call_ids(9) == ["b"]
        assert "ZeroDivisionError" in next(iter(second.keeper.status()["not restored"]))
        second.die()

    run(scenario())


# -- whose a call is


def test_a_command_makes_a_call_this_nodes(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = await node(tmp_path, keyspace=1)
        first.stage.offer(call_id="a")
        deed = first.call("a").deed
        assert (deed.owner, deed.term, deed.version, deed.foreign) == (1, 1, 1, False)
        assert deed.incarnation
        first.stage.answer(call_id="a")
        assert (deed.term, deed.version) == (1, 2)
        incarnation = deed.incarnation
        first.die()
        second = await (await node(tmp_path, keyspace=2)).restored()
        deed = second.call("a").deed
        assert (deed.incarnation, deed.owner, deed.term, deed.version) == (incarnation, 1, 1, 2)
        assert deed.foreign
        assert (second.stage.registry.own, second.stage.registry.foreign) == (0, 1)
        assert not second.keeper.governs(second.call("a"))
        second.stage.answer(call_id="a")
        assert (deed.incarnation, deed.owner, deed.term, deed.version) == (incarnation, 2, 2, 3)
        assert not deed.foreign
        assert (second.stage.registry.own, second.stage.registry.foreign) == (1, 0)
        assert [(call, record.owner, record.term) for call, record, _ in second.partners.told] == [("a", 2, 2)]
        second.die()

    run(scenario())


def test_each_command_is_written_once_and_an_end_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        one = await node(tmp_path, keyspace=1)
        one.stage.command("offer", call_id="a", from_tag="alice", sdp=sdp(ALICE))
        one.stage.command("answer", call_id="a", from_tag="alice", to_tag="bob", sdp=sdp(BOB))
        one.stage.command("query", call_id="a")
        told = [(record.version, record.dead, dead) for _, record, dead in one.partners.told]
        assert told == [(1, False, False), (2, False, False)]
        assert one.records()["a"] == one.partners.told[-1][1]
        one.stage.command("delete", call_id="a", from_tag="alice", delete_delay=0)
        call_id, record, dead = one.partners.told[-1]
        assert (call_id, record.dead, record.body, dead) == ("a", True, b"", True)
        assert record.incarnation == told_of(one, 0).incarnation
        assert one.records() == {}
        one.die()

    run(scenario())


def told_of(one: Node, index: int) -> Record:
    return one.partners.told[index][1]


def test_without_partners_a_call_is_governed_here(tmp_path: Path) -> None:
    async def scenario() -> None:
        one = await node(tmp_path, partners=False)
        one.stage.offer(call_id="a")
        assert one.keeper.governs(one.call("a"))
        assert one.keeper.heard(Endpoint(HOST, 30000)) == 0.0
        one.keeper.partners = one.partners
        assert one.keeper.heard(Endpoint(HOST, 30000)) == 17.0
        one.die()

    run(scenario())


def test_what_packets_tell_is_gathered_and_then_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "ROUND", 0.02)

    async def scenario() -> None:
        one = await (await node(tmp_path)).restored()
        one.stage.offer(call_id="a")
        one.stage.answer(call_id="a")
        version = one.call("a").deed.version
        for port in one.stage.ports("a"):
            one.stage.plane.arrive(port, Endpoint("203.0.113.77", 1024))
        assert one.call("a").deed.version == version
        await until(lambda: one.call("a").deed.version > version)
        assert one.call("a").deed.version == version + 1
        await until(lambda: not one.journal.behind)
        one.die()
        second = await (await node(tmp_path)).restored()
        seen = {stream.observed for _, stream in second.call("a").streams() if stream.observed is not None}
        assert seen == {Endpoint("203.0.113.77", 1024)}
        second.die()

    run(scenario())


def test_standing_calls_are_written_again_spread_over_the_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "ROUND", 0.01)

    async def scenario() -> None:
        one = await (await node(tmp_path)).restored()
        for number in range(20):
            one.stage.offer(call_id=str(number))
        one.call("7").deed.foreign = True
        one.keeper.refresh = 0.2
        before, steps = len(one.partners.told), set[int]()

        def all_again() -> bool:
            steps.add(len(one.partners.told))
            return len(one.partners.told) >= before + 19

        await until(all_again)
        written = [call_id for call_id, _, _ in one.partners.told[before : before + 19]]
        assert sorted(written) == sorted({str(number) for number in range(20)} - {"7"})
        assert len(steps) >= 3  # not all at once
        one.die()

    run(scenario())


def test_a_call_that_cannot_be_written_down_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def written(memory: object) -> object:
        raise ZeroDivisionError

    async def scenario() -> None:
        one = await node(tmp_path)
        monkeypatch.setattr(recall, "written", written)
        for name in ("a", "b"):
            keys = {"call_id": name, "from_tag": "alice", "replace": ["SDP-version"]}
            assert one.stage.command("offer", sdp=sdp(ALICE), **keys)["result"] == "ok"
        assert one.keeper.status()["not written down"] == 2
        assert len(caplog.records) == 1
        one.die()

    run(scenario())


# -- replies


def test_a_repeat_after_a_restart_gets_the_reply_of_the_first_and_nothing_is_done_twice(tmp_path: Path) -> None:
    request = {"command": "offer", "call-id": "a", "from-tag": "alice", "sdp": sdp(ALICE)}
    datagram = b"17_1 " + bencode.encode(request)

    def service(one: Node) -> Service:
        made = Service(one.stage.commands.handle, [], lambda: one.stage.now)
        made.gate = one.journal
        made.recall(one.journal.replies)
        return made

    async def scenario() -> None:
        first = await node(tmp_path)
        (reply,) = service(first).answer(datagram, PROXY, 100.0)
        assert service(first).answer(b"17_2 d7:command4:pinge", PROXY, 100.0)
        first.die()
        second = await (await node(tmp_path)).restored()
        answering = service(second)
        version = second.call("a").deed.version
        assert answering.answer(datagram, PROXY, 101.0) == [reply]
        assert second.call("a").deed.version == version
        assert (answering.counters.repeats, answering.counters.requests) == (1, 0)
        changed = datagram.replace(b"4000", b"4002")
        assert answering.answer(changed, PROXY, 101.0) != [reply]
        assert (answering.counters.repeats, answering.counters.requests) == (1, 1)
        second.die()

    run(scenario())


@pytest.mark.parametrize(
    "value", [None, 5, "text", [], [[], []], [5, [], None, None, None, None, ""], [["x" * 5000], [], *[None] * 4, ""]]
)
def test_what_is_no_memory_of_a_party_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"SDP|m-lines"):
        recall.read(value)


def test_the_memory_of_a_party_comes_back_as_it_was() -> None:
    memory = Memory()
    memory.mids, memory.ptimes = ("0", None), (None, "20")
    memory.username, memory.version, memory.digest = "alice", 1 << 64, bytes(range(16))
    again = recall.read(orjson.loads(orjson.dumps(recall.written(memory))))
    assert (again.mids, again.ptimes, again.username) == (memory.mids, memory.ptimes, memory.username)
    assert (again.session_id, again.name, again.version) == (memory.session_id, memory.name, memory.version)
    assert again.digest == memory.digest
    assert recall.written("no memory") is None
