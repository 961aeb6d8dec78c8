"""Queries: what the ng protocol tells of a call, and that it fits a datagram."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from control.ng import bencode, message
from relay.call import Signal
from relay.ports import Interface, PortPool
from relay.types import Endpoint, PayloadType
from tests.calls import ALICE, BOB, HOST, PCMU, PROXY, Stage, above, audio

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


def test_a_media_without_ports_has_its_type() -> None:
    stage = Stage()
    rejected, past = audio(ALICE, kind="video", rejected=True), audio(ALICE, kind="message", protocol="TCP/MSRP")
    stage.offer([audio(ALICE), rejected, past])
    for leg in stage.command("query", call_id="c1")["tags"].values():
        assert [media["type"] for media in leg["medias"]] == ["audio", "video", "message"]


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


def test_a_party_with_one_port_and_one_with_two_are_told_apart() -> None:
    stage = Stage()
    stage.offer([audio(ALICE, mux=True)], signal=Signal(mux=("accept",)))
    stage.answer()
    alice, bob = (tag["medias"][0] for tag in stage.command("query", call_id="c1")["tags"].values())
    assert ("rtcp-mux" in alice["flags"], "rtcp-mux" in bob["flags"]) == (True, False)
    assert alice["streams"][0]["flags"][:2] == ["RTP", "RTCP"]
    assert [stream["flags"][0] for stream in bob["streams"]] == ["RTP", "RTCP"]
    assert "RTCP" not in bob["streams"][0]["flags"]


def test_each_party_is_told_in_its_own_family() -> None:
    stage = Stage()
    six = Interface("default", "2001:db8::1", "2001:db8::1", PortPool(30000, 30999, lambda: 0.5))
    stage.serve([stage.interface, six])
    callee = Endpoint("2001:db8:5::20", 5000)
    stage.offer(signal=Signal(family=6))
    stage.answer([audio(callee)])
    alice, bob = (tag["medias"][0]["streams"][0] for tag in stage.command("query", call_id="c1")["tags"].values())
    assert (alice["family"], alice["local address"], alice["endpoint"]["family"]) == ("IPv4", HOST, "IPv4")
    assert (bob["family"], bob["local address"]) == ("IPv6", "2001:db8::1")
    assert bob["endpoint"] == {"family": "IPv6", "address": "2001:db8:5::20", "port": 5000}


def test_each_party_is_told_with_its_own_protocol() -> None:
    stage = Stage()
    stage.offer(signal=Signal(transport="RTP/AVPF"))
    stage.answer([audio(BOB, protocol="RTP/AVPF")])
    tags = stage.command("query", call_id="c1")["tags"]
    assert [tag["medias"][0]["protocol"] for tag in tags.values()] == ["RTP/AVP", "RTP/AVPF"]


# -- looking at a part


@pytest.mark.parametrize(
    ("keys", "tags"),
    [
        ({}, ["alice", "bob"]),
        ({"from_tag": "alice"}, ["alice", "bob"]),
        ({"from_tag": "bob"}, ["bob", "alice"]),
        ({"from_tag": "alice", "to_tag": "bob"}, ["bob", "alice"]),
        ({"from_tag": "alice", "to_tag": "mallory"}, ["alice", "bob"]),
    ],
)
def test_a_query_may_name_a_party(stage: Stage, keys: dict[str, str], tags: list[str]) -> None:
    stage.plane.arrive(stage.ports()[0], ALICE, packets=3)
    reply = stage.command("query", call_id="c1", **keys)
    assert list(reply["tags"]) == tags
    assert reply["totals"]["RTP"]["packets"] == 3
    assert "warning" not in reply


def test_a_query_of_a_tag_that_is_not_there_finds_nobody(stage: Stage) -> None:
    stage.plane.arrive(stage.ports()[0], ALICE, packets=3)
    reply = stage.command("query", call_id="c1", from_tag="mallory")
    assert (reply["result"], reply["tags"], reply["SSRC"]) == ("ok", {}, {})
    assert reply["totals"]["RTP"] == {"packets": 0, "bytes": 0, "errors": 0}
    assert reply["warning"] == "no party of the call has this tag"


# -- several branches


@pytest.fixture
def forked() -> Stage:
    """Alice is offered to two branches; bob has answered in the first."""
    stage = Stage()
    stage.offer(signal=Signal(via_branch="b1"))
    stage.now += 1
    stage.offer(signal=Signal(via_branch="b2"))
    stage.answer(signal=Signal(via_branch="b1"))
    return stage


def ports(stage: Stage, branch: int) -> list[Endpoint]:
    """The RTP ports of one branch that face the caller and the callee."""
    locals_ = [leg.medias[0].rtp.local for leg in stage.registry.query("c1").members()[branch].legs]
    return [local for local in locals_ if local is not None]


def first_port(tag: dict[str, Any]) -> int:
    port: int = tag["medias"][0]["streams"][0]["local port"]
    return port


def test_branches_are_one_report_with_one_entry_for_each_tag(forked: Stage) -> None:
    report = forked.command("query", call_id="c1")
    assert list(report["tags"]) == ["alice", "bob", "<untagged 3>"]
    _, *callees = report["tags"].values()
    told = [(tag["via-branch"], first_port(tag)) for tag in callees]
    assert told == [("b1", ports(forked, 0)[1].port), ("b2", ports(forked, 1)[1].port)]
    assert report["last signal"] - report["created"] == 1


def test_the_caller_is_shown_with_the_media_of_the_branch_that_answered(forked: Stage) -> None:
    alice = forked.command("query", call_id="c1")["tags"]["alice"]
    assert first_port(alice) == ports(forked, 0)[0].port
    assert alice["subscriptions"] == [{"tag": "bob", "type": "offer/answer"}]
    assert [tie["tag"] for tie in alice["subscribers"]] == ["bob", ""]
    forked.now += 5
    forked.answer(signal=Signal(via_branch="b2"), tags=("alice", "carol"))
    alice = forked.command("query", call_id="c1")["tags"]["alice"]
    assert first_port(alice) == ports(forked, 1)[0].port
    assert alice["subscriptions"] == [{"tag": "carol", "type": "offer/answer"}]


def test_a_branch_that_is_deleted_does_not_hide_one_that_stands(forked: Stage) -> None:
    forked.answer(signal=Signal(via_branch="b2"), tags=("alice", "carol"))
    forked.now += 5
    forked.delete(from_tag="alice", via_branch="b2")
    alice = forked.command("query", call_id="c1")["tags"]["alice"]
    assert first_port(alice) == ports(forked, 0)[0].port


def test_the_totals_are_those_of_all_branches(forked: Stage) -> None:
    for branch, packets in ((0, 10), (1, 3)):
        for port, source in zip(ports(forked, branch), (ALICE, BOB), strict=True):
            forked.plane.arrive(port, source, packets=packets)
            forked.plane._states[port].ssrc = 7 if source == ALICE else port.port
    report = forked.command("query", call_id="c1")
    assert report["totals"]["RTP"]["packets"] == 26
    assert report["SSRC"]["7"]["packets"] == 10
    assert len(report["SSRC"]) == 3


def test_a_callee_s_branch_can_be_asked_for_alone(forked: Stage) -> None:
    for branch, packets in ((0, 10), (1, 3)):
        forked.plane.arrive(ports(forked, branch)[0], ALICE, packets=packets)
    report = forked.command("query", call_id="c1", from_tag="bob")
    assert list(report["tags"]) == ["bob", "alice"]
    assert report["totals"]["RTP"]["packets"] == 10
    assert forked.command("query", call_id="c1", from_tag="alice")["totals"]["RTP"]["packets"] == 13


def test_a_delete_of_one_branch_tells_of_the_whole_call(forked: Stage) -> None:
    for branch, packets in ((0, 10), (1, 3)):
        forked.plane.arrive(ports(forked, branch)[0], ALICE, packets=packets)
    keys = {"call_id": "c1", "from_tag": "alice", "delete_delay": 0}
    assert forked.command("delete", via_branch="b1", **keys)["totals"]["RTP"]["packets"] == 13
    assert len(forked.command("query", call_id="c1")["tags"]) == 2
    last = forked.command("delete", **keys)
    assert last["totals"]["RTP"]["packets"] == 13
    assert forked.command("query", call_id="c1")["error-reason"] == "Unknown call-id"


def test_ports_that_a_reoffer_replaced_count_until_the_answer_and_after(stage: Stage) -> None:
    stage.plane.arrive(stage.ports()[1], BOB, packets=5)
    stage.offer([audio(Endpoint(ALICE.ip, 9000))], tags=("alice", "bob"))
    assert stage.command("query", call_id="c1")["totals"]["RTP"]["packets"] == 5
    stage.answer()
    assert stage.command("query", call_id="c1")["totals"]["RTP"]["packets"] == 5


@pytest.mark.parametrize(
    ("treatment", "flag"), [("block media", "block media"), ("silence media", "silence media"), ("block DTMF",) * 2]
)
def test_what_is_done_to_a_party_s_media_is_told(stage: Stage, treatment: str, flag: str) -> None:
    stage.command(treatment, call_id="c1", from_tag="bob")
    tags = stage.command("query", call_id="c1")["tags"]
    assert [flag in tag["medias"][0]["flags"] for tag in tags.values()] == [False, True]


# -- cutting


def of_lines(count: int, length: int = 5) -> Stage:
    """A call with so many m-lines and tags so long, with packets on all streams."""
    stage = Stage()
    lines = [audio(Endpoint(ALICE.ip, 4000 + 2 * n)) for n in range(count)]
    tags = ("a" * length, "b" * length)
    stage.offer(lines, tags=(tags[0], None))
    stage.answer(lines, tags=tags)
    for _, stream in stage.registry.query("c1").streams():
        assert stream.local is not None
        assert stream.signalled is not None
        stage.plane.arrive(stream.local, stream.signalled, packets=2)
        stage.plane._states[stream.local].ssrc = 0xFFFF_FF00 + stream.local.port
    return stage


@pytest.mark.parametrize(
    ("lines", "length", "cut"),
    [
        (2, 5, None),
        (4, 150, "SSRC is left out"),
        (20, 5, "SSRC and streams are left out"),
        (60, 5, "SSRC, streams and tags are left out"),
        (1, 5000, "SSRC, streams and tags are left out"),
    ],
)
def test_a_report_that_is_too_long_loses_detail_but_no_totals(lines: int, length: int, cut: str | None) -> None:
    stage = of_lines(lines, length)
    reply = stage.command("query", call_id="c1")
    assert len(bencode.encode(reply)) <= 8192
    assert reply["totals"]["RTP"]["packets"] == reply["totals"]["RTCP"]["packets"] == 4 * lines
    told = f"cut to 8192 bytes: {cut}; ask with the flag `full`, or over TCP or HTTP, for all"
    assert reply.get("warning") == (told if cut else None)
    medias = [media for tag in reply["tags"].values() for media in tag["medias"]]
    assert (bool(reply["SSRC"]), len(medias)) == (cut is None, 0 if cut and "tags" in cut else 2 * lines)
    assert all(bool(media["streams"]) == (cut is None or "streams" not in cut) for media in medias)


@pytest.mark.parametrize(("lines", "whole"), [(20, True), (64, False)])
def test_full_reports_are_as_long_as_a_datagram(lines: int, whole: bool) -> None:
    reply = of_lines(lines).command("query", call_id="c1", flags=["full"])
    assert 8192 < len(bencode.encode(reply)) <= 60_000
    assert ("warning" in reply) == (not whole)
    assert whole or "ask over TCP or HTTP for all" in reply["warning"]


@pytest.mark.parametrize("encoding", message.Encoding)
def test_a_stream_carries_all_of_it(encoding: message.Encoding) -> None:
    stage = of_lines(64, 9000)
    reply = stage.commands.handle({"command": "query", "call-id": "c1"}, PROXY, stage.now, None)
    assert "warning" not in reply
    text = message.encode(b"cookie", encoding, reply)
    assert len(text) > 65_535
    assert text.count(b"local port") == 64 * 4


@pytest.mark.parametrize("length", [100, 3000])
def test_a_report_fits_a_datagram_in_json_as_well(length: int) -> None:
    stage = Stage()
    tags = ("\1" * length, "\2" * length)
    stage.offer(tags=(tags[0], None))
    stage.answer(tags=tags)
    for flags in ([], ["full"]):
        reply = stage.commands.handle({"command": "query", "call-id": "c1", "flags": flags}, PROXY, stage.now)
        assert len(message.encode(b"cookie", message.Encoding.JSON, reply)) < 65_507
        assert "totals" in reply


def test_a_call_of_very_many_branches_is_reported() -> None:
    stage = Stage()
    lines = [audio(Endpoint(ALICE.ip, 4000 + 2 * line)) for line in range(4)]
    for number in range(30):
        stage.offer(lines, signal=Signal(via_branch=f"b{number}"))
    assert len(stage.registry.query("c1").members()) == 30
    for room, flags in ((8192, []), (8192, ["full"]), (None, [])):
        request = {"command": "query", "call-id": "c1", "flags": flags}
        reply = stage.commands.handle(request, PROXY, stage.now, room)
        size = len(bencode.encode(reply))
        assert size < (60_000 if flags else 8192 if room else 4 << 20)
        assert ("warning" in reply) == (room is not None)
    assert size > 60_000
