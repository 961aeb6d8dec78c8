"""Streams under random input: the messages do not depend on how a stream is cut, and what is none is refused."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from control.ng import bencode
from control.ng.framing import MAX_MESSAGE, Frames, FramingError

strings = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
bodies = st.dictionaries(
    strings,
    st.recursive(
        strings | st.integers(-(2**63), 2**63 - 1),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(strings, inner, max_size=4),
        max_leaves=8,
    ),
    max_size=5,
)
cookies = st.from_regex(rb"[!-~]{1,20}", fullmatch=True)
tokens = st.sampled_from(
    [b"c ", b"d", b"l", b"e", b"i5e", b"0:", b"1:a", b"9", b"{", b'"', b"\\", b"}", b"[", b" ", b"\n"]
)


def written(message: tuple[bytes, Any, bool]) -> bytes:
    cookie, body, as_json = message
    return cookie + b" " + (json.dumps(body).encode() if as_json else bencode.encode(body))


messages = st.tuples(cookies, bodies, st.booleans()).map(written)


def cut(pieces: list[bytes]) -> tuple[list[bytes], str | None]:
    """The messages, and what was refused after them."""
    frames = Frames()
    found: list[bytes] = []
    for piece in pieces:
        frames.feed(piece)
        try:
            while (message := frames.take()) is not None:
                found.append(message)
        except FramingError as error:
            return found, str(error)
        assert len(frames) <= MAX_MESSAGE
    return found, None


def split(stream: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(stream) + 1) for place in places} | {len(stream)})
    return [stream[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@given(st.lists(messages, max_size=5), st.lists(st.integers(0, 10_000), max_size=12))
def test_messages_come_out_as_they_went_in(sent: list[bytes], places: list[int]) -> None:
    assert cut(split(b"".join(sent), places)) == (sent, None)


@given(st.lists(tokens | st.binary(max_size=5), max_size=30).map(b"".join), st.lists(st.integers(0, 200), max_size=8))
def test_nonsense_is_the_same_nonsense_however_it_is_cut(stream: bytes, places: list[int]) -> None:
    whole, whole_error = cut([stream])
    found, error = cut(split(stream, places))
    assert found == whole
    assert (error is None) == (whole_error is None)
