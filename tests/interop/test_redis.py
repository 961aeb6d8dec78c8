"""The Redis store against real servers: what partners are told, and what becomes of it in every state of Redis.

Two nodes share a master and a replica: node 1 writes on the master, node 2 reads on the replica, and the reverse. A
witness stands in for the replicator.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from control.replication import redisreader
from control.replication.record import MAX_RECORD
from control.replication.redis import RedisStore, Settings
from control.replication.redislink import Patience, Place, RedisFault
from tests.lab import Host, Lab
from tests.stores import RedisServer, Sentinel

SOON = 20.0
"""Seconds in which all that is awaited has happened, also on a machine that is busy with other things."""
WAITS = Patience(connect=0.5, command=0.5)
EXPIRES = 3600.0
_ports = itertools.count(7000)


class Witness:
    """A reader that remembers what it was told, in order, and compares what can be reached, as the replicator does."""

    def __init__(self) -> None:
        self.compare: Callable[[int], None] = lambda keyspace: None
        self.told: list[tuple[Any, ...]] = []
        self.calls: dict[tuple[int, str], bytes | None] = {}
        self.leases: dict[int, bytes | None] = {}
        self.heard: dict[str, bytes] = {}
        self.found: dict[int, frozenset[str]] = {}
        self.transactions = 0
        self.reach: dict[int, list[bool]] = {1: [], 2: []}

    def read(self, keyspace: int, call_id: str, record: bytes | None) -> None:
        self.told.append(("read", call_id, record))
        self.calls[keyspace, call_id] = record

    def transacted(self, keyspace: int, count: int) -> None:
        self.told.append(("transacted", count))
        self.transactions += count

    def read_lease(self, keyspace: int, lease: bytes | None) -> None:
        self.leases[keyspace] = lease

    def read_heard(self, keyspace: int, ip: str, bitmap: bytes) -> None:
        self.heard[ip] = bitmap

    def compared(self, keyspace: int, call_ids: frozenset[str]) -> None:
        self.found[keyspace] = call_ids

    def reachable(self, keyspace: int, yes: bool) -> None:
        self.reach[keyspace].append(yes)
        if yes:
            self.compare(keyspace)


@dataclass
class Node:
    """A store with its witness, which says every 0.1 s that it lives."""

    number: int
    settings: Settings
    witness: Witness = field(default_factory=Witness)

    def __post_init__(self) -> None:
        self.store = RedisStore(self.settings)
        self.witness.compare = self.store.compare

    async def start(self) -> None:
        await self.store.start(self.witness)
        self._beat = asyncio.create_task(self._live())

    async def _live(self) -> None:
        for count in itertools.count():
            self.store.lease(f"lease {count}".encode(), 2.0)
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        self._beat.cancel()
        await self.store.close()

    def writing(self) -> dict[str, Any]:
        found: dict[str, Any] = self.store.status()["writing"]
        return found

    def reading(self) -> dict[str, Any]:
        found: dict[str, Any] = self.store.status()["reading"]
        return found


class Servers:
    """A master and its replica, on ports of their own."""

    def __init__(self, host: Host, *options: str) -> None:
        self.host = host
        self.master = RedisServer(host, port=next(_ports), options=options)
        self.replica = RedisServer(host, port=next(_ports), replica_of=self.master)

    def node(self, number: int, **more: Any) -> Node:
        given: dict[str, Any] = {
            "writes": Place("127.0.0.1", self.master.port),
            "reads": Place("127.0.0.1", self.replica.port),
            "keyspace": number,
            "partners": (3 - number,),
            "patience": WAITS,
        }
        return Node(number, Settings(**(given | more)))

    def run(self, scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Play a scene in the servers' network."""
        self.host.call(lambda: asyncio.run(scene()))


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Lab() as lab:
        yield lab.host("store")


@pytest.fixture
def servers(host: Host) -> Iterator[Servers]:
    made = Servers(host)
    yield made
    for process in host.processes[::-1]:
        host.end(process, patience=0.2)


async def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, f"not within {SOON:.0f} s: {what}"
        await asyncio.sleep(0.01)


async def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Do something to a server without stopping the loop."""
    return await asyncio.to_thread(function, *arguments)


def scene(servers: Servers, play: Callable[[Node, Node], Awaitable[None]], **more: Any) -> None:
    """Two nodes, started, a play, and their end; `more` are settings of both."""

    async def whole() -> None:
        nodes = servers.node(1, **more), servers.node(2, **more)
        for node in nodes:
            await node.start()
        try:
            await play(*nodes)
        finally:
            for node in nodes:
                await node.close()

    servers.run(whole)


def knows(node: Node, call_id: str, record: bytes) -> Callable[[], bool]:
    return lambda: node.witness.calls.get((3 - node.number, call_id)) == record


# -- as it should be


def test_a_partner_is_told_of_calls_leases_and_heard_ports(servers: Servers) -> None:
    async def play(one: Node, two: Node) -> None:
        one.store.put("a@b\udcff", b"offered", EXPIRES)
        one.store.put("a@b\udcff", b"answered", EXPIRES)
        one.store.put("plain", b"offered", EXPIRES)
        one.store.hear("10.0.0.1", b"\x05", EXPIRES)
        await until(knows(two, "a@b\udcff", b"answered"), "the call")
        await until(lambda: two.witness.heard == {"10.0.0.1": b"\x05"}, "the ports")
        await until(lambda: (two.witness.leases.get(1) or b"").startswith(b"lease"), "the lease")
        await until(lambda: one.witness.leases.get(2), "the other's lease")
        told = two.witness.told
        assert ("read", "a@b\udcff", b"offered") not in told  # coalesced
        assert told.index(("read", "a@b\udcff", b"answered")) > min(i for i, one in enumerate(told) if len(one) == 2)
        assert one.store.sequence > 1
        expiry = await apart(servers.replica.ask, "-n", "1", "TTL", "call:plain")
        assert EXPIRES - 60 < int(expiry) <= EXPIRES

    scene(servers, play)


def test_a_node_holds_the_calls_of_several(servers: Servers) -> None:
    async def play() -> None:
        others = [servers.node(number, partners=()) for number in (2, 3, 4)]
        one = servers.node(1, partners=(2, 3, 4))
        for node in (*others, one):
            node.witness.reach |= {3: [], 4: []}
            await node.start()
        for node in others:
            node.store.put("same", b"%d" % node.number, EXPIRES)
        await until(lambda: len(one.witness.calls) == 3, "a call of each")
        assert one.witness.calls == {(number, "same"): b"%d" % number for number in (2, 3, 4)}
        for node in (*others, one):
            await node.close()

    servers.run(play)


def test_news_of_a_call_arrive_in_their_order_and_every_transaction_is_counted(servers: Servers) -> None:
    async def play(one: Node, two: Node) -> None:
        for number in range(300):
            one.store.put("call", b"%d" % number, EXPIRES)
            one.store.put(f"call {number}", b"x", EXPIRES)
            await asyncio.sleep(0.002)
        await until(knows(two, "call", b"299"), "the last state")
        await until(lambda: sum(key[0] == 1 for key in two.witness.calls) == 301, "all calls")
        states = [int(told[2]) for told in two.witness.told if told[:2] == ("read", "call")]
        assert states == sorted(states)
        await asyncio.sleep(0.5)
        missed = one.store.sequence - two.witness.transactions
        assert -1 <= missed <= 2  # the first may have been before it listened, the last is on its way

    scene(servers, play)


def test_a_comparison_tells_all_calls_and_names_what_is_none(servers: Servers) -> None:
    ours = {f"call {number}" for number in range(3000)}

    async def play(one: Node, two: Node) -> None:
        for call_id in ours:
            one.store.put(call_id, b"record", EXPIRES)
        await until(lambda: one.store.status()["waiting"] == 0, "all is written")
        for words in (("RPUSH", "call:list", "1"), ("SET", "call:" + "k" * 3000, "1"), ("SET", "other", "1")):
            await apart(servers.master.ask, "-n", "1", *words)
        await apart(servers.master.ask, "-n", "1", "SETRANGE", "call:large", str(5 * MAX_RECORD), "x")
        one.store.put("unusual", b"r" * 100_000, EXPIRES)
        await until(knows(two, "unusual", b"r" * 100_000), "a long record")
        two.witness.calls.clear()
        for node in (one, two):
            node.store.compare(1)
        for node in (one, two):
            await until(lambda node=node: "unusual" in node.witness.found.get(1, ()), "compared")  # type: ignore[misc]
            assert node.witness.found[1] == ours | {"list", "large", "unusual"}
            assert node.witness.calls[1, "unusual"] == b"r" * 100_000
            assert len(node.witness.calls[1, "large"] or b"") == MAX_RECORD + 1
            assert (node.witness.calls[1, "list"] or b"").startswith(b"WRONGTYPE")
            assert {name for keyspace, name in node.witness.calls if keyspace == 1} == node.witness.found[1]

    scene(servers, play)


def test_an_absent_call_is_told_as_nothing(servers: Servers) -> None:
    async def play(one: Node, two: Node) -> None:
        one.store.put("a", b"record", EXPIRES)
        await until(knows(two, "a", b"record"), "the call")
        await apart(servers.master.ask, "-n", "1", "DEL", "call:a")
        await until(lambda: two.witness.calls[1, "a"] is None, "its absence")

    scene(servers, play)


# -- what befalls the master


async def _crash(servers: Servers) -> None:
    await apart(servers.master.kill)


async def _start_empty(servers: Servers) -> None:
    await apart(servers.master.start)


async def _freeze(servers: Servers) -> None:
    servers.master.freeze()


async def _thaw(servers: Servers) -> None:
    servers.master.thaw()


async def _fill(servers: Servers) -> None:
    await apart(servers.master.set, "maxmemory", "1mb")


async def _empty(servers: Servers) -> None:
    await apart(servers.master.set, "maxmemory", "0")


async def _lock(servers: Servers) -> None:
    await apart(servers.master.set, "requirepass", "changed")
    await apart(servers.master.ask, "CLIENT", "KILL", "TYPE", "normal")


async def _unlock(servers: Servers) -> None:
    await apart(servers.master.set, "requirepass", "")


async def _demote(servers: Servers) -> None:
    await apart(servers.replica.promote)
    await apart(servers.master.follow, servers.replica)


async def _swap_back(servers: Servers) -> None:
    await apart(servers.master.promote)
    await apart(servers.replica.follow, servers.master)


async def _spoil_the_disk(servers: Servers) -> None:
    await apart(servers.master.restart, "--dir", "/proc", "--save", "3600", "1", "--stop-writes-on-bgsave-error", "yes")
    await apart(servers.master.ask, "BGSAVE")


async def _ignore_the_disk(servers: Servers) -> None:
    await apart(servers.master.set, "stop-writes-on-bgsave-error", "no")


Happening = Callable[[Servers], Awaitable[None]]


@pytest.mark.parametrize(
    ("harm", "heal", "words"),
    [
        (_crash, _start_empty, "cannot be reached"),
        (_freeze, _thaw, "does not answer within 500 ms"),
        (_fill, _empty, "has used up its memory and takes no writes (OOM): raise maxmemory"),
        (_lock, _unlock, "refuses us (Authentication required.): check the password"),
        (_demote, _swap_back, "is a replica: name the master with redis-write or redis-sentinel"),
        (_spoil_the_disk, _ignore_the_disk, "cannot save to its disk and takes no writes (MISCONF): make room"),
    ],
    ids=["crash", "freeze", "full", "password", "replica", "disk"],
)
def test_writes_resume_after_what_befalls_the_master(
    servers: Servers, harm: Happening, heal: Happening, words: str
) -> None:
    async def play(one: Node, two: Node) -> None:
        one.store.put("before", b"1", EXPIRES)
        await until(knows(two, "before", b"1"), "the call before")
        del one.witness.reach[1][:]
        await harm(servers)
        await until(lambda: words in one.writing()["state"], f"{words}, not {one.writing()}")
        assert one.witness.reach[1][0] is False
        one.store.put("during", b"1", EXPIRES)
        one.store.put("during", b"2", EXPIRES)
        assert one.store.status()["waiting"] >= 1
        await heal(servers)
        await until(knows(two, "during", b"2"), "what was written meanwhile")
        assert one.writing()["state"] == "in use"
        assert one.witness.reach[1][-1] is True
        assert ("read", "during", b"1") not in two.witness.told

    scene(servers, play)


def test_a_master_that_loads_its_data_is_waited_for(servers: Servers) -> None:
    async def play(one: Node, two: Node) -> None:
        await apart(servers.master.ask, "-n", "5", "DEBUG", "POPULATE", "1500")
        await apart(servers.master.ask, "SAVE")
        await apart(servers.master.kill)
        slow = ("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024", "--save", "3600", "1")
        starting = asyncio.create_task(apart(servers.master.start, *slow))
        await until(lambda: "is loading its data (LOADING)" in one.writing()["state"], "loading")
        one.store.put("during", b"1", EXPIRES)
        await starting
        await until(knows(two, "during", b"1"), "what was written meanwhile")

    servers.master.restart("--enable-debug-command", "yes")
    servers.replica.settle()
    scene(servers, play)


def test_a_transaction_nobody_knows_of_is_written_again(servers: Servers) -> None:
    async def play(one: Node, two: Node) -> None:
        for number in range(400):
            one.store.put(f"call {number}", b"x", EXPIRES)
            if number % 50 == 0:
                await apart(servers.master.ask, "CLIENT", "KILL", "TYPE", "normal")
            await asyncio.sleep(0.001)
        await until(lambda: sum(key[0] == 1 for key in two.witness.calls) == 400, "all calls")
        assert one.writing()["faults"] > 0

    scene(servers, play)


def test_a_sentinel_names_the_new_master_and_the_old_one_is_written_no_more(servers: Servers) -> None:
    sentinel = Sentinel(servers.host, servers.master, port=next(_ports))
    sentinel.knows_replicas()

    async def play(one: Node, two: Node) -> None:
        one.store.put("before", b"1", EXPIRES)
        await until(knows(two, "before", b"1"), "the call before")
        servers.master.freeze()
        at = time.monotonic()
        one.store.put("during", b"1", EXPIRES)
        await until(knows(two, "during", b"1"), "writes at the promoted replica")
        print(f"\nwrites resumed {time.monotonic() - at:.1f} s after the master froze")
        assert one.writing()["server"] == str(servers.replica)
        servers.master.thaw()
        one.store.put("after", b"1", EXPIRES)
        await until(knows(two, "after", b"1"), "a call after the old master's return")
        assert one.writing()["server"] == str(servers.replica)
        assert await apart(servers.master.ask, "-n", "1", "EXISTS", "call:after") == "0"

    scene(servers, play, sentinels=(Place("127.0.0.1", sentinel.port),))


def test_two_nodes_that_write_one_database_are_told_of_it(servers: Servers) -> None:
    async def play(one: Node, two: Node) -> None:
        twin = servers.node(1)
        await twin.start()
        for node in (one, twin):
            await until(lambda node=node: "somebody else writing" in node.writing().get("caution", ""), "word of it")  # type: ignore[misc]
        await twin.close()

    scene(servers, play)


def test_a_master_that_stays_one_is_left_for_the_one_sentinel_names(servers: Servers) -> None:
    sentinel = Sentinel(servers.host, servers.master, port=next(_ports))

    async def play(one: Node, two: Node) -> None:
        assert one.writing()["server"] == str(servers.master)
        await apart(servers.replica.promote)
        await apart(sentinel.watch, servers.replica)
        await until(lambda: one.writing()["server"] == str(servers.replica), "the other master")
        assert await apart(servers.master.role) == "master"
        one.store.put("after", b"1", EXPIRES)
        await until(knows(two, "after", b"1"), "a call at the other master")

    scene(servers, play, sentinels=(Place("127.0.0.1", sentinel.port),))


# -- what befalls the reading side


async def _cut(servers: Servers) -> None:
    await apart(servers.replica.cut_subscribers)


async def _mute(servers: Servers) -> None:
    await apart(servers.replica.set, "notify-keyspace-events", "")


async def _restart_replica(servers: Servers) -> None:
    await apart(servers.replica.restart)


async def _hang_replica(servers: Servers) -> None:
    servers.replica.freeze()
    await asyncio.sleep(4)
    servers.replica.thaw()


async def _hush(servers: Servers) -> None:
    """Lose all that is sent to who listens, and nothing else."""
    ports = await apart(servers.replica.subscribers)
    rules = "".join(f"add rule inet hush out tcp dport {port} drop;" for port in ports)
    chain = "add table inet hush; add chain inet hush out { type filter hook output priority 0; };"
    await apart(servers.host.run, "nft", chain + rules)
    await asyncio.sleep(4)
    await apart(servers.host.run, "nft", "delete table inet hush")


async def _hang_master(servers: Servers) -> None:
    servers.master.freeze()
    await asyncio.sleep(5.5)
    servers.master.thaw()


async def _part(servers: Servers) -> None:
    await apart(servers.master.freeze)
    await apart(servers.replica.ask, "CLIENT", "KILL", "TYPE", "master")
    await asyncio.sleep(2)
    servers.master.thaw()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_cut, "cannot be reached"),
        (_mute, "has changed keyspace 1 and not notified us of it"),
        (_restart_replica, "cannot be reached"),
        (_hang_replica, "does not answer"),
        (_hush, "has changed keyspace 1 and not notified us of it"),
        (_part, "is a replica that has lost its master at 127.0.0.1"),
        (_hang_master, "is a replica that has heard nothing of its master at 127.0.0.1"),
    ],
    ids=["cut", "muted", "restarted", "frozen", "hushed", "parted", "unheard of"],
)
def test_news_resume_after_what_befalls_the_replica(
    servers: Servers, harm: Happening, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def play(one: Node, two: Node) -> None:
        await until(lambda: two.witness.leases.get(1), "the first news")
        del two.witness.reach[1][:]
        await harm(servers)
        await until(lambda: two.witness.reach[1][-2:] == [False, True], "lost and found")
        one.store.put("after", b"1", EXPIRES)
        await until(knows(two, "after", b"1"), "news")
        assert words in caplog.text
        assert "keyspace-events" not in two.reading().get("caution", "")
        flags = await apart(servers.replica.ask, "CONFIG", "GET", "notify-keyspace-events")
        assert set("gx$K") <= set(flags.split("\n")[1])

    scene(servers, play)


def test_the_master_is_read_while_the_replica_is_gone(servers: Servers) -> None:
    async def play(one: Node, two: Node) -> None:
        await apart(servers.replica.kill)
        await until(lambda: two.reading()["server"] == str(servers.master), "the master in its place")
        one.store.put("meanwhile", b"1", EXPIRES)
        await until(knows(two, "meanwhile", b"1"), "news from the master")
        await apart(servers.replica.start)
        await until(lambda: two.reading()["server"] == str(servers.replica), "the replica again")
        one.store.put("after", b"1", EXPIRES)
        await until(knows(two, "after", b"1"), "news from the replica")

    scene(servers, play)


def test_a_replica_that_came_back_empty_is_seen_by_its_sequence_and_lease(servers: Servers) -> None:
    async def play(one: Node, two: Node) -> None:
        while one.store.sequence < 100:
            one.store.put("a", b"1", EXPIRES)
            await asyncio.sleep(0.005)
        await until(lambda: two.reading()["sequences"][1] >= 100, "that is known")
        one.store.compare(1)
        await until(lambda: one.witness.found.get(1) == frozenset({"a"}), "what is stored")
        del one.witness.reach[1][:], two.witness.reach[1][:]
        await apart(servers.master.flush)
        await until(lambda: one.witness.reach[1] == [True], "the writer's sequence goes back")
        await until(lambda: True in two.witness.reach[1], "the reader sees that, too")
        await until(lambda: one.witness.found.get(1) == two.witness.found.get(1) == frozenset(), "an empty keyspace")
        one.store.put("a", b"2", EXPIRES)
        await until(knows(two, "a", b"2"), "the call again")

    scene(servers, play)


def test_a_subscriber_that_was_cut_off_for_its_backlog_comes_back(servers: Servers) -> None:
    servers.replica.set("client-output-buffer-limit", "pubsub 32kb 0 0")

    async def play(one: Node, two: Node) -> None:
        await until(lambda: two.witness.leases.get(1), "the first news")
        del two.witness.reach[1][:]
        many = "for i = 1, 30000 do redis.call('SET', 'call:' .. i .. string.rep('x', 200), i) end"
        await apart(servers.master.ask, "-n", "1", "EVAL", many, "0")
        await until(lambda: two.witness.reach[1][-2:] == [False, True], "lost and found")
        one.store.put("after", b"1", EXPIRES)
        await until(knows(two, "after", b"1"), "news")

    scene(servers, play, patience=Patience(2.0, 5.0))


def test_too_much_news_at_once_is_compared_instead(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redisreader, "MAX_CHANGED", 10)
    calls = {f"call {number}" for number in range(100)}

    async def play(one: Node, two: Node) -> None:
        del two.witness.reach[1][:]
        for call_id in calls:
            one.store.put(call_id, b"1", EXPIRES)
        await until(lambda: calls == {name for keyspace, name in two.witness.calls if keyspace == 1}, "all calls")
        assert set(two.witness.reach[1]) == {True}
        assert two.reading()["faults"] == 0

    scene(servers, play)


def test_a_server_that_lets_nobody_look_is_taken_at_its_word_and_found_out(host: Host) -> None:
    mute = RedisServer(
        host, port=next(_ports), options=("--rename-command", "CONFIG", "", "--notify-keyspace-events", "")
    )
    place = Place("127.0.0.1", mute.port)
    line = "put the line `notify-keyspace-events K$gx` into its redis.conf"

    async def play() -> None:
        one = Node(1, Settings(place, place, 1, patience=WAITS))
        two = Node(2, Settings(place, place, 2, (1,), patience=WAITS))
        for node in (one, two):
            await node.start()
        try:
            assert line in two.reading()["caution"]
            await until(lambda: False in two.witness.reach[1], "it does not notify")
            assert "has changed keyspace 1 and not notified us of it" in two.reading()["state"]
        finally:
            for node in (one, two):
                await node.close()

    host.call(lambda: asyncio.run(play()))


# -- the start, and bounds


def test_a_start_without_redis_is_refused_in_words_unless_it_is_not_required(host: Host) -> None:
    place = Place("127.0.0.1", next(_ports))

    async def play() -> None:
        with pytest.raises(RedisFault) as caught:
            await RedisStore(Settings(place, place, 1, patience=WAITS)).start(Witness())
        assert f"writing calls: Redis at {place} cannot be reached" in str(caught.value)
        assert "with no-redis-required the relay starts without it" in str(caught.value)
        one = Node(1, Settings(place, place, 1, (2,), required=False, patience=WAITS))
        await one.start()
        one.store.put("early", b"1", EXPIRES)
        await until(lambda: "cannot be reached" in one.writing()["state"], "its absence is told")
        server = await apart(RedisServer, host, "127.0.0.1", place.port)
        await until(lambda: one.store.status()["waiting"] == 0, "what was said before is written")
        one.store.compare(1)
        await until(lambda: one.witness.found.get(1) == frozenset({"early"}), "what was said before is there")
        assert one.witness.reach[2][-1] is True
        await one.close()
        await apart(server.kill)

    host.call(lambda: asyncio.run(play()))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"keyspace": 99}, "writing calls: Redis at {master} has too few databases"),
        ({"partners": (99,)}, "reading the partners' calls: Redis at {master} has too few databases"),
        ({"writes": "replica"}, "writing calls: Redis at {replica} is a replica: name the master with redis-write"),
        ({"writes": "replica", "check_role": False}, "is a replica and takes no writes (READONLY)"),
        ({"sentinels": (Place("127.0.0.1", 1),)}, "may be the master or not, no Sentinel tells: 127.0.0.1:1 cannot be"),
    ],
    ids=["own database", "partner's database", "role", "read only", "no Sentinel"],
)
def test_a_start_is_refused_with_what_to_do(servers: Servers, more: dict[str, Any], words: str) -> None:
    places = {name: Place("127.0.0.1", getattr(servers, name).port) for name in ("master", "replica")}
    given = more | ({"writes": places["replica"]} if "writes" in more else {})

    async def play() -> None:
        with pytest.raises(RedisFault) as caught:
            await servers.node(1, **given).store.start(Witness())
        assert words.format(**places) in str(caught.value)

    servers.run(play)


def test_a_start_with_the_master_alone_is_none_the_less_one(servers: Servers) -> None:
    async def play(one: Node, two: Node) -> None:
        one.store.put("a", b"1", EXPIRES)
        await until(knows(two, "a", b"1"), "news from the master")

    servers.replica.kill()
    scene(servers, play)


def test_a_start_is_refused_where_the_server_hangs(servers: Servers) -> None:
    async def play() -> None:
        servers.master.freeze()
        with pytest.raises(RedisFault, match="does not answer within 500 ms"):
            await servers.node(1).store.start(Witness())
        servers.master.thaw()

    servers.run(play)


def calm_collector() -> None:
    """As the daemon does at its start."""
    gc.collect()
    gc.freeze()


class Stalls:
    """The most CPU time the loop's thread took between two of its turns: no matter what else the machine does."""

    def __init__(self) -> None:
        self.worst = 0.0
        self._last = time.thread_time()
        self._turn()

    def _turn(self) -> None:
        now = time.thread_time()
        self.worst = max(self.worst, now - self._last)
        self._last = now
        self.handle = asyncio.get_running_loop().call_later(0.005, self._turn)


def test_what_waits_for_a_hanging_server_is_bounded_and_the_loop_goes_on(servers: Servers) -> None:
    calls = 50_000

    async def play(one: Node, two: Node) -> None:
        servers.master.freeze()
        await until(lambda: "does not answer" in one.writing()["state"], "it hangs")
        calm_collector()
        stalls = Stalls()
        for version in (b"1", b"2"):
            for number in range(calls):
                one.store.put(f"call {number}", version * 500, EXPIRES)
                if number % 500 == 0:
                    await asyncio.sleep(0)
        told = one.store.status()
        assert (told["waiting"], told["waiting bytes"]) == (calls, calls * 500)
        servers.master.thaw()
        await until(lambda: one.store.status()["waiting"] == 0, "all is written")
        await until(lambda: len(two.witness.calls) >= calls, "all is read")
        assert set(two.witness.calls.values()) == {b"2" * 500}
        stalls.handle.cancel()
        gc.unfreeze()
        print(f"\nlongest turn of the loop: {stalls.worst * 1000:.0f} ms of CPU time")
        assert stalls.worst < 0.05

    scene(servers, play, patience=Patience(0.5, 1.0))
