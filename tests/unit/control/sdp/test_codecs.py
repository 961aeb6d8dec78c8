"""Codecs taken out of a body."""

from __future__ import annotations

import pytest

from control.sdp import describe, parse, rewrite
from control.sdp.codecs import restrict
from control.sdp.model import CodecWishes, RewriteOptions
from relay.types import Endpoint, LocalMedia
from tests.unit.control.sdp.samples import body

AUDIO = body(
    """
    v=0
    o=- 1 1 IN IP4 10.0.0.1
    s=-
    c=IN IP4 10.0.0.1
    t=0 0
    m=audio 4000 RTP/AVP 8 0 18 111 101 110
    a=rtpmap:18 G729/8000
    a=fmtp:18 annexb=no
    a=rtcp-fb:18 nack
    a=rtpmap:111 opus/48000/2
    a=fmtp:111 useinbandfec=1
    a=rtpmap:101 telephone-event/8000
    a=fmtp:101 0-15
    a=rtpmap:110 telephone-event/48000
    """
)
ALL = "8 0 18 111 101 110"
NOTHING_LEFT = ["media 1: no codec would be left, so all stay"]


def left(wishes: CodecWishes, answer: bool = False, text: str = AUDIO) -> tuple[str, list[str]]:
    """The formats of the first section, and the warnings."""
    session = parse(text)
    warnings = restrict(session, wishes, answer)
    return " ".join(session.media[0].formats), warnings


@pytest.mark.parametrize(
    ("wishes", "formats"),
    [
        (CodecWishes(), ALL),
        (CodecWishes(strip=("G729",)), "8 0 111 101 110"),
        (CodecWishes(strip=("g729/8000", "pcma")), "0 111 101 110"),
        (CodecWishes(strip=("PCMA/8000/1",)), "0 18 111 101 110"),
        (CodecWishes(strip=("PCMA/16000", "8", "")), ALL),
        (CodecWishes(strip=("opus/48000/2",)), "8 0 18 101 110"),
        (CodecWishes(strip=("opus/48000/1",)), ALL),
        (CodecWishes(strip=("opus/48000/2/32000/20/useinbandfec=1",)), "8 0 18 101 110"),
        (CodecWishes(strip=("opus/////useinbandfec=1",)), "8 0 18 101 110"),
        (CodecWishes(strip=("opus/////useinbandfec=0",)), ALL),
        (CodecWishes(strip=("telephone-event",)), "8 0 18 111"),
        (CodecWishes(strip=("telephone-event/48000",)), "8 0 18 111 101"),
        (CodecWishes(mask=("PCMA",)), "0 18 111 101 110"),
        (CodecWishes(strip=("all",), keep=("PCMU", "telephone-event/8000")), "0 101"),
        (CodecWishes(mask=("full",), keep=("PCMU",)), "0"),
        (CodecWishes(strip=("all",), offer=("G729", "PCMA")), "18 8"),
        (CodecWishes(strip=("all",), offer=("telephone-event/8000", "PCMU")), "0 101"),
        (CodecWishes(strip=("all",), keep=("PCMA",), offer=("opus", "PCMU")), "8 111 0"),
        (CodecWishes(strip=("PCMU",), offer=("G729", "PCMA")), "8 18 111 101 110"),
        (CodecWishes(offer=("PCMU",)), ALL),
        (CodecWishes(keep=("PCMU",)), ALL),
        (CodecWishes(single=True), ALL),
    ],
)
def test_what_is_left_of_an_offer(wishes: CodecWishes, formats: str) -> None:
    assert left(wishes) == (formats, [])


@pytest.mark.parametrize(
    "wishes",
    [
        CodecWishes(strip=("all",)),
        CodecWishes(strip=("PCMA", "PCMU", "G729", "opus")),
        CodecWishes(strip=("all",), offer=("AMR",)),
        CodecWishes(strip=("all",), keep=("telephone-event",)),
    ],
)
def test_a_section_that_would_have_no_codec_keeps_all(wishes: CodecWishes) -> None:
    assert left(wishes) == (ALL, NOTHING_LEFT)


@pytest.mark.parametrize(
    ("wishes", "formats"),
    [
        (CodecWishes(single=True), "8 101"),
        (CodecWishes(strip=("PCMA", "PCMU", "G729"), single=True), "111 110"),
        (CodecWishes(strip=("PCMA",)), "0 18 111 101 110"),
    ],
)
def test_what_is_left_of_an_answer(wishes: CodecWishes, formats: str) -> None:
    assert left(wishes, answer=True) == (formats, [])


def test_a_retransmission_goes_with_its_codec() -> None:
    text = body(
        """
        v=0
        c=IN IP4 10.0.0.1
        m=video 4000 RTP/AVP 96 97 98 99
        a=rtpmap:96 VP8/90000
        a=rtpmap:97 rtx/90000
        a=fmtp:97 apt=96
        a=rtpmap:98 H264/90000
        a=rtpmap:99 rtx/90000
        a=fmtp:99 rtx-time=200; apt=98
        """
    )
    assert left(CodecWishes(strip=("VP8",)), text=text) == ("98 99", [])


def test_lines_of_a_codec_go_with_it_and_other_sections_stay() -> None:
    fax = "m=image 4002 udptl t38\r\na=T38FaxVersion:0\r\nm=audio 0 RTP/AVP 18\r\n"
    session = parse(AUDIO + fax)
    media = describe(session)
    assert restrict(session, CodecWishes(strip=("G729", "all"), offer=("opus",)), False) == []
    local = LocalMedia(Endpoint("192.0.2.1", 30000))
    out = rewrite(session, [local, local, LocalMedia(None)], RewriteOptions())
    assert [line for line in out.split("\r\n") if line.startswith(("m=", "a="))] == [
        "m=audio 30000 RTP/AVP 111",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 useinbandfec=1",
        "a=sendrecv",
        "m=image 30000 udptl t38",
        "a=T38FaxVersion:0",
        "a=sendrecv",
        "m=audio 0 RTP/AVP 18",
    ]
    assert len(media[0].payload_types) == 6
