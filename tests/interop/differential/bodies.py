"""Bodies of the conversations: short ways to write those of two telephones, and some of real senders."""

from __future__ import annotations

from collections.abc import Sequence

CALLER, CALLEE, OTHER = "10.99.1.2", "10.99.0.4", "10.99.1.3"
CALLER6, CALLEE6 = "fd99:1::2", "fd99::4"
EVENTS = ("a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15")
MUX = "a=rtcp-mux"
ICE = (
    "a=ice-ufrag:uFrG",
    "a=ice-pwd:aPasswordOf24CharactersHere",
    "a=candidate:1 1 UDP 2130706431 {ip} {port} typ host",
    "a=candidate:1 2 UDP 2130706430 {ip} {rtcp} typ host",
)
CRYPTO = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj"
FINGERPRINT = (
    "a=setup:{setup}",
    "a=fingerprint:sha-256 " + ":".join(("4A", "AD", "B9", "B1") * 8),
)


def family(ip: str) -> str:
    return "IP6" if ":" in ip else "IP4"


def media(
    port: int,
    *lines: str,
    kind: str = "audio",
    protocol: str = "RTP/AVP",
    formats: str = "0 8 101",
    ip: str | None = None,
) -> list[str]:
    """One m-line and its own lines, a c= line among them where `ip` is given."""
    own = [f"c=IN {family(ip)} {ip}"] if ip else []
    events = EVENTS if "101" in formats.split() else ()
    return [f"m={kind} {port} {protocol} {formats}", *own, *events, *lines]


def video(port: int, *lines: str, protocol: str = "RTP/AVP") -> list[str]:
    return media(port, "a=rtpmap:96 VP8/90000", *lines, kind="video", protocol=protocol, formats="96")


def body(
    ip: str, *sections: Sequence[str], session: Sequence[str] = (), version: int = 1, user: str = "-", name: str = "-"
) -> str:
    """A body whose media is at `ip`; `session` are lines above the first m-line."""
    head = ["v=0", f"o={user} 4711 {version} IN {family(ip)} {ip}", f"s={name}", f"c=IN {family(ip)} {ip}", "t=0 0"]
    return text(*head, *session, *(line for section in sections for line in section))


def text(*lines: str) -> str:
    return "".join(f"{line}\r\n" for line in lines)


def call(*lines: str, ip: str = CALLER, port: int = 20000, version: int = 1, **of_media: str) -> str:
    """The usual body of the caller, with more lines below its audio."""
    return body(ip, media(port, *lines, **of_media), version=version)


def reply(*lines: str, ip: str = CALLEE, port: int = 22000, version: int = 1, **of_media: str) -> str:
    """The usual body of the callee."""
    return body(ip, media(port, *lines, **of_media), version=version)


def ice(ip: str, port: int) -> list[str]:
    """The lines of an agent with one host candidate for RTP and for RTCP."""
    return [line.format(ip=ip, port=port, rtcp=port + 1) for line in ICE]


def dtls(setup: str) -> list[str]:
    return [line.format(setup=setup) for line in FINGERPRINT]


RICH = body(
    CALLER,
    media(20000, "a=ptime:20", "a=rtpmap:18 G729/8000", "a=fmtp:18 annexb=no", MUX, "a=sendrecv", formats="0 8 18 101"),
    media(
        20010,
        "a=rtpmap:96 VP8/90000",
        "a=rtcp-fb:96 nack",
        "a=rtpmap:97 rtx/90000",
        "a=fmtp:97 apt=96",
        "a=extmap:1 urn:ietf:params:rtp-hdrext:toffset",
        "a=mid:v",
        kind="video",
        formats="96 97",
    ),
    session=("b=AS:512", "a=tool:differential"),
)
RICH_REPLY = body(
    CALLEE,
    media(22000, "a=ptime:30", MUX, formats="8 101"),
    media(22010, "a=rtpmap:96 VP8/90000", "a=mid:v", kind="video", formats="96"),
)
BROWSER = body(
    CALLER,
    media(
        20000,
        "a=mid:0",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "a=rtcp-fb:111 transport-cc",
        "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        "a=ssrc:1001 cname:one",
        "a=msid:stream track",
        MUX,
        "a=rtcp-rsize",
        "a=rtcp:9 IN IP4 0.0.0.0",
        *ice(CALLER, 20000),
        "a=ice-options:trickle",
        *dtls("actpass"),
        "a=sendrecv",
        protocol="UDP/TLS/RTP/SAVPF",
        formats="111 0",
    ),
    session=("a=group:BUNDLE 0", "a=msid-semantic: WMS stream"),
    name="-",
)
BROWSER_REPLY = body(
    CALLEE,
    media(
        22000,
        "a=mid:0",
        "a=rtpmap:111 opus/48000/2",
        MUX,
        *ice(CALLEE, 22000),
        *dtls("active"),
        protocol="UDP/TLS/RTP/SAVPF",
        formats="111 0",
    ),
    session=("a=group:BUNDLE 0",),
)
