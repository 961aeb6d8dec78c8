"""What a proxy says to a relay, in order; and how it is said to both of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.interop.differential.meaning import Telling
from tests.interop.differential.relays import Contestant

Request = dict[str, Any]
Told = dict[str, Any]


@dataclass(frozen=True)
class SameBody:
    """Stands for a body: the one in the reply to the request of this number, counted from 0."""

    reply: int


@dataclass(frozen=True)
class Step:
    """One request, `pause` seconds after the one before it.

    `older`: how the same is said to a relay that does not know its newer spelling. Bytes are sent as they are.
    """

    request: Request | bytes
    older: Request | None = None
    pause: float = 0.0


@dataclass(frozen=True)
class Conversation:
    """A story with a name. Each has a Call-ID of its own, which requests that name none are about."""

    name: str
    steps: tuple[Step, ...]

    @property
    def duration(self) -> float:
        return sum(step.pause for step in self.steps)


def conversation(name: str, *requests: Request | bytes | Step) -> Conversation:
    return Conversation(name, tuple(one if isinstance(one, Step) else Step(one) for one in requests))


def _keys(keys: Mapping[str, Any]) -> Request:
    """Keyword arguments as keys of ng: hyphens for underscores."""
    return {key.replace("_", "-"): value for key, value in keys.items()}


def offer(body: str | SameBody, **keys: Any) -> Request:
    return {"command": "offer", "from-tag": "a", "sdp": body, **_keys(keys)}


def answer(body: str | SameBody, **keys: Any) -> Request:
    return {"command": "answer", "from-tag": "a", "to-tag": "b", "sdp": body, **_keys(keys)}


def delete(**keys: Any) -> Request:
    return {"command": "delete", "from-tag": "a", **_keys(keys)}


def query(**keys: Any) -> Request:
    return {"command": "query", **_keys(keys)}


def hold(one: Contestant, said: Conversation, call_id: str) -> list[Told]:
    """Hold a conversation with one relay; returns what it made of each request. Its call is gone afterwards."""
    telling = Telling(one.addresses)
    replies: list[Mapping[str, Any]] = []
    told = []
    with one.line() as line:
        for step in said.steps:
            if step.pause:
                time.sleep(step.pause)
            asked = step.request if one.name == "hairpin" or step.older is None else step.older
            if isinstance(asked, bytes):
                reply = line.send(asked)
            else:
                asked = _filled_in(asked, call_id, replies)
                reply = line.ask(asked)
            replies.append(reply)
            told.append(telling.tell(asked if isinstance(asked, dict) else {}, reply))
        line.ask({"command": "delete", "call-id": call_id, "delete-delay": 0})
    return told


def _filled_in(request: Request, call_id: str, replies: Sequence[Mapping[str, Any]]) -> Request:
    """A request as it is sent. A key that is None is left out."""
    filled = {"call-id": call_id, **request}
    body = filled.get("sdp")
    if isinstance(body, SameBody):
        filled["sdp"] = replies[body.reply]["sdp"]
    return {key: value for key, value in filled.items() if value is not None}
