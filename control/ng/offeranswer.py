"""Offer and answer: an SDP body comes in, and goes out with the relay's addresses and ports in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from control.ng.bencode import to_bytes
from control.ng.flags import Options
from control.ng.needed import call_id, from_tag, sdp, to_tag
from control.ng.room import LARGEST
from control.sdp.model import RewriteOptions, SdpError, SessionDescription
from control.sdp.parse import describe, parse
from control.sdp.rewrite import rewrite
from relay.registry import Outcome, Registry
from relay.types import LocalMedia, MediaDescription

__all__ = ["OfferAnswer", "Rewrite"]

Reply = dict[str, Any]
Rewrite = Callable[[SessionDescription, Sequence[LocalMedia], RewriteOptions], str]

MAX_ESCAPE = 6
"""Bytes JSON makes of one character at most."""


class OfferAnswer:
    """Runs offers and answers against the registry. `rewrite` writes the other party's body."""

    def __init__(self, registry: Registry, rewrite: Rewrite = rewrite) -> None:
        self._registry = registry
        self._rewrite = rewrite

    def offer(self, options: Options, now: float, room: int) -> Reply:
        """The reply to an offer, of LARGEST or `room` bytes at most.

        A call that it made does not stay where its body cannot be passed on.
        """
        call, tag = call_id(options), from_tag(options)
        if options.sdp == "":
            return {"result": "ok"}
        session = parse(sdp(options))
        media = describe(session)
        outcome = self._registry.offer(call, tag, options.to_tag, media, options.signal(), now)
        try:
            return self._reply(session, media, outcome, options, room)
        except SdpError:
            self._registry.abandon(outcome, now)
            raise

    def answer(self, options: Options, now: float, room: int) -> Reply:
        """The reply to an answer."""
        call, tag, answerer = call_id(options), from_tag(options), to_tag(options)
        if options.sdp == "":
            return {"result": "ok"}
        session = parse(sdp(options))
        media = describe(session)
        outcome = self._registry.answer(call, tag, answerer, media, options.signal(), now)
        return self._reply(session, media, outcome, options, room)

    def _reply(
        self,
        session: SessionDescription,
        media: Sequence[MediaDescription],
        outcome: Outcome,
        options: Options,
        room: int,
    ) -> Reply:
        body = self._rewrite(session, outcome.media, options.rewriting())
        reply = {"sdp": body, "result": "ok"}
        warnings = outcome.warnings
        if options.transport is not None:
            warnings = [*warnings, *_unconverted(media, options.transport)]
        if warnings:
            reply["warning"] = "; ".join(warnings)
        if not _fits(reply, max(room, LARGEST)):
            raise SdpError("Reply too large", f"more than {LARGEST} bytes of SDP and warnings")
        return reply


def _fits(reply: Reply, room: int) -> bool:
    """Whether a reply goes into `room` bytes in either encoding; JSON is never the shorter one."""
    if sum(map(len, reply.values())) * MAX_ESCAPE <= room:
        return True
    return len(to_bytes(json.dumps(reply, ensure_ascii=False))) <= room


def _unconverted(media: Sequence[MediaDescription], wanted: str) -> list[str]:
    """What to say of a transport protocol that was asked for: media passes as it is."""
    kept = sorted({one.protocol for one in media if one.is_rtp and one.protocol.upper() != wanted.upper()})
    return [f"transport-protocol {wanted} is not made from {protocol}: media passes unchanged" for protocol in kept]
