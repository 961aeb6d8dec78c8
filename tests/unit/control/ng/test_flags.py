"""Keys and flags in all their spellings."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest

from control.ng.flags import Options, parse_options
from control.sdp.model import BodyWishes, CodecWishes, RtcpAttribute
from relay.types import Learning


def changed(body: dict[str, Any]) -> dict[str, Any]:
    """The options that are not as they are without any key."""
    plain, found = Options(), parse_options(body)
    names = list(get_type_hints(Options))
    return {name: getattr(found, name) for name in names if getattr(found, name) != getattr(plain, name)}


@pytest.mark.parametrize("key", ["call-id", "call id", "call_id", "Call-ID"])
def test_words_of_a_key_are_joined_in_any_way(key: str) -> None:
    assert changed({key: "x"}) == {"call_id": "x"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"sdp": "v=0"}, {"sdp": "v=0"}),
        ({"from-tag": "a", "to-tag": "b"}, {"from_tag": "a", "to_tag": "b"}),
        ({"from-tag": 123}, {"from_tag": "123"}),
        ({"via-branch": "z9", "label": "l"}, {"via_branch": "z9", "label": "l"}),
        ({"received-from": ["IP4", "192.0.2.9"]}, {"received_from": "192.0.2.9"}),
        ({"received from": ["IP6", "2001:DB8::1"]}, {"received_from": "2001:db8::1"}),
        ({"received-from": "192.0.2.9"}, {"received_from": "192.0.2.9"}),
        ({"supports": ["load limit"]}, {"load_limit": True}),
        ({"supports": "load limit"}, {"load_limit": True}),
        ({"direction": ["in", "out"]}, {"direction": ("in", "out")}),
        ({"direction": "in"}, {"direction": ("in",)}),
        ({"rtpp-flags": "direction=in direction=out"}, {"direction": ("in", "out")}),
        ({"rtpp-flags": "direction=a direction=b", "direction": ["in", "out"]}, {"direction": ("in", "out")}),
        ({"rtpp-flags": "direction=a direction=b direction=in direction=out"}, {"direction": ("in", "out")}),
        ({"TOS": 184}, {"tos": 184}),
        ({"TOS": "184"}, {"tos": 184}),
        ({"tos": -1}, {"tos": -1}),
        ({"delete delay": 0}, {"delete_delay": 0}),
        ({"delete-delay": "5"}, {"delete_delay": 5}),
        ({"sip-code": "200"}, {"sip_code": 200}),
        ({"limit": 3}, {"limit": 3}),
        ({"flags": ["strict-source", "media handover"]}, {"strict_source": True, "media_handover": True}),
        ({"flags": "port_latching"}, {"port_latching": True}),
        ({"flags": ["asymmetric", "trust-address"]}, {"asymmetric": True, "sip_source": False}),
        ({"flags": ["trust-address", "SIP-source-address"]}, {"sip_source": True}),
        ({"flags": ["SIP-source-address", "trust address"]}, {"sip_source": False}),
        ({"flags": ["no-rtcp-attribute"]}, {"rtcp_attribute": RtcpAttribute.NONE}),
        ({"flags": ["full-rtcp-attribute"]}, {"rtcp_attribute": RtcpAttribute.FULL}),
        ({"flags": ["original-sendrecv", "to-tag"]}, {"original_direction": True, "match_to_tag": True}),
        ({"flags": ["fast"]}, {"fast": True}),
        ({"flags": ["replace-origin", "endpoint-learning-off"]}, {"replace_origin": True, "learning": Learning.OFF}),
        ({"replace": ["origin", "session-connection"]}, {"replace_origin": True}),
        ({"replace": "zero-address"}, {"zero_address": True}),
        ({"ICE": "remove"}, {"remove_ice": True}),
        ({"ice": ["remove"]}, {"remove_ice": True}),
        ({"endpoint-learning": "heuristic"}, {"learning": Learning.HEURISTIC}),
        ({"endpoint learning": ["immediate"]}, {"learning": Learning.IMMEDIATE}),
        ({"transport-protocol": "RTP/SAVP"}, {"transport": "RTP/SAVP"}),
        ({"transport protocol": "udp/tls/rtp/savpf"}, {"transport": "UDP/TLS/RTP/SAVPF"}),
        ({"transport-protocol": "accept"}, {}),
        ({"flags": ["RTP/AVPF"]}, {"transport": "RTP/AVPF"}),
        ({"flags": ["SRTP"]}, {"transport": "RTP/SAVP"}),
        ({"flags": ["SRTP", "AVPF"]}, {"transport": "RTP/SAVPF"}),
        ({"flags": ["AVPF", "DTLS"]}, {"transport": "UDP/TLS/RTP/SAVPF"}),
        ({"flags": ["RTP", "AVP"]}, {"transport": "RTP/AVP"}),
        ({"transport-protocol": "RTP/SAVPF", "flags": ["RTP"]}, {"transport": "RTP/AVPF"}),
        ({"address-family": "IP6"}, {"family": 6}),
        ({"address family": "IP4"}, {"family": 4}),
        ({"media-address": "2001:DB8::1"}, {"media_address": "2001:db8::1"}),
        ({"rtcp-mux": ["offer", "require", "offer"]}, {"mux": ("offer", "require")}),
        ({"flags": ["rtcp-mux-demux", "rtcp mux accept"]}, {"mux": ("demux", "accept")}),
        ({"from-interface": "in"}, {"direction": ("in",)}),
        ({"to-interface": "out"}, {"direction": ("", "out")}),
        ({"to-interface": "out", "from-interface": "in"}, {"direction": ("in", "out")}),
        ({"interface": "both"}, {"direction": ("both", "both")}),
        ({"flags": ["internal", "external"]}, {"direction": ("internal", "external")}),
        ({"set-label": "s", "to-label": "t"}, {"set_label": "s", "to_label": "t"}),
        ({"template": "webrtc", "xmlrpc-callback": "http://x"}, {"template": "webrtc", "callback": "http://x"}),
        ({"flags": ["reset", "new branch", "provisional"]}, {"reset": True, "new_branch": True, "provisional": True}),
        ({"flags": ["loop-protect", "fragment", "fatal"]}, {"loop_protect": True, "fragment": True, "fatal": True}),
        ({"flags": ["reject-ICE"]}, {"remove_ice": True}),
        ({"flags": ["ICE-remove"]}, {"remove_ice": True}),
        ({"ICE": "default", "flags": ["symmetric", "no-redis-update", "directional", "unidirectional"]}, {}),
        ({"flags": ["TOS=184", "label=x"]}, {"tos": 184, "label": "x"}),
        ({"replace": ["username", "session name"]}, {"wishes": BodyWishes(username=True, session_name=True)}),
        ({"replace": ["SDP-version"]}, {"wishes": BodyWishes(version=True)}),
        ({"flags": ["replace-force-increment-sdp-ver"]}, {"wishes": BodyWishes(version=True, force_version=True)}),
        (
            {"replace": "origin-full"},
            {"replace_origin": True, "wishes": BodyWishes(username=True, session_id=True, version=True)},
        ),
        ({"flags": ["generate-mid", "strip-extmap"]}, {"wishes": BodyWishes(generate_mid=True, strip_extmap=True)}),
        ({"flags": ["single-codec"]}, {"wishes": BodyWishes(codecs=CodecWishes(single=True))}),
        (
            {"codec": {"strip": ["G729"], "except": "PCMA", "offer": ["opus/48000/2"]}},
            {"wishes": BodyWishes(codecs=CodecWishes(strip=("G729",), keep=("PCMA",), offer=("opus/48000/2",)))},
        ),
        (
            {"flags": ["codec-strip-G729", "codec strip AMR/////mode-set--0", "Codec-Except-PCMA"]},
            {"wishes": BodyWishes(codecs=CodecWishes(strip=("G729", "AMR/////mode-set=0"), keep=("PCMA",)))},
        ),
        ({"command": "offer", "sip-message-type": "sip_request"}, {}),
        ({"to-tag": "", "from-tag": ""}, {}),
    ],
)  # fmt: skip
def test_what_a_request_says(body: dict[str, Any], expected: dict[str, Any]) -> None:
    assert changed(body) == expected


@pytest.mark.parametrize(
    ("body", "ignored"),
    [
        ({"xyzzy": 1}, 1),
        ({"flags": ["xyzzy", "strict-source", "replace-xyzzy", "x" * 500, "xyzzy=1"]}, 4),
        ({"codec": {"strip": ["G729"], "xyzzy": ["G729"], "offer": 5}, "rtcp-mux": ["demux", "xyzzy"]}, 3),
        ({"ICE": "xyzzy"}, 1),
        ({"supports": ["teleport"]}, 1),
        ({"rtpp-flags": "xyzzy strict-source xyzzy=1 replace=[origin xyzzy]"}, 3),
    ],
)
def test_what_means_nothing_is_counted(body: dict[str, Any], ignored: int) -> None:
    assert parse_options(body).ignored == ignored


@pytest.mark.parametrize(
    "body",
    [
        {"call-id": ["a"]},
        {"call-id": {"a": 1}},
        {"sdp": 5},
        {"TOS": [184]},
        {"flags": 7},
        {"flags": {"strict-source": 1}},
        {"flags": []},
        {"received-from": ["IP4", "not an address"]},
        {"received-from": 4},
        {"received-from": "0" * 60_000},
        {"direction": 1},
        {"endpoint-learning": 1},
        {"transport-protocol": ["RTP/AVP"]},
        {"codec": ["G729"]},
        {"rtpp-flags": ["strict-source"]},
        {"ptime": 2000},
        {"ptime": "x"},
        {"media-address": 7},
        {"interface": ["in"]},
        {"delete-delay": ""},
    ],
)
def test_a_value_of_a_wrong_kind_counts_as_absent(body: dict[str, Any]) -> None:
    assert changed(body) == {"ignored": 1}


def test_only_strings_of_a_mixed_list_count() -> None:
    assert changed({"flags": ["fast", 1, {"a": 2}, ["strict-source"]]}) == {"fast": True}


def test_the_parts_for_engine_and_sdp() -> None:
    options = parse_options(
        {"TOS": 46, "label": "l", "received-from": "192.0.2.1", "ICE": "remove", "replace": "origin"}
    )
    signal, rewriting = options.signal(), options.rewriting()
    assert (signal.tos, signal.label, signal.received_from) == (46, "l", "192.0.2.1")
    assert (rewriting.remove_ice, rewriting.replace_origin, rewriting.zero_address) == (True, True, False)
    assert not parse_options({}).rewriting().remove_ice


def test_what_signal_and_body_are_told() -> None:
    options = parse_options(
        {
            "call-id": "c",
            "address-family": "IP6",
            "rtcp-mux": "demux",
            "flags": ["SRTP", "loop-protect", "reset", "new-branch"],
            "set-label": "x",
            "media-address": "192.0.2.7",
            "direction": ["a", "b"],
        },
        "192.0.2.250",
    )
    signal, rewriting = options.signal(), options.rewriting("mark")
    assert (signal.family, signal.mux, signal.transport, signal.set_label) == (6, ("demux",), "RTP/SAVP", "x")
    assert (signal.reset, signal.new_branch, signal.provisional) == (True, True, False)
    assert (signal.controller, signal.direction) == ("192.0.2.250", ("a", "b"))
    assert (rewriting.media_address, rewriting.loop_mark, rewriting.call_id) == ("192.0.2.7", "mark", "c")
    assert parse_options({}).rewriting("mark").loop_mark is None


@pytest.mark.parametrize(
    ("body", "provisional"),
    [({"sip-code": 183}, True), ({"sip-code": "200"}, False), ({"flags": ["provisional"], "sip-code": 200}, True)],
)
def test_which_answers_are_final(body: dict[str, Any], provisional: bool) -> None:
    assert parse_options(body).signal().provisional is provisional


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"ICE": "force"}, "ICE=force:"),
        ({"ICE": "force-relay"}, "ICE=force-relay:"),
        ({"flags": ["ICE-force"]}, "ICE=force:"),
        ({"flags": ["WebRTC"]}, "WebRTC:"),
        ({"flags": ["always-transcode"]}, "always-transcode:"),
        ({"codec": {"transcode": ["PCMU"]}}, "codec-transcode:"),
        ({"flags": ["codec-transcode-PCMU"]}, "codec-transcode:"),
        ({"flags": ["transcode-PCMU"]}, "codec-transcode:"),
        ({"codec": {"mask": ["PCMU"]}}, "codec-mask:"),
        ({"ptime": "30"}, "ptime:"),
        ({"record-call": "yes"}, "record-call:"),
        ({"flags": ["record call"]}, "record-call:"),
        ({"T.38": ["decode"]}, "T.38:"),
        ({"flags": ["T38-decode"]}, "T.38:"),
        ({"generate RTCP": "on"}, "generate-RTCP:"),
        ({"repacketize": 20}, "repacketize:"),
        ({"flags": ["OSRTP-offer"]}, "OSRTP:"),
        ({"bundle": ["offer"]}, "bundle:"),
        ({"flags": ["NAT-wait"]}, "NAT-wait:"),
        ({"DTMF-security": "drop"}, "DTMF-security:"),
        ({"sdp-attr": {"audio": {"add": ["x"]}}}, "sdp-attr:"),
        ({"media-address": "here"}, "media-address here is not an IP address:"),
        ({"address-family": "IP5"}, "address-family IP5 is neither IP4 nor IP6:"),
        ({"transport-protocol": "RTP/XYZ"}, "transport-protocol RTP/XYZ is not known:"),
        ({"TOS": "9" * 5000}, f"TOS {'9' * 64} cannot be read as a number:"),
        ({"TOS": "EF"}, "TOS EF cannot be read as a number:"),
        ({"delete-delay": "soon"}, "delete-delay soon cannot be read as a number:"),
        ({"endpoint-learning": "sometimes"}, "endpoint-learning sometimes is not known:"),
    ],
)
def test_what_is_not_done_here_has_one_sentence(body: dict[str, Any], word: str) -> None:
    (text,) = parse_options(body).unserved
    assert text.startswith(word + " ")
    assert parse_options(body).ignored == 0


@pytest.mark.parametrize(
    "body",
    [
        {"SDES": ["off"]},
        {"SDES": "no-AES_CM_128_HMAC_SHA1_80"},
        {"flags": ["SDES-off"]},
        {"DTLS": "passive"},
        {"DTLS-fingerprint": "SHA-256"},
        {"flags": ["pad-crypto"]},
    ],
)
def test_what_concerns_keys_is_told_where_media_is_secured(body: dict[str, Any]) -> None:
    options = parse_options(body)
    assert (len(options.unserved_keys), options.unserved, options.ignored) == (1, (), 0)


@pytest.mark.parametrize(
    "body",
    [{"record-call": "no"}, {"record-call": "off"}, {"generate-RTCP": "off"}, {"repacketize": 0}, {"ptime": 0}],
)
def test_who_asks_for_nothing_is_told_nothing(body: dict[str, Any]) -> None:
    assert changed(body) == {}


def test_the_same_sentence_is_said_once() -> None:
    assert len(parse_options({"ICE": "force", "flags": ["ICE-force", "ICE_force"]}).unserved) == 1


def test_webrtc_is_what_can_be_had_of_it() -> None:
    assert changed({"flags": ["WebRTC"]}).keys() == {"transport", "mux", "rtcp_attribute", "wishes", "unserved"}


def test_one_string_of_flags_says_the_same_as_keys() -> None:
    text = (
        "trust-address replace=origin replace=[session-connection SDP-version] ICE=remove codec=[strip=[G729] "
        "offer=[PCMA PCMU]] direction=in direction=out RTP AVPF rtcp-mux-demux TOS=184 label=l1 strict-source"
    )
    assert changed({"rtpp-flags": text}) == {
        "replace_origin": True,
        "remove_ice": True,
        "wishes": BodyWishes(codecs=CodecWishes(strip=("G729",), offer=("PCMA", "PCMU")), version=True),
        "direction": ("in", "out"),
        "transport": "RTP/AVPF",
        "mux": ("demux",),
        "tos": 184,
        "label": "l1",
        "strict_source": True,
        "sip_source": False,
    }


def test_a_string_of_flags_holds_no_other() -> None:
    assert changed({"rtpp-flags": "rtpp-flags=strict-source rtpp_flags=[fast]"}) == {}


def test_lists_are_bounded() -> None:
    options = parse_options({"codec": {"strip": ["x" * 9999] * 999}})
    assert options.wishes is not None
    assert options.wishes.codecs is not None
    assert sum(map(len, options.wishes.codecs.strip)) <= 64 * 128


ORDINARY_KEYS = [
    "call-id", "from-tag", "to-tag", "via-branch", "label", "from-label", "to-label", "set-label", "address",
    "sip-message-type", "sip-code", "template", "sdp", "ICE", "transport-protocol", "address-family",
    "media-address", "TOS", "ptime", "DTLS", "DTLS-reverse", "delete-delay", "endpoint-learning", "record-call",
    "generate-RTCP", "xmlrpc-callback", "metadata", "from-interface", "to-interface", "interface",
]  # fmt: skip
ORDINARY_FLAGS = [
    "trust-address", "symmetric", "asymmetric", "SIP-source-address", "loop-protect", "strict-source",
    "media-handover", "fragment", "to-tag", "directional", "port-latching", "no-port-latching", "no-rtcp-attribute",
    "full-rtcp-attribute", "original-sendrecv", "generate-mid", "strip-extmap", "single-codec", "reorder-codecs",
    "reuse-codecs", "static-codecs", "allow-asymmetric-codecs", "NAT-wait", "pierce-NAT", "unidirectional",
    "no-redis-update", "reset", "fatal", "fast", "full", "all", "record-call", "trickle-ICE", "reject-ICE",
    "WebRTC", "debug", "provisional", "new-branch", "no-tls-id", "recrypt", "pad-crypto", "replace-origin",
    "replace-session-connection", "replace-origin-full", "replace-username", "replace-session-name",
    "replace-SDP-version", "replace-force-increment-sdp-ver", "replace-zero-address", "rtcp-mux-offer",
    "rtcp-mux-require", "rtcp-mux-demux", "rtcp-mux-accept", "rtcp-mux-reject", "ICE-remove", "ICE-force",
    "ICE-default", "ICE-optional", "ICE-force-relay", "SDES-off", "SDES-nonew", "SDES-only-AES_CM_128_HMAC_SHA1_80",
    "OSRTP-accept", "codec-strip-G729", "codec-offer-PCMA", "codec-except-PCMA", "codec-mask-PCMA",
    "codec-transcode-PCMA", "codec-accept-PCMA", "codec-consume-PCMA", "codec-ignore-PCMA", "codec-set-opus",
    "endpoint-learning-delayed", "endpoint-learning-immediate", "endpoint-learning-off",
    "endpoint-learning-heuristic", "RTP", "SRTP", "AVP", "AVPF", "DTLS", "RTP/AVP", "RTP/SAVP", "RTP/AVPF",
    "RTP/SAVPF", "UDP/TLS/RTP/SAVP", "internal",
]  # fmt: skip


@pytest.mark.parametrize("key", ORDINARY_KEYS)
def test_a_key_of_ordinary_deployments_is_known(key: str) -> None:
    value = {"ICE": "default", "endpoint-learning": "off"}.get(key, "4")
    for spelling in (key, key.replace("-", " "), key.replace("-", "_")):
        assert parse_options({spelling: value}).ignored == 0
        assert parse_options({"rtpp-flags": f"{key}={value}"}).ignored == 0


@pytest.mark.parametrize("flag", ORDINARY_FLAGS)
def test_a_flag_of_ordinary_deployments_is_known(flag: str) -> None:
    for spelling in (flag, flag.replace("-", " ", 1)):
        assert parse_options({"flags": [spelling]}).ignored == 0
    assert changed({"rtpp-flags": flag}) == changed({"flags": [flag]})


def test_a_flag_with_a_long_value_keeps_all_of_it() -> None:
    url = "http://192.0.2.7/" + "x" * 300
    assert changed({"flags": [f"xmlrpc-callback={url}"]})["callback"] == url


@pytest.mark.parametrize("key", ["flags=", "rtpp-flags=", "rtpp-flags=flags="])
@pytest.mark.parametrize("body", ["flags", "rtpp-flags"])
def test_flags_in_flags_in_flags_mean_nothing(body: str, key: str) -> None:
    assert parse_options({body: key * 3000 + "strict-source"}).strict_source is False


def test_no_request_makes_a_reply_of_warnings_without_end() -> None:
    assert len(changed({"flags": [f"media-address=host{number}" for number in range(3000)]})["unserved"]) == 32
