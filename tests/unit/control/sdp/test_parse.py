"""SDP read into the model and described for the media engine."""

from __future__ import annotations

import pytest

from control.sdp import SdpError, describe, parse
from control.sdp.model import Origin
from relay.types import Direction, Endpoint, MediaDescription, PayloadType
from tests.unit.control.sdp.samples import ALL, ASTERISK, BARE, BROWSER, FAX, PHONE, SIPP, VIDEO, body

HEAD = ["v=0", "o=- 1 1 IN IP4 10.0.0.1", "s=-", "c=IN IP4 10.0.0.1", "t=0 0"]
AUDIO = "m=audio 4000 RTP/AVP 0"


def lines(*wanted: str) -> str:
    return "\r\n".join([*wanted, ""])


def only(text: str) -> MediaDescription:
    """The description of a body's one section."""
    (media,) = describe(parse(text))
    return media


def test_describes_an_ordinary_offer() -> None:
    assert describe(parse(SIPP)) == [
        MediaDescription(
            kind="audio",
            protocol="RTP/AVP",
            rtp=Endpoint("10.1.0.2", 6000),
            rtcp=Endpoint("10.1.0.2", 6001),
            payload_types=(PayloadType(0, "PCMU", 8000),),
        )
    ]


def test_knows_static_payload_types_without_rtpmap() -> None:
    assert only(BARE).payload_types == (PayloadType(8, "PCMA", 8000), PayloadType(0, "PCMU", 8000))
    assert only(BARE).rtp == Endpoint("10.1.0.2", 6000)


def test_the_order_of_payload_types_is_that_of_the_m_line() -> None:
    numbers = [payload_type.number for payload_type in only(ASTERISK).payload_types]
    assert numbers == [9, 8, 0, 101]


def test_a_phone_with_everything() -> None:
    session = parse(PHONE)
    assert session.origin == Origin("Desk Phone", "20518", "20518", "IN", "IP4", "10.20.30.40")
    assert session.name == "s=SIP Call"
    assert session.about == ("i=A desk phone", "e=desk@example.com")
    assert session.bandwidth == ("b=AS:128",)
    (section,) = session.media
    assert section.information == ("i=Voice",)
    assert section.bandwidth == ("b=TIAS:64000",)
    assert describe(session) == [
        MediaDescription(
            kind="audio",
            protocol="RTP/AVP",
            rtp=Endpoint("10.20.30.40", 2222),
            rtcp=Endpoint("10.20.30.41", 2300),
            direction=Direction.SENDONLY,
            payload_types=(
                PayloadType(9, "G722", 8000),
                PayloadType(0, "PCMU", 8000),
                PayloadType(8, "PCMA", 8000),
                PayloadType(18, "G729", 8000),
                PayloadType(127, "telephone-event", 8000),
            ),
        )
    ]


def test_fax_is_no_rtp_and_the_audio_before_it_is_rejected() -> None:
    audio, image = describe(parse(FAX))
    assert audio == MediaDescription("audio", "RTP/AVP", None, None, rejected=True)
    assert image == MediaDescription("image", "udptl", Endpoint("10.0.0.7", 5004), None)
    assert not image.is_rtp


def test_ipv6_in_canonical_form_and_media_of_three_kinds() -> None:
    audio, video, message = describe(parse(VIDEO))
    assert audio.rtp == Endpoint("2001:db8::5", 7000)
    assert audio.rtcp == Endpoint("2001:db8::5", 7001)
    assert audio.payload_types == (PayloadType(96, "opus", 48000), PayloadType(9, "G722", 8000))
    assert video.direction is Direction.RECVONLY
    assert video.payload_types == (PayloadType(97, "H264", 90000), PayloadType(34, "H263", 90000))
    assert (message.kind, message.protocol, message.rtcp) == ("message", "TCP/MSRP", None)


def test_a_browser() -> None:
    audio, video = describe(parse(BROWSER))
    assert audio.rtp == Endpoint("203.0.113.5", 54609)
    assert audio.rtcp_mux
    assert audio.is_rtp
    assert audio.payload_types[0] == PayloadType(111, "opus", 48000)
    assert video.rejected


@pytest.mark.parametrize(
    ("session", "media", "direction"),
    [
        ("", "", Direction.SENDRECV),
        ("a=sendonly", "", Direction.SENDONLY),
        ("a=inactive", "a=recvonly", Direction.RECVONLY),
        ("", "a=inactive", Direction.INACTIVE),
        ("", "a=sendonly\r\na=inactive", Direction.SENDONLY),
        ("", "a=sendonly ", Direction.SENDONLY),
        ("", "a=SENDONLY", Direction.SENDRECV),
    ],
)
def test_direction(session: str, media: str, direction: Direction) -> None:
    assert only(lines(*HEAD, session, AUDIO, media)).direction is direction
    assert only(lines(*HEAD, session, AUDIO, media).rstrip("\r\n")).direction is direction


@pytest.mark.parametrize(
    ("attribute", "rtcp"),
    [
        ("", Endpoint("10.0.0.1", 4001)),
        ("a=rtcp:4567", Endpoint("10.0.0.1", 4567)),
        ("a=rtcp:4567 IN IP4 10.0.0.9", Endpoint("10.0.0.9", 4567)),
        ("a=rtcp:4567 IN IP6 2001:DB8::0:9", Endpoint("2001:db8::9", 4567)),
        ("a=rtcp:4567 IN IP4 host.example", Endpoint("10.0.0.1", 4567)),
        ("a=rtcp:9 IN IP4 0.0.0.0", Endpoint("10.0.0.1", 4001)),
        ("a=rtcp:0", Endpoint("10.0.0.1", 4001)),
        ("a=rtcp:65536", Endpoint("10.0.0.1", 4001)),
        ("a=rtcp:none", Endpoint("10.0.0.1", 4001)),
        ("a=rtcp:", Endpoint("10.0.0.1", 4001)),
        ("a=rtcp", Endpoint("10.0.0.1", 4001)),
        ("a=rtcp:4567 IN", Endpoint("10.0.0.1", 4001)),
        ("a=rtcp-mux", Endpoint("10.0.0.1", 4001)),
    ],
)
def test_where_rtcp_goes(attribute: str, rtcp: Endpoint) -> None:
    media = only(lines(*HEAD, AUDIO, attribute))
    assert media.rtcp == rtcp
    assert media.rtcp_mux is (attribute == "a=rtcp-mux")


@pytest.mark.parametrize(
    ("attribute", "muxed"),
    [("a=rtcp:4000", True), ("a=rtcp:4000 IN IP4 10.0.0.1", True), ("a=rtcp:4000 IN IP4 10.0.0.9", False)],
)
def test_who_names_its_rtp_port_for_rtcp_has_one_for_both(attribute: str, muxed: bool) -> None:
    assert only(lines(*HEAD, AUDIO, attribute)).rtcp_mux is muxed


def test_the_highest_port_leaves_none_for_rtcp() -> None:
    media = only(lines(*HEAD, "m=audio 65535 RTP/AVP 0"))
    assert (media.rtp, media.rtcp) == (Endpoint("10.0.0.1", 65535), None)


def test_rtcp_attributes_of_the_session_mean_nothing() -> None:
    media = only(lines(*HEAD, "a=rtcp:9", "a=rtcp-mux", AUDIO))
    assert (media.rtcp, media.rtcp_mux) == (Endpoint("10.0.0.1", 4001), False)


@pytest.mark.parametrize(
    ("connection", "attribute", "direction"),
    [
        ("c=IN IP4 0.0.0.0", "", Direction.SENDONLY),
        ("c=IN IP4 0.0.0.0", "a=sendrecv", Direction.SENDONLY),
        ("c=IN IP4 0.0.0.0", "a=sendonly", Direction.SENDONLY),
        ("c=IN IP4 0.0.0.0", "a=recvonly", Direction.INACTIVE),
        ("c=IN IP4 0.0.0.0", "a=inactive", Direction.INACTIVE),
        ("c=IN IP6 ::", "", Direction.SENDONLY),
    ],
)
def test_hold_by_address_keeps_the_port_and_receives_nothing(
    connection: str, attribute: str, direction: Direction
) -> None:
    media = only(lines(*HEAD, AUDIO, connection, attribute))
    assert media.held
    assert media.rtp == Endpoint(connection.split()[2], 4000)
    assert media.direction is direction


def test_an_agent_without_candidates_yet_holds_nothing() -> None:
    media = only(lines(*HEAD, "m=audio 9 RTP/AVP 0", "c=IN IP4 0.0.0.0", "a=ice-ufrag:abcd", "a=rtcp:9 IN IP4 0.0.0.0"))
    assert (media.rtp, media.rtcp, media.held, media.rejected, media.ice) == (None, None, False, False, True)
    assert media.direction is Direction.SENDRECV


@pytest.mark.parametrize(
    ("session", "media", "ice"),
    [("", "", False), ("", "a=ice-ufrag:x", True), ("a=ice-ufrag:x", "", True), ("", "a=candidate:1", False)],
)
def test_who_speaks_ice(session: str, media: str, ice: bool) -> None:
    assert only(lines(*HEAD, session, AUDIO, media)).ice is ice


@pytest.mark.parametrize(
    ("rtpmap", "expected"),
    [
        ("a=rtpmap:96 opus/48000/2", PayloadType(96, "opus", 48000)),
        ("a=rtpmap:96  opus/48000", PayloadType(96, "opus", 48000)),
        ("a=rtpmap:96 opus", None),
        ("a=rtpmap:96 opus/0", None),
        ("a=rtpmap:96 opus/abc", None),
        ("a=rtpmap:96 opus/99999999999", None),
        ("a=rtpmap:96", None),
        ("a=rtpmap", None),
        ("a=rtpmap:97 opus/48000", None),
        ("a=rtpmap:96 " + "x" * 100 + "/8000", None),
    ],
)
def test_rtpmap(rtpmap: str, expected: PayloadType | None) -> None:
    media = only(lines(*HEAD, "m=audio 4000 RTP/AVP 96", rtpmap))
    assert media.payload_types == ((expected,) if expected else ())


def test_an_rtpmap_overrules_the_static_table() -> None:
    media = only(lines(*HEAD, AUDIO, "a=rtpmap:0 PCMU/16000"))
    assert media.payload_types == (PayloadType(0, "PCMU", 16000),)


@pytest.mark.parametrize(
    ("number", "expected"), [("128", ()), ("300", ()), ("x", ()), ("-1", ()), ("77", ()), ("18", ("G729",))]
)
def test_formats_that_are_no_known_payload_type_are_left_out(number: str, expected: tuple[str, ...]) -> None:
    media = only(lines(*HEAD, f"m=audio 4000 RTP/AVP {number}"))
    assert tuple(payload_type.encoding for payload_type in media.payload_types) == expected


@pytest.mark.parametrize("protocol", ["RTP/AVP", "rtp/avp", "RTP/SAVPF", "UDP/TLS/RTP/SAVPF"])
def test_rtp_profiles(protocol: str) -> None:
    media = only(lines(*HEAD, f"m=audio 4000 {protocol} 0"))
    assert media.is_rtp
    assert media.protocol == protocol
    assert media.payload_types


@pytest.mark.parametrize("name", ALL)
def test_line_ends_and_bytes_make_no_difference(name: str) -> None:
    text = ALL[name]
    expected = parse(text)
    assert parse(text.encode()) == expected
    assert parse(text.replace("\r\n", "\n")) == expected
    assert parse(text.rstrip("\r\n")) == expected
    assert parse(text + "\r\n\r\n") == expected
    assert parse("\r\n\n" + text) == expected
    assert parse(text.replace("\r\nt=", "\r\n \t\r\nt=")) == expected


def test_bytes_that_are_not_utf8_survive() -> None:
    session = parse(lines(*HEAD, AUDIO).encode().replace(b"s=-", b"s=J\xf6rg"))
    assert session.name.encode("utf-8", "surrogateescape") == b"s=J\xf6rg"


@pytest.mark.parametrize(
    "text",
    [
        lines("v=0", "t=0 0", "c=IN IP4 10.0.0.1", "s=-", "o=- 1 1 IN IP4 10.0.0.1", AUDIO),
        lines("v=0", "o=- 1 1 IN IP4 10.0.0.1", "s=-", "t=0 0", AUDIO, "a=sendrecv", "b=AS:9", "c=IN IP4 10.0.0.1"),
        lines(*HEAD, "", AUDIO),
        lines("v=0", "c=IN IP4 10.0.0.1", AUDIO),
        lines(*HEAD, "m=audio 4000 RTP/AVP"),
        lines("v=0", "o=- 1 1 IN IP4 host.example", *HEAD[2:], AUDIO),
        lines("v=0", "o=John Doe 1 1 IN IP4 10.0.0.1", *HEAD[2:], AUDIO),
        lines(*HEAD[:3], "c=IN  IP4 10.0.0.1", *HEAD[4:], "m=audio  4000  RTP/AVP  0"),
        lines(*HEAD, "k=prompt", AUDIO, "k=prompt"),
        lines(*HEAD[:4], AUDIO, "t=0 0", "e=x", "a=sendrecv"),
        lines(*HEAD, AUDIO) + "\0",
    ],
)
def test_sloppy_but_clear(text: str) -> None:
    assert only(text).rtp == Endpoint("10.0.0.1", 4000)


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", "line 1: expected v=0"),
        ("hello world\r\n", "line 1: expected v=0"),
        (lines(*HEAD[1:], AUDIO), "line 1: expected v=0"),
        (lines("v=1", *HEAD[1:], AUDIO), "line 1: expected v=0"),
        ("\r\na=x\r\n" + lines(*HEAD, AUDIO), "line 1: expected v=0"),
        (lines(*HEAD, "hello", AUDIO), "line 6: not an SDP line"),
        (lines(*HEAD, "x=1", AUDIO), "line 6: not an SDP line"),
        (lines(*HEAD, AUDIO, "hello"), "line 7: out of place in a media section"),
        (lines(*HEAD, AUDIO, "o=- 1 1 IN IP4 10.0.0.1"), "line 7: out of place in a media section"),
        (lines("v=0", "o=- 1 1 IN IP4", AUDIO), "line 2: an o= line has six fields"),
        (lines("v=0", "o=", AUDIO), "line 2: an o= line has six fields"),
        (lines(*HEAD, "m=audio"), "line 6: an m-line needs media, port and protocol"),
        (lines(*HEAD, "m="), "line 6: an m-line needs media, port and protocol"),
        (lines(*HEAD, "m=audio 4000"), "line 6: an m-line needs media, port and protocol"),
        (lines(*HEAD, "m=audio abc RTP/AVP 0"), "line 6: invalid port"),
        (lines(*HEAD, "m=audio -1 RTP/AVP 0"), "line 6: invalid port"),
        (lines(*HEAD, "m=audio 65536 RTP/AVP 0"), "line 6: invalid port"),
        (lines(*HEAD, "m=audio 99999999999999999999 RTP/AVP 0"), "line 6: invalid port"),
        (lines(*HEAD, "m=audio \N{SUPERSCRIPT TWO} RTP/AVP 0"), "line 6: invalid port"),
        (lines(*HEAD, "m=audio /2 RTP/AVP 0"), "line 6: invalid port"),
        (lines("v=0", "c=IN IP4 host.example", AUDIO), "line 2: not an IP address"),
        (lines("v=0", "c=IN IP4 10.0.0.256", AUDIO), "line 2: not an IP address"),
        (lines("v=0", "c=IN IP4 010.0.0.1", AUDIO), "line 2: not an IP address"),
        (lines("v=0", "c=IN IP4 224.2.1.1/127", AUDIO), "line 2: not an IP address"),
        (lines("v=0", "c=IN IP4 10.0.0.1 x", AUDIO), "line 2: not an IP address"),
        (lines("v=0", "c=IN IP6 10.0.0.1", AUDIO), "line 2: not an IP address"),
        (lines("v=0", "c=IN IP4 ::1", AUDIO), "line 2: not an IP address"),
        (lines("v=0", "c=IN IP6 fe80::1%eth0", AUDIO), "line 2: not an IP address"),
        (lines("v=0", "c=IN IP6 " + "0" * 60_000, AUDIO), "line 2: not an IP address"),
        (lines("v=0", "c=IN IP4", AUDIO), "line 2: not an IP address"),
        (lines("v=0", "c=ATM NSAP 1", AUDIO), "line 2: not an IP address"),
        (lines("v=0", "c=IN IP9 10.0.0.1", AUDIO), "line 2: not an IP address"),
        (lines("v=0", "s=a\0b", AUDIO), "a line holds a carriage return or a zero byte"),
        (lines("v=0", "s=a\rb=c", AUDIO), "a line holds a carriage return or a zero byte"),
        (lines(*HEAD, f"m={'x' * 65} 4000 RTP/AVP 0"), "line 6: a name of more than 64 characters"),
        (lines(*HEAD, f"m=audio 4000 {'x' * 65} 0"), "line 6: a name of more than 64 characters"),
        (lines(*HEAD, f"m=audio 4000 RTP/AVP{' 0' * 257}"), "line 6: more than 256 formats"),
        (lines(*HEAD, *[AUDIO] * 65), "more than 64 m-lines"),
        (lines(*HEAD, AUDIO, *["a=x"] * 4096), "more than 4096 lines"),
        ("v=0\r\ns=" + "x" * 66_000, "66007 characters are more than 65536"),
    ],
)
def test_what_cannot_be_parsed(text: str, detail: str) -> None:
    with pytest.raises(SdpError) as caught:
        parse(text)
    assert str(caught.value) == "Failed to parse SDP"
    assert caught.value.detail.partition(": '")[0] == detail


def test_the_line_that_cannot_be_parsed_is_quoted() -> None:
    with pytest.raises(SdpError) as caught:
        parse(lines(*HEAD, "hello \x1b[2J" + "x" * 200, AUDIO))
    assert caught.value.detail == rf"line 6: not an SDP line: 'hello \x1b[2J{'x' * 70}'"


@pytest.mark.parametrize(
    ("text", "error", "detail"),
    [
        (lines(*HEAD), "Error rewriting SDP", "no m-line"),
        (lines("v=0", AUDIO), "Incomplete SDP specification", "m-line 1 has no address"),
        (
            lines("v=0", AUDIO, "c=IN IP4 10.0.0.1", "m=video 5000 RTP/AVP 31"),
            "Incomplete SDP specification",
            "m-line 2 has no address",
        ),
    ],
)
def test_what_cannot_be_described(text: str, error: str, detail: str) -> None:
    with pytest.raises(SdpError) as caught:
        describe(parse(text))
    assert str(caught.value) == error
    assert caught.value.detail == detail


def test_a_rejected_section_needs_no_address() -> None:
    assert only(lines("v=0", "m=audio 0 RTP/AVP 0")).rejected


def test_sixty_four_sections_are_read() -> None:
    assert len(describe(parse(lines(*HEAD, *[AUDIO] * 64)))) == 64


def test_a_name_of_one_blank_stays() -> None:
    assert parse(body("v=0\ns=X\nm=audio 0 RTP/AVP 0").replace("s=X", "s= ")).name == "s= "


def test_lines_of_the_session_below_an_m_line_are_the_sessions() -> None:
    session = parse(lines(*HEAD[:4], AUDIO, "a=ptime:20", "t=1 2", "u=x"))
    assert (session.timing, session.about) == (("t=1 2",), ("u=x",))
