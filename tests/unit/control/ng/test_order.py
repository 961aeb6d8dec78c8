"""Bodies to the letter: which lines a party is shown, and in which order. Users' own tests compare them.

Of the session: v, o, s, then i, u, e, p, b, t and attributes. Of each section: m, i, c, b, mid, label, what is said of
each format, header extensions, unknown attributes, direction, rtcp, rtcp-mux, crypto, setup, fingerprint, tls-id,
ptime, maxptime, and ICE. What is not among them is not there.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import pytest

from tests.calls import HOST, Stage

OFFERER, ANSWERER = "198.51.100.10", "203.0.113.20"
RTCP_ABOVE = "a=rtcp:P1+1"
ANSWERED = ("m=audio 5000 RTP/AVP 0",)
PRINT = "a=fingerprint:sha-256 4A:AD:B9:B1"
CRYPTO = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj"
HIGH, LOW = "UDP 2130706431", "UDP 2130706430"


class Case(NamedTuple):
    """What one party sends and the other is shown: lines from the first m-line on, and those of the session behind s=.

    Ports are named: P1 is the RTP port of the first section, P1+1 the one above it. With `answer` the offerer is shown
    the answer to it; `keys` come with both.
    """

    sent: tuple[str, ...]
    shown: tuple[str, ...]
    keys: dict[str, Any] = {}  # noqa: RUF012 - never changed
    answer: tuple[str, ...] = ()
    sent_session: tuple[str, ...] = ("t=0 0",)
    shown_session: tuple[str, ...] = ("t=0 0",)
    address: str = HOST
    """In o= of what is shown; the sender's own where it is empty."""


def m(*lines: str, media: str = "m=audio P1 RTP/AVP 0", ip: str = HOST) -> tuple[str, ...]:
    """A shown section whose c= line has nothing above it."""
    return (media, f"c=IN {'IP6' if ':' in ip else 'IP4'} {ip}", *lines)


PCMU = "a=rtpmap:0 PCMU/8000"

CASES: dict[str, Case] = {
    "a static format gets its rtpmap": Case(
        ("m=audio 4000 RTP/AVP 0 8 9 18",),
        m(
            *(PCMU, "a=rtpmap:8 PCMA/8000", "a=rtpmap:9 G722/8000", "a=rtpmap:18 G729/8000"),
            *("a=sendrecv", RTCP_ABOVE),
            media="m=audio P1 RTP/AVP 0 8 9 18",
        ),
    ),
    "all lines of a session": Case(
        ("m=audio 4000 RTP/AVP 0",),
        m(PCMU, "a=sendrecv", RTCP_ABOVE),
        sent_session=(
            *("i=about", "u=http://example.com", "e=a@example.com", "p=+1 617", f"c=IN IP4 {OFFERER}", "b=AS:128"),
            *("t=0 0", "r=7d 1h 0 25h", "a=tool:x", "a=charset:utf-8"),
        ),
        shown_session=(
            *("i=about", "u=http://example.com", "e=a@example.com", "p=+1 617", "b=AS:128"),
            *("t=0 0", "r=7d 1h 0 25h", "a=tool:x", "a=charset:utf-8"),
        ),
    ),
    "no time": Case(("m=audio 4000 RTP/AVP 0",), m(PCMU, "a=sendrecv", RTCP_ABOVE), sent_session=()),
    "the session's direction is each section's": Case(
        ("m=audio 4000 RTP/AVP 0", "m=audio 4010 RTP/AVP 0", "a=recvonly"),
        (
            *m(PCMU, "a=sendonly", RTCP_ABOVE),
            *m(PCMU, "a=recvonly", "a=rtcp:P2+1", media="m=audio P2 RTP/AVP 0"),
        ),
        sent_session=("t=0 0", "a=sendonly"),
    ),
    "what stands above a section's attributes": Case(
        (
            *("m=audio 4000 RTP/AVP 0", "a=x-own:1", "a=label:7", "a=mid:one", f"c=IN IP4 {OFFERER}"),
            *("b=TIAS:64000", "i=the first"),
        ),
        (
            *(
                "m=audio P1 RTP/AVP 0",
                "i=the first",
                f"c=IN IP4 {HOST}",
                "b=TIAS:64000",
                "a=mid:one",
                "a=label:7",
                PCMU,
            ),
            *("a=x-own:1", "a=sendrecv", RTCP_ABOVE),
        ),
    ),
    "formats in their order, all of each together": Case(
        (
            *("m=video 4000 RTP/AVPF 97 96", "a=rtcp-fb:96 nack", "a=rtcp-fb:97 nack pli", "a=fmtp:96 x=1"),
            *("a=rtpmap:96 VP8/90000", "a=fmtp:97 profile-level-id=42e01f", "a=rtpmap:97 H264/90000"),
        ),
        m(
            *("a=rtpmap:97 H264/90000", "a=fmtp:97 profile-level-id=42e01f", "a=rtcp-fb:97 nack pli"),
            *("a=rtpmap:96 VP8/90000", "a=fmtp:96 x=1", "a=rtcp-fb:96 nack", "a=sendrecv", RTCP_ABOVE),
            media="m=video P1 RTP/AVPF 97 96",
        ),
    ),
    "extensions, then unknown attributes": Case(
        (
            *("m=audio 4000 RTP/AVP 0", "a=x-one:1", "a=extmap:1 urn:x", "a=ssrc:1 cname:x", "a=extmap:2 urn:y"),
            *("a=sendonly", "a=x-two:2"),
        ),
        m(
            PCMU,
            "a=extmap:1 urn:x",
            "a=extmap:2 urn:y",
            "a=x-one:1",
            "a=ssrc:1 cname:x",
            "a=x-two:2",
            "a=sendonly",
            RTCP_ABOVE,
        ),
    ),
    "a=rtcp is the relay's own": Case(
        ("m=audio 4000 RTP/AVP 0", f"a=rtcp:4011 IN IP4 {OFFERER}"), m(PCMU, "a=sendrecv", RTCP_ABOVE)
    ),
    "a=rtcp in full": Case(
        ("m=audio 4000 RTP/AVP 0",),
        m(PCMU, "a=sendrecv", f"{RTCP_ABOVE} IN IP4 {HOST}"),
        {"flags": ["full-rtcp-attribute"]},
    ),
    "no a=rtcp": Case(("m=audio 4000 RTP/AVP 0",), m(PCMU, "a=sendrecv"), {"flags": ["no-rtcp-attribute"]}),
    "mux as it is offered": Case(
        ("m=audio 4000 RTP/AVP 0", "a=rtcp-mux", "a=rtcp:4000"), m(PCMU, "a=sendrecv", RTCP_ABOVE, "a=rtcp-mux")
    ),
    "mux required": Case(
        ("m=audio 4000 RTP/AVP 0",), m(PCMU, "a=sendrecv", "a=rtcp:P1", "a=rtcp-mux"), {"rtcp-mux": ["require"]}
    ),
    "mux answered": Case(
        ("m=audio 4000 RTP/AVP 0", "a=rtcp-mux"),
        m(PCMU, "a=sendrecv", "a=rtcp:P1", "a=rtcp-mux"),
        answer=(*ANSWERED, "a=rtcp-mux"),
    ),
    "mux taken out": Case(
        ("m=audio 4000 RTP/AVP 0", "a=rtcp-mux"), m(PCMU, "a=sendrecv", RTCP_ABOVE), {"rtcp-mux": ["demux"]}
    ),
    "packet times behind a=rtcp": Case(
        ("m=audio 4000 RTP/AVP 0", "a=maxptime:60", "a=ptime:20", "a=inactive"),
        m(PCMU, "a=inactive", RTCP_ABOVE, "a=ptime:20", "a=maxptime:60"),
    ),
    "an answer repeats its offer's packet time": Case(
        ("m=audio 4000 RTP/AVP 0", "a=ptime:20"), m(PCMU, "a=sendrecv", RTCP_ABOVE, "a=ptime:20"), answer=ANSWERED
    ),
    "keys of SDES": Case(
        ("m=audio 4000 RTP/SAVP 0", "a=ptime:20", CRYPTO, CRYPTO.replace(":1 ", ":2 "), "a=rtcp-mux"),
        m(
            *(PCMU, "a=sendrecv", RTCP_ABOVE, "a=rtcp-mux", CRYPTO, CRYPTO.replace(":1 ", ":2 "), "a=ptime:20"),
            media="m=audio P1 RTP/SAVP 0",
        ),
    ),
    "keys of DTLS": Case(
        ("m=audio 4000 UDP/TLS/RTP/SAVP 0", "a=tls-id:abc", PRINT, "a=setup:actpass", "a=ptime:20"),
        m(
            *(PCMU, "a=sendrecv", RTCP_ABOVE, "a=setup:actpass", PRINT, "a=tls-id:abc", "a=ptime:20"),
            media="m=audio P1 UDP/TLS/RTP/SAVP 0",
        ),
    ),
    "ICE": Case(
        (
            *("m=audio 4000 RTP/AVP 0", f"a=candidate:1 1 {HIGH} {OFFERER} 4000 typ host", "a=end-of-candidates"),
            *("a=ice-options:ice2", "a=ice-pwd:secret", "a=ice-ufrag:user", "a=ptime:20"),
        ),
        m(
            *(
                PCMU,
                "a=sendrecv",
                RTCP_ABOVE,
                "a=ptime:20",
                "a=ice-ufrag:user",
                "a=ice-pwd:secret",
                "a=ice-options:ice2",
            ),
            *(f"a=candidate:F 1 {HIGH} {HOST} P1 typ host", f"a=candidate:F 2 {LOW} {HOST} P1+1 typ host"),
            "a=end-of-candidates",
        ),
    ),
    "ICE taken out": Case(
        (
            *("m=audio 4000 RTP/AVP 0", "a=ice-pwd:secret", "a=ice-ufrag:user"),
            *(f"a=candidate:1 1 {HIGH} {OFFERER} 4000 typ host", "a=end-of-candidates", "a=remote-candidates:1 x 1"),
        ),
        m(PCMU, "a=sendrecv", RTCP_ABOVE),
        {"ICE": "remove"},
        sent_session=("t=0 0", "a=ice-lite", "a=ice-options:ice2"),
    ),
    "BUNDLE is broken up": Case(
        (
            *("m=audio 4000 RTP/AVP 0", "a=mid:a", "a=rtcp-mux", "m=video 4000 RTP/AVP 96", "a=rtpmap:96 VP8/90000"),
            *("a=mid:v", "a=rtcp-mux"),
        ),
        (
            *m("a=mid:a", PCMU, "a=sendrecv", RTCP_ABOVE, "a=rtcp-mux"),
            *m(
                *("a=mid:v", "a=rtpmap:96 VP8/90000", "a=sendrecv", "a=rtcp:P2+1", "a=rtcp-mux"),
                media="m=video P2 RTP/AVP 96",
            ),
        ),
        sent_session=("t=0 0", "a=group:BUNDLE a v", "a=msid-semantic: WMS"),
        shown_session=("t=0 0", "a=msid-semantic: WMS"),
    ),
    "a rejected section": Case(
        (
            *("m=audio 4000 RTP/AVP 0", "m=video 0 RTP/AVP 96 97", "i=second", "b=AS:64", "a=rtpmap:96 VP8/90000"),
            *("a=label:2", "a=mid:v", "a=inactive"),
        ),
        (
            *m(PCMU, "a=sendrecv", RTCP_ABOVE),
            *m("a=mid:v", "a=label:2", media="m=video 0 RTP/AVP 96 97", ip="0.0.0.0"),
        ),
    ),
    "a section rejected by the answer": Case(
        ("m=audio 4000 RTP/AVP 0", "m=video 4010 RTP/AVP 96", "a=rtpmap:96 VP8/90000"),
        (*m(PCMU, "a=sendrecv", RTCP_ABOVE), *m(media="m=video 0 RTP/AVP 96", ip="0.0.0.0")),
        answer=(*ANSWERED, "m=video 0 RTP/AVP 96", "a=rtpmap:96 VP8/90000"),
    ),
    "held by address": Case(
        ("m=audio 4000 RTP/AVP 0", "c=IN IP4 0.0.0.0"), m(PCMU, "a=sendonly", RTCP_ABOVE, ip="0.0.0.0")
    ),
    "held by address, with the relay's": Case(
        ("m=audio 4000 RTP/AVP 0", "c=IN IP4 0.0.0.0"),
        m(PCMU, "a=sendonly", RTCP_ABOVE),
        {"replace": ["origin", "zero-address"]},
    ),
    "fax": Case(
        ("m=image 4000 udptl t38", "a=T38FaxVersion:0", "a=T38FaxUdpEC:t38UDPRedundancy"),
        m("a=T38FaxVersion:0", "a=T38FaxUdpEC:t38UDPRedundancy", "a=sendrecv", media="m=image P1 udptl t38"),
    ),
    "messages go past the relay": Case(
        ("m=message 4000 TCP/MSRP *", "a=path:msrp://x:4000/y;tcp", "a=accept-types:text/plain"),
        m(
            *("a=path:msrp://x:4000/y;tcp", "a=accept-types:text/plain"),
            media="m=message 4000 TCP/MSRP *",
            ip=OFFERER,
        ),
        address="",
    ),
    "the origin stays unless it is replaced": Case(
        ("m=audio 4000 RTP/AVP 0",), m(PCMU, "a=sendrecv", RTCP_ABOVE), {"replace": []}, address=""
    ),
    "directions stay": Case(
        ("m=audio 4000 RTP/AVP 0", "a=recvonly", "a=x:1"),
        m(PCMU, "a=x:1", "a=recvonly", RTCP_ABOVE),
        {"flags": ["original-sendrecv"]},
        sent_session=("t=0 0", "a=sendonly"),
        shown_session=("t=0 0", "a=sendonly"),
    ),
    "another address": Case(
        ("m=audio 4000 RTP/AVP 0",),
        m(PCMU, "a=sendrecv", f"{RTCP_ABOVE} IN IP4 192.0.2.77", ip="192.0.2.77"),
        {"media-address": "192.0.2.77", "flags": ["full-rtcp-attribute"]},
        address="192.0.2.77",
    ),
    "the mark against loops": Case(
        ("m=audio 4000 RTP/AVP 0",),
        m(PCMU, "a=sendrecv", RTCP_ABOVE),
        {"flags": ["loop-protect"]},
        sent_session=("t=0 0", "a=tool:x"),
        shown_session=("t=0 0", "a=tool:x", "a=rtpengine:MARK"),
    ),
    "a codec taken out": Case(
        ("m=audio 4000 RTP/AVP 0 8 101", "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15"),
        m(
            *("a=rtpmap:8 PCMA/8000", "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15", "a=sendrecv", RTCP_ABOVE),
            media="m=audio P1 RTP/AVP 8 101",
        ),
        {"codec": {"strip": ["PCMU"]}},
    ),
    "codecs in the order asked for": Case(
        ("m=audio 4000 RTP/AVP 0 8 9",),
        m("a=rtpmap:9 G722/8000", PCMU, "a=sendrecv", RTCP_ABOVE, media="m=audio P1 RTP/AVP 9 0"),
        {"codec": {"strip": ["all"], "offer": ["G722", "PCMU"]}},
    ),
    "names for sections": Case(
        ("m=audio 4000 RTP/AVP 0", "a=label:7", "m=audio 4010 RTP/AVP 0", "a=mid:1"),
        (
            *m("a=mid:2", "a=label:7", PCMU, "a=sendrecv", RTCP_ABOVE),
            *m("a=mid:1", PCMU, "a=sendrecv", "a=rtcp:P2+1", media="m=audio P2 RTP/AVP 0"),
        ),
        {"flags": ["generate-mid"]},
    ),
    "another profile": Case(
        ("m=audio 4000 RTP/AVP 0",),
        m(PCMU, "a=sendrecv", RTCP_ABOVE, media="m=audio P1 RTP/AVPF 0"),
        {"transport-protocol": "RTP/AVPF"},
    ),
    "lines out of order, with bare line feeds": Case(
        ("m=audio 4000 RTP/AVP 0", "a=ptime:20", "b=AS:64", PCMU, f"c=IN IP4 {OFFERER}"),
        (*("m=audio P1 RTP/AVP 0", f"c=IN IP4 {HOST}", "b=AS:64", PCMU, "a=sendrecv", RTCP_ABOVE, "a=ptime:20"),),
        sent_session=("a=tool:x", "b=AS:128", "t=0 0"),
        shown_session=("b=AS:128", "t=0 0", "a=tool:x"),
    ),
}


def _body(ip: str, session: tuple[str, ...], sections: tuple[str, ...], address: str = "") -> str:
    own = any(line.startswith("c=") for line in session)
    head = ("v=0", f"o=- 4711 1 IN IP4 {address or ip}", "s=-")
    connection = (f"c=IN IP4 {ip}",) if not own and not address else ()
    return "".join(f"{line}\r\n" for line in (*head, *connection, *session, *sections))


def _named(text: str) -> str:
    """A body with names for its ports, its candidates' foundation and the relay's mark."""
    pairs: list[int] = []

    def name(found: re.Match[str]) -> str:
        number = int(found[0])
        if number & ~1 not in pairs:
            pairs.append(number & ~1)
        return f"P{pairs.index(number & ~1) + 1}" + ("+1" if number & 1 else "")

    text = re.sub(r"(?<=a=candidate:)[0-9a-f]{16}", "F", text)
    text = re.sub(r"(?<=a=rtpengine:)[0-9a-f]{12}", "MARK", text)
    return re.sub(r"\b30[0-9]{3}\b", name, text)


@pytest.mark.parametrize("name", CASES)
def test_a_body_to_the_letter(name: str) -> None:
    case, stage = CASES[name], Stage()
    keys = {"replace": ["origin"], **case.keys}
    offered = _body(OFFERER, case.sent_session, case.sent)
    if name.endswith("bare line feeds"):
        offered = offered.replace("\r\n", "\n")
    about = {"call-id": "c1", "from-tag": "a"}
    shown = stage.command("offer", sdp=offered, **about, **keys)["sdp"]
    sender = OFFERER
    if case.answer:
        sender = ANSWERER
        answered = _body(ANSWERER, ("t=0 0",), case.answer)
        shown = stage.command("answer", sdp=answered, **about, **{"to-tag": "b"}, **keys)["sdp"]
    head = ("v=0", f"o=- 4711 1 IN IP4 {case.address or sender}", "s=-")
    assert _named(shown).split("\r\n") == [*head, *case.shown_session, *case.shown, ""]
