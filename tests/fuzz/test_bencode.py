"""Bencode under random input: a value or BencodeError, never anything else; and what was encoded decodes to itself."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from control.ng import bencode

strings = st.binary(max_size=120).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
integers = st.integers(-(2**63), 2**63 - 1)
values = st.recursive(
    strings | integers, lambda inner: st.lists(inner) | st.dictionaries(strings, inner), max_leaves=30
)
tokens = st.sampled_from(
    [b"d", b"l", b"e", b"i", b"i5e", b"0:", b"1:a", b"3:abc", b"12:", b"7:command", b"-", b":", b"9"]
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


def decodes_or_refuses(data: bytes) -> None:
    try:
        value = bencode.decode(data)
    except bencode.BencodeError:
        return
    assert bencode.decode(bencode.encode(value)) == value


@given(values)
def test_what_was_encoded_decodes_to_itself(value: Any) -> None:
    data = bencode.encode(value)
    if depth(value) > bencode.MAX_DEPTH:
        return
    assert bencode.decode(data) == value
    assert bencode.encode(bencode.decode(data)) == data


@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    decodes_or_refuses(data)


@given(st.lists(tokens | st.binary(max_size=4), max_size=80).map(b"".join))
@example(b"l" * bencode.MAX_SIZE)
@example(b"d0:" * (bencode.MAX_SIZE // 3))
@example(b"d" + b"0:0:" * (bencode.MAX_SIZE // 4))
@example(b"d" + b"1" * (bencode.MAX_SIZE - 1))
@example(b"i" + b"1" * (bencode.MAX_SIZE - 1))
def test_bytes_that_look_like_bencode(data: bytes) -> None:
    decodes_or_refuses(data)


@given(values, st.data())
def test_a_damaged_document(value: Any, data: st.DataObject) -> None:
    document = bytearray(bencode.encode({"sdp": "v=0\r\n", "x": value}))
    at = data.draw(st.integers(0, len(document) - 1))
    document[at] = data.draw(st.integers(0, 255))
    decodes_or_refuses(bytes(document))
    decodes_or_refuses(bytes(document[:at]))
