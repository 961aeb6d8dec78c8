"""A request's keys and flags as typed options.

Controllers spell the same thing in many ways: a space, hyphen or underscore between words, an integer as a string, a
string where a list is meant, a flag `replace-origin` for an entry of a list `replace`, or one string with all of it.
All of them end here. What cannot be honoured has its sentence in the reply's warning (control.ng.unserved); what is
unknown is counted and otherwise ignored: the same flags come with every command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from control.ng import rtppflags, takers, unserved
from control.ng.options import Options
from control.ng.takers import MAX_WORD, Act, Taker, plain, words
from control.sdp.model import RtcpAttribute

__all__ = ["Options", "parse_options"]


def parse_options(body: Mapping[str, Any], controller: str = "", before: Sequence[str] = ()) -> Options:
    """Read a request of the proxy at `controller`. Raises nothing: a value of a wrong kind counts as absent.

    `before`: strings of flags that hold where the request does not say otherwise.
    """
    options = Options()
    options.controller = controller
    for text in before:
        _rtpp_flags(options, text)
    for key, value in body.items():
        if key in _WORDS and type(value) is str:  # most of every request, so without a taker
            if value:
                setattr(options, _WORDS[key], value)
        elif (take := _KEYS.get(key)) is None:
            _take(options, key, value)
        elif not take(options, value):
            options.ignored += 1
    return options


def _take(options: Options, key: str, value: object) -> None:
    """Put one key's value into the options, in whatever spelling."""
    take = _KEYS.get(plain(key))
    if take is None or not take(options, value):
        options.ignored += 1


def _flags(options: Options, value: object) -> bool:
    found = words(value)
    for word in found:
        act = _FLAGS.get(word) or (_flag if len(word) <= MAX_WORD else _read_flag)(word)
        if act is not None:
            act(options)
        else:
            options.ignored += 1
    return bool(found)


def _read_flag(word: str) -> Act | None:
    """What a flag does that is not spelled as in the table: by its prefix, or as `key=value`; None: nobody knows it."""
    spelled = plain(word)
    if spelled in _FLAGS:
        return _FLAGS[spelled]
    for prefix, take in _PREFIXES.items():
        if spelled.startswith(prefix):
            return _applied(take, word[len(prefix) :])
    key, sign, value = word.partition("=")
    key = plain(key)
    # A flag holds no list of flags, which might hold one in turn, and so on.
    behind = _KEYS.get(key) if sign and key not in ("flags", "rtpp-flags") else None
    return _applied(behind, value) if behind is not None else None


_flag = lru_cache(maxsize=1024)(_read_flag)
"""The same for words that are short enough to be kept."""


def _applied(take: Taker, value: str) -> Act:
    def act(options: Options) -> None:
        if not take(options, value):
            options.ignored += 1

    return act


def _rtpp_flags(options: Options, value: object) -> bool:
    """All keys and flags in one string, which holds no other such string."""
    if not isinstance(value, str):
        return False
    for key, inner in rtppflags.entries(value):
        if plain(key) != "rtpp-flags":
            _take(options, key, inner)
    return True


# -- the tables

_PROFILE_WORDS: dict[str, Act] = {
    **{name.lower(): takers.switch("transport", name) for name in takers.PROFILES},
    "rtp": takers.profile(0, 1),
    "srtp": takers.profile(1, 0),
    "avp": takers.profile(0, 2),
    "avpf": takers.profile(2, 0),
    "dtls": takers.profile(4, 0),
}
_TRANSPORTS: dict[str, Act] = {**_PROFILE_WORDS, "accept": takers.nothing, "udptl": takers.nothing}
_REPLACE: dict[str, Act] = {
    "origin": takers.switch("replace_origin"),
    "origin-full": takers.together(
        takers.switch("replace_origin"), takers.wish(username=True, session_id=True, version=True)
    ),
    "session-connection": takers.nothing,
    "username": takers.wish(username=True),
    "session-name": takers.wish(session_name=True),
    "sdp-version": takers.wish(version=True),
    "force-increment-sdp-ver": takers.wish(version=True, force_version=True),
    "zero-address": takers.switch("zero_address"),
}
_ICE: dict[str, Act] = {
    "remove": takers.switch("remove_ice"),
    "default": takers.switch("remove_ice", False),
    **dict.fromkeys(("trickle", "ice2"), takers.nothing),
    **{word: takers.warn(text) for word, text in unserved.ICE.items()},
}
_MUX: dict[str, Act] = {word: takers.mux(word) for word in ("offer", "require", "demux", "accept", "reject")}
_CODEC: dict[str, Taker] = {
    "strip": takers.codecs("strip"),
    "except": takers.codecs("keep"),
    "offer": takers.codecs("offer"),
    "mask": takers.codecs("mask", "codec-mask: masked codecs are taken out, nothing is transcoded"),
    "consume": takers.codecs("mask", "codec-consume: consumed codecs are taken out, nothing is transcoded"),
    **{
        word: takers.codecs("", f"codec-{word}: nothing is transcoded, media passes as it comes")
        for word in ("transcode", "accept", "ignore", "set")
    },
}
_FLAGS: dict[str, Act] = {
    **{word: takers.warn(text) for word, text in unserved.WORDS.items()},
    **{word: takers.warn_of_keys(text) for word, text in unserved.SECURED.items()},
    "strict-source": takers.switch("strict_source"),
    "media-handover": takers.switch("media_handover"),
    "asymmetric": takers.switch("asymmetric"),
    "port-latching": takers.switch("port_latching"),
    "no-port-latching": takers.switch("port_latching", False),
    "trust-address": takers.switch("sip_source", False),
    "sip-source-address": takers.switch("sip_source"),
    "no-rtcp-attribute": takers.switch("rtcp_attribute", RtcpAttribute.NONE),
    "full-rtcp-attribute": takers.switch("rtcp_attribute", RtcpAttribute.FULL),
    "original-sendrecv": takers.switch("original_direction"),
    "generate-mid": takers.wish(generate_mid=True),
    "strip-extmap": takers.wish(strip_extmap=True),
    "single-codec": takers.single_codec,
    "loop-protect": takers.switch("loop_protect"),
    "fragment": takers.switch("fragment"),
    "reject-ice": takers.switch("remove_ice"),
    "reset": takers.switch("reset"),
    "new-branch": takers.switch("new_branch"),
    "provisional": takers.switch("provisional"),
    "to-tag": takers.switch("match_to_tag"),
    "fatal": takers.switch("fatal"),
    "fast": takers.switch("fast"),
    "full": takers.switch("full"),
    "all": takers.switch("whole_call"),
    "internal": takers.named_direction("internal"),
    "external": takers.named_direction("external"),
    "webrtc": takers.together(
        takers.switch("transport", "UDP/TLS/RTP/SAVPF"),
        takers.mux("offer"),
        takers.mux("require"),
        takers.switch("rtcp_attribute", RtcpAttribute.NONE),
        takers.wish(generate_mid=True),
        takers.warn(unserved.WORDS["webrtc"]),
    ),
    **dict.fromkeys(
        (
            "symmetric",
            "directional",
            "from-tag",
            "force",
            "unidirectional",
            "bidirectional",
            "no-redis-update",
            "debug",
            "reorder-codecs",
            "reuse-codecs",
            "static-codecs",
            "symmetric-codecs",
            "allow-asymmetric-codecs",
            "allow-no-codec-media",
            "no-tls-id",
            "no-jitter-buffer",
            "no-player",
            "passthrough",
            "no-passthrough",
            "skip-recording-db",
            "exclude-recording",
            "discard-recording",
        ),
        takers.nothing,
    ),
    **_PROFILE_WORDS,
    **{f"replace-{word}": act for word, act in _REPLACE.items()},
    **{f"ice-{word}": act for word, act in _ICE.items()},
    **{f"rtcp-mux-{word}": act for word, act in _MUX.items()},
    **{f"endpoint-learning-{word}": takers.switch("learning", mode) for word, mode in takers.LEARNING.items()},
}
_PREFIXES: dict[str, Taker] = {
    **{f"codec-{word}-": take for word, take in _CODEC.items()},
    "transcode-": _CODEC["transcode"],
    "sdes-": takers.always(takers.warn_of_keys(unserved.SECURED["sdes"])),
    "osrtp-": takers.always(takers.warn(unserved.KEYS["osrtp"])),
    "bundle-": takers.always(takers.warn(unserved.KEYS["bundle"])),
    "extmap-": takers.always(takers.warn(unserved.KEYS["extmap"])),
    "t38-": takers.always(takers.warn(unserved.KEYS["t.38"])),
    "t.38-": takers.always(takers.warn(unserved.KEYS["t.38"])),
    "generate-rtcp-": takers.asked(takers.warn(unserved.KEYS["generate-rtcp"])),
}
"""Flags that carry the value of a key behind a hyphen."""
_WORDS = {
    "call-id": "call_id",
    "from-tag": "from_tag",
    "to-tag": "to_tag",
    "via-branch": "via_branch",
    "label": "label",
    "from-label": "label",
    "to-label": "to_label",
    "set-label": "set_label",
    "template": "template",
    "xmlrpc-callback": "callback",
}
_KEYS: dict[str, Taker] = {
    **{key: takers.asked(takers.warn(text)) for key, text in unserved.KEYS.items()},
    **{key: takers.always(takers.warn_of_keys(text)) for key, text in unserved.SECURED.items()},
    "command": takers.known,
    "sdp": takers.sdp,
    **{key: takers.text(field) for key, field in _WORDS.items()},
    "received-from": takers.received_from,
    "sip-message-type": takers.known,
    "sip-code": takers.integer("sip_code", "sip-code"),
    "supports": takers.each({"load-limit": takers.switch("load_limit")}),
    "flags": _flags,
    "rtpp-flags": _rtpp_flags,
    "replace": takers.each(_REPLACE),
    "ice": takers.each(_ICE),
    "rtcp-mux": takers.each(_MUX),
    "direction": takers.direction,
    **dict.fromkeys(("from-interface", "inbound-peer", "in-iface"), takers.interface(0)),
    **dict.fromkeys(("to-interface", "outbound-peer", "out-iface"), takers.interface(1)),
    **dict.fromkeys(("interface", "peer"), takers.interface(0, 1)),
    "address-family": takers.family,
    "media-address": takers.media_address,
    "tos": takers.integer("tos", "TOS"),
    "endpoint-learning": takers.learning,
    "transport-protocol": takers.transport(_TRANSPORTS),
    "codec": takers.nested(_CODEC),
    "ptime": takers.ptime,
    "delete-delay": takers.integer("delete_delay", "delete-delay"),
    "limit": takers.integer("limit", "limit"),
    "address": takers.party_address,
    "all": takers.each({"all": takers.switch("whole_call"), "none": takers.nothing}),
    **dict.fromkeys(("metadata", "instance", "passthrough", "from-tags", "alias-key"), takers.known),
}
