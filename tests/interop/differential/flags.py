"""Conversations about keys and flags: each of them on the offers and answers of some bodies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.interop.differential.bodies import (
    BROWSER,
    BROWSER_REPLY,
    CALLEE,
    CALLEE6,
    CALLER,
    CALLER6,
    MUX,
    RICH,
    RICH_REPLY,
    body,
    call,
    ice,
    media,
    reply,
)
from tests.interop.differential.conversation import Conversation, Step, answer, conversation, delete, offer, query

Keys = dict[str, Any]


def _flag(*words: str) -> Keys:
    return {"flags": list(words)}


BOTH: dict[str, Keys] = {
    "none": {},
    **{
        f"flag {word}": _flag(word)
        for word in (
            "trust-address",
            "symmetric",
            "asymmetric",
            "strict-source",
            "media-handover",
            "port-latching",
            "no-port-latching",
            "no-rtcp-attribute",
            "full-rtcp-attribute",
            "original-sendrecv",
            "generate-mid",
            "strip-extmap",
            "loop-protect",
            "SIP-source-address",
            "reset",
            "unidirectional",
            "no-redis-update",
            "debug",
            "replace-origin",
            "replace-session-connection",
            "replace-username",
            "replace-session-name",
            "replace-zero-address",
            "endpoint-learning-immediate",
            "endpoint-learning-off",
            "ICE-remove",
            "rtcp-mux-demux",
            "codec-strip-PCMU",
            "codec-strip-G729",
            "codec-except-PCMA",
            "reuse-codecs",
            "fragment-of-nothing",
            "reorder-codecs",
            "single-codec",
            "static-codecs",
            "allow-asymmetric-codecs",
            "reject-ICE",
            "no-jitter-buffer",
            "provisional",
            "new-branch",
            "skip-recording-db",
            "SDES-off",
            "SDES-no-AES_CM_128_HMAC_SHA1_32",
            "endpoint-learning-delayed",
            "endpoint-learning-heuristic",
            "RTP/AVP",
            "pad-crypto",
            "to-tag",
            "directional",
            "all",
        )
    },
    "trust address, spaced": _flag("trust address"),
    "two words in a flag, spaced": _flag("full rtcp attribute"),
    "replace origin": {"replace": ["origin"]},
    "replace origin and session-connection": {"replace": ["origin", "session-connection"]},
    "replace origin, one word": {"replace": "origin"},
    "replace origin, spaced": {"replace": ["origin", "session connection"]},
    "replace username": {"replace": ["username"]},
    "replace session-name": {"replace": ["session-name"]},
    "replace all names": {"replace": ["origin", "username", "session-name"]},
    "replace SDP-version": {"replace": ["SDP-version"]},
    "replace zero-address": {"replace": ["zero-address"]},
    "replace what nobody knows": {"replace": ["nothing at all"]},
    "ICE remove": {"ICE": "remove"},
    "ICE default": {"ICE": "default"},
    "ICE in a list": {"ICE": ["remove"]},
    "ice in small letters": {"ice": "remove"},
    "transport RTP/AVP": {"transport-protocol": "RTP/AVP"},
    "transport RTP/AVPF": {"transport-protocol": "RTP/AVPF"},
    "direction": {"direction": ["internal", "external"]},
    "direction reversed": {"direction": ["external", "internal"]},
    "direction behind NAT": {"direction": ["default", "nat"]},
    "direction of no such name": {"direction": ["nowhere", "internal"]},
    "family IP4": {"address-family": "IP4"},
    "family IP6": {"address-family": "IP6"},
    "family IPv6": {"address-family": "ip6"},
    "family nonsense": {"address-family": "IPX"},
    "family and direction": {"address-family": "IP6", "direction": ["external", "internal"]},
    "media-address": {"media-address": "192.0.2.77"},
    "media-address and full rtcp": {"media-address": "192.0.2.77", "flags": ["full-rtcp-attribute"]},
    "media-address and origin": {"media-address": "192.0.2.77", "replace": ["origin"]},
    "media-address of the other family": {"media-address": "2001:db8::77"},
    "TOS": {"TOS": 184},
    "TOS as text": {"TOS": "184"},
    "TOS out of range": {"TOS": 256},
    "codec strip": {"codec": {"strip": ["PCMU"]}},
    "codec strip two": {"codec": {"strip": ["PCMU", "VP8"]}},
    "codec strip with clock": {"codec": {"strip": ["PCMA/8000"]}},
    "codec strip what is not there": {"codec": {"strip": ["AMR"]}},
    "codec strip all, offer PCMA": {"codec": {"strip": ["all"], "offer": ["PCMA"]}},
    "codec strip all, offer two": {"codec": {"strip": ["all"], "offer": ["PCMA", "PCMU"]}},
    "codec strip all, except PCMA": {"codec": {"strip": ["all"], "except": ["PCMA"]}},
    "codec strip all, except events": {"codec": {"strip": ["all"], "except": ["PCMU", "telephone-event"]}},
    "codec strip events": {"codec": {"strip": ["telephone-event"]}},
    "codec offer alone": {"codec": {"offer": ["PCMA"]}},
    "delete-delay": {"delete-delay": 0},
    "label": {"label": "one"},
    "endpoint-learning": {"endpoint-learning": "immediate"},
    "SDES": {"SDES": ["off"]},
    "DTLS off": {"DTLS": "off"},
    "DTLS passive": {"DTLS": "passive"},
    "set-label": {"set-label": "two"},
    "xmlrpc-callback": {"xmlrpc-callback": "10.99.0.2"},
    "interfaces by name": {"from-interface": "internal", "to-interface": "external"},
    "sip-code": {"sip-code": 183},
    "replace origin-full": {"replace": ["origin-full"]},
    "replace force-increment-sdp-ver": {"replace": ["force-increment-sdp-ver"]},
    "generate-RTCP off": {"generate-RTCP": "off"},
    "drop-traffic stop": {"drop-traffic": "stop"},
    "record-call no": {"record-call": "no"},
    "metadata": {"metadata": "something"},
    "sip-message-type": {"sip-message-type": "sip_request"},
    "received-from": {"received-from": ["IP4", "10.99.1.9"]},
    "received-from and SIP-source-address": {"received-from": ["IP4", "10.99.1.9"], "flags": ["SIP-source-address"]},
    "supports": {"supports": ["load limit"]},
    "what nobody knows": {"foo": "bar", "flags": ["no-such-flag", "another=one"]},
    "flags as one word": {"flags": "full-rtcp-attribute"},
    "what Kamailio sends ordinarily": {
        "supports": ["load limit"],
        "received-from": ["IP4", "10.99.1.2"],
        "replace": ["origin", "session-connection"],
        "flags": ["trust-address"],
        "ICE": "remove",
        "transport-protocol": "RTP/AVP",
    },
}
"""On the offer and the answer, as Kamailio sends the same flags with both."""

OLDER: dict[str, Keys] = {
    "flag replace-origin": {"replace": ["origin"]},
    "flag replace-session-connection": {"replace": ["session-connection"]},
    "flag replace-username": {"replace": ["username"]},
    "flag replace-session-name": {"replace": ["session-name"]},
    "flag replace-zero-address": {"replace": ["zero-address"]},
    "flag rtcp-mux-demux": {"rtcp-mux": ["demux"]},
    "flag ICE-remove": {"ICE": "remove"},
    "flag endpoint-learning-immediate": {"endpoint-learning": "immediate"},
    "flag endpoint-learning-off": {"endpoint-learning": "off"},
    "replace origin, one word": {"replace": ["origin"]},
    "replace origin-full": {"replace": ["origin"]},
    "family IPv6": {"address-family": "IP6"},
    "flag endpoint-learning-delayed": {"endpoint-learning": "delayed"},
    "flag endpoint-learning-heuristic": {"endpoint-learning": "heuristic"},
    "flag reject-ICE": {"ICE": "remove"},
    "interfaces by name": {"direction": ["internal", "external"]},
    "flags as one word": {"flags": ["full-rtcp-attribute"]},
}
"""How a relay is asked for the same that does not know the newer spelling."""

NOT_DONE: dict[str, Keys] = {
    "ICE force": {"ICE": "force"},
    "ICE force-relay": {"ICE": "force-relay"},
    "ICE optional": {"ICE": "optional"},
    "transport RTP/SAVP": {"transport-protocol": "RTP/SAVP"},
    "transport RTP/SAVPF": {"transport-protocol": "RTP/SAVPF"},
    "transport UDP/TLS/RTP/SAVPF": {"transport-protocol": "UDP/TLS/RTP/SAVPF"},
    "OSRTP": {"OSRTP": ["offer"]},
    "codec transcode": {"codec": {"transcode": ["G722"]}},
    "codec mask": {"codec": {"mask": ["PCMU"], "transcode": ["PCMA"]}},
    "codec set": {"codec": {"set": ["PCMU"]}},
    "flag codec-transcode-G722": _flag("codec-transcode-G722"),
    "ptime": {"ptime": 40},
    "ptime-reverse": {"ptime-reverse": 40},
    "generate-RTCP": {"generate-RTCP": "on"},
    "media-echo": {"media-echo": "forward"},
    "flag always-transcode": _flag("always-transcode"),
    "flag inject-DTMF": _flag("inject-DTMF"),
    "flag pierce-NAT": _flag("pierce-NAT"),
    "flag SIPREC": _flag("SIPREC"),
    "record-call": {"record-call": "yes"},
    "T.38": {"T.38": ["decode"]},
    "DTMF block": _flag("block-DTMF"),
    "music on hold": {"moh": {"file": "/nowhere"}},
}
"""What needs media to be processed: each is warned of."""

OFFER_ALONE = (
    "flag asymmetric",
    "flag no-rtcp-attribute",
    "flag full-rtcp-attribute",
    "flag original-sendrecv",
    "flag generate-mid",
    "replace origin",
    "ICE remove",
    "transport RTP/AVPF",
    "direction",
    "family IP6",
    "media-address",
    "codec strip",
    "codec strip all, offer PCMA",
    "flag rtcp-mux-demux",
)
"""Those that are also tried on the offer alone, and on the answer alone."""

ICE_BODIES = (
    body(CALLER, media(20000, *ice(CALLER, 20000)), session=("a=ice-options:ice2",)),
    body(CALLEE, media(22000, *ice(CALLEE, 22000))),
)


def both(name: str, offered: str, answered: str, asked: str) -> Conversation:
    """The same keys with offer and answer."""
    keys = BOTH[asked]
    older = OLDER.get(asked, keys)
    return conversation(
        name,
        Step(offer(offered, **keys), offer(offered, **older)),
        Step(answer(answered, **keys), answer(answered, **older)),
    )


def by_body() -> Iterator[Conversation]:
    """All keys on a plain call and on one with much in it."""
    for name in BOTH:
        yield both(f"plain, {name}", call(), reply(), name)
        yield both(f"rich, {name}", RICH, RICH_REPLY, name)
    for name in OFFER_ALONE:
        keys, older = BOTH[name], OLDER.get(name, BOTH[name])
        first, second = offer(RICH, **keys), answer(RICH_REPLY, **keys)
        yield conversation(f"offer alone, {name}", Step(first, offer(RICH, **older)), answer(RICH_REPLY))
        yield conversation(f"answer alone, {name}", offer(RICH), Step(second, answer(RICH_REPLY, **older)))


def not_done() -> Iterator[Conversation]:
    for name, keys in NOT_DONE.items():
        yield conversation(f"not done, {name}", offer(call(), **keys), answer(reply(), **keys), query())


def of_ice() -> Iterator[Conversation]:
    """ICE on both sides, on one, and what flags make of it."""
    offered, answered = ICE_BODIES
    for name in ("none", "ICE remove", "ICE default", "flag no-rtcp-attribute", "media-address"):
        yield both(f"ICE, {name}", offered, answered, name)
        yield both(f"ICE of the caller, {name}", offered, reply(), name)
        yield both(f"ICE of the callee, {name}", call(), answered, name)
        yield both(f"browser, {name}", BROWSER, BROWSER_REPLY, name)


WORDS: dict[str, list[str]] = {
    "nothing": [],
    "offer": ["offer"],
    "require": ["require"],
    "offer, require": ["offer", "require"],
    "demux": ["demux"],
    "accept": ["accept"],
    "reject": ["reject"],
}


def of_mux() -> Iterator[Conversation]:
    """The whole matrix: what is offered, what is asked of the relay, what is answered."""
    for offered in (True, False):
        for words, asked in WORDS.items():
            for answered in (True, False):
                name = f"mux {'offered' if offered else 'not offered'}, {words}, {'' if answered else 'not '}answered"
                keys = {"rtcp-mux": asked} if asked else {}
                yield conversation(
                    name,
                    offer(call(*([MUX] if offered else [])), **keys),
                    answer(reply(*([MUX] if answered else []))),
                    query(),
                )
    for words in ("demux", "accept", "reject"):
        yield conversation(
            f"mux offered, {words} with the answer",
            offer(call(MUX)),
            answer(reply(MUX), **{"rtcp-mux": WORDS[words]}),
        )
    yield conversation(
        "mux by flags",
        Step(offer(call(), flags=["rtcp-mux-offer"]), offer(call(), rtcp_mux=["offer"])),
        answer(reply(MUX)),
    )


SPELLED: dict[str, tuple[str, Keys]] = {
    "a key": ("ICE=remove", {"ICE": "remove"}),
    "bare words": ("trust-address full-rtcp-attribute", {"flags": ["trust-address", "full-rtcp-attribute"]}),
    "a prefix": ("replace-origin", {"replace": ["origin"]}),
    "a list": ("replace=[origin session-connection]", {"replace": ["origin", "session-connection"]}),
    "both directions": (
        "direction=internal direction=external",
        {"direction": ["internal", "external"]},
    ),
    "a family": ("address-family=IP6", {"address-family": "IP6"}),
    "a transport": ("RTP/AVPF", {"transport-protocol": "RTP/AVPF"}),
    "a shorthand": ("AVPF", {"transport-protocol": "RTP/AVPF"}),
    "a nested list": ("codec=[strip=[PCMU]]", {"codec": {"strip": ["PCMU"]}}),
    "an address": ("media-address=192.0.2.77", {"media-address": "192.0.2.77"}),
    "much": (
        "replace-origin ICE=remove rtcp-mux-demux codec-strip-PCMU TOS=184 label=x",
        {
            "replace": ["origin"],
            "ICE": "remove",
            "rtcp-mux": ["demux"],
            "codec": {"strip": ["PCMU"]},
            "TOS": 184,
            "label": "x",
        },
    ),
}


def of_spellings() -> Iterator[Conversation]:
    """The string that newer proxies send, against keys that both relays know."""
    for name, (text, keys) in SPELLED.items():
        yield conversation(
            f"rtpp-flags, {name}",
            Step(offer(RICH, rtpp_flags=text), offer(RICH, **keys)),
            Step(answer(RICH_REPLY, rtpp_flags=text), answer(RICH_REPLY, **keys)),
            query(),
        )


def of_families() -> Iterator[Conversation]:
    """Parties of different families."""
    six, six_reply = call(ip=CALLER6), reply(ip=CALLEE6)
    yield conversation("IPv6 on both sides", offer(six), answer(six_reply), query(), delete())
    yield conversation("IPv4 to IPv6", offer(call(), address_family="IP6"), answer(six_reply), query())
    yield conversation("IPv6 to IPv4", offer(six, address_family="IP4"), answer(reply()), query())
    yield conversation(
        "IPv6 with origin", offer(six, replace=["origin"]), answer(six_reply, replace=["origin"], label="y")
    )
    yield conversation(
        "IPv6 full rtcp",
        offer(six, flags=["full-rtcp-attribute"]),
        answer(six_reply, flags=["full-rtcp-attribute"]),
    )
    yield conversation(
        "IPv4 to IPv6 by interface",
        offer(call(), address_family="IP6", direction=["internal", "external"]),
        answer(six_reply, direction=["external", "internal"], address_family="IP4"),
        query(),
    )
    yield conversation("IPv6 in ICE", offer(body(CALLER6, media(20000, *ice(CALLER6, 20000)))), answer(six_reply))


def conversations() -> Iterator[Conversation]:
    for part in (by_body, not_done, of_ice, of_mux, of_spellings, of_families):
        yield from part()
