"""The XDP plane ends and begins again under traffic: what it pinned forwards all the while, and is taken over."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from relay.dataplane import abi, opening, probe
from relay.dataplane.libbpf import XdpMode
from relay.dataplane.pins import Pins, PinsForeign, flush, stands
from relay.dataplane.program import OBJECT, Sizes, constants, load
from relay.dataplane.xdp import XdpDataplane
from relay.errors import DataplaneError
from relay.nic.netdev import Netdev
from relay.types import Endpoint, Rule
from tests.net.conftest import (
    MEDIA6_A,
    MEDIA6_B,
    MEDIA_A,
    MEDIA_B,
    PARTY_A,
    PARTY_B,
    RELAY6_A,
    RELAY6_B,
    RELAY_A,
    RELAY_B,
    Phone,
    Table,
    described,
    mirrored,
    ready,
    rtp,
    wait_for,
)

HOUSE = Path(__file__).parents[2]
BATCH, PACE = 10, 0.002
"""5,000 packets a second."""
FAST = 20_000
"""Packets a second that a port takes here."""
SOON = 0.3
"""Seconds in which a start that loads nothing is done; it takes a tenth of that."""

HOLDER = """
import asyncio, sys
from pathlib import Path
from relay.dataplane.xdp import XdpDataplane
from tests.net.conftest import PARTY_A, PARTY_B, Endpoint, Heard, Table, mirrored, ready

async def hold():
    plane = XdpDataplane(Table.settings(pins=Path(sys.argv[1]), port_rate=int(sys.argv[2])))
    await plane.start(Heard())
    plane.install(mirrored(Endpoint(PARTY_A, 4000), Endpoint(PARTY_B, 6000)))
    await ready(plane)
    print("ready", flush=True)
    await asyncio.sleep(60)

asyncio.run(hold())
"""


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[Path]:
    """A BPF file system of the test's own."""
    mount = tmp_path / "bpffs"
    mount.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", mount], check=True)
    yield mount
    subprocess.run(["umount", mount], check=True)


@pytest.fixture
def folder(bpffs: Path) -> Path:
    """Where the plane pins; it makes it itself."""
    return bpffs / "relay" / "0"


@pytest.fixture
def other_object(tmp_path: Path) -> Path:
    """The object of another version: it counts what it forwards as DTLS."""
    shutil.copytree(HOUSE / "ebpf", tmp_path / "ebpf")
    text = tmp_path / "ebpf" / "send.h"
    text.write_text(text.read_text().replace("HP_COUNT_forwarded", "HP_COUNT_dtls"))
    subprocess.run(["make", "--silent", "--directory", tmp_path / "ebpf"], check=True)
    return tmp_path / "build" / "relay.bpf.o"


class Stream:
    """One party sends to a media port all the while, numbered packets, from a thread: the event loop may be busy."""

    def __init__(self, sender: Phone, receiver: Phone, to: Endpoint = MEDIA_A) -> None:
        self._sender, self._receiver, self._to = sender, receiver, to
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.sent = 0
        self.heard = 0
        self.other = 0

    def _run(self) -> None:
        due = time.monotonic()
        while not self._over.is_set():
            for _ in range(BATCH):
                self._sender.send(self._to, rtp(self.sent))
                self.sent += 1
            self._listen()
            due += PACE
            time.sleep(max(due - time.monotonic(), 0))

    def _listen(self) -> None:
        for payload, _ in self._receiver.received():
            self.other += payload != rtp(self.heard)
            self.heard += 1

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Send no more, and hear what is on its way."""
        self._over.set()
        await asyncio.to_thread(self._thread.join)
        await asyncio.sleep(0.2)
        self._listen()

    def lost(self) -> int:
        """Packets that did not arrive, or not in order."""
        return self.sent - self.heard + self.other


@contextlib.asynccontextmanager
async def started(table: Table, folder: Path, *, keep: bool = True, **settings: object) -> AsyncIterator[XdpDataplane]:
    """A running plane that pins in a folder, and in the end leaves it or not."""
    plane = XdpDataplane(table.settings(pins=folder, max_addresses=4, port_rate=FAST, **settings))
    await plane.start(table.heard)
    try:
        yield plane
    finally:
        await plane.close(keep=keep)


async def in_force(plane: XdpDataplane, rules: tuple[Rule, Rule]) -> None:
    plane.install(rules)
    await ready(plane, *(rule.local for rule in rules))


def test_a_restart_under_traffic_loses_nothing_and_loads_nothing(
    table: Table, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        a, b = table.phones()
        rules, stream = mirrored(a.endpoint, b.endpoint), Stream(a, b)
        async with started(table, folder) as plane:
            await in_force(plane, rules)
        monkeypatch.setattr(opening, "load", None)
        monkeypatch.setattr(opening, "measure_hz", None)
        took = []
        async with stream.running():
            for _ in range(3):
                await asyncio.sleep(0.1)
                assert table.attached() == ["to-a", "to-b"]
                before = time.monotonic()
                async with started(table, folder) as plane:
                    took.append(time.monotonic() - before)
                    assert set(plane.inherited()) == {MEDIA_A, MEDIA_B}
                    plane.install(rules)
                    await asyncio.sleep(0.1)
                    assert plane.counters()["slow_path"] == 0
        assert stream.lost() == 0
        assert min(took) < SOON
        async with started(table, folder, keep=False) as plane:
            plane.install(rules)
            assert plane.counters()["forwarded"] == plane.packets(MEDIA_A) == stream.sent
        assert table.attached() == []

    table.run(scenario)
    assert not folder.exists()


def test_a_killed_relay_is_taken_over_from(table: Table, folder: Path) -> None:
    """What it had learned of a party behind NAT stands, and packets count on."""

    async def scenario() -> None:
        a, b = table.phone(table.a, PARTY_A, 4444), table.phone(table.b, PARTY_B, 6000)
        holder = table.relay.start(
            sys.executable, "-c", HOLDER, str(folder), str(FAST), stdout=subprocess.PIPE, cwd=HOUSE
        )
        assert holder.stdout
        assert holder.stdout.readline() == "ready\n"
        stream, back = Stream(a, b), Stream(b, a, MEDIA_B)
        async with stream.running():
            await asyncio.sleep(0.1)
            async with back.running():
                assert table.relay.end(holder, signal.SIGKILL) == -signal.SIGKILL
                await asyncio.sleep(0.1)
                async with started(table, folder, keep=False) as plane:
                    plane.install(mirrored(Endpoint(PARTY_A, 4000), b.endpoint))
                    await asyncio.sleep(0.3)
                    assert plane.state(MEDIA_A).observed_source == a.endpoint
                    await back.stop()
                    await stream.stop()
                    assert plane.packets(MEDIA_A) == stream.sent
        assert (stream.lost(), back.lost()) == (0, 0)

    table.run(scenario)


async def renewed(plane: XdpDataplane) -> None:
    """Wait until the program of this version is in force, or is said not to be."""
    assert plane._renewal
    async with asyncio.timeout(15):
        await plane._renewal.close()


def test_another_version_takes_the_program_s_place(table: Table, folder: Path, other_object: Path) -> None:
    async def scenario() -> None:
        a, b = table.phones()
        rules, stream = mirrored(a.endpoint, b.endpoint), Stream(a, b)
        async with started(table, folder) as plane:
            await in_force(plane, rules)
        async with stream.running():
            async with started(table, folder, object_path=other_object) as plane:
                assert described(plane, "the program of the relay before this one forwards: this version's is being")
                plane.install(rules)
                await renewed(plane)
                assert not described(plane, "the program of the relay before")
                await asyncio.sleep(0.1)
            async with started(table, folder, keep=False, object_path=other_object) as plane:
                assert not described(plane, "the program of the relay before")
                await stream.stop()
                counters = plane.counters()
        assert stream.lost() == 0
        assert counters["dtls"] > 0
        assert counters["dtls"] + counters["forwarded"] == stream.sent

    table.run(scenario)


def test_twenty_changes_of_the_program_under_traffic_lose_nothing(
    table: Table, folder: Path, other_object: Path
) -> None:
    async def scenario() -> None:
        a, b = table.phones()
        stream = Stream(a, b)
        async with started(table, folder) as plane, started(table, folder, keep=False) as again:
            await in_force(again, mirrored(a.endpoint, b.endpoint))
            standing = again._opened.pins
            assert standing
            sizes = Sizes(0, FAST, 16, 0)
            settings = constants(sizes, standing.said.hertz)
            builds = [load(path, sizes, settings, standing) for path in (OBJECT, other_object)]
            async with stream.running():
                for turn in range(20):
                    for program in standing.replace_programs(builds[turn % 2]):
                        program.close()
                    await again._run_others()
            counters = again.counters()
            for build in builds:
                build.close()
            await plane.close(keep=True)
        assert stream.lost() == 0
        assert counters["forwarded"] + counters["dtls"] == stream.sent
        assert min(counters["forwarded"], counters["dtls"]) > 100

    table.run(scenario)


@pytest.mark.parametrize(("content", "reason"), [(b"no object", "broken.o"), (None, "broken.o cannot be read")])
def test_a_program_that_cannot_be_loaded_leaves_the_former_one(
    table: Table, folder: Path, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    broken = tmp_path / "broken.o"
    if content:
        broken.write_bytes(content)

    async def scenario() -> None:
        a, b = table.phones()
        rules, stream = mirrored(a.endpoint, b.endpoint), Stream(a, b)
        async with started(table, folder) as plane:
            await in_force(plane, rules)
        async with stream.running(), started(table, folder, keep=False, object_path=broken) as plane:
            plane.install(rules)
            await renewed(plane)
            assert described(plane, "the program of the relay before this one forwards: ")
            assert described(plane, reason)
            await stream.stop()
        assert stream.lost() == 0
        async with started(table, folder, keep=False) as plane:  # and everything begins anew
            assert plane.inherited() == []

    table.run(scenario)


def test_other_constants_are_another_program(table: Table, folder: Path) -> None:
    async def scenario() -> None:
        a, b = table.phones()
        rules = mirrored(a.endpoint, b.endpoint)
        async with started(table, folder) as plane:
            await in_force(plane, rules)
            said = plane._opened.pins.said  # type: ignore[union-attr]
        async with started(table, folder, keep=False, orphan_seconds=1) as plane:
            plane.install(rules)
            await renewed(plane)
            assert plane._opened.pins.said == replace(  # type: ignore[union-attr]
                said, settings=constants(Sizes(0, FAST, 16, 0, 1), said.hertz).hex()
            )
            plane._running = False  # it beats no more, as if it hung
            await asyncio.sleep(2.0)
            a.send(MEDIA_A, rtp(1))
            await wait_for(lambda: plane._tables.counters()["orphaned"] == 1)
            assert b.received() == []
            plane._tables.beat()
            a.send(MEDIA_A, rtp(2))
            assert [payload for payload, _ in await b.expect(1)] == [rtp(2)]

    table.run(scenario)


def test_tables_of_another_layout_are_left_as_they_are(
    table: Table, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        a, b = table.phones()
        async with started(table, folder) as plane:
            await in_force(plane, mirrored(a.endpoint, b.endpoint))
        with monkeypatch.context() as other:
            other.setattr(abi, "DIGEST", "0123456789abcdef")
            with pytest.raises(PinsForeign, match=r"another layout .* `hairpin flush`, or start the version that made"):
                await XdpDataplane(table.settings(pins=folder)).start(table.heard)
        a.send(MEDIA_A, rtp(1))
        assert len(await b.expect(1)) == 1
        assert flush(folder)
        assert (table.attached(), stands(folder), flush(folder)) == ([], False, False)

    table.run(scenario)


def test_tables_nobody_can_say_what_they_are_are_left_as_they_are(table: Table, folder: Path) -> None:
    async def scenario() -> None:
        async with started(table, folder) as plane:
            plane._opened.pins._identity.update(bytes(4), b"{}".ljust(1024, b"\0"))  # type: ignore[union-attr]
        with pytest.raises(PinsForeign, match="cannot read"):
            await XdpDataplane(table.settings(pins=folder)).start(table.heard)
        assert table.attached() == ["to-a", "to-b"]
        flush(folder)

    table.run(scenario)


def test_more_addresses_than_there_is_room_for_are_refused(table: Table, folder: Path) -> None:
    async def scenario() -> None:
        first = XdpDataplane(table.settings(pins=folder, addresses=(RELAY_A,), max_addresses=1))
        await first.start(table.heard)
        await first.close(keep=True)
        with pytest.raises(DataplaneError, match=r"2 media addresses are more than the 1 .*\(--max-addresses\)"):
            await XdpDataplane(table.settings(pins=folder)).start(table.heard)
        assert table.attached() == ["to-a"]
        second = XdpDataplane(table.settings(pins=folder, addresses=(RELAY_B,), max_addresses=1))
        await second.start(table.heard)  # the other has left, and nothing stood there
        await second.close()

    table.run(scenario)


def test_what_was_not_finished_is_made_anew(table: Table, folder: Path) -> None:
    async def scenario() -> None:
        async with started(table, folder) as plane:
            await in_force(plane, mirrored(Endpoint(PARTY_A, 4000), Endpoint(PARTY_B, 6000)))
        (folder / "identity").unlink()
        async with started(table, folder, keep=False) as plane:
            assert plane.inherited() == []
            assert table.attached() == ["to-a", "to-b"]

    table.run(scenario)


def test_an_interface_that_went_and_came_back_meanwhile_is_attached_to_again(table: Table, folder: Path) -> None:
    async def scenario() -> None:
        a = table.phone(table.a, PARTY_A, 4000)
        rules = mirrored(a.endpoint, Endpoint(PARTY_B, 6000))
        async with started(table, folder) as plane:
            await in_force(plane, rules)
        table.relay.ip("link", "delete", "to-b")
        table.connect(table.b, "to-b")
        assert table.attached() == ["to-a"]
        b = table.phone(table.b, PARTY_B, 6000)
        async with started(table, folder, keep=False) as plane:
            plane.install(rules)
            assert table.attached() == ["to-a", "to-b"]
            assert len(plane._opened.pins.links()) == 2  # type: ignore[union-attr]
            await ready(plane)
            a.send(MEDIA_A, rtp(1))
            b.send(MEDIA_B, rtp(1))
            assert (len(await b.expect(1)), len(await a.expect(1))) == (1, 1)

    table.run(scenario)


def test_an_interface_that_is_gone_keeps_no_other_from_going_on(table: Table, folder: Path) -> None:
    async def scenario() -> None:
        async with started(table, folder):
            pass
        table.relay.ip("link", "delete", "to-b")
        async with started(table, folder, keep=False) as plane:
            assert table.attached() == ["to-a"]
            assert described(plane, f"media address {RELAY_B} is on no interface")

    table.run(scenario)


@pytest.mark.parametrize("said", [True, False])
def test_a_generic_plane_stays_one_without_an_interruption(
    quiet_table: Table, folder: Path, monkeypatch: pytest.MonkeyPatch, said: bool
) -> None:
    """Also where the kernel does not say that a device takes no redirected frames, and it has to be tried."""
    table = quiet_table
    if not said:
        monkeypatch.setattr(Netdev, "features", lambda *_: None)
        monkeypatch.setattr(probe, "_WAITS", (0.0, 0.2))

    async def scenario() -> None:
        a, b = table.phones()
        rules, stream = mirrored(a.endpoint, b.endpoint), Stream(a, b)
        async with started(table, folder) as plane:
            await in_force(plane, rules)
            assert described(plane, "generic XDP on to-a")
        async with stream.running(), started(table, folder, keep=False) as plane:
            plane.install(rules)
            assert plane._attaching._attachments.mode is XdpMode.GENERIC
            for _ in range(5):
                assert described(plane, "generic XDP on to-a")
                await asyncio.sleep(0.1)
            await stream.stop()
        assert stream.lost() == 0

    table.run(scenario)


def age(folder: Path, seconds: int) -> None:
    """Let the last beat be so much longer ago."""
    with Pins.find(folder) or contextlib.nullcontext() as standing:
        assert standing
        host = standing.map("host").array(abi.HOST)
        host["beat"] -= seconds * standing.said.hertz


@pytest.mark.parametrize(("waited", "gone", "removed"), [(100, True, True), (100, False, False), (0, True, False)])
def test_what_nobody_keeps_and_no_interface_needs_is_removed(
    table: Table, bpffs: Path, waited: int, gone: bool, removed: bool
) -> None:
    left, mine = bpffs / "0-1", bpffs / "0-2"

    async def scenario() -> None:
        former = XdpDataplane(table.settings(addresses=(RELAY_A,), pins=left, max_addresses=1))
        await former.start(table.heard)
        await former.close(keep=True)
        age(left, waited)
        if gone:
            table.relay.ip("link", "delete", "to-a")
        plane = XdpDataplane(table.settings(addresses=(RELAY_B,), pins=mine, max_addresses=1))
        await plane.start(table.heard)
        assert (stands(left), stands(mine)) == (not removed, True)
        await plane.close()
        flush(left)

    table.run(scenario)


@pytest.mark.parametrize("first", [MEDIA_A, MEDIA6_A])
def test_while_nobody_runs_packets_follow_a_neighbour_that_moves(table: Table, folder: Path, first: Endpoint) -> None:
    for family in ("ipv4", "ipv6"):
        table.relay.sysctl(f"{family}/conf/to-a/forwarding", "1")
        table.relay.sysctl(f"{family}/conf/all/forwarding", "1")
    ip6 = ":" in first.ip
    second = MEDIA6_B if ip6 else MEDIA_B

    async def scenario() -> None:
        a, b = table.phones6() if ip6 else table.phones()
        async with started(table, folder, addresses=(first.ip, second.ip)) as plane:
            await in_force(plane, mirrored(a.endpoint, b.endpoint, first=first, second=second))
        age(folder, 10)
        table.b.ip("link", "set", "eth0", "address", "02:00:00:00:be:ef")
        table.relay.ip("neighbour", "replace", b.endpoint.ip, "dev", "to-b", "lladdr", "02:00:00:00:be:ef")
        for number in range(10):
            a.send(first, rtp(number))
        assert [payload for payload, _ in await b.expect(10)] == [rtp(number) for number in range(10)]

    table.run(scenario)
    flush(folder)


@pytest.mark.parametrize(("waited", "sent_on"), [(0, 1), (10, 0)])
def test_a_packet_that_waited_for_user_space_is_sent_on_unless_it_is_old(
    table: Table, folder: Path, waited: int, sent_on: int
) -> None:
    async def scenario() -> None:
        a = table.phone(table.a, PARTY_A, 4000)
        rules = mirrored(a.endpoint, Endpoint("10.7.2.99", 6000))  # nobody is there
        async with started(table, folder) as plane:
            plane.install(rules)
        a.send(MEDIA_A, rtp(1))
        age(folder, waited)
        async with started(table, folder, keep=False) as plane:
            plane.install(rules)
            await asyncio.sleep(0.2)
            counters = plane.counters()
            assert (counters["slow_path"], counters["slow_path_sent"]) == (1, sent_on)
            assert described(plane, f"pinned in {folder}, taken over from the relay before this one")

    table.run(scenario)


def test_ip6_addresses_keep_their_tokens(table: Table, folder: Path) -> None:
    async def scenario() -> None:
        a, b = table.phones6()
        rules = mirrored(a.endpoint, b.endpoint, first=MEDIA6_A, second=MEDIA6_B)
        stream = Stream(a, b, MEDIA6_A)
        async with started(table, folder, addresses=(RELAY6_A, RELAY6_B)) as plane:
            await in_force(plane, rules)
            taken = set(plane._tables.tokens.keys())
        again = started(table, folder, keep=False, addresses=(RELAY6_A, RELAY6_B))
        async with stream.running(), again as plane:
            plane.install(rules)
            await asyncio.sleep(0.1)
            assert set(plane._tables.tokens.keys()) == taken
            await stream.stop()
        assert stream.lost() == 0

    table.run(scenario)


def test_a_namespace_that_has_gone_is_no_longer_waited_for(table: Table, folder: Path) -> None:
    """And one that stands is not robbed."""
    other = table.lab.host("other")
    table.lab.cable(other, "to-a", table.a, "eth9", napi=True)
    other.ip("address", "add", f"{RELAY_A}/24", "dev", "to-a")

    async def leave() -> None:
        async with started(table, folder):
            pass

    async def refused() -> None:
        with pytest.raises(DataplaneError, match="another network namespace, which still has its interfaces"):
            await XdpDataplane(table.settings(addresses=(RELAY_A,), pins=folder)).start(table.heard)

    async def anew() -> None:
        plane = XdpDataplane(table.settings(addresses=(RELAY_A,), pins=folder, max_addresses=1))
        await plane.start(table.heard)
        assert "to-a" in other.ip("link", "show", "up")
        assert plane._opened.adopted is False
        await plane.close()

    table.run(leave)
    other.call(lambda: asyncio.run(refused()))
    assert table.attached() == ["to-a", "to-b"]
    table.relay.close()
    asyncio.run(wait_for(lambda: "eth0" not in table.a.ip("link", "show"), 10))
    other.call(lambda: asyncio.run(anew()))


@pytest.mark.parametrize("place", ["elsewhere", "unwritable"])
def test_a_folder_that_cannot_be_had_is_named(table: Table, bpffs: Path, tmp_path: Path, place: str) -> None:
    folder = tmp_path / "pins" if place == "elsewhere" else bpffs / "relay"
    if place == "unwritable":
        subprocess.run(["mount", "-o", "remount,ro", bpffs], check=True)
    expected = "mount -t bpf bpf /sys/fs/bpf" if place == "elsewhere" else "Read-only file system"

    async def scenario() -> None:
        with pytest.raises(DataplaneError, match=expected):
            await XdpDataplane(table.settings(pins=folder)).start(table.heard)

    table.run(scenario)
    assert table.attached() == []
