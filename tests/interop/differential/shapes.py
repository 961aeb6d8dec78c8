"""Conversations about bodies: what senders write, and what answers make of it."""

from __future__ import annotations

from collections.abc import Iterator

from tests.interop.differential.bodies import (
    CALLEE,
    CALLEE6,
    CALLER,
    CALLER6,
    CRYPTO,
    MUX,
    OTHER,
    body,
    call,
    dtls,
    media,
    reply,
    text,
    video,
)
from tests.interop.differential.conversation import Conversation, SameBody, answer, conversation, offer, query

FAX = ("a=T38FaxVersion:0", "a=T38MaxBitRate:14400", "a=T38FaxUdpEC:t38UDPRedundancy")
AUDIO, AUDIO_REPLY = media(20000), media(22000)


def _line(port: int, *lines: str, kind: str, protocol: str, formats: str) -> list[str]:
    return [f"m={kind} {port} {protocol} {formats}", *lines]


def fax(port: int) -> list[str]:
    return _line(port, *FAX, kind="image", protocol="udptl", formats="t38")


def chat(port: int, ip: str) -> list[str]:
    path = f"a=path:msrp://{ip}:{port}/x;tcp"
    return _line(port, "a=accept-types:text/plain", path, kind="message", protocol="TCP/MSRP", formats="*")


SECURED = media(20000, CRYPTO, protocol="RTP/SAVP")
SECURED_REPLY = media(22000, CRYPTO, protocol="RTP/SAVP")
KEYED = media(20000, *dtls("actpass"), protocol="UDP/TLS/RTP/SAVP")
KEYED_REPLY = media(22000, *dtls("active"), protocol="UDP/TLS/RTP/SAVP")

PAIRS: dict[str, tuple[str, str]] = {
    "plain": (call(), reply()),
    "one format chosen": (call(), reply(formats="8 101")),
    "formats reordered": (call(), reply(formats="8 0 101")),
    "a format that was not offered": (call(formats="8 101"), reply(formats="8 9 101")),
    "formats without rtpmap": (call(formats="0 3 4 8 9 18"), reply(formats="18")),
    "a dynamic format without rtpmap": (call(formats="0 99"), reply(formats="0")),
    "comfort noise": (call(formats="0 13"), reply(formats="0 13")),
    "a wide rtpmap": (
        call("a=rtpmap:96 opus/48000/2", "a=fmtp:96 useinbandfec=1; usedtx=1", formats="96 0"),
        reply("a=rtpmap:96 opus/48000/2", formats="96"),
    ),
    "AMR": (
        call("a=rtpmap:97 AMR/8000/1", "a=fmtp:97 mode-set=0,2,4,7; octet-align=1", formats="97 8"),
        reply("a=rtpmap:97 AMR/8000/1", "a=fmtp:97 octet-align=1", formats="97"),
    ),
    "fmtp before rtpmap": (
        body(
            CALLER,
            _line(
                20000,
                "a=fmtp:96 0-16",
                "a=rtpmap:96 telephone-event/8000",
                kind="audio",
                protocol="RTP/AVP",
                formats="0 96",
            ),
        ),
        reply(formats="0"),
    ),
    "ptime": (call("a=ptime:20"), reply("a=ptime:30")),
    "ptime of the caller alone": (call("a=ptime:30"), reply()),
    "ptime of the callee alone": (call(), reply("a=ptime:30")),
    "maxptime": (call("a=maxptime:60"), reply("a=maxptime:60")),
    "bandwidth": (
        body(CALLER, ["m=audio 20000 RTP/AVP 0", "b=AS:64"], session=("b=CT:128",)),
        body(CALLEE, ["m=audio 22000 RTP/AVP 0", "b=TIAS:64000"]),
    ),
    "information": (
        body(CALLER, ["m=audio 20000 RTP/AVP 0", "i=the first one"], session=()),
        reply(formats="0"),
    ),
    "unknown attributes": (
        call("a=x-own:1", "a=label:7", "a=quality:10", "a=content:main"),
        reply("a=x-own:2", "a=silenceSupp:off - - - -"),
    ),
    "unknown attributes of the session": (
        body(CALLER, AUDIO, session=("a=tool:x", "a=charset:utf-8", "a=x-cap: 1 audio RTP/AVP 100")),
        body(CALLEE, AUDIO_REPLY, session=("a=tool:y",)),
    ),
    "mid": (call("a=mid:one"), reply("a=mid:one")),
    "mid of the caller alone": (call("a=mid:one"), reply()),
    "rtcp-rsize": (call("a=rtcp-rsize", MUX), reply("a=rtcp-rsize", MUX)),
    "rtcp-xr": (call("a=rtcp-xr:voip-metrics"), reply()),
    "ssrc": (call("a=ssrc:77 cname:a@b"), reply()),
    "maxptime and extmap": (call("a=extmap:1/sendonly urn:ietf:params:rtp-hdrext:toffset"), reply()),
    # where media goes
    "c= in the section": (
        text("v=0", f"o=- 1 1 IN IP4 {CALLER}", "s=-", "t=0 0", "m=audio 20000 RTP/AVP 0", f"c=IN IP4 {CALLER}"),
        text("v=0", f"o=- 1 1 IN IP4 {CALLEE}", "s=-", "t=0 0", "m=audio 22000 RTP/AVP 0", f"c=IN IP4 {CALLEE}"),
    ),
    "c= in both places": (body(OTHER, media(20000, ip=CALLER)), body(CALLEE, media(22000, ip=CALLEE))),
    "c= in one of two sections": (
        body(CALLER, AUDIO, media(20010, kind="video", formats="31", ip=OTHER)),
        body(CALLEE, AUDIO_REPLY, media(22010, kind="video", formats="31")),
    ),
    "o= of another host": (
        text("v=0", "o=x 1 1 IN IP4 192.0.2.1", "s=-", f"c=IN IP4 {CALLER}", "t=0 0", "m=audio 20000 RTP/AVP 0"),
        reply(formats="0"),
    ),
    "o= of a host's name": (
        text("v=0", "o=x 1 1 IN IP4 phone.example", "s=-", f"c=IN IP4 {CALLER}", "t=0 0", "m=audio 20000 RTP/AVP 0"),
        reply(formats="0"),
    ),
    "c= of IPv6 in one section": (
        body(CALLER, AUDIO, media(20010, kind="video", formats="31", ip=CALLER6)),
        body(CALLEE, AUDIO_REPLY, media(22010, kind="video", formats="31")),
    ),
    "an odd port": (call(port=20001), reply(port=22003)),
    "the highest port": (call(port=65535), reply()),
    "a number of ports": (text(*call().replace("20000 ", "20000/1 ").split("\r\n")[:-1]), reply()),
    "a=rtcp of the next port": (call("a=rtcp:20001"), reply("a=rtcp:22001")),
    "a=rtcp of another port": (call("a=rtcp:20101"), reply("a=rtcp:22101")),
    "a=rtcp in full": (call(f"a=rtcp:20001 IN IP4 {CALLER}"), reply(f"a=rtcp:22001 IN IP4 {CALLEE}")),
    "a=rtcp of another host": (call(f"a=rtcp:20101 IN IP4 {OTHER}"), reply()),
    "a=rtcp of IPv6": (call(f"a=rtcp:20101 IN IP6 {CALLER6}", ip=CALLER6), reply(ip=CALLEE6)),
    "a=rtcp of the same port": (call("a=rtcp:20000"), reply()),
    "a=rtcp of the same port on both sides": (call("a=rtcp:20000"), reply("a=rtcp:22000")),
    "mux, answered by a=rtcp of the same port": (call(MUX), reply("a=rtcp:22000")),
    "a=rtcp of the same port and mux": (call("a=rtcp:20000", MUX), reply("a=rtcp:22000", MUX)),
    "rtcp-mux-only": (call(MUX, "a=rtcp-mux-only"), reply(MUX)),
    # directions and hold
    **{
        f"{one} and {other}": (call(f"a={one}"), reply(f"a={other}"))
        for one, other in (
            ("sendrecv", "sendrecv"),
            ("sendrecv", "recvonly"),
            ("sendrecv", "inactive"),
            ("sendonly", "recvonly"),
            ("sendonly", "inactive"),
            ("sendonly", "sendrecv"),
            ("recvonly", "sendonly"),
            ("inactive", "inactive"),
            ("inactive", "sendrecv"),
        )
    },
    "sendonly without an answer to it": (call("a=sendonly"), reply()),
    "direction of the session": (body(CALLER, AUDIO, session=("a=sendonly",)), reply("a=recvonly")),
    "direction of the session and the section": (
        body(CALLER, media(20000, "a=sendrecv"), session=("a=inactive",)),
        reply(),
    ),
    "direction of the session for two": (
        body(CALLER, AUDIO, media(20010, "a=sendrecv", kind="video", formats="31"), session=("a=sendonly",)),
        body(CALLEE, AUDIO_REPLY, media(22010, kind="video", formats="31"), session=("a=recvonly",)),
    ),
    "held by the address 0.0.0.0": (body("0.0.0.0", AUDIO), reply("a=recvonly")),
    "held by the section's address 0.0.0.0": (body(CALLER, media(20000, ip="0.0.0.0")), reply()),
    "held by address and attribute": (body("0.0.0.0", media(20000, "a=sendonly")), reply("a=recvonly")),
    "held by address and inactive": (body("0.0.0.0", media(20000, "a=inactive")), reply("a=inactive")),
    "held by an IPv6 address": (body("::", AUDIO), reply(ip=CALLEE6)),
    "answered with 0.0.0.0": (call(), body("0.0.0.0", AUDIO_REPLY)),
    # several media
    "two media": (body(CALLER, AUDIO, video(20010)), body(CALLEE, AUDIO_REPLY, video(22010))),
    "three media": (
        body(CALLER, AUDIO, video(20010), fax(20020)),
        body(CALLEE, AUDIO_REPLY, video(22010), fax(22020)),
    ),
    "two audios": (body(CALLER, AUDIO, media(20010)), body(CALLEE, AUDIO_REPLY, media(22010))),
    "video offered rejected": (body(CALLER, AUDIO, video(0)), body(CALLEE, AUDIO_REPLY, video(0))),
    "video rejected by the answer": (body(CALLER, AUDIO, video(20010)), body(CALLEE, AUDIO_REPLY, video(0))),
    "audio rejected by the answer": (body(CALLER, AUDIO, video(20010)), body(CALLEE, media(0), video(22010))),
    "rejected without attributes": (
        body(CALLER, AUDIO, video(20010, "a=mid:v", "a=label:1")),
        body(CALLEE, AUDIO_REPLY, ["m=video 0 RTP/AVP 96"]),
    ),
    "all rejected": (call(), body(CALLEE, media(0))),
    "the answer has fewer lines": (body(CALLER, AUDIO, video(20010)), reply()),
    "the answer has more lines": (call(), body(CALLEE, AUDIO_REPLY, video(22010))),
    "rejected first, then live": (body(CALLER, media(0), video(20010)), body(CALLEE, media(0), video(22010))),
    "bundle": (
        body(
            CALLER,
            media(20000, "a=mid:a", MUX),
            video(20000, "a=mid:v", MUX),
            session=("a=group:BUNDLE a v",),
        ),
        body(CALLEE, media(22000, "a=mid:a", MUX), video(22000, "a=mid:v", MUX), session=("a=group:BUNDLE a v",)),
    ),
    "bundle-only": (
        body(
            CALLER,
            media(20000, "a=mid:a", MUX),
            video(0, "a=mid:v", "a=bundle-only"),
            session=("a=group:BUNDLE a v",),
        ),
        body(CALLEE, media(22000, "a=mid:a", MUX), video(0, "a=mid:v"), session=("a=group:BUNDLE a",)),
    ),
    "a group of another kind": (
        body(CALLER, media(20000, "a=mid:a"), video(20010, "a=mid:v"), session=("a=group:LS a v",)),
        body(CALLEE, media(22000, "a=mid:a"), video(22010, "a=mid:v"), session=("a=group:LS a v",)),
    ),
    # what is not RTP, and what is secured
    "fax": (body(CALLER, fax(20000)), body(CALLEE, fax(22000))),
    "fax in capital letters": (
        body(CALLER, _line(20000, kind="image", protocol="UDPTL", formats="t38")),
        body(CALLEE, _line(22000, kind="image", protocol="UDPTL", formats="t38")),
    ),
    "fax refused": (body(CALLER, fax(20000)), body(CALLEE, fax(0))),
    "audio and fax": (body(CALLER, AUDIO, fax(20010)), body(CALLEE, AUDIO_REPLY, fax(0))),
    "messages": (body(CALLER, chat(20000, CALLER)), body(CALLEE, chat(22000, CALLEE))),
    "audio and messages": (
        body(CALLER, AUDIO, chat(20010, CALLER)),
        body(CALLEE, AUDIO_REPLY, chat(22010, CALLEE)),
    ),
    "a protocol nobody knows": (
        body(CALLER, _line(20000, "a=x:y", kind="application", protocol="UDP/XYZ", formats="1")),
        body(CALLEE, _line(22000, kind="application", protocol="UDP/XYZ", formats="1")),
    ),
    "far end camera control": (
        body(CALLER, AUDIO, media(20010, "a=rtpmap:100 H224/4800", kind="application", formats="100")),
        body(CALLEE, AUDIO_REPLY, media(22010, "a=rtpmap:100 H224/4800", kind="application", formats="100")),
    ),
    "text": (
        body(CALLER, AUDIO, media(20010, "a=rtpmap:98 t140/1000", kind="text", formats="98")),
        body(CALLEE, AUDIO_REPLY, media(22010, "a=rtpmap:98 t140/1000", kind="text", formats="98")),
    ),
    "SAVP": (body(CALLER, SECURED), body(CALLEE, SECURED_REPLY)),
    "SAVPF": (
        body(CALLER, media(20000, CRYPTO, protocol="RTP/SAVPF")),
        body(CALLEE, media(22000, CRYPTO, protocol="RTP/SAVPF")),
    ),
    "AVPF": (call("a=rtcp-fb:0 nack", protocol="RTP/AVPF"), reply(protocol="RTP/AVPF")),
    "feedback for all formats": (call("a=rtcp-fb:* nack", protocol="RTP/AVPF"), reply(protocol="RTP/AVPF")),
    "AVPF answered by AVP": (call(protocol="RTP/AVPF"), reply()),
    "DTLS": (body(CALLER, KEYED), body(CALLEE, KEYED_REPLY)),
    "DTLS of the session": (
        body(CALLER, media(20000, protocol="UDP/TLS/RTP/SAVP"), session=dtls("actpass")),
        body(CALLEE, media(22000, protocol="UDP/TLS/RTP/SAVP"), session=dtls("active")),
    ),
    # as it comes from real senders
    "bare line feeds": (call().replace("\r\n", "\n"), reply().replace("\r\n", "\n")),
    "mixed line endings": (call().replace("\r\n", "\n", 3), reply()),
    "no name": (body(CALLER, AUDIO, name=""), body(CALLEE, AUDIO_REPLY, name=" ")),
    "a long name": (body(CALLER, AUDIO, name="A call of the caller"), body(CALLEE, AUDIO_REPLY, name="SIP Call")),
    "a user": (body(CALLER, AUDIO, user="alice"), body(CALLEE, AUDIO_REPLY, user="bob")),
    "no line ending at the end": (call().rstrip(), reply().rstrip()),
    "no time": (call().replace("t=0 0\r\n", ""), reply()),
    "a time of its own": (call().replace("t=0 0", "t=2873397496 2873404696"), reply()),
    "lines about the session": (
        text(
            *("v=0", f"o=- 1 1 IN IP4 {CALLER}", "s=-", "i=about", "u=http://x.example", "e=a@x.example", "p=+1 617"),
            *(f"c=IN IP4 {CALLER}", "t=0 0", "m=audio 20000 RTP/AVP 0"),
        ),
        reply(formats="0"),
    ),
    "attributes above c=": (
        text(
            *("v=0", f"o=- 1 1 IN IP4 {CALLER}", "s=-", "t=0 0", "a=tool:x", "m=audio 20000 RTP/AVP 0"),
            *("a=ptime:20", f"c=IN IP4 {CALLER}"),
        ),
        reply(formats="0"),
    ),
    "60 attributes": (call(*(f"a=x-{number}:{'y' * 20}" for number in range(60))), reply()),
    "12 media": (
        body(CALLER, *(media(20000 + 10 * number) for number in range(12))),
        body(CALLEE, *(media(22000 + 10 * number) for number in range(12))),
    ),
    "30 formats": (
        call(*(f"a=rtpmap:{pt} x{pt}/8000" for pt in range(98, 101)), formats="0 8 98 99 100 101"),
        reply(formats="0 101"),
    ),
    "an encoding in small letters": (call("a=rtpmap:0 pcmu/8000"), reply()),
    "the same format twice": (call(formats="0 0 8"), reply(formats="0")),
}


def of_pairs() -> Iterator[Conversation]:
    """Offer, answer, and what a query tells of both."""
    for name, (offered, answered) in PAIRS.items():
        yield conversation(f"body, {name}", offer(offered), answer(answered), query())


def of_zero_address() -> Iterator[Conversation]:
    for name in ("held by the address 0.0.0.0", "held by address and inactive", "held by an IPv6 address"):
        offered, answered = PAIRS[name]
        for keys in ({"replace": ["zero-address"]}, {"replace": ["origin"]}, {"flags": ["original-sendrecv"]}):
            word = next(iter(keys.values()))[0]
            yield conversation(f"{name}, {word}", offer(offered, **keys), answer(answered, **keys))
    yield conversation(
        "held by the address with media-address",
        offer(PAIRS["held by the address 0.0.0.0"][0], **{"media-address": "192.0.2.77"}),
    )


def of_loops() -> Iterator[Conversation]:
    """A body that comes back."""
    protect = {"flags": ["loop-protect"]}
    yield conversation("its own body", offer(call(), **protect), offer(SameBody(0), **protect, from_tag="x"))
    yield conversation("its own body, unprotected", offer(call(), **protect), offer(SameBody(0), call_id="again"))
    yield conversation(
        "its own answer", offer(call(), **protect), answer(reply(), **protect), answer(SameBody(1), **protect)
    )


def conversations() -> Iterator[Conversation]:
    for part in (of_pairs, of_zero_address, of_loops):
        yield from part()
