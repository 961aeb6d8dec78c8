"""The laboratory itself: it carries packets as the relay will meet them, and leaves nothing behind however it ends."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.types import Endpoint
from tests.lab import (
    FOLDERS,
    NAMESPACES,
    PREFIX,
    Lab,
    LabError,
    Network,
    capture_fields,
    remove_stale,
)
from tests.media import Agent, Party, impaired, open_party, steady

HOLDER = """
import time
from tests.lab import Lab, standard_network
with Lab() as lab:
    network = standard_network(lab)
    network.relay.start("sleep", "600")
    print(lab.name, flush=True)
    time.sleep(600)
"""


def rtcp_of(party: Party) -> Endpoint:
    return Endpoint(party.local.ip, party.local.port + 1)


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def held_lab() -> tuple[subprocess.Popen[str], str]:
    """Another process that holds a laboratory, and the laboratory's name."""
    root = Path(__file__).parents[2]
    process = subprocess.Popen((sys.executable, "-c", HOLDER), stdout=subprocess.PIPE, text=True, cwd=root)
    assert process.stdout
    name = process.stdout.readline().strip()
    process.stdout.close()
    return process, name


def remains(name: str) -> list[Path]:
    return [*NAMESPACES.glob(f"{name}-*"), *FOLDERS.glob(name)]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_lab_that_is_ended_leaves_nothing_behind(how: signal.Signals) -> None:
    process, name = held_lab()
    assert name.startswith(PREFIX)
    assert len(remains(name)) == 6
    process.send_signal(how)
    process.wait(20)
    assert remains(name) == []


def test_the_next_lab_removes_what_a_killed_one_left() -> None:
    process, name = held_lab()
    sleepers = subprocess.run(("ip", "netns", "pids", f"{name}-relay"), capture_output=True, text=True, check=True)
    assert sleepers.stdout
    assert len(remains(name)) == 6
    process.kill()
    process.wait()
    remove_stale()
    wait_until(lambda: remains(name) == [])  # a test beside this one may have begun with it
    wait_until(lambda: not any(Path("/proc", pid).exists() for pid in sleepers.stdout.split()))


def test_a_running_lab_survives_the_clean_up_of_another() -> None:
    process, name = held_lab()
    try:
        remove_stale()
        assert len(remains(name)) == 6
    finally:
        process.terminate()
        process.wait(20)


def test_hosts_reach_each_other_and_the_media_agent_counts_what_a_capture_sees(lab: Lab, network: Network) -> None:
    source = random.Random(7)
    capture = network.core.capture("to-callee", lab.folder / "callee.pcap", "udp port 30000")
    schedule = impaired(200, source, loss=0.05, duplication=0.05, reordering=0.05, jitter=0.002)
    with Agent() as agent:
        caller = open_party(network.caller, network.CALLER_ADDRESS, 20000, source, tos=184)
        callee = open_party(network.callee, network.CALLEE_ADDRESS, 30000, source)
        agent.add((caller, callee))
        agent.talk(caller, callee.local, rtcp_of(callee), schedule)
        agent.talk(callee, caller.local, rtcp_of(caller), steady(200))
        wait_until(lambda: caller.rtp_sent == len(schedule) and callee.rtp_sent == 200)
        wait_until(lambda: callee.rtp_received == len(schedule) and caller.rtp_received == 200)
    rows = capture_fields(
        capture.stop(),
        "rtp && ip.src == " + network.CALLER_ADDRESS,
        ("rtp.seq", "ip.dsfield", "ip.ttl"),
        ("-d", "udp.port==30000,rtp"),
    )
    heard = callee.received[caller.ssrc]
    assert [int(row[0]) for row in rows] == [(caller.first_sequence + index) & 0xFFFF for _, index in schedule]
    assert {(row[1], row[2]) for row in rows} == {("0xb8", "63")}
    assert heard.duplicates == len(schedule) - len({index for _, index in schedule}) > 0
    assert heard.reordered > 0
    assert callee.tos.keys() == {184}
    assert caller.reports_on_us > 0
    assert callee.reports_on_us > 0


def test_a_program_that_fails_is_reported_with_what_it_said(lab: Lab) -> None:
    host = lab.host("lone")
    with pytest.raises(LabError, match="does not exist"):
        host.ip("link", "show", "nothing")
