"""Requests of any shape: each gets a reply that can be sent, and none leaves ports behind."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from control.ng import bencode, message
from control.ng.commands import NOT_DONE
from control.ng.flags import _FLAGS, _KEYS
from control.ng.room import DATAGRAM, LARGEST
from control.ng.statistics import COUNTED
from tests.calls import ALICE, BOB, PROXY, Stage, sdp

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.text(max_size=12) | st.integers() | st.sampled_from([*_FLAGS, "alice", "bob", "c1", sdp(ALICE), sdp(BOB)]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
ORDINARY = ("offer", "answer", "offer", "answer", "delete", "query")
SPELLINGS = (str, str.upper, lambda name: name.replace(" ", "-"), lambda name: name.replace(" ", "_"))
COMMAND_NAMES = st.sampled_from(ORDINARY) | st.builds(
    lambda spell, name: spell(name), st.sampled_from(SPELLINGS), st.sampled_from([*COUNTED, *NOT_DONE])
)
TAGS = st.sampled_from(["alice", "bob", "\1" * 1500, "é" * 4000])
REQUESTS = st.dictionaries(st.sampled_from([*_KEYS]) | st.text(max_size=8), VALUES, max_size=8)
SOUND = st.fixed_dictionaries(
    {
        "command": COMMAND_NAMES,
        "call-id": st.sampled_from(["c1", "c2"]),
        "from-tag": TAGS,
        "to-tag": TAGS,
        "sdp": st.sampled_from([sdp(ALICE), sdp(BOB), sdp(ALICE, "a=inactive"), sdp(BOB, "a=rtcp-mux"), "", "v=0"]),
    }
)
ROOMS = st.sampled_from([DATAGRAM, DATAGRAM, 1200, LARGEST, None])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(SOUND, REQUESTS, ROOMS), max_size=6))
def test_every_request_has_a_reply(requests: list[tuple[dict[str, Any], dict[str, Any], int | None]]) -> None:
    stage = Stage(30000, 30015)
    for sound, extra, room in requests:
        for request in (extra, {**extra, **sound}, {**sound, **extra}):
            reply = stage.commands.handle(request, PROXY, stage.now, room)
            assert reply["result"] in ("ok", "pong", "error", "load limit")
            if room is not None:
                sizes = [len(message.encode(b"cookie", encoding, reply)) for encoding in message.Encoding]
                assert max(sizes) < 65_000
            stage.check()
    for call_id in stage.registry.call_ids(99):
        stage.command("delete", call_id=call_id, delete_delay=0)
    assert stage.pool.drawn == 0
    assert stage.plane.rules() == []


@settings(max_examples=100, deadline=None)
@given(TAGS, TAGS, st.integers(0, 12), st.sampled_from([700, 1200, DATAGRAM, LARGEST]))
def test_a_report_is_never_longer_than_its_room(caller: str, callee: str, lines: int, room: int) -> None:
    stage = Stage()
    body = sdp(ALICE, *[f"m=audio {6000 + 2 * line} RTP/AVP 0" for line in range(lines)])
    for command in ("offer", "answer"):
        stage.command(command, call_id="c1", from_tag=caller, to_tag=callee, sdp=body)
    for command in ("query", "delete", "list"):
        reply = stage.commands.handle({"command": command, "call-id": "c1"}, PROXY, stage.now, room)
        assert reply["result"] == "ok"
        assert len(bencode.encode(reply)) <= room
        assert command == "list" or "totals" in reply
