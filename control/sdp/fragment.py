"""Fragments of SDP that bring candidates after an offer or answer (application/trickle-ice-sdpfrag, RFC 8840)."""

from __future__ import annotations

from control.sdp.attributes import CANDIDATES
from control.sdp.model import SdpError

__all__ = ["without_candidates"]

MAX_SIZE = 65_536
"""Characters, as of a whole body."""
KINDS = frozenset("vosiuepcbtrzkam")


def without_candidates(fragment: str | bytes) -> str:
    """The fragment for the other party, which has had all of the relay's candidates with the SDP.

    That there will be no more is passed on. Raises SdpError("Failed to parse SDP") for what is no fragment.
    """
    text = fragment.decode("utf-8", "surrogateescape") if isinstance(fragment, bytes) else fragment
    if len(text) > MAX_SIZE or "\0" in text:
        raise SdpError(detail=f"{len(text)} characters, or a zero byte among them")
    lines = [line.strip(" \t\r") for line in text.split("\n")]
    kept = []
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        if line[1:2] != "=" or line[0] not in KINDS:
            raise SdpError(detail=f"line {number}: not an SDP line")
        name = line[2:].partition(":")[0]
        if line[0] != "a" or name not in CANDIDATES or name == "end-of-candidates":
            kept.append(line + "\r\n")
    return "".join(kept)
