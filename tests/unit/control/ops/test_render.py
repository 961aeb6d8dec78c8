"""What operators read: tables, times, marks, and text from the network that must not reach a terminal raw."""

from __future__ import annotations

from typing import Any

import pytest

from control.ops import render
from control.ops.text import duration, table
from relay.media import Mux
from relay.types import Treatment

STREAM: dict[str, Any] = {
    "part": "RTP",
    "local": "192.0.2.1:30000",
    "signalled": "198.51.100.7:4000",
    "observed": "203.0.113.9:1024",
    "confirmed": True,
    "refusal": None,
    "tos": 184,
    "path": "fast path",
    "packets": 6000,
    "bytes": 1032000,
    "expected": 6012,
    "lost": 12,
    "duplicates": 0,
    "reordered": 0,
    "jitter_ms": 1.25,
    "ssrc": 1,
    "payload_type": 8,
    "foreign": 0,
    "drops": 0,
    "last_drop": None,
    "last_drop_text": None,
}


def shown(**changes: Any) -> list[str]:
    stream = STREAM | changes
    return render.call(a_call(a_leg(tag="t1", media=[a_media(streams=[stream])]), a_leg(label="callee"))).splitlines()


def a_media(**changes: Any) -> dict[str, Any]:
    media = {"index": 1, "kind": "audio", "protocol": "RTP/AVP", "direction": "sendrecv", "rtcp_mux": "off"}
    return {**media, "streams": [], **changes}


def a_leg(**changes: Any) -> dict[str, Any]:
    leg: dict[str, Any] = {"tag": "", "other_tags": [], "label": None, "interface": "default", "treatment": "pass"}
    return {**leg, "branch": None, "branch_state": "answered", "media": [], **changes}


def a_call(*legs: dict[str, Any], branches: int = 1) -> dict[str, Any]:
    return {"call_id": "a@b", "state": "answered", "age": 125.0, "branches": branches, "legs": list(legs)}


def test_a_call_is_a_line_per_stream() -> None:
    words = [" ".join(line.split()) for line in shown()]
    assert words == [
        "call a@b: answered, 2m05s old",
        "",
        "leg t1 at default",
        "media 1: audio, RTP/AVP, sendrecv",
        "PART LOCAL PEER (SDP) PEER (SEEN) DSCP PACKETS LOST JITTER DROPS PATH",
        "RTP 192.0.2.1:30000 198.51.100.7:4000 203.0.113.9:1024 46 EF 6000 12 (0.2%) 1.2 ms 0 fast path",
        "",
        "leg - at default; label callee",
    ]


def test_branches_of_a_call_are_told_apart() -> None:
    legs = [
        a_leg(tag="alice", branch="z1"),
        a_leg(tag="bob", branch="z1", other_tags=["bob2", "\x1b"]),
        a_leg(tag="alice", branch="z2", branch_state="offered"),
    ]
    assert render.call(a_call(*legs, branches=2)).splitlines()[::2] == [
        "call a@b: answered, 2 branches, 2m05s old",
        "leg alice at default; branch z1 (answered)",
        "leg bob at default; also bob2, \\x1b; branch z1 (answered)",
        "leg alice at default; branch z2 (offered)",
    ]


@pytest.mark.parametrize(
    ("treatment", "text"),
    [
        ("block", "its media is blocked by command"),
        ("silence", "its media is silenced by command"),
        ("block events", "its DTMF is blocked by command"),
    ],
)
def test_what_commands_do_to_a_party_is_said(treatment: str, text: str) -> None:
    assert render.call(a_call(a_leg(tag="t1", treatment=treatment))).endswith(f"leg t1 at default; {text}")


@pytest.mark.parametrize("mux", Mux)
def test_one_port_for_rtp_and_rtcp_is_said(mux: Mux) -> None:
    line = render.call(a_call(a_leg(media=[a_media(rtcp_mux=mux.value)]))).splitlines()[3]
    told = {Mux.OFF: "", Mux.OFFERED: ", rtcp-mux offered", Mux.ON: ", rtcp-mux"}
    assert line == f"  media 1: audio, RTP/AVP, sendrecv{told[mux]}"


def test_every_treatment_has_a_text() -> None:
    for treatment in Treatment:
        assert ("by command" in render.call(a_call(a_leg(treatment=treatment.value)))) == (treatment.value != "pass")


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({}, "fast path"),
        ({"treatment": "silence"}, "fast path, silence"),
        ({"split": True}, "fast path, RTCP by the port above"),
    ],
)
def test_rules_say_what_is_particular_about_them(changes: dict[str, Any], path: str) -> None:
    rule = STREAM | {"leaves_from": "192.0.2.1:30002", "destination": "198.51.100.8:5000", "call_id": "a@b"}
    rule |= {"split": False, "treatment": "pass"} | changes
    assert render.rules([rule]).endswith(f"{path}  a@b")


def test_what_is_wrong_with_a_stream_is_said_below_it() -> None:
    lines = shown(
        drops=5,
        last_drop="rate",
        last_drop_text="more packets than a port may take",
        foreign=2,
        duplicates=1,
        reordered=3,
        confirmed=False,
        refusal="a multicast address",
        path="destination refused",
    )
    assert "203.0.113.9:1024 (learning)" in lines[5]
    assert lines[5].endswith("destination refused: a multicast address")
    assert lines[6:9] == [
        "    RTP 192.0.2.1:30000: 5 dropped, last: more packets than a port may take",
        "    RTP 192.0.2.1:30000: 2 packets from another source than the learned one",
        "    RTP 192.0.2.1:30000: 1 duplicates, 3 reordered",
    ]


def test_columns_line_up_and_numbers_stand_right() -> None:
    assert table(("NAME", "N"), [("a", 5), ("longer", 1000)]) == "NAME       N\na          5\nlonger  1000"


def test_nothing_to_show() -> None:
    assert render.calls([]) == "no calls"
    assert render.rules([]) == "no rules in force"


def test_text_from_the_network_cannot_drive_the_terminal() -> None:
    assert "\\x1b[2Jx\\x0d\\x0a" in render.calls([a_row(call_id="\x1b[2Jx\r\n")])


def a_row(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"call_id": "a@b", "state": "offered", "age": 1, "branches": 1, "streams": 0, "packets": 0}
    return {**row, "lost": 0, "paths": [], **changes}


def test_a_list_tells_of_branches() -> None:
    single, forked = render.calls([a_row(), a_row(branches=3)]).splitlines()[1:]
    assert "offered  " in single
    assert "offered, 3 branches" in forked


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (-1, "0s"), (0, "0s"), (59.9, "59s"), (60, "1m00s"), (3599, "59m59s"), (7380, "2h03m")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("tos", "text"), [(None, "kept"), (184, "46 EF"), (0, "0 CS0"), (4, "1")])
def test_marks(tos: int | None, text: str) -> None:
    assert render.dscp(tos) == text


def test_loss_is_a_share_of_what_was_expected() -> None:
    assert render.loss({"lost": 5, "expected": 100}) == "5 (5.0%)"
    assert render.loss({"lost": -1, "expected": 100}) == "-1 (-1.0%)"
    assert render.loss({"lost": 0, "expected": 0}) == "-"


def test_status() -> None:
    text = render.status(
        {
            "version": "1",
            "instance": 0,
            "pid": 7,
            "uptime": 61,
            "ports": "reserved from the host",
            "reload": {"seconds_ago": 65, "problems": ["x.conf line 2: no"], "pending": ["table", "socket"]},
            "dataplane": ["xdp", "eth0: native XDP"],
            "calls": {"standing": 3, "deleted": 1, "ready": 7},
            "draining": True,
            "limits": ["load 0.50 of 4"],
            "interfaces": [{"name": "default", "address": "192.0.2.1", "ports_used": 12, "ports_free": 9988}],
            "listeners": [{"address": "127.0.0.1:2223", "open_to": "this host"}],
            "texts": {"rate": "more packets than a port may take"},
            "counters": {"ng requests": {"offer": 3, "answer": 0}, "ended": {}, "drops": {"rate": 15, "other": 2}},
        }
    )
    assert text.splitlines() == [
        "hairpin 1, instance 0, pid 7, up 1m01s",
        "data plane xdp",
        "data plane eth0: native XDP",
        "calls      3 standing, 1 in their delete delay; 7 of partners held ready",
        "draining   new calls are refused until `hairpin resume`",
        "limit      load 0.50 of 4",
        "interface  default 192.0.2.1: 12 ports used, 9988 free",
        "ports      reserved from the host",
        "reload     1m05s ago failed: x.conf line 2: no",
        "reload     a restart is needed for table, socket",
        "ng         127.0.0.1:2223, open to this host",
        "",
        "ng requests",
        "  offer  3",
        "",
        "drops",
        "  rate   15  more packets than a port may take",
        "  other   2",
    ]
