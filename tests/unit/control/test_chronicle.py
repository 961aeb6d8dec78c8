"""The log's lines about calls, with their call and what to do."""

from __future__ import annotations

import random
from typing import Any

import pytest

from control import chronicle
from relay.call import Call, Signal
from relay.dataplane.memory import MemoryDataplane
from relay.ports import Interface, PortPool
from relay.registry import Registry, Settings
from relay.types import Endpoint, MediaDescription

PROXY = Endpoint("192.0.2.9", 2224)


@pytest.fixture(autouse=True)
def all_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")


def run(reply: dict[str, Any], detail: str = "", **request: Any) -> None:
    chronicle.of_trouble(request, PROXY, reply, detail)


def test_refusals_name_call_and_remedy(caplog: pytest.LogCaptureFixture) -> None:
    run({"result": "error", "error-reason": "Ran out of ports"}, command="offer", **{"call-id": "a@b"})
    run({"result": "load limit", "message": "Parallel session limit reached"}, command="offer")
    run({"result": "error", "error-reason": "100% wrong"}, "at 1%", command="query")
    assert [line.levelname for line in caplog.records] == ["WARNING"] * 3
    assert vars(caplog.records[0])["call_id"] == "a@b"
    assert caplog.records[0].getMessage().startswith("offer refused: Ran out of ports; widen --port-min and --port-max")
    assert caplog.records[0].getMessage().endswith("(from 192.0.2.9:2224)")
    assert "raise --max-sessions" in caplog.records[1].getMessage()
    assert caplog.records[2].getMessage() == "query refused: 100% wrong, at 1% (from 192.0.2.9:2224)"


def test_repeats_of_one_refusal_do_not_hide_another(caplog: pytest.LogCaptureFixture) -> None:
    for text in ("Ran out of ports", "Failed to parse SDP"):
        run({"result": "error", "error-reason": text}, command="offer")
    assert len({line.msg for line in caplog.records}) == 2


def test_warnings_are_told_but_those_of_a_second_delete(caplog: pytest.LogCaptureFixture) -> None:
    run({"result": "ok", "warning": "Call-ID not found or tags didn't match"}, command="delete")
    run({"result": "ok", "warning": "nothing is sent to 224.0.0.1"}, command="offer")
    assert [line.getMessage() for line in caplog.records] == [
        "offer from 192.0.2.9:2224 is done, but: nothing is sent to 224.0.0.1"
    ]


def test_the_end_of_a_call_tells_what_passed(caplog: pytest.LogCaptureFixture) -> None:
    plane, ended = MemoryDataplane(), []
    pool = PortPool(30000, 30009, random.Random(1).random)
    write = chronicle.of_ends(plane, lambda: 107.4)

    def on_close(call: Call, reason: str) -> None:
        ended.append(call.call_id)
        write(call, reason)

    interface = Interface("default", "192.0.2.1", "192.0.2.1", pool)
    registry = Registry(plane, [interface], Settings(), lambda: 100.0, on_close)
    rtp = Endpoint("198.51.100.1", 4000)
    registry.offer("a@b", "t", None, [MediaDescription("audio", "RTP/AVP", rtp, None)], Signal(), 100.0)
    local = registry.query("a@b").legs[0].medias[0].rtp.local
    assert local is not None
    plane.arrive(local, rtp, packets=9)
    registry.delete("a@b", 107.4, delay=0)
    registry.finish(registry.query("a@b"), 107.4)
    assert ended == ["a@b"]
    assert caplog.records[-1].getMessage() == "ended after 7 s, deleted by the proxy: 9 packets, 0 lost, 0 dropped"
    assert vars(caplog.records[-1])["call_id"] == "a@b"
