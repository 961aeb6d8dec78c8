"""The outgoing body, line by line."""

from __future__ import annotations

import itertools

import pytest

from control.sdp import RewriteOptions, RtcpAttribute, SdpError, describe, parse, rewrite
from relay.types import Direction, Endpoint, LocalMedia
from tests.unit.control.sdp.samples import ALL, ASTERISK, BARE, BROWSER, FAX, PHONE, SIPP, VIDEO, body

RELAY = "198.51.100.1"
RTP = Endpoint(RELAY, 30000)
RTCP = Endpoint(RELAY, 30001)
LOCAL = LocalMedia(RTP, RTCP)
REJECTED = LocalMedia(None)
DEFAULT = RewriteOptions()


def written(text: str, *media: LocalMedia, options: RewriteOptions = DEFAULT) -> list[str]:
    """The lines of the rewritten body; one ordinary section unless others are given."""
    out = rewrite(parse(text), media or (LOCAL,), options)
    assert out.endswith("\r\n")
    assert "\n" not in out.replace("\r\n", "")
    return out.split("\r\n")[:-1]


def expected(text: str) -> list[str]:
    return body(text).split("\r\n")[:-1]


def head(*attributes: str, media: str = "m=audio 4000 RTP/AVP 0") -> str:
    """A body with these lines in its one section."""
    session = ("v=0", "o=- 1 1 IN IP4 10.0.0.1", "s=-", "c=IN IP4 10.0.0.1", "t=0 0")
    return "\r\n".join((*session, media, *attributes, ""))


def test_an_ordinary_offer() -> None:
    assert written(SIPP) == expected(
        """
        v=0
        o=user1 53655765 2353687637 IN IP4 10.1.0.2
        s=-
        t=0 0
        m=audio 30000 RTP/AVP 0
        c=IN IP4 198.51.100.1
        a=rtpmap:0 PCMU/8000
        a=sendrecv
        a=rtcp:30001
        """
    )


def test_a_bare_offer_gets_what_it_lacks() -> None:
    assert written(BARE) == expected(
        """
        v=0
        o=- 1 1 IN IP4 10.1.0.2
        s=
        t=0 0
        m=audio 30000 RTP/AVP 8 0 101
        c=IN IP4 198.51.100.1
        a=rtpmap:8 PCMA/8000
        a=rtpmap:0 PCMU/8000
        a=sendrecv
        a=rtcp:30001
        """
    )


def test_a_body_without_name_and_time_is_completed() -> None:
    lines = written("v=0\nc=IN IP4 10.0.0.1\nm=audio 4000 RTP/AVP 0\n")
    assert lines[:4] == ["v=0", "s=-", "t=0 0", "m=audio 30000 RTP/AVP 0"]


def test_a_phone_with_everything() -> None:
    local = LocalMedia(RTP, RTCP, direction=Direction.SENDONLY)
    assert written(PHONE, local) == expected(
        """
        v=0
        o=Desk Phone 20518 20518 IN IP4 10.20.30.40
        s=SIP Call
        i=A desk phone
        e=desk@example.com
        b=AS:128
        t=0 0
        m=audio 30000 RTP/AVP 9 0 8 18 127
        i=Voice
        c=IN IP4 198.51.100.1
        b=TIAS:64000
        a=rtpmap:9 G722/8000
        a=rtpmap:0 PCMU/8000
        a=rtpmap:8 PCMA/8000
        a=rtpmap:18 G729/8000
        a=fmtp:18 annexb=no
        a=rtpmap:127 telephone-event/8000
        a=fmtp:127 0-15
        a=rtcp-xr:voip-metrics
        a=sendonly
        a=rtcp:30001
        """
    )


def test_asterisk_keeps_ptime_behind_the_relays_attributes() -> None:
    assert written(ASTERISK)[-5:] == ["a=fmtp:101 0-16", "a=sendrecv", "a=rtcp:30001", "a=ptime:20", "a=maxptime:150"]


def test_fax_and_a_rejected_section() -> None:
    assert written(FAX, REJECTED, LocalMedia(RTP)) == expected(
        """
        v=0
        o=gw 7 8 IN IP4 10.0.0.7
        s=fax
        t=0 0
        m=audio 0 RTP/AVP 0 8
        c=IN IP4 0.0.0.0
        m=image 30000 udptl t38
        c=IN IP4 198.51.100.1
        a=T38FaxVersion:0
        a=T38MaxBitRate:14400
        a=T38FaxRateManagement:transferredTCF
        a=sendrecv
        """
    )


def test_ipv6_video_and_msrp() -> None:
    audio = LocalMedia(Endpoint("2001:db8:1::1", 30000), Endpoint("2001:db8:1::1", 30001))
    video = LocalMedia(Endpoint(RELAY, 30002), Endpoint(RELAY, 30003), direction=Direction.RECVONLY)
    assert written(VIDEO, audio, video, LOCAL) == expected(
        """
        v=0
        o=room 1 1 IN IP6 2001:db8::5
        s=-
        b=AS:1024
        t=0 0
        m=audio 30000 RTP/AVP 96 9
        c=IN IP6 2001:db8:1::1
        a=label:11
        a=rtpmap:96 opus/48000/2
        a=fmtp:96 useinbandfec=1
        a=rtpmap:9 G722/8000
        a=sendrecv
        a=rtcp:30001
        m=video 30002 RTP/AVPF 97 34
        c=IN IP4 198.51.100.1
        a=rtpmap:97 H264/90000
        a=fmtp:97 profile-level-id=42e01f;packetization-mode=1
        a=rtcp-fb:97 nack pli
        a=rtpmap:34 H263/90000
        a=rtcp-fb:* ccm fir
        a=content:main
        a=recvonly
        a=rtcp:30003
        m=message 2855 TCP/MSRP *
        c=IN IP6 2001:db8::5
        a=accept-types:text/plain
        a=path:msrp://room.example.com:2855/s;tcp
        """
    )


def test_a_browser_with_ice_removed() -> None:
    lines = written(BROWSER, LocalMedia(RTP, RTP, rtcp_mux=True), REJECTED, options=RewriteOptions(remove_ice=True))
    assert lines == expected(
        """
        v=0
        o=- 4611731400430051336 2 IN IP4 127.0.0.1
        s=-
        t=0 0
        a=extmap-allow-mixed
        a=msid-semantic: WMS stream
        m=audio 30000 UDP/TLS/RTP/SAVPF 111 63 0 13 110
        c=IN IP4 198.51.100.1
        a=mid:0
        a=rtpmap:111 opus/48000/2
        a=fmtp:111 minptime=10;useinbandfec=1
        a=rtcp-fb:111 transport-cc
        a=rtpmap:63 red/48000/2
        a=fmtp:63 111/111
        a=rtpmap:0 PCMU/8000
        a=rtpmap:13 CN/8000
        a=rtpmap:110 telephone-event/48000
        a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
        a=msid:stream track
        a=rtcp-rsize
        a=ssrc:3570614608 cname:4TOk42mSjXCkVIa6
        a=sendrecv
        a=rtcp:30000
        a=rtcp-mux
        a=rtcp-mux-only
        a=setup:actpass
        a=fingerprint:sha-1 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB
        m=video 0 UDP/TLS/RTP/SAVPF 96
        c=IN IP4 0.0.0.0
        a=mid:1
        """
    )


def test_a_browser_is_shown_the_relays_port_as_the_only_candidate() -> None:
    lines = written(BROWSER, LocalMedia(RTP, RTP, rtcp_mux=True), REJECTED)
    assert "a=ice-lite" in lines[: lines.index("m=audio 30000 UDP/TLS/RTP/SAVPF 111 63 0 13 110")]
    start = lines.index("a=ice-ufrag:EsAw")
    foundation = lines[start + 3].partition(":")[2].partition(" ")[0]
    assert lines[start : start + 6] == [
        "a=ice-ufrag:EsAw",
        "a=ice-pwd:bP+XJMM09aR8AiX1jdukzR6Y",
        "a=ice-options:trickle",
        f"a=candidate:{foundation} 1 UDP 2130706431 198.51.100.1 30000 typ host",
        "a=end-of-candidates",
        "m=video 0 UDP/TLS/RTP/SAVPF 96",
    ]


@pytest.mark.parametrize(
    ("local", "option", "lines"),
    [
        (LOCAL, RtcpAttribute.PORT, ["a=rtcp:30001"]),
        (LOCAL, RtcpAttribute.FULL, ["a=rtcp:30001 IN IP4 198.51.100.1"]),
        (LOCAL, RtcpAttribute.NONE, []),
        (LocalMedia(RTP), RtcpAttribute.PORT, []),
        (LocalMedia(RTP, RTP, rtcp_mux=True), RtcpAttribute.PORT, ["a=rtcp:30000", "a=rtcp-mux"]),
        (LocalMedia(RTP, RTCP, rtcp_mux=True), RtcpAttribute.PORT, ["a=rtcp:30001", "a=rtcp-mux"]),
        (LocalMedia(RTP, RTCP, rtcp_mux=True), RtcpAttribute.NONE, ["a=rtcp-mux"]),
        (LocalMedia(RTP, Endpoint("2001:db8::9", 9)), RtcpAttribute.PORT, ["a=rtcp:9 IN IP6 2001:db8::9"]),
        (LocalMedia(RTP, RTCP, held=True), RtcpAttribute.FULL, ["a=rtcp:30001 IN IP4 198.51.100.1"]),
    ],
)
def test_rtcp(local: LocalMedia, option: RtcpAttribute, lines: list[str]) -> None:
    out = written(head("a=rtcp:9 IN IP4 10.0.0.1"), local, options=RewriteOptions(rtcp_attribute=option))
    assert [line for line in out if line.startswith("a=rtcp")] == lines


@pytest.mark.parametrize(
    ("local", "kept"),
    [
        (LocalMedia(RTP, RTP, rtcp_mux=True), True),
        (LocalMedia(RTP, None, rtcp_mux=True), True),
        (LocalMedia(RTP, RTCP, rtcp_mux=True), False),
        (LOCAL, False),
    ],
)
def test_rtcp_mux_only_stays_while_it_is_true(local: LocalMedia, kept: bool) -> None:
    assert ("a=rtcp-mux-only" in written(head("a=rtcp-mux", "a=rtcp-mux-only"), local)) is kept


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("protocol", ["RTP/AVP 0", "udptl t38"])
def test_direction_is_the_relays_to_say(direction: Direction, protocol: str) -> None:
    text = head("a=recvonly", media=f"a=sendonly\r\nm=audio 4000 {protocol}")
    out = written(text, LocalMedia(RTP, direction=direction))
    assert [line for line in out if line[2:] in {d.value for d in Direction}] == [f"a={direction.value}"]


@pytest.mark.parametrize(("session", "media"), [("a=sendonly", ""), ("", "a=recvonly"), ("a=sendonly", "a=recvonly")])
def test_original_direction_stays_where_it_was(session: str, media: str) -> None:
    text = head(media, media=f"{session}\r\nm=audio 4000 RTP/AVP 0")
    out = written(text, options=RewriteOptions(original_direction=True))
    at = out.index("m=audio 30000 RTP/AVP 0")
    assert ("a=sendonly" in out[:at]) is (session != "")
    assert ("a=recvonly" in out[at:]) is (media != "")
    assert "a=sendrecv" not in out


@pytest.mark.parametrize(
    ("relay", "connection", "real"),
    [
        (RELAY, "c=IN IP4 0.0.0.0", "c=IN IP4 198.51.100.1"),
        ("2001:db8::1", "c=IN IP6 ::", "c=IN IP6 2001:db8::1"),
    ],
)
def test_hold_by_address(relay: str, connection: str, real: str) -> None:
    held = LocalMedia(Endpoint(relay, 30000), Endpoint(relay, 30001), direction=Direction.SENDONLY, held=True)
    out = written(head("c=IN IP4 0.0.0.0"), held)
    assert out[4:6] == ["m=audio 30000 RTP/AVP 0", connection]
    assert out[-2:] == ["a=sendonly", "a=rtcp:30001"]
    assert written(head("c=IN IP4 0.0.0.0"), held, options=RewriteOptions(zero_address=True))[5] == real


@pytest.mark.parametrize(
    ("media", "origin"),
    [
        ((LOCAL, LOCAL), "o=- 1 1 IN IP4 198.51.100.1"),
        ((LocalMedia(Endpoint("2001:db8::1", 4)), LOCAL), "o=- 1 1 IN IP6 2001:db8::1"),
        ((REJECTED, LOCAL), "o=- 1 1 IN IP4 198.51.100.1"),
        ((REJECTED, REJECTED), "o=- 1 1 IN IP4 10.0.0.1"),
        ((LocalMedia(RTP, held=True), REJECTED), "o=- 1 1 IN IP4 198.51.100.1"),
    ],
)
def test_replace_origin(media: tuple[LocalMedia, ...], origin: str) -> None:
    text = head("m=video 5000 RTP/AVP 31")
    assert written(text, *media, options=RewriteOptions(replace_origin=True))[1] == origin
    assert written(text, *media)[1] == "o=- 1 1 IN IP4 10.0.0.1"


def test_rtpmap_comes_first_of_each_payload_type_and_the_rest_in_order() -> None:
    given = ["a=rtcp-fb:96 nack", "a=fmtp:96 x=1", "a=fmtp:0 y", "a=rtpmap:96 a/8000", "a=fmtp:96 z=2", "a=x:96"]
    out = written(head(*given, media="m=audio 4000 RTP/AVP 0 96"))
    assert out[6:-2] == [
        "a=rtpmap:0 PCMU/8000",
        "a=fmtp:0 y",
        "a=rtpmap:96 a/8000",
        "a=fmtp:96 x=1",
        "a=fmtp:96 z=2",
        "a=rtcp-fb:96 nack",
        "a=x:96",
    ]


def test_attributes_of_payload_types_that_are_not_offered_go() -> None:
    out = written(head("a=rtpmap:97 x/8000", "a=fmtp:97 y", "a=rtcp-fb:97 nack", "a=rtcp-fb:* nack"))
    assert out[6:] == ["a=rtpmap:0 PCMU/8000", "a=rtcp-fb:* nack", "a=sendrecv", "a=rtcp:30001"]


@pytest.mark.parametrize(
    ("number", "rtpmap"),
    [("0", "PCMU/8000"), ("9", "G722/8000"), ("10", "L16/44100/2"), ("11", "L16/44100"), ("34", "H263/90000")],
)
def test_static_payload_types_get_their_rtpmap(number: str, rtpmap: str) -> None:
    assert f"a=rtpmap:{number} {rtpmap}" in written(head(media=f"m=audio 4000 RTP/AVP {number}"))


def test_a_senders_own_rtpmap_of_a_static_type_stays() -> None:
    out = written(head("a=rtpmap:0 PCMU/16000"))
    assert [line for line in out if line.startswith("a=rtpmap")] == ["a=rtpmap:0 PCMU/16000"]


def test_payload_types_mean_nothing_outside_of_rtp() -> None:
    out = written(head("a=fmtp:5 x", media="m=application 4000 TCP/BFCP 0"), LocalMedia(RTP))
    assert out[4:] == ["m=application 30000 TCP/BFCP 0", "c=IN IP4 198.51.100.1", "a=fmtp:5 x", "a=sendrecv"]


def test_attributes_with_a_place_come_in_their_order_behind_the_others() -> None:
    tail = [
        "a=crypto:1 A",
        "a=crypto:2 B",
        "a=setup:active",
        "a=fingerprint:x",
        "a=tls-id:y",
        "a=ptime:20",
        "a=maxptime:40",
    ]
    for order in itertools.islice(itertools.permutations(["a=unknown", "a=mid:m", *tail[2:]]), 0, 5000, 97):
        out = written(head(*order, *tail[:2]))
        assert out[6:] == ["a=mid:m", "a=rtpmap:0 PCMU/8000", "a=unknown", "a=sendrecv", "a=rtcp:30001", *tail]


def test_header_extensions_come_before_unknown_attributes() -> None:
    out = written(head("a=unknown", "a=extmap:2 urn:b", "a=ssrc:1 cname:x", "a=extmap:1 urn:a"))
    assert out[7:11] == ["a=extmap:2 urn:b", "a=extmap:1 urn:a", "a=unknown", "a=ssrc:1 cname:x"]


def test_a_rejected_section_keeps_what_names_it_and_its_formats() -> None:
    out = written(
        head("a=label:l", "a=mid:m", "a=sendonly", "b=AS:5", "i=x", media="m=audio 4000/2 RTP/AVP 0 96"), REJECTED
    )
    assert out[4:] == ["m=audio 0 RTP/AVP 0 96", "c=IN IP4 0.0.0.0", "a=mid:m", "a=label:l"]


def test_a_rejected_msrp_section_is_an_ordinary_rejection() -> None:
    rejected = ["m=message 0 TCP/MSRP *", "c=IN IP4 0.0.0.0"]
    assert written(head(media="m=message 0 TCP/MSRP *"), REJECTED)[4:] == rejected
    assert written(head(media="m=message 2855 TCP/MSRP *"), REJECTED)[4:] == rejected


def test_session_attributes_stay_but_for_those_of_one_transport() -> None:
    session = ["a=tool:x", "a=group:BUNDLE 1", "a=group:LS 1", "a=rtcp-mux", "a=rtcp:9", "a=sendonly", "a=ice-lite"]
    out = written(
        head(media="\r\n".join([*session, "m=audio 4000 RTP/AVP 0"])), options=RewriteOptions(remove_ice=True)
    )
    assert out[4:6] == ["a=tool:x", "m=audio 30000 RTP/AVP 0"]


def test_media_that_goes_past_the_relay_says_nothing_of_its_address() -> None:
    text = head("m=audio 5000 RTP/AVP 0", media="m=message 2855 TCP/MSRP *")
    passed = LocalMedia(Endpoint("10.0.0.1", 2855))
    assert written(text, passed, LOCAL, options=RewriteOptions(replace_origin=True))[1] == "o=- 1 1 IN IP4 198.51.100.1"


def test_media_and_sections_must_match_in_number() -> None:
    with pytest.raises(SdpError) as caught:
        rewrite(parse(SIPP), [LOCAL, LOCAL], DEFAULT)
    assert str(caught.value) == "Error rewriting SDP"


def test_msrp_without_an_address_is_incomplete() -> None:
    with pytest.raises(SdpError) as caught:
        rewrite(parse("v=0\nm=message 5 TCP/MSRP *\n"), [LOCAL], DEFAULT)
    assert str(caught.value) == "Incomplete SDP specification"


@pytest.mark.parametrize("name", ALL)
def test_the_model_is_left_alone_and_a_second_pass_changes_nothing_but_addresses(name: str) -> None:
    session = parse(ALL[name])
    media = [
        LocalMedia(None) if described.rejected else LocalMedia(RTP, RTCP, direction=described.direction)
        for described in describe(session)
    ]
    once = rewrite(session, media, DEFAULT)
    assert rewrite(session, media, DEFAULT) == once
    assert rewrite(parse(once), media, DEFAULT) == once


@pytest.mark.parametrize("name", ALL)
def test_what_is_written_describes_itself_as_the_relay_meant(name: str) -> None:
    session = parse(ALL[name])
    local = LocalMedia(RTP, RTCP, direction=Direction.INACTIVE)
    media = [REJECTED if section.rejected else local for section in describe(session)]
    for section, described in zip(session.media, describe(parse(rewrite(session, media, DEFAULT))), strict=True):
        if section.kind == "message" or described.rejected:
            assert described.rejected is (section.port == 0)
            continue
        assert described.rtp == RTP
        assert described.rtcp == (RTCP if described.is_rtp else None)
        assert described.direction is Direction.INACTIVE


ICE = ("a=ice-ufrag:abcd", "a=ice-pwd:0123456789012345678901", "a=candidate:1 1 udp 9 192.168.1.4 4000 typ host")
PAIR = ("1 UDP 2130706431 198.51.100.1 30000 typ host", "2 UDP 2130706430 198.51.100.1 30001 typ host")


def candidates(lines: list[str]) -> list[str]:
    """What the candidates say behind their foundation."""
    return [line.partition(" ")[2] for line in lines if line.startswith("a=candidate:")]


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        (LOCAL, PAIR),
        (LocalMedia(RTP, RTCP, rtcp_mux=True), PAIR),
        (LocalMedia(RTP, RTP, rtcp_mux=True), PAIR[:1]),
        (LocalMedia(RTP, None), PAIR[:1]),
        (LocalMedia(RTP, RTCP, held=True), PAIR),
    ],
)
def test_one_candidate_for_each_port(local: LocalMedia, expected: tuple[str, ...]) -> None:
    assert tuple(candidates(written(head(*ICE), local))) == expected


def test_a_foundation_is_of_one_call_and_address() -> None:
    def foundation(call_id: str, ip: str) -> str:
        local = LocalMedia(Endpoint(ip, 30000))
        lines = written(head(*ICE), local, options=RewriteOptions(call_id=call_id))
        return next(line for line in lines if line.startswith("a=candidate:")).partition(" ")[0]

    assert foundation("c", RELAY) == foundation("c", RELAY)
    assert len({foundation("c", RELAY), foundation("d", RELAY), foundation("c", "2001:db8::1")}) == 3
    assert 0 < len(foundation("c", RELAY).removeprefix("a=candidate:")) <= 32


def test_candidates_are_for_those_who_speak_ice() -> None:
    assert candidates(written(head(ICE[2]))) == []
    assert candidates(written(head(*ICE), options=RewriteOptions(remove_ice=True))) == []
    assert "a=remote-candidates:1 192.0.2.3 45664" not in written(head(*ICE, "a=remote-candidates:1 192.0.2.3 45664"))


def test_credentials_of_the_session_hold_for_its_media() -> None:
    out = written(head(media="a=ice-ufrag:abcd\r\na=ice-pwd:x\r\nm=audio 4000 RTP/AVP 0"))
    assert "a=ice-ufrag:abcd" in out[: out.index("m=audio 30000 RTP/AVP 0")]
    assert tuple(candidates(out)) == PAIR


def test_a_data_channel_has_a_candidate_behind_its_own_attributes() -> None:
    body = head(*ICE, "a=sctp-port:5000", media="m=application 4000 UDP/DTLS/SCTP webrtc-datachannel")
    out = written(body, LocalMedia(RTP))
    assert out[6:10] == [*ICE[:2], "a=sctp-port:5000", "a=sendrecv"]
    assert tuple(candidates(out)) == PAIR[:1]


@pytest.mark.parametrize("held", [False, True])
def test_a_media_address_goes_everywhere_but_into_candidates(held: bool) -> None:
    options = RewriteOptions(replace_origin=True, rtcp_attribute=RtcpAttribute.FULL, media_address="2001:db8::99")
    out = written(head(*ICE), LocalMedia(RTP, RTCP, held=held), options=options)
    assert out[1] == "o=- 1 1 IN IP6 2001:db8::99"
    assert out[5] == "c=IN IP6 2001:db8::99"
    assert "a=rtcp:30001 IN IP6 2001:db8::99" in out
    assert tuple(candidates(out)) == PAIR


def test_the_loop_mark_is_the_last_of_the_session() -> None:
    out = written(head(media="a=tool:x\r\nm=audio 4000 RTP/AVP 0"), options=RewriteOptions(loop_mark="0123"))
    assert out[4:7] == ["a=tool:x", "a=rtpengine:0123", "m=audio 30000 RTP/AVP 0"]


@pytest.mark.parametrize(("media", "rtp"), [(REJECTED, "m=audio 0"), (LOCAL, "m=audio 30000")])
def test_another_profile_in_the_m_line(media: LocalMedia, rtp: str) -> None:
    out = written(head("a=rtcp-fb:0 nack"), media._replace(protocol="RTP/AVPF"))
    assert out[4] == f"{rtp} RTP/AVPF 0"
