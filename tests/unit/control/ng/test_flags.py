"""Keys and flags in all their spellings."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest

from control.ng.flags import Options, parse_options
from control.sdp.model import RtcpAttribute
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
        ({"TOS": 184}, {"tos": 184}),
        ({"TOS": "184"}, {"tos": 184}),
        ({"tos": -1}, {"tos": -1}),
        ({"delete delay": 0}, {"delete_delay": 0}),
        ({"delete-delay": "5"}, {"delete_delay": 5}),
        ({"sip-code": "200"}, {"sip_code": 200}),
        ({"limit": 3}, {"limit": 3}),
        ({"flags": ["strict-source", "media handover"]}, {"strict_source": True, "media_handover": True}),
        ({"flags": "port_latching"}, {"port_latching": True}),
        ({"flags": ["asymmetric", "trust-address"]}, {"asymmetric": True}),
        ({"flags": ["trust-address", "SIP-source-address"]}, {"sip_source": True}),
        ({"flags": ["SIP-source-address", "trust address"]}, {}),
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
        ({"flags": ["xyzzy", "strict-source", "loop-protect"]}, 2),
        ({"codec": {"strip": ["G729"]}, "rtcp-mux": ["demux"]}, 2),
        ({"ICE": "force"}, 1),
        ({"supports": ["teleport"]}, 1),
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
        {"TOS": "high"},
        {"TOS": [184]},
        {"TOS": "9" * 5000},
        {"flags": 7},
        {"flags": {"strict-source": 1}},
        {"flags": []},
        {"received-from": ["IP4", "not an address"]},
        {"received-from": 4},
        {"received-from": "0" * 60_000},
        {"direction": 1},
        {"endpoint-learning": "sometimes"},
        {"transport-protocol": ["RTP/AVP"]},
        {"delete-delay": "soon"},
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
