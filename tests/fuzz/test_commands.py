"""Requests of any shape: each gets a reply that can be sent, and none leaves ports behind."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from control.ng import bencode
from control.ng.flags import _FLAGS, _KEYS
from tests.calls import ALICE, BOB, PROXY, Stage, sdp

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.text(max_size=12) | st.integers() | st.sampled_from([*_FLAGS, "alice", "bob", "c1", sdp(ALICE), sdp(BOB)]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
COMMAND_NAMES = ("ping", "offer", "answer", "delete", "query", "list", "statistics", "offer", "answer")
REQUESTS = st.dictionaries(st.sampled_from([*_KEYS]) | st.text(max_size=8), VALUES, max_size=8)
SOUND = st.fixed_dictionaries(
    {
        "command": st.sampled_from(COMMAND_NAMES),
        "call-id": st.sampled_from(["c1", "c2"]),
        "from-tag": st.sampled_from(["alice", "bob"]),
        "to-tag": st.sampled_from(["bob", "alice"]),
        "sdp": st.sampled_from([sdp(ALICE), sdp(BOB), sdp(ALICE, "a=inactive"), sdp(BOB, "a=rtcp-mux"), "", "v=0"]),
    }
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(SOUND, REQUESTS), max_size=6))
def test_every_request_has_a_reply(requests: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    stage = Stage(30000, 30015)
    for sound, extra in requests:
        for request in (extra, {**extra, **sound}, {**sound, **extra}):
            reply = stage.commands.handle(request, PROXY, stage.now)
            assert reply["result"] in ("ok", "pong", "error", "load limit")
            assert len(bencode.encode(reply)) < 65_000
            stage.check()
    for call_id in stage.registry.call_ids(99):
        stage.command("delete", call_id=call_id, delete_delay=0)
    assert stage.pool.drawn == 0
    assert stage.plane.rules() == []
