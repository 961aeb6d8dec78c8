"""Offer and answer: an SDP body comes in, and goes out with the relay's addresses and ports in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

from control.ng.bencode import to_bytes
from control.ng.flags import Options
from control.ng.needed import call_id, from_tag, sdp, to_tag
from control.ng.room import LARGEST
from control.sdp import party
from control.sdp.fragment import without_candidates
from control.sdp.model import RewriteOptions, SdpError, SessionDescription
from control.sdp.parse import describe, parse
from control.sdp.rewrite import rewrite
from relay.call import Leg
from relay.registry import Outcome, Registry
from relay.types import LocalMedia, MediaDescription

__all__ = ["OfferAnswer", "Rewrite"]

Reply = dict[str, Any]
Rewrite = Callable[[SessionDescription, Sequence[LocalMedia], RewriteOptions], str]

MAX_ESCAPE = 6
"""Bytes JSON makes of one character at most."""


class OfferAnswer:
    """Runs offers and answers against the registry. `rewrite` writes the other party's body.

    `started` tells this relay from all others, and from itself before a restart: any number that differs.
    """

    def __init__(self, registry: Registry, started: float, rewrite: Rewrite = rewrite) -> None:
        self._registry = registry
        self._rewrite = rewrite
        own = [repr(started), *(f"{one.address} {one.advertised}" for one in registry.interfaces)]
        self._mark = blake2b(" ".join(own).encode(), digest_size=6).hexdigest()
        """What a=rtpengine says in bodies of this relay."""

    def offer(self, options: Options, now: float, room: int) -> Reply:
        """The reply to an offer, of LARGEST or `room` bytes at most.

        A call that it made does not stay where its body cannot be passed on.
        """
        call, tag = call_id(options), from_tag(options)
        if options.fragment or options.sdp == "":
            return _without_media(options)
        session = parse(sdp(options))
        if options.loop_protect and self._made(session):
            return {"sdp": options.sdp, "result": "ok"}
        media = describe(session)
        outcome = self._registry.offer(call, tag, options.to_tag, media, options.signal(), now)
        try:
            near = _peer(outcome)
            near.memory = party.offered(session, _memory(near))
            reply = self._reply(session, media, outcome, options, room, False)
        except Exception:
            self._registry.abandon(outcome, now)
            raise
        self._registry.passed_on(outcome)
        return reply

    def answer(self, options: Options, now: float, room: int) -> Reply:
        """The reply to an answer."""
        call, tag, answerer = call_id(options), from_tag(options), to_tag(options)
        if options.fragment or options.sdp == "":
            return _without_media(options)
        session = parse(sdp(options))
        if options.loop_protect and self._made(session):
            return {"sdp": options.sdp, "result": "ok"}
        media = describe(session)
        outcome = self._registry.answer(call, tag, answerer, media, options.signal(), now)
        try:
            party.carry_over(session, _memory(outcome.far))
            return self._reply(session, media, outcome, options, room, True)
        finally:  # the registry has the answer, also where its body cannot be passed on
            self._registry.passed_on(outcome)

    def _reply(
        self,
        session: SessionDescription,
        media: Sequence[MediaDescription],
        outcome: Outcome,
        options: Options,
        room: int,
        answer: bool,
    ) -> Reply:
        warnings = [*outcome.warnings, *options.unserved]
        if options.unserved_keys and any("SAVP" in one.protocol.upper() for one in media):
            warnings += options.unserved_keys
        if options.transport is not None and not answer:
            warnings += _unconverted(media, outcome.media, options.transport)
        if options.wishes is None:
            body = self._rewrite(session, outcome.media, options.rewriting(self._mark))
        else:
            warnings += party.adapt(session, options.wishes, answer)
            body = self._remembering(session, outcome, options)
        reply: Reply = {"sdp": body, "result": "ok"}
        if warnings:
            reply["warning"] = "; ".join(warnings)
        if not _fits(reply, max(room, LARGEST)):
            raise SdpError("Reply too large", f"more than {LARGEST} bytes of SDP and warnings")
        return reply

    def _remembering(self, session: SessionDescription, outcome: Outcome, options: Options) -> str:
        """The body for a party, with the origin and version that follow from those it was sent before."""
        wishes = options.wishes
        if wishes is None or not wishes.remembers:
            return self._rewrite(session, outcome.media, options.rewriting(self._mark))
        memory = _memory(outcome.far) or party.Memory()
        outcome.far.memory = memory
        party.pin(session, wishes, memory)
        body = self._rewrite(session, outcome.media, options.rewriting(self._mark))
        return party.versioned(body, session.origin, wishes, memory)

    def _made(self, session: SessionDescription) -> bool:
        """Whether a body comes from this relay and has come back in a loop."""
        line = f"a=rtpengine:{self._mark}"
        places = [session.attributes, *(section.attributes for section in session.media)]
        return any(attribute.line == line for place in places for attribute in place.others)


def _without_media(options: Options) -> Reply:
    """The reply to an empty body, and to a fragment with candidates: these are never the relay's."""
    body = sdp(options)
    return {"sdp": without_candidates(body), "result": "ok"} if body != "" else {"result": "ok"}


def _peer(outcome: Outcome) -> Leg:
    """The party that spoke."""
    first, second = outcome.call.legs
    return second if outcome.far is first else first


def _memory(leg: Leg) -> party.Memory | None:
    return leg.memory if isinstance(leg.memory, party.Memory) else None


def _fits(reply: Reply, room: int) -> bool:
    """Whether a reply goes into `room` bytes in either encoding; JSON is never the shorter one."""
    if sum(map(len, reply.values())) * MAX_ESCAPE <= room:
        return True
    return len(to_bytes(json.dumps(reply, ensure_ascii=False))) <= room


def _unconverted(media: Sequence[MediaDescription], shown: Sequence[LocalMedia], wanted: str) -> list[str]:
    """What to say of a transport protocol that was asked for and is not written: media passes as it is."""
    written = {local.protocol or one.protocol for one, local in zip(media, shown, strict=False) if one.is_rtp}
    kept = sorted(protocol for protocol in written if protocol.upper() != wanted.upper())
    return [f"transport-protocol {wanted} is not made from {protocol}: media passes unchanged" for protocol in kept]
