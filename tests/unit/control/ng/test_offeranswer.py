"""Offers and answers with flags: what the parties are shown of each other, and what the proxy is told."""

from __future__ import annotations

from typing import Any

import pytest

from tests.calls import ALICE, BOB, HOST, Stage, sdp

RTPMAPS = ("a=rtpmap:0 PCMU/8000", "a=rtpmap:18 G729/8000", "a=rtpmap:101 telephone-event/8000")
ICE = ("a=ice-ufrag:abcd", "a=ice-pwd:0123456789012345678901", "a=candidate:1 1 udp 9 198.51.100.10 4000 typ host")


@pytest.fixture
def stage() -> Stage:
    return Stage()


def codecs(body: str) -> str:
    return body.replace("RTP/AVP 0\r\n", "RTP/AVP 0 18 101\r\n")


def offer(stage: Stage, body: str, **keys: Any) -> dict[str, Any]:
    return stage.command("offer", **{"call_id": "c1", "from_tag": "alice", "sdp": body, **keys})


def answer(stage: Stage, body: str, **keys: Any) -> dict[str, Any]:
    return stage.command("answer", **{"call_id": "c1", "from_tag": "alice", "to_tag": "bob", "sdp": body, **keys})


def lines(reply: dict[str, Any], *starts: str) -> list[str]:
    """The lines of the reply's body that start so."""
    assert reply["result"] == "ok"
    return [line for line in reply["sdp"].split("\r\n") if line.startswith(starts)]


def test_a_stripped_codec_is_neither_offered_nor_warned_of(stage: Stage) -> None:
    reply = offer(stage, codecs(sdp(ALICE, *RTPMAPS)), codec={"strip": ["G729"]})
    assert lines(reply, "m=", "a=rtpmap:18")[0].endswith("RTP/AVP 0 101")
    assert len(lines(reply, "a=rtpmap")) == 2
    assert "warning" not in reply


def test_codecs_that_would_leave_none_stay_and_are_warned_of(stage: Stage) -> None:
    reply = offer(stage, codecs(sdp(ALICE, *RTPMAPS)), flags=["codec-strip-PCMU", "codec-strip-G729"])
    assert lines(reply, "m=")[0].endswith("RTP/AVP 0 18 101")
    assert reply["warning"] == "media 1: no codec would be left, so all stay"


def test_single_codec_is_for_answers(stage: Stage) -> None:
    body = codecs(sdp(ALICE, *RTPMAPS))
    assert lines(offer(stage, body, flags=["single-codec"]), "m=")[0].endswith("0 18 101")
    assert lines(answer(stage, codecs(sdp(BOB, *RTPMAPS)), flags=["single-codec"]), "m=")[0].endswith("0 101")


def test_generated_mids_are_not_shown_to_who_has_none(stage: Stage) -> None:
    assert lines(offer(stage, sdp(ALICE), flags=["generate-mid"]), "a=mid") == ["a=mid:1"]
    assert lines(answer(stage, sdp(BOB, "a=mid:1")), "a=mid") == []


def test_an_answer_repeats_mid_and_packet_time_of_its_offer(stage: Stage) -> None:
    offer(stage, sdp(ALICE, "a=mid:audio", "a=ptime:20"))
    assert lines(answer(stage, sdp(BOB)), "a=mid", "a=ptime") == ["a=mid:audio", "a=ptime:20"]


def test_a_wanted_packet_time_is_written_and_warned_of(stage: Stage) -> None:
    reply = offer(stage, sdp(ALICE, "a=ptime:20"), ptime=30)
    assert lines(reply, "a=ptime") == ["a=ptime:30"]
    assert reply["warning"] == "ptime: the line is written, packets pass as they come"
    assert lines(answer(stage, sdp(BOB)), "a=ptime") == ["a=ptime:20"]


def test_the_version_follows_what_each_party_is_sent(stage: Stage) -> None:
    versions = []
    for body in (sdp(ALICE), sdp(ALICE), sdp(ALICE, "a=sendonly"), sdp(ALICE)):
        reply = offer(stage, body, replace=["SDP-version"])
        versions.append(lines(reply, "o=")[0].split()[2])
    assert versions == ["1", "1", "2", "3"]
    assert lines(answer(stage, sdp(BOB), replace=["SDP-version"]), "o=")[0].split()[2] == "1"


def test_origin_full_lets_a_party_see_one_session(stage: Stage) -> None:
    offer(stage, sdp(ALICE), replace=["origin-full"])
    other = sdp(ALICE, "a=sendonly").replace("o=- 1 1", "o=carol 99 7")
    assert lines(offer(stage, other, replace=["origin-full"]), "o=") == [f"o=- 1 2 IN IP4 {HOST}"]


def test_a_body_that_comes_back_to_the_relay_stays_as_it_is(stage: Stage) -> None:
    once = offer(stage, sdp(ALICE), flags=["loop-protect"])
    assert len(lines(once, "a=rtpengine:")) == 1
    drawn = stage.pool.drawn
    for call_id in ("c1", "c2"):
        again = offer(stage, once["sdp"], call_id=call_id, flags=["loop-protect"])
        assert again == {"sdp": once["sdp"], "result": "ok"}
    assert stage.pool.drawn == drawn
    assert stage.registry.find("c2") is None
    assert answer(stage, once["sdp"], flags=["loop-protect"])["sdp"] == once["sdp"]


def test_a_mark_of_another_relay_or_without_the_flag_is_an_attribute_like_any(stage: Stage) -> None:
    once = offer(stage, sdp(ALICE), flags=["loop-protect"])["sdp"]
    assert offer(stage, once, call_id="c2")["sdp"] != once
    foreign = sdp(ALICE, "a=rtpengine:0123456789ab")
    assert len(lines(offer(stage, foreign, call_id="c3", flags=["loop-protect"]), "a=rtpengine:")) == 2


def test_two_relays_have_two_marks() -> None:
    marks = set()
    for offset in (1.0, 2.0):
        stage = Stage()
        stage.commands = type(stage.commands)(stage.registry, 0.0, offset)
        marks.update(lines(offer(stage, sdp(ALICE), flags=["loop-protect"]), "a=rtpengine:"))
    assert len(marks) == 2


def test_ice_of_both_parties_goes_through_the_relays_ports(stage: Stage) -> None:
    offered = offer(stage, sdp(ALICE, *ICE))
    answered = answer(stage, sdp(BOB, *ICE))
    for reply, port in zip((answered, offered), stage.ports(), strict=True):
        found = [line.split(maxsplit=1)[1] for line in lines(reply, "a=candidate")]
        assert found == [
            f"1 UDP 2130706431 {HOST} {port.port} typ host",
            f"2 UDP 2130706430 {HOST} {port.port + 1} typ host",
        ]
        assert lines(reply, "a=ice-") == list(ICE[:2])


@pytest.mark.parametrize("keys", [{"ICE": "remove"}, {"flags": ["reject-ICE"]}, {"rtpp_flags": "ICE=remove"}])
def test_ice_is_removed(stage: Stage, keys: dict[str, Any]) -> None:
    assert lines(offer(stage, sdp(ALICE, *ICE), **keys), "a=ice-", "a=candidate") == []


def test_an_agent_without_candidates_gets_its_ports(stage: Stage) -> None:
    body = sdp(ALICE, *ICE[:2]).replace(ALICE.ip, "0.0.0.0").replace(f"m=audio {ALICE.port}", "m=audio 9")
    reply = offer(stage, body)
    assert lines(reply, "c=", "a=sendrecv") == [f"c=IN IP4 {HOST}", "a=sendrecv"]
    assert len(lines(reply, "a=candidate")) == 2
    stage.check()


def test_a_fragment_passes_without_candidates_and_without_a_call(stage: Stage) -> None:
    fragment = "a=ice-ufrag:abcd\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\na=candidate:1 1 udp 9 10.0.0.1 4000 typ host\r\n"
    for command in (offer, answer):
        reply = command(stage, fragment, flags=["fragment"])
        assert reply == {"sdp": fragment[: fragment.index("a=candidate")], "result": "ok"}
    assert offer(stage, "hello", flags=["fragment"])["error-reason"] == "Failed to parse SDP"
    assert len(stage.registry) == 0


@pytest.mark.parametrize(
    ("keys", "protocol", "warning"),
    [
        ({"ICE": "force"}, "RTP/AVP", "ICE=force: no ICE is made"),
        ({"ICE": "optional"}, "RTP/AVP", "ICE=optional: no ICE is made"),
        ({"SDES": ["off"]}, "RTP/AVP", None),
        ({"SDES": ["off"], "DTLS": "off"}, "RTP/SAVP", "SDES: keys, fingerprints and setup"),
        ({"transport_protocol": "RTP/AVP"}, "RTP/SAVP", "transport-protocol RTP/AVP is not made from RTP/SAVP"),
        ({"transport_protocol": "RTP/SAVP"}, "RTP/AVP", "transport-protocol RTP/SAVP is not made from RTP/AVP"),
        ({"transport_protocol": "RTP/AVPF"}, "RTP/AVP", None),
        ({"transport_protocol": "RTP/AVP"}, "RTP/AVP", None),
        ({"record_call": "yes"}, "RTP/AVP", "record-call: nothing is recorded"),
        ({"flags": ["xyzzy"]}, "RTP/AVP", None),
    ],
)
def test_what_is_not_done_is_warned_of(stage: Stage, keys: dict[str, Any], protocol: str, warning: str | None) -> None:
    reply = offer(stage, sdp(ALICE, protocol=protocol), **keys)
    assert reply["result"] == "ok"
    assert ("warning" in reply) is (warning is not None)
    assert reply.get("warning", "").startswith(warning or "")


def test_flags_of_an_offer_warn_of_nothing_in_other_commands(stage: Stage) -> None:
    offer(stage, sdp(ALICE))
    assert "warning" not in stage.command("delete", call_id="c1", from_tag="alice", ICE="force", flags=["WebRTC"])


def test_keys_of_secured_media_pass(stage: Stage) -> None:
    keys = ("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x", "a=setup:actpass", "a=fingerprint:sha-256 AA", "a=tls-id:1")
    reply = offer(stage, sdp(ALICE, *keys, protocol="UDP/TLS/RTP/SAVP"))
    assert tuple(lines(reply, "a=crypto", "a=setup", "a=fingerprint", "a=tls-id")) == keys
    assert lines(reply, "m=")[0].endswith("UDP/TLS/RTP/SAVP 0")


def test_a_media_address_is_shown_in_place_of_the_relays(stage: Stage) -> None:
    reply = offer(stage, sdp(ALICE), media_address="203.0.113.99", replace=["origin"])
    assert lines(reply, "c=", "o=") == ["o=- 1 1 IN IP4 203.0.113.99", "c=IN IP4 203.0.113.99"]


def test_an_interface_that_is_not_named_is_no_wrong_name(stage: Stage) -> None:
    assert "warning" not in offer(stage, sdp(ALICE), to_interface="default")
    assert "no interface is called x" in offer(stage, sdp(ALICE), call_id="c2", to_interface="x")["warning"]
