"""A request's keys and flags as typed options.

Controllers spell the same thing in many ways: a space, hyphen or underscore between words, an integer as a string, a
string where a list is meant, a flag `replace-origin` for an entry of a list `replace`. All of them end here. What is
unknown, or belongs to a feature that is not there, is counted and otherwise ignored: the same flags come with every
command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from control.sdp.model import RewriteOptions, RtcpAttribute
from relay.call import DEFAULT_TOS, Signal
from relay.types import Learning

__all__ = ["Options", "parse_options"]


class Options:
    """What one request asks for. Identification first, then what concerns media, then what concerns the reply.

    Few of them are given in any one request: the rest are the class's own, so that none is stored for each request.
    """

    sdp: str | bytes | None = None
    call_id: str | None = None
    from_tag: str | None = None
    to_tag: str | None = None
    via_branch: str | None = None
    label: str | None = None
    to_label: str | None = None
    address: str | None = None
    """IP address of a party's media or signalling, by which a command selects it."""
    whole_call: bool = False
    """A command concerns all parties, whoever is named (`all`)."""
    received_from: str | None = None
    """IP address the SIP message came from."""
    sip_code: int | None = None
    load_limit: bool = False
    """The controller understands `result: "load limit"` (`supports`)."""
    direction: tuple[str, ...] = ()
    tos: int = DEFAULT_TOS
    learning: Learning | None = None
    strict_source: bool = False
    media_handover: bool = False
    asymmetric: bool = False
    port_latching: bool = False
    sip_source: bool = False
    transport: str | None = None
    """`transport-protocol`, to be compared with what the SDP has."""
    delete_delay: int | None = None
    match_to_tag: bool = False
    """A delete goes by the to-tag (flag `to-tag`)."""
    fast: bool = False
    """A delete is answered without counters."""
    full: bool = False
    """A report may be as long as a datagram can be."""
    limit: int = 32
    """Of a list."""
    replace_origin: bool = False
    zero_address: bool = False
    remove_ice: bool = False
    original_direction: bool = False
    rtcp_attribute: RtcpAttribute = RtcpAttribute.PORT
    ignored: int = 0
    """Keys and flags that meant nothing here."""

    def signal(self) -> Signal:
        """The part that concerns the media engine."""
        return Signal(
            self.received_from,
            self.sip_source,
            self.tos,
            self.strict_source,
            self.media_handover,
            self.asymmetric,
            self.port_latching,
            self.learning,
            self.direction,
            self.via_branch,
            self.label,
        )

    def rewriting(self) -> RewriteOptions:
        """The part that concerns the outgoing SDP."""
        return RewriteOptions(
            self.replace_origin,
            self.rtcp_attribute,
            self.original_direction,
            self.remove_ice,
            self.zero_address,
        )


def parse_options(body: Mapping[str, Any]) -> Options:
    """Read a request. Raises nothing: a value of a wrong kind counts as absent."""
    options = Options()
    for key, value in body.items():
        if key in _WORDS and type(value) is str:  # most of every request, so without a taker
            if value:
                setattr(options, _WORDS[key], value)
            continue
        take = _KEYS.get(key) or _KEYS.get(_plain(key))
        if take is None or not take(options, value):
            options.ignored += 1
    return options


def _plain(text: str) -> str:
    """One spelling for all: lower case, hyphens between words."""
    return text.lower().replace(" ", "-").replace("_", "-")


MAX_ADDRESS = 64
"""Characters of an address that is looked at, and remembered."""
MAX_NUMBER = (1 << 31) - 1
"""Beyond it all numbers mean the same, and neither times nor sizes can be computed from what JSON can write."""


def number(value: object) -> int | None:
    """An integer, also when it was sent as text; one that is out of all proportion is cut to MAX_NUMBER."""
    if isinstance(value, str) and len(value) < 20:
        try:
            value = int(value)
        except ValueError:
            return None
    return max(-MAX_NUMBER, min(int(value), MAX_NUMBER)) if isinstance(value, int) else None


def words(value: object) -> list[str]:
    """A list of strings, also when one string was sent for it."""
    if type(value) is list:
        return [item for item in value if type(item) is str]
    return [value] if isinstance(value, str) else []


# -- takers: each puts one key's value into the options and says whether it meant anything

Taker = Callable[[Options, Any], bool]


def _text(field: str) -> Taker:
    """A word; an empty one counts as absent."""

    def take(options: Options, value: object) -> bool:
        if isinstance(value, int):
            value = str(value)
        if not isinstance(value, str):
            return False
        if value:
            setattr(options, field, value)
        return True

    return take


def _sdp(options: Options, value: object) -> bool:
    if isinstance(value, (str, bytes)):
        options.sdp = value
    return isinstance(value, (str, bytes))


def _integer(field: str) -> Taker:
    def take(options: Options, value: object) -> bool:
        found = number(value)
        if found is None:
            return False
        setattr(options, field, found)
        return True

    return take


def _switch(field: str, value: object = True) -> Callable[[Options], None]:
    def take(options: Options) -> None:
        setattr(options, field, value)

    return take


def _each(table: Mapping[str, Callable[[Options], None]]) -> Taker:
    """A list of words, each of which says something for itself; those that are not in the table are counted."""
    table = {**table, **{word.replace("-", " "): act for word, act in table.items()}}

    def take(options: Options, value: object) -> bool:
        found = words(value)
        for word in found:
            act = table.get(word) or table.get(_plain(word))
            if act is not None:
                act(options)
            else:
                options.ignored += 1
        return bool(found)

    return take


def _received_from(options: Options, value: object) -> bool:
    """`[IP4, address]`, or the address alone."""
    for word in words(value)[::-1]:
        ip = _address(word) if len(word) <= MAX_ADDRESS else None
        if ip is not None:
            options.received_from = ip
            return True
    return False


def _media_address(options: Options, value: object) -> bool:
    """The IP address of a party; what is none selects nobody, and is kept for the error to name."""
    if not isinstance(value, str) or not value:
        return False
    options.address = (_address(value) if len(value) <= MAX_ADDRESS else None) or value[:MAX_ADDRESS]
    return True


@lru_cache(maxsize=4096)
def _address(text: str) -> str | None:
    """An IP address in canonical text, None for anything else."""
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def _direction(options: Options, value: object) -> bool:
    options.direction = (*options.direction, *words(value))[:2]
    return bool(options.direction)


def _learning(options: Options, value: object) -> bool:
    for word in words(value):
        options.learning = _LEARNING.get(_plain(word), options.learning)
    return options.learning is not None


def _transport(options: Options, value: object) -> bool:
    if not isinstance(value, str) or _plain(value) == "accept":
        return False
    options.transport = value
    return True


def _known(options: Options, value: object) -> bool:
    """A key that is read elsewhere, or changes nothing here."""
    return True


_LEARNING = {mode.value: mode for mode in Learning}
_REPLACE: dict[str, Callable[[Options], None]] = {
    "origin": _switch("replace_origin"),
    "session-connection": lambda options: None,
    "zero-address": _switch("zero_address"),
}
_ICE: dict[str, Callable[[Options], None]] = {"remove": _switch("remove_ice"), "default": lambda options: None}
_FLAGS: dict[str, Callable[[Options], None]] = {
    "strict-source": _switch("strict_source"),
    "media-handover": _switch("media_handover"),
    "asymmetric": _switch("asymmetric"),
    "symmetric": lambda options: None,
    "port-latching": _switch("port_latching"),
    "no-port-latching": _switch("port_latching", False),
    "trust-address": _switch("sip_source", False),
    "sip-source-address": _switch("sip_source"),
    "no-rtcp-attribute": _switch("rtcp_attribute", RtcpAttribute.NONE),
    "full-rtcp-attribute": _switch("rtcp_attribute", RtcpAttribute.FULL),
    "original-sendrecv": _switch("original_direction"),
    "to-tag": _switch("match_to_tag"),
    "fast": _switch("fast"),
    "full": _switch("full"),
    "all": _switch("whole_call"),
    "directional": lambda options: None,
    **{f"replace-{word}": act for word, act in _REPLACE.items()},
    **{f"ice-{word}": act for word, act in _ICE.items()},
    **{f"endpoint-learning-{word}": _switch("learning", mode) for word, mode in _LEARNING.items()},
}
_WORDS = {
    "call-id": "call_id",
    "from-tag": "from_tag",
    "to-tag": "to_tag",
    "via-branch": "via_branch",
    "label": "label",
    "from-label": "label",
    "to-label": "to_label",
}
_KEYS: dict[str, Taker] = {
    "command": _known,
    "sdp": _sdp,
    **{key: _text(field) for key, field in _WORDS.items()},
    "received-from": _received_from,
    "sip-message-type": _known,
    "sip-code": _integer("sip_code"),
    "supports": _each({"load-limit": _switch("load_limit")}),
    "flags": _each(_FLAGS),
    "replace": _each(_REPLACE),
    "ice": _each(_ICE),
    "direction": _direction,
    "tos": _integer("tos"),
    "endpoint-learning": _learning,
    "transport-protocol": _transport,
    "delete-delay": _integer("delete_delay"),
    "limit": _integer("limit"),
    "address": _media_address,
    "all": _each({"all": _switch("whole_call"), "none": lambda options: None}),
}
