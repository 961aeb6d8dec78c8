"""The statistics: names and types of the peer's, figures that were measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from control.ng.room import LARGEST
from control.ng.statistics import COUNTED, REASONS, statistics
from relay.dataplane.memory import MemoryDataplane
from tests.calls import ALICE, BOB, Stage


@pytest.fixture
def stage() -> Stage:
    """One call that stands, and one that lasted ten seconds."""
    stage = Stage()
    for call_id in ("c1", "c2"):
        stage.offer(call_id=call_id)
        stage.answer(call_id=call_id)
    stage.plane.arrive(stage.ports("c1")[0], ALICE, packets=10, size=100)
    stage.plane.arrive(stage.ports("c2")[1], BOB, packets=5, size=100)
    stage.now += 10
    stage.command("delete", call_id="c2", delete_delay=0)
    return stage


def told(stage: Stage, **commands: Counter[str]) -> dict[str, Any]:
    found: dict[str, Any] = statistics(stage.registry, commands, Counter(), 61.5, LARGEST)["statistics"]
    return found


def test_calls_are_counted(stage: Stage) -> None:
    found = told(stage)
    assert found["currentstatistics"] == {
        "sessionsown": 1,
        "sessionsforeign": 0,
        "sessionstotal": 1,
        "transcodedmedia": 0,
    }
    total = found["totalstatistics"]
    assert (total["managedsessions"], total["rejectedsessions"], total["regularterminatedsessions"]) == (2, 0, 1)


def test_durations_are_text_as_the_peer_has_them(stage: Stage) -> None:
    total = told(stage)["totalstatistics"]
    assert (total["uptime"], total["avgcallduration"], total["totalcallsduration"]) == ("61", "10.000000", "10.000000")


def test_packets_and_bytes(stage: Stage) -> None:
    total = told(stage)["totalstatistics"]
    assert (total["relayedpackets"], total["relayedbytes"]) == (5, 1500)


class Counting(MemoryDataplane):
    """A data plane that counts what it forwards."""

    def counters(self) -> Mapping[str, int]:
        return {"forwarded": 100, "slow_path_sent": 7}


def test_packets_are_what_the_data_plane_says_it_forwarded(stage: Stage) -> None:
    stage.registry.plane = Counting()
    found = told(stage)
    assert found["totalstatistics"]["relayedpackets"] == 107
    assert found["dataplane"] == {"name": "memory", "forwarded": 100, "slow_path_sent": 7}


def test_commands_are_counted_for_each_proxy_and_in_all(stage: Stage) -> None:
    control = told(stage, one=Counter({"block dtmf": 2, "error": 1}), two=Counter({"block dtmf": 3}))[
        "controlstatistics"
    ]
    assert [(proxy["proxy"], proxy["blkdtmfcount"]) for proxy in control["proxies"]] == [("one", 2), ("two", 3)]
    assert (control["totalblkdtmfcount"], control["totalerrorcount"], control["totalpingcount"]) == (5, 1, 0)


def test_every_end_of_a_call_is_told_apart() -> None:
    stage = Stage(timeout=20, offer_timeout=30, final_timeout=100, silent_timeout=50)
    stage.offer(call_id="offer timeout")
    stage.offer(call_id="timeout")
    stage.answer(call_id="timeout")
    stage.wait(40)
    stage.offer(call_id="terminated by the operator")
    stage.registry.terminate("terminated by the operator", stage.now)
    stage.offer(call_id="deleted")
    stage.command("delete", call_id="deleted", delete_delay=0)
    assert {reason for _, reason in stage.ended} <= REASONS.keys()
    assert all(call_id == reason for call_id, reason in stage.ended)
    total = told(stage)["totalstatistics"]
    assert {name for name, count in total.items() if count == 1} == {REASONS[reason] for _, reason in stage.ended}


def test_all_that_is_counted_has_a_name_of_its_own() -> None:
    assert len(set(COUNTED.values())) == len(COUNTED)
