"""The Redis store in every state of real servers: what partners are told then, and when all is well again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from control.replication.redis import reader
from control.replication.redis.link import Patience, Place
from control.replication.redis.store import Settings
from tests.lab import Host, Lab
from tests.redisnodes import EXPIRES, PORTS, WAITS, Node, Servers, apart, knows, scene, until
from tests.stores import RedisServer, Sentinel


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
    sentinel = Sentinel(servers.host, servers.master, port=next(PORTS))
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
    sentinel = Sentinel(servers.host, servers.master, port=next(PORTS))

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
    monkeypatch.setattr(reader, "MAX_CHANGED", 10)
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
        host, port=next(PORTS), options=("--rename-command", "CONFIG", "", "--notify-keyspace-events", "")
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
