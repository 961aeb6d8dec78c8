"""A relay's replies in words that do not depend on its address and its choice of ports.

Ignored are ids in o=, numbers of ports, times, and what is random: ICE credentials, foundations, and the relay's mark.
A port is named by whom it was shown to and as the how manieth one, so that the same port is the same again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.interop.differential.comparison import SOME

Told = dict[str, Any]

NOT_FOUND = "Call-ID not found or tags didn't match"
TIMES = ("created", "created_us", "created_ts", "last signal", "last redis update", "last packet")
"""Numbers in reports that depend on when they were asked for."""
ENDPOINTS = ("local address", "local port", "endpoint", "advertised endpoint")
DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
PER_FORMAT = ("rtpmap", "fmtp", "rtcp-fb")
IGNORED = ("ice-ufrag", "ice-pwd")
MADE = ("crypto", "fingerprint", "tls-id", "rtpengine")
"""Attributes of which is told whether the sender wrote their value, or the relay."""


class Telling:
    """Tells the replies of one relay in one conversation."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._addresses = addresses
        self._ports: dict[tuple[str, int], str] = {}
        self._shown: dict[str, int] = {}
        """How many ports were seen first in a place."""
        self._versions: dict[str, int] = {}
        """In the o= line that each party was sent last."""

    def tell(self, request: Mapping[str, Any], reply: Mapping[str, Any]) -> Told:
        told: Told = {}
        for key, value in reply.items():
            if key == "warning":
                told[key] = value if value == NOT_FOUND else SOME
            elif key == "sdp":
                told[key] = self._body(request, value)
            elif key == "tags":
                names = _names(value)
                told[key] = {names[tag]: self._leg(names[tag], leg) for tag, leg in value.items()}
            elif key == "calls":
                told[key] = "names" if all(isinstance(one, str) for one in value) else "what?"
            else:
                told[key] = _plain(key, value)
        return told

    # -- bodies

    def _body(self, request: Mapping[str, Any], text: str) -> Told:
        if text == request.get("sdp"):
            return {"body": "the sender's, untouched"}
        tag = str(request.get("from-tag", ""))
        place = tag if request.get("command") == "answer" else f"not {tag}"
        session, *sections = text.replace("\r\n", "\n").split("\nm=")
        lines = session.split("\n")
        sent = str(request.get("sdp", ""))
        told: Told = {"origin": self._origin(place, sent, lines)}
        kept = [line for line in lines if line[:2] not in ("v=", "o=", "c=") and line[2:] not in DIRECTIONS]
        told["session"] = {_line(line, sent): True for line in kept if line}
        default = _value(lines, "c=")
        way = _direction(lines) or "sendrecv"
        told["media"] = {
            str(number): self._section(f"{place}, media {number}", section, sent, default, way)
            for number, section in enumerate(sections, 1)
        }
        return told

    def _origin(self, place: str, sent: str, lines: Sequence[str]) -> Told:
        fields = _value(lines, "o=").rsplit(" ", 5)
        theirs = _value(sent.replace("\r\n", "\n").split("\n"), "o=").rsplit(" ", 5)
        if len(fields) != 6:
            return {"line": "none"}
        told: Told = {"user": fields[0], "family": fields[4], "address": self._address(fields[5])}
        told["id"] = "the sender's" if len(theirs) == 6 and fields[1] == theirs[1] else "another"
        version, before = int(fields[2]), self._versions.get(place)
        told["version"] = "the sender's" if len(theirs) == 6 and fields[2] == theirs[2] else "another"
        told["version since"] = "first" if before is None else version - before
        self._versions[place] = version
        return told

    def _section(self, place: str, section: str, sent: str, default: str, way: str) -> Told:
        first, *lines = section.strip("\n").split("\n")
        kind, port, protocol, *formats = first.split()
        told: Told = {"kind": kind, "protocol": protocol, "formats": " ".join(formats)}
        told["lines"] = dict.fromkeys(_other_lines(lines, sent), True)
        told["by format"] = _by_format(lines)
        told["port"] = "rejected"
        if port != "0":
            where = self._address((_value(lines, "c=") or default).split(" ")[-1])
            number = int(port)
            told["address"] = where
            told["port"] = self._port(place, where, number)
            told["direction"] = _direction(lines) or way
            told["mux"] = "a=rtcp-mux" in lines
            told["even"] = "either" if told["mux"] else number % 2 == 0
            told["rtcp"] = self._rtcp(_value(lines, "a=rtcp:"), number)
            told["candidates"] = dict(self._candidates(lines, where, number))
        return told

    def _rtcp(self, value: str, port: int) -> str:
        """How far RTCP is from RTP, and where if that is said."""
        fields = value.split()
        where = f" at {self._address(fields[3])}" if len(fields) == 4 else ""
        return f"+{int(fields[0]) - port if fields else 1}{where}"

    def _candidates(self, lines: Sequence[str], where: str, port: int) -> Iterator[tuple[str, str]]:
        """Component and address of each, and how far its port is from that of the m-line."""
        for line in lines:
            if line.startswith("a=candidate:"):
                _, component, transport, priority, address, number, *rest = line.split()
                place = self._address(address)
                offset = int(number) - port
                far = f"+{offset}" if place == where and offset in (0, 1) else "elsewhere"
                yield f"{component} {place}", " ".join((transport, priority, far, *rest))

    def _address(self, text: str) -> str:
        """The relay's address by its name, any other one as it is."""
        return self._addresses.get(text, text)

    def _port(self, place: str, where: str, number: int) -> str:
        known = self._ports.get((where, number))
        if known is None:
            self._shown[place] = count = self._shown.get(place, 0) + 1
            known = self._ports[where, number] = f"{place}: port {count}"
        return known

    # -- reports

    def _leg(self, name: str, leg: Mapping[str, Any]) -> Told:
        told = {key: _plain(key, value) for key, value in leg.items() if key != "medias"}
        told["medias"] = {str(media["index"]): self._media(name, media) for media in leg["medias"]}
        return told

    def _media(self, name: str, media: Mapping[str, Any]) -> Told:
        told = {key: _plain(key, value) for key, value in media.items() if key != "streams"}
        place = f"{name}, media {media['index']}, unseen"
        told["streams"] = {_carried(stream["flags"]): self._stream(place, stream) for stream in media["streams"]}
        return told

    def _stream(self, place: str, stream: Mapping[str, Any]) -> Told:
        told = {key: _plain(key, value) for key, value in stream.items() if key not in ENDPOINTS}
        where = self._address(stream.get("local address", "nowhere"))
        told["local port"] = f"{where}, {self._port(place, where, stream.get('local port', 0))}"
        for key in ("endpoint", "advertised endpoint"):
            one = stream[key]
            told[key] = f"{one['family']} {one['address']} {one['port']}" if one else "unknown"
        return told


def _plain(key: str, value: object) -> object:
    """Reports are told with their numbers, but for times; lists of words without their order."""
    if key in TIMES:
        return type(value).__name__
    if isinstance(value, dict):
        return {inner: _plain(inner, one) for inner, one in value.items()}
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return dict.fromkeys(value, True)
    if isinstance(value, list):
        return {str(number): _plain("", one) for number, one in enumerate(value, 1)}
    return value


def _names(tags: Mapping[str, Any]) -> dict[str, str]:
    """How parties are called: by their tags, those without one by their branch or their order."""
    untagged = [tag for tag, leg in tags.items() if not leg["tag"]]
    names = {tag: f"untagged {tags[tag].get('via-branch', number)}" for number, tag in enumerate(untagged, 1)}
    return {tag: names.get(tag, tag) for tag in tags}


def _carried(flags: Sequence[str]) -> str:
    return " and ".join(word for word in ("RTP", "RTCP") if word in flags)


def _value(lines: Sequence[str], start: str) -> str:
    return next((line.removeprefix(start) for line in lines if line.startswith(start)), "")


def _direction(lines: Sequence[str]) -> str:
    return next((line[2:] for line in lines if line[2:] in DIRECTIONS), "")


def _line(line: str, sent: str) -> str:
    """A line of its own, without what is random in it."""
    name = line[2:].partition(":")[0]
    if name in IGNORED:
        return f"a={name}"
    if name in MADE:
        return f"a={name} {'sent' if line in sent else 'made'}"
    return line


def _other_lines(lines: Sequence[str], sent: str) -> Iterator[str]:
    """What is not told by itself, whatever its order."""
    for line in lines:
        name = line[2:].partition(":")[0]
        apart = line.startswith("a=") and name in (*PER_FORMAT, *DIRECTIONS, "rtcp", "rtcp-mux", "candidate")
        if not apart and not line.startswith("c="):
            yield _line(line, sent)


def _by_format(lines: Sequence[str]) -> Told:
    told: Told = {}
    for line in lines:
        name, _, value = line[2:].partition(":")
        if line.startswith("a=") and name in PER_FORMAT:
            number, _, rest = value.partition(" ")
            if name == "rtpmap" and rest.count("/") == 2:
                rest = rest.removesuffix("/1")
            told.setdefault(number, {})[f"{name} {rest}"] = True
    return told
