"""Queries: what the ng protocol tells of a call, and that it fits a datagram."""

from __future__ import annotations

import struct

import pytest

from control.ng import bencode
from relay.call import Signal
from relay.types import Endpoint, PayloadType
from tests.calls import ALICE, BOB, HOST, PCMU, Stage, above, audio

DATAGRAM = 60_000


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.offer(signal=Signal(received_from=ALICE.ip, label="caller", via_branch="z9hG4bK7"))
    stage.answer()
    return stage


def query(stage: Stage, call_id: str = "c1") -> dict[str, object]:
    return stage.command("query", call_id=call_id)


def test_the_keys_of_a_call(stage: Stage) -> None:
    stage.now += 5.5
    stage.answer(tags=("alice", "carol"))
    reply = stage.command("query", call_id="c1")
    assert reply["created"] == 1_700_000_100
    assert reply["created_ts"] == 1_700_000_100_000_000
    assert reply["created_us"] == 0
    assert reply["last signal"] == 1_700_000_105
    assert list(reply["tags"]) == ["alice", "bob"]
    alice, bob = reply["tags"]["alice"], reply["tags"]["bob"]
    assert (alice["tag"], alice["label"], alice["created"]) == ("alice", "caller", 1_700_000_100)
    assert (bob["via-branch"], bob["tag-aliases"]) == ("z9hG4bK7", ["carol"])
    assert alice["subscriptions"] == alice["subscribers"] == [{"tag": "bob", "type": "offer/answer"}]


def test_the_callee_has_no_tag_before_it_answers() -> None:
    stage = Stage()
    stage.offer()
    tags = stage.command("query", call_id="c1")["tags"]
    assert list(tags) == ["alice", "<untagged 1>"]
    assert tags["<untagged 1>"]["tag"] == tags["alice"]["subscribers"][0]["tag"] == ""
    stream = tags["<untagged 1>"]["medias"][0]["streams"][0]
    assert stream["endpoint"] == stream["advertised endpoint"] == {}


def test_the_keys_of_a_media(stage: Stage) -> None:
    media = stage.command("query", call_id="c1")["tags"]["alice"]["medias"]
    assert len(media) == 1
    assert {key: media[0][key] for key in ("index", "type", "protocol", "flags")} == {
        "index": 1,
        "type": "audio",
        "protocol": "RTP/AVP",
        "flags": ["initialized", "send", "recv"],
    }
    assert len(media[0]["streams"]) == 2


def test_the_keys_of_a_stream(stage: Stage) -> None:
    a, _ = stage.ports()
    seen = Endpoint(ALICE.ip, 61000)
    stage.plane.arrive(a, seen, packets=3)
    stage.now += 4
    stream = stage.command("query", call_id="c1")["tags"]["alice"]["medias"][0]["streams"][0]
    assert stream == {
        "local port": a.port,
        "local address": HOST,
        "family": "IPv4",
        "last packet": 1_700_000_104,
        "flags": ["RTP", "filled", "confirmed"],
        "stats": {"packets": 3, "bytes": 516, "errors": 0},
        "endpoint": {"family": "IPv4", "address": ALICE.ip, "port": 61000},
        "advertised endpoint": {"family": "IPv4", "address": ALICE.ip, "port": 4000},
    }


def test_muxed_streams_are_both_in_one(stage: Stage) -> None:
    stage.offer([audio(ALICE, mux=True)], tags=("alice", "bob"))
    stage.answer([audio(BOB, mux=True)])
    media = stage.command("query", call_id="c1")["tags"]["bob"]["medias"][0]
    assert "rtcp-mux" in media["flags"]
    assert [stream["flags"][:2] for stream in media["streams"]] == [["RTP", "RTCP"]]


def test_what_is_known_of_an_ssrc(stage: Stage) -> None:
    a, b = stage.ports()
    stage.plane.arrive(a, ALICE, packets=90)
    state = stage.plane._states[a]
    state.ssrc, state.highest_sequence, state.payload_type = 0xCAFE, 0x1_0005, 0
    state.expected, state.received = 100, 90
    report = struct.pack("!BBHIIIIIII", 0x81, 201, 7, 9, 0xCAFE, 26 << 24, 0, 80, 0, 0)
    stage.plane.arrive_rtcp(above(b), above(BOB), report)
    reply = stage.command("query", call_id="c1")
    source = reply["SSRC"]["51966"]
    assert {key: source[key] for key in ("packets", "bytes", "cumulative loss", "last RTP seq")} == {
        "packets": 90,
        "bytes": 90 * 172,
        "cumulative loss": 10,
        "last RTP seq": 5,
    }
    assert source["average MOS"]["samples"] == 1
    assert (source["average MOS"]["jitter"], source["average MOS"]["packet loss"]) == (10, 10)
    assert 10 <= source["lowest MOS"]["MOS"] <= 45
    assert source["highest MOS"]["reported at"] == 1_700_000_100
    media = reply["tags"]["alice"]["medias"][0]
    assert media["codec"] == "PCMU/8000"
    assert media["streams"][0]["SSRC"] == 0xCAFE


def test_a_call_of_many_lines_fits_a_datagram() -> None:
    stage = Stage(limit=None)
    types = tuple(PayloadType(number, "x" * 20, 8000) for number in range(96, 120))
    lines = [audio(Endpoint(ALICE.ip, 4000 + 2 * n), payload_types=(PCMU, *types)) for n in range(64)]
    for count in range(1, 65, 3):
        call_id = f"call{count}"
        stage.offer(lines[:count], call_id=call_id)
        stage.answer(lines[:count], call_id=call_id)
        for _, stream in stage.registry.query(call_id).streams():
            assert stream.local is not None
            assert stream.signalled is not None
            stage.plane.arrive(stream.local, stream.signalled, packets=2)
            state = stage.plane._states[stream.local]
            state.ssrc = 0xFFFF_FF00 + stream.local.port
        reply = stage.command("delete", call_id=call_id, delete_delay=0)
        assert len(bencode.encode(reply)) < DATAGRAM
        assert reply["totals"]["RTP"]["packets"] == 4 * count


@pytest.mark.parametrize("length", [100, 2000, 9000, 25_000])
def test_long_tags_fit_a_datagram(length: int) -> None:
    stage = Stage()
    tags = ("a" * length, "b" * length)
    stage.offer(tags=(tags[0], None))
    stage.answer(tags=tags)
    reply = stage.command("query", call_id="c1")
    assert len(bencode.encode(reply)) < DATAGRAM
    assert "totals" in reply
