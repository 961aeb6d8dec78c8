"""Conversations that the real Kamailio has had with a relay (recorder.py)."""

from __future__ import annotations

from collections.abc import Iterator

from tests.interop.differential.conversation import Conversation, conversation
from tests.interop.differential.recorder import load


def conversations() -> Iterator[Conversation]:
    for name, requests in load().items():
        yield conversation(name, *requests)
