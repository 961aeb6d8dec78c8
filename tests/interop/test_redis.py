"""The Redis store against real servers as they should be, at the start, and its bounds."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from typing import Any

import pytest

from control.replication.record import MAX_RECORD
from control.replication.redis.link import Patience, Place, RedisFault
from control.replication.redis.store import RedisStore, Settings
from tests.lab import Host, Lab
from tests.redisnodes import EXPIRES, PORTS, WAITS, Node, Servers, Witness, apart, knows, scene, until
from tests.stores import RedisServer


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


# -- as it should be


def test_a_partner_is_told_of_calls_leases_and_heardPORTS(servers: Servers) -> None:
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


# -- the start, and bounds


def test_a_start_without_redis_is_refused_in_words_unless_it_is_not_required(host: Host) -> None:
    place = Place("127.0.0.1", next(PORTS))

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
