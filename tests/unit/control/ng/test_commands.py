"""The ng commands, from request dictionary to reply dictionary."""

from __future__ import annotations

from typing import Any

import pytest

from control.ng import bencode, message
from control.ng.commands import NOT_DONE, Commands
from control.ng.service import Service
from control.sdp.model import SdpError
from relay.types import Endpoint
from tests.calls import ALICE, BOB, HOST, PROXY, Stage, above, sdp

OFFER = {"call_id": "c1", "from_tag": "alice", "sdp": sdp(ALICE), "received_from": ["IP4", ALICE.ip]}
ANSWER = {"call_id": "c1", "from_tag": "alice", "to_tag": "bob", "sdp": sdp(BOB), "received_from": ["IP4", BOB.ip]}


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def standing(stage: Stage) -> Stage:
    stage.command("offer", **OFFER)
    stage.command("answer", **ANSWER)
    return stage


def error(text: str) -> dict[str, str]:
    return {"result": "error", "error-reason": text}


def test_ping(stage: Stage) -> None:
    assert stage.command("ping") == {"result": "pong"}


def test_offer_and_answer_carry_the_relays_address(stage: Stage) -> None:
    offered = stage.command("offer", **OFFER)
    answered = stage.command("answer", **ANSWER)
    a, b = stage.ports()
    for reply, port in ((offered, b), (answered, a)):
        assert reply["result"] == "ok"
        assert "warning" not in reply
        assert f"\r\nm=audio {port.port} RTP/AVP 0\r\nc=IN IP4 {HOST}\r\n" in reply["sdp"]
        assert f"a=rtcp:{port.port + 1}\r\n" in reply["sdp"]
    assert stage.plane.installed[a].destination == BOB
    stage.check()


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({}, 'Dictionary contains no key "command"'),
        ({"command": "teleport"}, "Unrecognized command"),
        ({"command": "play media", "call-id": "c1"}, "This relay plays no media"),
        ({"command": "block media now", "call-id": "c1"}, "Unrecognized command"),
        ({"command": ["ping"]}, "Unrecognized command"),
        ({"command": "offer"}, "No call-id in message"),
        ({"command": "offer", "call-id": ""}, "No call-id in message"),
        ({"command": "offer", "call-id": "c1"}, "No from-tag in message"),
        ({"command": "offer", "call-id": "c1", "from-tag": "a"}, "No SDP body in message"),
        ({"command": "offer", "call-id": "c1", "from-tag": "a", "sdp": "hello"}, "Failed to parse SDP"),
        (
            {"command": "offer", "call-id": "c1", "from-tag": "a", "sdp": "v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\n"},
            "Error rewriting SDP",
        ),
        (
            {"command": "offer", "call-id": "c1", "from-tag": "a", "sdp": sdp(ALICE).replace("c=IN", "b=AS:1\r\ni=IN")},
            "Incomplete SDP specification",
        ),
        ({"command": "answer", "call-id": "c1", "from-tag": "a", "sdp": sdp(BOB)}, "No to-tag in message"),
        ({"command": "answer", "call-id": "c1", "from-tag": "a", "to-tag": "b"}, "No SDP body in message"),
        ({"command": "answer", "call-id": "c1", "from-tag": "a", "to-tag": "b", "sdp": sdp(BOB)}, "Unknown call-id"),
        ({"command": "delete"}, "No call-id in message"),
        ({"command": "query"}, "No call-id in message"),
        ({"command": "query", "call-id": "c1"}, "Unknown call-id"),
    ],
)
def test_errors_say_what_controllers_compare(stage: Stage, request_: dict[str, Any], text: str) -> None:
    assert stage.commands.handle(request_, PROXY, stage.now) == error(text)
    assert len(stage.registry) == stage.pool.drawn == 0


def test_nothing_is_left_of_a_new_call_that_cannot_be_passed_on(stage: Stage) -> None:
    def fail(*_: object) -> str:
        raise SdpError("Error rewriting SDP")

    stage.command("offer", **{**OFFER, "call_id": "c0"})
    stage.commands = Commands(stage.registry, 0.0, 0.0, rewrite=fail)
    for call_id in ("c0", "c1"):
        assert stage.command("offer", **{**OFFER, "call_id": call_id}) == error("Error rewriting SDP")
    assert stage.registry.call_ids(9) == ["c0"]
    stage.check()


def test_a_fault_in_writing_leaves_nothing_of_a_new_call(stage: Stage) -> None:
    def fail(*_: object) -> str:
        raise ZeroDivisionError

    stage.commands = Commands(stage.registry, 0.0, 0.0, rewrite=fail)
    with pytest.raises(ZeroDivisionError):
        stage.command("offer", **OFFER)
    assert len(stage.registry) == stage.pool.drawn == 0


@pytest.mark.parametrize(
    ("call_id", "line", "more"),
    [("c\\ud800", "a=ice-ufrag:abcd", {}), ("c", "a=x:\\ud800", {"replace": ["SDP-version"]})],
)
def test_half_a_surrogate_pair_in_json_is_survived(
    stage: Stage, call_id: str, line: str, more: dict[str, list[str]]
) -> None:
    service = Service(stage.commands.handle, [], lambda: stage.now)
    body = {"command": "offer", "call-id": call_id, "from-tag": "a", "sdp": sdp(ALICE, line), **more}
    text = message.encode(b"cookie", message.Encoding.JSON, body).replace(b"\\\\u", b"\\u")
    assert b'"result":"ok"' in service.answer(text, PROXY, stage.now)[0]
    assert service.counters.failures == 0


@pytest.mark.parametrize("encoding", message.Encoding)
def test_nothing_is_left_of_a_new_call_whose_reply_fits_no_datagram(stage: Stage, encoding: message.Encoding) -> None:
    service = Service(stage.commands.handle, [], lambda: stage.now)
    filler = "\1" if encoding is message.Encoding.JSON else "x" * 6  # one character, six bytes
    for size, result in (("100", "ok"), ("9000", "ok"), ("10200", "error")):
        request = {"command": "offer", "call-id": size, "from-tag": "a", "sdp": sdp(ALICE, "a=x:" + filler * int(size))}
        (reply,) = service.answer(message.encode(size.encode(), encoding, request), PROXY, stage.now)
        assert message.decode(reply).body["result"] == result
        assert (stage.registry.find(size) is not None) == (result == "ok")
    assert service.counters.oversize == service.counters.failures == 0
    stage.check()


@pytest.mark.parametrize("number", [10**20, -(10**20), 10**400])
def test_numbers_out_of_all_proportion_do_no_harm(standing: Stage, number: int) -> None:
    for command, key in (("offer", "tos"), ("list", "limit"), ("query", "sip_code"), ("delete", "delete_delay")):
        assert standing.command(command, **{**OFFER, key: number})["result"] == "ok"


def test_an_empty_body_is_ok_and_nothing(stage: Stage) -> None:
    assert stage.command("offer", call_id="c1", from_tag="a", sdp="") == {"result": "ok"}
    assert len(stage.registry) == 0


def test_out_of_ports() -> None:
    stage = Stage(30000, 30003)
    stage.command("offer", **OFFER)
    assert stage.command("offer", **{**OFFER, "call_id": "c2"}) == error("Ran out of ports")
    assert stage.registry.call_ids(9) == ["c1"]


@pytest.mark.parametrize(
    "text",
    [
        "Parallel session limit reached",
        "CPU usage limit exceeded",
        "Load limit exceeded",
        "Bandwidth limit exceeded",
    ],
)
def test_a_load_limit_is_told_in_the_controllers_way(standing: Stage, text: str) -> None:
    standing.registry.refuse = lambda: text
    offer = {**OFFER, "call_id": "c2"}
    assert standing.command("offer", **offer) == error(text)
    assert standing.command("offer", supports=["load limit"], **offer) == {"result": "load limit", "message": text}
    assert standing.command("offer", supports=["load limit"], **{**OFFER, "to_tag": "bob"})["result"] == "ok"


def test_an_answer_of_strangers_belongs_to_no_dialogue(standing: Stage) -> None:
    reply = standing.command("answer", **{**ANSWER, "from_tag": "mallory", "to_tag": "trudy"})
    assert reply == error("Invalid dialogue association")


# -- dialogues this relay has not seen: the proxy has lost the way to another one


def test_a_reinvite_of_a_call_that_is_not_known_makes_one(stage: Stage) -> None:
    assert stage.command("offer", **{**OFFER, "to_tag": "bob"})["result"] == "ok"
    assert stage.command("answer", **ANSWER)["result"] == "ok"
    assert list(stage.command("query", call_id="c1")["tags"]) == ["alice", "bob"]


@pytest.mark.parametrize("keys", [{}, {"from_tag": "alice"}, {"from_tag": "a", "to_tag": "b", "via_branch": "z9"}])
def test_a_delete_of_a_call_that_is_not_known_succeeds(stage: Stage, keys: dict[str, str]) -> None:
    reply = stage.command("delete", call_id="c1", **keys)
    assert reply == {"result": "ok", "warning": "Call-ID not found or tags didn't match"}


def test_a_delete_may_be_asked_to_fail(stage: Stage) -> None:
    assert stage.command("delete", call_id="c1", flags=["fatal"]) == error("Call-ID not found or tags didn't match")


# -- what this relay does not do


@pytest.mark.parametrize("command", NOT_DONE)
def test_what_this_relay_does_not_do_is_said(standing: Stage, command: str) -> None:
    reply = standing.command(command, call_id="c1", from_tag="alice")
    assert reply == error(NOT_DONE[command])
    assert reply["error-reason"].startswith("This relay ")


@pytest.mark.parametrize("command", ["start recording", "stop recording", "pause recording"])
def test_recording_is_accepted_with_a_warning(standing: Stage, command: str) -> None:
    reply = standing.command(command, call_id="c1", recording_file="/tmp/x.pcap")
    assert reply == {"result": "ok", "warning": "nothing is recorded: this relay does not record"}
    assert standing.command(command, call_id="c2") == error("Unknown call-id")
    assert standing.command(command) == error("No call-id in message")


@pytest.mark.parametrize("spelling", ["start recording", "start-recording", "start_recording", "Start Recording"])
def test_commands_may_be_spelt_in_many_ways(standing: Stage, spelling: str) -> None:
    assert standing.command(spelling, call_id="c1")["result"] == "ok"
    assert standing.commands.counts[PROXY.ip]["start recording"] == 1


def test_integers_and_lists_may_come_as_strings(stage: Stage) -> None:
    stage.command("offer", TOS="184", flags="strict-source", **OFFER)
    rule = stage.plane.installed[stage.ports()[0]]
    assert (rule.tos, rule.strict_source) == (184, True)


@pytest.mark.parametrize(
    ("tos", "daemon", "written"),
    [(184, 0, 184), (187, 0, 184), (0, 184, 0), (-1, 184, None), (None, 184, 184), (256, 184, 184), (None, -1, None)],
)
def test_marking(tos: int | None, daemon: int, written: int | None) -> None:
    stage = Stage(tos=daemon)
    keys = {} if tos is None else {"TOS": tos}
    stage.command("offer", **OFFER, **keys)
    assert {rule.tos for rule in stage.plane.installed.values()} == {written}


def test_marking_goes_back_to_the_daemons_where_an_answer_has_none(stage: Stage) -> None:
    stage.command("offer", TOS=184, **OFFER)
    stage.command("answer", **ANSWER)
    assert {rule.tos for rule in stage.plane.installed.values()} == {0}


def test_ice_is_removed_on_demand(stage: Stage) -> None:
    candidate = "a=candidate:1 1 UDP 2130706431 198.51.100.10 4000 typ host"
    body = sdp(ALICE, "a=ice-ufrag:abcd", "a=ice-pwd:0123456789012345678901", candidate)
    reply = stage.command("offer", **{**OFFER, "sdp": body}, ICE="remove")
    assert "ice-" not in reply["sdp"]
    assert "candidate" not in reply["sdp"]


def test_the_origin_is_replaced_on_demand(stage: Stage) -> None:
    reply = stage.command("offer", **OFFER, replace=["origin", "session-connection"])
    assert f"o=- 1 1 IN IP4 {HOST}\r\n" in reply["sdp"]


def test_what_is_not_converted_is_warned_of(stage: Stage) -> None:
    reply = stage.command("offer", **OFFER, transport_protocol="RTP/SAVP")
    assert reply["result"] == "ok"
    assert reply["warning"] == "transport-protocol RTP/SAVP is not made from RTP/AVP: media passes unchanged"
    assert "m=audio" in reply["sdp"]
    assert "RTP/AVP" in reply["sdp"]


def test_asking_for_what_is_there_is_no_reason_to_warn(stage: Stage) -> None:
    assert "warning" not in stage.command("offer", **OFFER, transport_protocol="RTP/AVP")


def test_refused_endpoints_are_warned_of(stage: Stage) -> None:
    reply = stage.command("offer", **{**OFFER, "sdp": sdp(Endpoint("127.0.0.1", 4000))})
    assert reply["warning"].startswith("media 1: nothing is sent to 127.0.0.1:4000, a loopback address; ")


# -- delete


def test_delete_replies_with_the_calls_counters(standing: Stage) -> None:
    a, b = standing.ports()
    standing.plane.arrive(a, ALICE, packets=10, size=172)
    standing.plane.arrive(above(b), above(BOB), packets=2, size=60)
    reply = standing.command("delete", call_id="c1", from_tag="alice")
    assert reply["result"] == "ok"
    assert "warning" not in reply
    assert reply["totals"] == {
        "RTP": {"packets": 10, "bytes": 1720, "errors": 0},
        "RTCP": {"packets": 2, "bytes": 120, "errors": 0},
    }


def test_delete_at_once_still_tells_the_counters(standing: Stage) -> None:
    standing.plane.arrive(standing.ports()[0], ALICE, packets=10)
    reply = standing.command("delete", call_id="c1", delete_delay=0)
    assert reply["totals"]["RTP"]["packets"] == 10
    assert standing.command("query", call_id="c1") == error("Unknown call-id")
    assert standing.plane.rules() == []


def test_delete_is_idempotent(standing: Stage) -> None:
    first = standing.command("delete", call_id="c1", from_tag="alice")
    assert standing.command("delete", call_id="c1", from_tag="alice") == first
    standing.wait(31)
    assert standing.command("delete", call_id="c1", from_tag="alice") == {
        "result": "ok",
        "warning": "Call-ID not found or tags didn't match",
    }


def test_a_deleted_call_can_still_be_asked_about(standing: Stage) -> None:
    standing.command("delete", call_id="c1")
    assert standing.command("query", call_id="c1")["result"] == "ok"
    assert standing.command("list")["calls"] == ["c1"]


def test_a_delete_of_another_dialogue_does_nothing(standing: Stage) -> None:
    reply = standing.command("delete", call_id="c1", from_tag="mallory")
    assert reply == {"result": "ok", "warning": "Call-ID not found or tags didn't match"}
    assert standing.registry.standing == 1


def test_fast_deletes_tell_nothing(standing: Stage) -> None:
    assert standing.command("delete", call_id="c1", flags=["fast"]) == {"result": "ok"}


def test_flags_of_an_offer_do_no_harm_to_a_delete(standing: Stage) -> None:
    reply = standing.command(
        "delete", call_id="c1", from_tag="alice", ICE="remove", TOS=184, label="x", transport_protocol="RTP/AVP"
    )
    assert "totals" in reply


# -- list and statistics


def test_list_is_limited(stage: Stage) -> None:
    for number in range(40):
        stage.command("offer", **{**OFFER, "call_id": f"c{number}"})
    assert len(stage.command("list")["calls"]) == 32
    assert stage.command("list", limit="2")["calls"] == ["c0", "c1"]
    assert stage.command("list", limit=-1)["calls"] == []


@pytest.mark.parametrize("filler", ["x", "\1", '"', "é"])
def test_a_list_is_cut_to_what_fits(filler: str) -> None:
    stage = Stage()
    for number in range(200):
        stage.command("offer", **{**OFFER, "call_id": f"{number}{filler * 100}"})
    told = {}
    for room, flags in ((8192, []), (60_000, ["full"]), (None, [])):
        request = {"command": "list", "limit": 200, "flags": flags}
        reply = stage.commands.handle(request, PROXY, stage.now, None if room is None else 8192)
        for encoding in message.Encoding:
            assert len(message.encode(b"cookie", encoding, reply)) < (room or 1 << 20) + 300
        told[room] = len(reply["calls"])
        assert reply["calls"] == stage.registry.call_ids(told[room])
        assert ("warning" in reply) == (told[room] < 200)
    assert 10 < told[8192] < told[60_000] <= told[None] == 200


def test_a_cut_list_says_so(stage: Stage) -> None:
    for number in range(90):
        stage.command("offer", **{**OFFER, "call_id": f"{number:0100}"})
    reply = stage.command("list", limit=1000)
    told = len(reply["calls"])
    text = f"cut to 8192 bytes: {told} of 90 calls are told; ask with the flag `full`, or over TCP or HTTP, for all"
    assert reply["warning"] == text


def test_statistics_of_very_many_proxies_fit_a_datagram(stage: Stage) -> None:
    for number in range(256):
        for _ in range(1 + (number == 77)):
            stage.commands.handle({"command": "ping"}, Endpoint(f"2001:db8:1234:5678::{number:x}", 5), stage.now)
    reply = stage.command("statistics")
    control = reply["statistics"]["controlstatistics"]
    assert control["totalpingcount"] == 257
    assert control["proxies"][0]["proxy"] == "2001:db8:1234:5678::4d"
    assert len(bencode.encode(reply)) < 65_000
    assert reply["warning"].startswith(f"cut to 60000 bytes: {len(control['proxies'])} of 256 proxies are told; ask ")
    whole = stage.commands.handle({"command": "statistics"}, PROXY, stage.now, None)
    assert "warning" not in whole
    assert len(whole["statistics"]["controlstatistics"]["proxies"]) == 256


def test_statistics_count_calls_commands_and_ports(standing: Stage) -> None:
    standing.command("delete", call_id="c1", delete_delay=0)
    standing.command("offer", **{**OFFER, "call_id": "c2"})
    standing.command("teleport")
    found = standing.command("statistics")["statistics"]
    assert found["currentstatistics"]["sessionstotal"] == 1
    assert found["totalstatistics"]["managedsessions"] == 2
    assert found["totalstatistics"]["regularterminatedsessions"] == 1
    assert found["controlstatistics"]["proxies"][0]["proxy"] == PROXY.ip
    assert found["controlstatistics"]["totaloffercount"] == 2
    assert found["controlstatistics"]["totalerrorcount"] == 1
    assert found["interfaces"][0]["ports"] == {
        "min": 30000,
        "max": 30999,
        "used": 4,
        "used_pct": "0.40",
        "free": 996,
        "totals": 1000,
    }


def test_what_is_refused_or_warned_of_is_noted_for_the_log(stage: Stage) -> None:
    noted: list[tuple[Any, ...]] = []
    commands = Commands(stage.registry, 0.0, 0.0, lambda *what: noted.append(what))
    broken = {"command": "offer", "call-id": "c1", "from-tag": "a", "sdp": "hello"}
    unknown = {"command": "delete", "call-id": "c2"}
    asked = {"command": "offer", "call-id": "c3", "from-tag": "a", "sdp": sdp(ALICE), "transport-protocol": "RTP/SAVP"}
    fine = {"command": "ping"}
    replies = [commands.handle(request, PROXY, stage.now) for request in (broken, unknown, asked, fine)]
    assert noted == [
        (broken, PROXY, replies[0], "line 1: expected v=0: 'hello'"),
        (unknown, PROXY, replies[1], ""),
        (asked, PROXY, replies[2], ""),
    ]
    assert "transport-protocol RTP/SAVP is not made from RTP/AVP" in replies[2]["warning"]


def test_unknown_keys_are_counted(stage: Stage) -> None:
    stage.command("offer", **OFFER, xyzzy=1, flags=["plugh"])
    assert stage.commands.ignored == 2


def test_controllers_without_number_are_not_remembered_without_end(stage: Stage) -> None:
    for number in range(600):
        source = Endpoint(f"10.0.{number // 250}.{number % 250 + 1}", 5)
        stage.commands.handle({"command": "ping"}, source, stage.now)
    assert len(stage.commands.counts) == 256


@pytest.mark.parametrize("name", ["query", "delete", "statistics", "list"])
def test_replies_can_be_encoded(standing: Stage, name: str) -> None:
    standing.plane.arrive(standing.ports()[0], ALICE)
    assert bencode.encode(standing.command(name, call_id="c1"))
