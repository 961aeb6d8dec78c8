"""The log's lines about calls, with their call and what to do."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest

from control import chronicle
from relay.call import Line, Media, Signal
from relay.ports import Interface, PortPool
from relay.registry import Registry, Settings
from relay.types import Endpoint, StreamState
from tests.calls import ALICE, BOB, HOST, Stage, above, audio

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


@dataclass
class Ended:
    """A call whose end is written."""

    line: str
    call_id: str


def ended(caplog: pytest.LogCaptureFixture, legs: tuple[list[Any], list[Any]], signal: Signal = Signal()) -> Ended:  # noqa: B008
    stage = Stage()
    write = chronicle.of_ends(stage.plane, lambda: 107.4)
    stage.registry = Registry(stage.plane, [stage.interface], Settings(), lambda: 100.0, write)
    stage.offer(legs[0], signal, call_id="a@b", tags=("alice", None))
    stage.answer(legs[1], signal, call_id="a@b", tags=("alice", "bob"))
    a, b = stage.ports("a@b")
    stage.plane.arrive(a, ALICE, packets=9)
    stage.plane.arrive(above(a), above(ALICE), size=60, packets=2)
    stage.plane.arrive(b, Endpoint(BOB.ip, 61000), packets=4)
    call = stage.registry.delete("a@b", 107.4, delay=0, controller="192.0.2.9")
    assert call is not None
    stage.registry.finish(call, 107.4)
    record = caplog.records[-1]
    return Ended(record.getMessage(), vars(record)["call_id"])


def test_the_end_of_a_call_tells_who_ended_it_and_what_each_party_sent(caplog: pytest.LogCaptureFixture) -> None:
    found = ended(caplog, ([audio(ALICE)], [audio(BOB)]))
    assert found.call_id == "a@b"
    assert found.line == (
        "ended after 7 s, deleted by the proxy 192.0.2.9: 15 packets, 0 lost, 0 dropped"
        "; caller alice: audio 9 packets 1548 bytes RTCP 2 from 198.51.100.10:4000"
        "; callee bob: audio 4 packets 688 bytes from 203.0.113.20:61000"
    )


def test_a_party_that_never_had_a_name_is_a_dash(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    write = chronicle.of_ends(stage.plane, lambda: 107.4)
    stage.registry = Registry(stage.plane, [stage.interface], Settings(), lambda: 100.0, write)
    stage.offer([audio(ALICE)], call_id="a@b", tags=("alice", None))
    stage.registry.terminate("a@b", 107.4)
    assert "; callee -: audio 0 packets 0 bytes" in caplog.records[-1].getMessage()


def test_many_media_make_no_endless_line(caplog: pytest.LogCaptureFixture) -> None:
    line = ended(caplog, ([audio(ALICE)] * 20, [audio(BOB)] * 20)).line
    assert line.count("and 12 media more") == 2
    assert len(line) < 2000


def test_loss_and_jitter_are_told_where_they_were_measured() -> None:
    line = Line()
    line.offered(audio(ALICE))
    media = Media(0, line)
    pool = PortPool(30000, 30009, random.Random(1).random)
    media.take(30000, Interface("default", HOST, HOST, pool))
    state = StreamState(packets=95, bytes=100, expected=100, received=95, jitter_ms=1.26, observed_source=ALICE)
    assert chronicle._media(media, {Endpoint(HOST, 30000): state}) == (
        "audio 95 packets 100 bytes 5.0% lost jitter 1.3 ms from 198.51.100.10:4000"
    )


def test_a_timeout_is_nobodys_deed(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    chronicle.of_ends(stage.plane, lambda: 160.0)(stage.offer().call, "timeout")
    assert caplog.records[-1].getMessage().startswith("ended after 60 s, timeout: 0 packets")
