"""Codecs taken out of an offer or an answer: what is left is what both parties speak, since nothing is transcoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from control.sdp.model import CodecWishes, MediaSection, SessionDescription
from control.sdp.parse import STATIC_PAYLOAD_TYPES

__all__ = ["restrict"]

SUPPLEMENTAL = frozenset({"telephone-event", "cn", "red", "rtx", "ulpfec"})
"""Encodings that accompany another one, and cannot carry a call alone."""
EVERYTHING = frozenset({"all", "full"})


class _Format(NamedTuple):
    """One payload type of an m-line."""

    number: str
    encoding: str
    names: frozenset[str]
    """All that a wish may call it."""
    clock: str


def restrict(session: SessionDescription, wishes: CodecWishes, answer: bool) -> list[str]:
    """Take out of all RTP sections what `wishes` say; returns what to warn of.

    A section that would have no codec left keeps all.
    """
    warnings = []
    for number, section in enumerate(session.media, 1):
        if not section.is_rtp or not section.port:
            continue
        formats = [_format(section, text) for text in dict.fromkeys(section.formats)]
        left = _kept(formats, wishes)
        if wishes.single and answer:
            left = _single(left)
        left = _with_their_codec(section, left)
        if any(one.encoding not in SUPPLEMENTAL for one in left):
            section.formats = [one.number for one in left]
        elif len(left) < len(formats):
            warnings.append(f"media {number}: no codec would be left, so all stay")
    return warnings


def _format(section: MediaSection, number: str) -> _Format:
    rtpmaps = section.attributes.rtpmaps.get(number)
    if rtpmaps:
        text = rtpmaps[0].partition(" ")[2].strip().lower()
    else:
        static = STATIC_PAYLOAD_TYPES.get(number)
        text = f"{static.encoding}/{static.clock}".lower() if static is not None else ""
    encoding, _, rest = text.partition("/")
    clock, _, channels = rest.partition("/")
    names = {encoding, f"{encoding}/{clock}", f"{encoding}/{clock}/{channels or 1}"} if encoding else set()
    names |= {f"{name}///{parameters}" for name in names for parameters in _parameters(section, number)}
    return _Format(number, encoding, frozenset(names), clock)


def _parameters(section: MediaSection, number: str) -> list[str]:
    """The format parameters of a payload type, in lower case."""
    details = section.attributes.details.get(number, ())
    return [line.partition(" ")[2].strip().lower() for line in details if line.startswith("a=fmtp:")]


def _kept(formats: Sequence[_Format], wishes: CodecWishes) -> list[_Format]:
    """What stays, in its order, with what is offered again behind it."""
    out = _folded(wishes.strip) | _folded(wishes.mask)
    keep = _folded(wishes.keep)
    everything = not out.isdisjoint(EVERYTHING)
    kept: list[_Format] = []
    gone: list[_Format] = []
    for one in formats:
        stays = not (everything or not out.isdisjoint(one.names)) or not keep.isdisjoint(one.names)
        (kept if stays else gone).append(one)
    again: dict[str, _Format] = {}
    for name in wishes.offer:
        again.update((one.number, one) for one in gone if _plain(name) in one.names)
    return kept + sorted(again.values(), key=_accompanies)


def _accompanies(one: _Format) -> bool:
    return one.encoding in SUPPLEMENTAL


def _single(formats: Sequence[_Format]) -> list[_Format]:
    """The first codec, and of what goes with codecs that of its clock."""
    first = next((one for one in formats if not _accompanies(one)), None)
    if first is None:
        return list(formats)
    return [one for one in formats if one is first or (_accompanies(one) and one.clock == first.clock)]


def _with_their_codec(section: MediaSection, formats: Sequence[_Format]) -> list[_Format]:
    """Without retransmissions of codecs that are gone (a=fmtp apt=, RFC 4588 section 8.1)."""
    present = {one.number for one in formats}
    return [one for one in formats if one.encoding != "rtx" or _apt(section, one.number) in present]


def _apt(section: MediaSection, number: str) -> str:
    for parameters in _parameters(section, number):
        for parameter in parameters.split(";"):
            name, _, value = parameter.strip().partition("=")
            if name == "apt":
                return value
    return ""


def _folded(names: Sequence[str]) -> frozenset[str]:
    return frozenset(map(_plain, names))


def _plain(name: str) -> str:
    """A wish as `_Format.names` has it: without a bit rate, packet time, or empty parts at its end."""
    parts = name.lower().split("/", 5)
    plain = "/".join(parts[:3]).rstrip("/")
    return f"{plain}///{parts[5]}" if len(parts) > 5 and parts[5] else plain
