"""What is remembered of a party's SDP bodies, as a call's snapshot holds it: a list, told by place."""

from __future__ import annotations

from control.sdp.party import MAX_DIGITS, Memory

__all__ = ["read", "written"]

MAX_LINES = 256
MAX_TEXT = 4096
"""Characters of anything that is read."""


def written(memory: object) -> object:
    """A party's memory in what JSON can hold; of anything else than a memory, nothing."""
    if not isinstance(memory, Memory):
        return None
    names = memory.username, memory.session_id, memory.name
    version = str(memory.version) if memory.version is not None else None  # it may exceed what JSON keeps exact
    return [memory.mids, memory.ptimes, *names, version, memory.digest.hex()]


def read(value: object) -> Memory:
    """A party's memory again; what a later version wrote behind it is passed over. Raises ValueError."""
    if not isinstance(value, list) or len(value) < 7:
        raise ValueError("what is remembered of a party's SDP is no list of seven")
    memory = Memory()
    memory.mids, memory.ptimes = _texts(value[0]), _texts(value[1])
    memory.username, memory.session_id, memory.name = (_text(one) for one in value[2:5])
    version, digest = _text(value[5]), _text(value[6])
    if version is not None and not (version.isdecimal() and version.isascii() and len(version) <= MAX_DIGITS + 1):
        raise ValueError("the version of a party's SDP is no number")
    memory.version = int(version) if version is not None else None
    memory.digest = bytes.fromhex(digest or "")
    return memory


def _texts(value: object) -> tuple[str | None, ...]:
    if not isinstance(value, list) or len(value) > MAX_LINES:
        raise ValueError("what is remembered of m-lines is no list of them")
    return tuple([_text(one) for one in value])


def _text(value: object) -> str | None:
    if value is None or (isinstance(value, str) and len(value) <= MAX_TEXT):
        return value
    raise ValueError("what is remembered of a party's SDP is no text")
