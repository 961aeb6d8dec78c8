"""What an SDP body owes to those before it: its version, its origin, and what an answer takes from its offer."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from control.sdp.attributes import attributes
from control.sdp.codecs import restrict
from control.sdp.model import BodyWishes, MediaSection, Origin, SessionDescription

__all__ = ["Memory", "adapt", "carry_over", "offered", "pin", "versioned"]

MAX_KEPT = 128
"""Characters of a name that is remembered; a longer one is nobody's, and passes as it comes."""
MAX_DIGITS = 20
"""Of a version: 64 bits (RFC 8866 section 5.2)."""


class Memory:
    """What is remembered of the bodies one party sent and was sent."""

    __slots__ = ("digest", "mids", "name", "ptimes", "session_id", "username", "version")

    def __init__(self) -> None:
        self.mids: tuple[str | None, ...] = ()
        """a=mid of each m-line of its last offer."""
        self.ptimes: tuple[str | None, ...] = ()
        """a=ptime of them."""
        self.username: str | None = None
        """In o= of the first body it was sent, and so in all later ones where that is asked for; so the next two."""
        self.session_id: str | None = None
        self.name: str | None = None
        self.version: int | None = None
        """In o= of the last body it was sent, where the relay has charge of it; and what that body was."""
        self.digest = b""


def offered(session: SessionDescription, memory: Memory | None) -> Memory | None:
    """Remember of an offer what its answer depends on, if it says anything of it."""
    mids = tuple([section.attributes.mid for section in session.media])
    ptimes = tuple([section.attributes.ptime for section in session.media])
    if memory is None:
        if not any(mids) and not any(ptimes):
            return None
        memory = Memory()
    memory.mids, memory.ptimes = mids, ptimes
    return memory


def carry_over(session: SessionDescription, memory: Memory | None) -> None:
    """Give an answer the names its offer's m-lines have, and the packet time where it has none of its own."""
    lines = len(session.media)
    mids = memory.mids if memory is not None else ()
    ptimes = memory.ptimes if memory is not None else ()
    mids += (None,) * (lines - len(mids))
    ptimes += (None,) * (lines - len(ptimes))
    for section, mid, ptime in zip(session.media, mids, ptimes, strict=False):
        if section.attributes.mid != mid:
            _put(section, "mid", mid)
        if ptime is not None and section.is_rtp and "ptime" not in section.attributes.placed:
            _put(section, "ptime", ptime)


def adapt(session: SessionDescription, wishes: BodyWishes, answer: bool) -> list[str]:
    """Change a body as a command asks; returns what to warn of."""
    warnings = restrict(session, wishes.codecs, answer) if wishes.codecs is not None else []
    for section in session.media:
        if wishes.ptime is not None and section.kind == "audio" and section.is_rtp:
            _put(section, "ptime", str(wishes.ptime))
        if wishes.strip_extmap:
            _put(section, "extmap", None)
            _put(section, "extmap-allow-mixed", None)
    if wishes.strip_extmap:
        session.attributes = attributes(
            [line for name, line in session.attributes.every if name not in ("extmap", "extmap-allow-mixed")]
        )
    if wishes.generate_mid and not answer:
        _generate_mids(session.media)
    return warnings


def _generate_mids(media: Sequence[MediaSection]) -> None:
    """Name the sections that have no name by their place, or by the next number that is free."""
    taken = {section.attributes.mid for section in media}
    for place, section in enumerate(media, 1):
        if section.attributes.mid is None:
            free = place
            while str(free) in taken:
                free += 1
            taken.add(str(free))
            _put(section, "mid", str(free))


def pin(session: SessionDescription, wishes: BodyWishes, memory: Memory) -> None:
    """Let o= and s= say to a party what they said first."""
    if memory.name is None and len(session.name) <= MAX_KEPT:
        memory.name = session.name
    if wishes.session_name and memory.name is not None:
        session.name = memory.name
    origin = session.origin
    if origin is None:
        return
    if memory.username is None and len(origin.username) + len(origin.session_id) <= MAX_KEPT:
        memory.username, memory.session_id = origin.username, origin.session_id
    if wishes.username and memory.username is not None:
        origin = origin._replace(username=memory.username)
    if wishes.session_id and memory.session_id is not None:
        origin = origin._replace(session_id=memory.session_id)
    if wishes.version and memory.version is not None:
        origin = origin._replace(version=str(memory.version))
    session.origin = origin


def versioned(body: str, origin: Origin | None, wishes: BodyWishes, memory: Memory) -> str:
    """The body with the version it needs (RFC 3264 section 8): one more where it is not what was sent before.

    `origin` is the one that `pin` left. A first body keeps its own version.
    """
    if origin is None or not wishes.version:
        return body
    digest = _digest(body)
    if memory.version is None:
        memory.version = _number(origin.version)
    elif digest != memory.digest or wishes.force_version:
        memory.version += 1
    else:
        return body
    body = _with_version(body, str(memory.version))
    memory.digest = _digest(body)
    return body


def _number(version: str) -> int:
    """A sender's version; one that is no number, or out of all proportion, counts as 0."""
    return int(version) if version.isdecimal() and version.isascii() and len(version) <= MAX_DIGITS else 0


def _with_version(body: str, version: str) -> str:
    """Another version in o=, the second line of all bodies that have one."""
    first, origin, rest = body.split("\r\n", 2)
    fields = origin.rsplit(" ", 5)
    fields[2] = version
    return "\r\n".join((first, " ".join(fields), rest))


def _digest(body: str) -> bytes:
    return blake2b(body.encode(errors="surrogatepass"), digest_size=16).digest()


def _put(section: MediaSection, name: str, value: str | None) -> None:
    """Let a section have this value of an attribute and no other; None: not have the attribute."""
    lines = [line for other, line in section.attributes.every if other != name]
    if value is not None:
        lines.append(f"a={name}:{value}")
    section.attributes = attributes(lines)
