"""How the XDP plane begins and ends: what it needs, what stands in its way, and that it leaves nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path as File

import pytest

from relay.errors import DataplaneError
from tests.net.conftest import MEDIA_A, RELAY_A, Table, mirrored, wait_for

HOLDER = f"""
import asyncio
from relay.dataplane.xdp import XdpDataplane, XdpSettings

class Deaf:
    def learned(self, *_): ...
    def rtcp(self, *_): ...

async def hold():
    await XdpDataplane(XdpSettings(({RELAY_A!r},))).start(Deaf())
    print("attached", flush=True)
    await asyncio.sleep(60)

asyncio.run(hold())
"""
CHECKOUT = File(__file__).parents[2]


def test_a_killed_process_leaves_no_program_attached(table: Table) -> None:
    holder = table.relay.start(sys.executable, "-c", HOLDER, stdout=subprocess.PIPE, cwd=CHECKOUT)
    assert holder.stdout
    assert holder.stdout.readline() == "attached\n"
    assert table.attached() == ["to-a"]
    assert table.relay.end(holder, signal.SIGKILL) == -signal.SIGKILL
    table.run(lambda: wait_for(lambda: table.attached() == []))


def test_close_gives_everything_back_and_may_be_called_twice(table: Table) -> None:
    async def scenario() -> None:
        a, b = table.phones()
        async with table.plane():  # what the first use of libbpf opens for good
            pass
        before = os.listdir("/proc/self/fd")
        async with table.plane() as plane:
            plane.install(mirrored(a.endpoint, b.endpoint))
            plane.remove([MEDIA_A], linger=0.05)
            assert table.attached() == ["to-a", "to-b"]
            await plane.close()
            assert plane.describe() == ["not running"]
        assert table.attached() == []
        await asyncio.sleep(0.1)  # the linger ends after the tables have gone
        assert len(os.listdir("/proc/self/fd")) == len(before)

    table.run(scenario)


def test_a_second_plane_is_told_what_is_attached_already(table: Table) -> None:
    async def scenario() -> None:
        async with table.plane():
            with pytest.raises(DataplaneError, match=r"to-a carries XDP program \d+ already .*bpftool prog show id"):
                async with table.plane():
                    pass
            assert table.attached() == ["to-a", "to-b"]

    table.run(scenario)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"addresses": ("10.7.1.250",)}, "media address 10.7.1.250 is on no interface"),
        ({"addresses": ()}, "no media address is given"),
        ({"max_addresses": 1}, "2 media addresses are more than --max-addresses=1"),
        ({"object_path": File("/nowhere/relay.bpf.o")}, "run `make build`"),
        ({"interfaces": ("eth7",)}, "no interface eth7"),
    ],
)
def test_what_is_missing_is_named(table: Table, settings: dict[str, object], message: str) -> None:
    async def scenario() -> None:
        with pytest.raises(DataplaneError, match=message):
            async with table.plane(**settings):
                pass
        assert table.attached() == []

    table.run(scenario)


def test_without_a_capability_the_plane_says_which(table: Table) -> None:
    holder = table.relay.start(
        *("setpriv", "--bounding-set", "-net_raw", "--inh-caps", "-net_raw", sys.executable, "-c", HOLDER),
        stderr=subprocess.PIPE,
        cwd=CHECKOUT,
    )
    assert holder.stderr
    assert "lacks CAP_NET_RAW" in holder.stderr.read()
    assert table.attached() == []


def test_named_interfaces_override_the_choice(table: Table) -> None:
    async def scenario() -> None:
        async with table.plane(interfaces=("to-b",)):
            assert table.attached() == ["to-b"]

    table.run(scenario)


def test_native_asked_for_but_not_possible_is_an_error(table: Table) -> None:
    async def scenario() -> None:
        table.a.run("ethtool", "-K", "eth0", "gro", "off")
        with pytest.raises(DataplaneError, match="native XDP does not work here: to-a does not take redirected frames"):
            async with table.plane(mode="native"):
                pass
        assert table.attached() == []

    table.run(scenario)
