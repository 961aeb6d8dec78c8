"""What a word or a value of a request does to its options: acts for words, takers for the values of keys.

A taker puts the value of one key into the options and says whether it meant anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from control.ng.options import Options
from control.sdp.model import BodyWishes, CodecWishes
from relay.types import Learning

Act = Callable[[Options], None]
Taker = Callable[[Options, Any], bool]

MAX_WORD = 128
"""Characters of a codec's name or an address that are looked at, and of a flag that is remembered."""
MAX_TOLD = 64
"""Characters of a value that a warning repeats."""
MAX_WORDS = 64
"""Codecs in one list."""
MAX_WARNINGS = 32
"""Sentences in one reply; some repeat a value of the request, of which it may hold thousands."""
MAX_NUMBER = (1 << 31) - 1
"""Beyond it all numbers mean the same, and neither times nor sizes can be computed from what JSON can write."""
MAX_PTIME = 1000
"""Milliseconds in a packet."""

NO = frozenset({"no", "off", "0", "false", "disable", "stop", ""})
FAMILIES = {"ip4": 4, "ipv4": 4, "4": 4, "ip6": 6, "ipv6": 6, "6": 6}
LEARNING = {mode.value: mode for mode in Learning}
PROFILES = (
    "RTP/AVP",
    "RTP/SAVP",
    "RTP/AVPF",
    "RTP/SAVPF",
    "UDP/TLS/RTP/SAVP",
    "UDP/TLS/RTP/SAVP",
    "UDP/TLS/RTP/SAVPF",
    "UDP/TLS/RTP/SAVPF",
)
"""By bits: 1 secured, 2 with feedback, 4 keyed by DTLS (which is always secured)."""


def plain(text: str) -> str:
    """One spelling for all: lower case, hyphens between words."""
    return text.lower().replace(" ", "-").replace("_", "-")


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


# -- acts


def nothing(options: Options) -> None:
    """What changes nothing here."""


def switch(field: str, value: object = True) -> Act:
    def act(options: Options) -> None:
        setattr(options, field, value)

    return act


def wish(**fields: Any) -> Act:
    """Ask something of the outgoing body."""

    def act(options: Options) -> None:
        options.wishes = (options.wishes or BodyWishes())._replace(**fields)

    return act


def warn(text: str) -> Act:
    """Say in the reply what is not done."""

    def act(options: Options) -> None:
        if len(options.unserved) < MAX_WARNINGS and text not in options.unserved:
            options.unserved += (text,)

    return act


def warn_of_keys(text: str) -> Act:
    """The same, where media is secured."""

    def act(options: Options) -> None:
        if text not in options.unserved_keys:
            options.unserved_keys += (text,)

    return act


def together(*acts: Act) -> Act:
    def act(options: Options) -> None:
        for one in acts:
            one(options)

    return act


def mux(word: str) -> Act:
    def act(options: Options) -> None:
        if word not in options.mux:
            options.mux += (word,)

    return act


def named_direction(name: str) -> Act:
    def act(options: Options) -> None:
        options.direction = (*options.direction, name)[:2]

    return act


def single_codec(options: Options) -> None:
    so_far = (options.wishes and options.wishes.codecs) or CodecWishes()
    wish(codecs=so_far._replace(single=True))(options)


def profile(on: int, off: int) -> Act:
    """Part of a transport protocol's name: what it sets, and what it takes away, of the part named before."""

    def act(options: Options) -> None:
        bits = PROFILES.index(options.transport) if options.transport in PROFILES else 0
        options.transport = PROFILES[(bits | on) & ~off]

    return act


# -- takers


def text(field: str) -> Taker:
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


def sdp(options: Options, value: object) -> bool:
    if isinstance(value, (str, bytes)):
        options.sdp = value
    return isinstance(value, (str, bytes))


def integer(field: str, name: str) -> Taker:
    """A number; what is none counts as absent, and the reply says so under the key's `name`."""

    def take(options: Options, value: object) -> bool:
        found = number(value)
        if found is None:
            if not isinstance(value, str) or not value:
                return False
            warn(f"{name} {value[:MAX_TOLD]} cannot be read as a number: it is passed over")(options)
            return True
        setattr(options, field, found)
        return True

    return take


def each(table: Mapping[str, Act]) -> Taker:
    """A list of words, each of which says something for itself; those that are not in the table are counted."""
    table = {**table, **{word.replace("-", " "): act for word, act in table.items()}}

    def take(options: Options, value: object) -> bool:
        found = words(value)
        for word in found:
            act = table.get(word) or table.get(plain(word))
            if act is not None:
                act(options)
            else:
                options.ignored += 1
        return bool(found)

    return take


def received_from(options: Options, value: object) -> bool:
    """`[IP4, address]`, or the address alone."""
    for word in words(value)[::-1]:
        ip = _address(word) if len(word) <= MAX_WORD else None
        if ip is not None:
            options.received_from = ip
            return True
    return False


def party_address(options: Options, value: object) -> bool:
    """The IP address of a party; what is none selects nobody, and is kept for the error to name."""
    if not isinstance(value, str) or not value:
        return False
    options.address = (_address(value) if len(value) <= MAX_WORD else None) or value[:MAX_WORD]
    return True


def media_address(options: Options, value: object) -> bool:
    for word in words(value)[:1]:
        options.media_address = _address(word) if len(word) <= MAX_WORD else None
        if options.media_address is None:
            warn(f"media-address {word[:MAX_TOLD]} is not an IP address: the relay's own is written")(options)
        return True
    return False


@lru_cache(maxsize=4096)
def _address(text: str) -> str | None:
    """An IP address in canonical text, None for anything else."""
    try:
        return str(ip_address(text)) if "%" not in text else None
    except ValueError:
        return None


def family(options: Options, value: object) -> bool:
    for word in words(value)[:1]:
        options.family = FAMILIES.get(plain(word), 0)
        if not options.family:
            warn(f"address-family {word[:MAX_TOLD]} is neither IP4 nor IP6: the sender's is used")(options)
        return True
    return False


def direction(options: Options, value: object) -> bool:
    """Both names in a list or, twice, one name; a third begins anew."""
    names = words(value)
    so_far = options.direction if len(options.direction) + len(names) <= 2 else ()
    options.direction = (*so_far, *names)[:2]
    return bool(names)


def interface(*places: int) -> Taker:
    """The name of the interface on one side or both."""

    def take(options: Options, value: object) -> bool:
        if not isinstance(value, str):
            return False
        names = [*options.direction, "", ""][:2]
        for place in places:
            names[place] = value
        options.direction = tuple(names) if names[1] else (names[0],)
        return True

    return take


def learning(options: Options, value: object) -> bool:
    for word in words(value):
        found = LEARNING.get(plain(word)) if len(word) <= MAX_WORD else None
        if found is None:
            warn(f"endpoint-learning {word[:MAX_TOLD]} is not known: {', '.join(LEARNING)} are")(options)
        options.learning = found or options.learning
    return bool(words(value))


def transport(table: Mapping[str, Act]) -> Taker:
    """A transport protocol by its name in lower case."""

    def take(options: Options, value: object) -> bool:
        if not isinstance(value, str):
            return False
        act = table.get(value.lower())
        if act is not None:
            act(options)
        elif value:
            warn(f"transport-protocol {value[:MAX_TOLD]} is not known: the sender's stays")(options)
        return True

    return take


def nested(table: Mapping[str, Taker]) -> Taker:
    """A dictionary with keys of its own."""

    def take(options: Options, value: object) -> bool:
        if not isinstance(value, dict):
            return False
        for key, inner in value.items():
            found = table.get(plain(key)) if isinstance(key, str) else None
            if found is None or not found(options, inner):
                options.ignored += 1
        return True

    return take


def codecs(field: str, warning: str = "") -> Taker:
    """A list of codecs for one of the wishes; without `field` only the warning."""

    def take(options: Options, value: object) -> bool:
        names = tuple(word.replace("--", "=").replace("..", " ")[:MAX_WORD] for word in words(value) if word)
        if not names:
            return False
        if field:
            so_far = (options.wishes and options.wishes.codecs) or CodecWishes()
            fields: dict[str, Any] = {field: (*getattr(so_far, field), *names)[:MAX_WORDS]}
            wish(codecs=so_far._replace(**fields))(options)
        if warning:
            warn(warning)(options)
        return True

    return take


def ptime(options: Options, value: object) -> bool:
    found = number(value)
    if found is None or not 0 <= found <= MAX_PTIME:
        return False
    if found:
        wish(ptime=found)(options)
        warn("ptime: the line is written, packets pass as they come")(options)
    return True


def asked(act: Act) -> Taker:
    """A key that asks for something, unless it says no."""

    def take(options: Options, value: object) -> bool:
        if not (isinstance(value, str) and value.lower() in NO) and value != 0:
            act(options)
        return True

    return take


def always(act: Act) -> Taker:
    def take(options: Options, value: object) -> bool:
        act(options)
        return True

    return take


def known(options: Options, value: object) -> bool:
    """A key that is read elsewhere, or changes nothing here."""
    return True
