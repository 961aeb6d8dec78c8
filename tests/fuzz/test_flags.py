"""Requests of any shape, and strings of flags: options, whatever is said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.ng.flags import _FLAGS, _KEYS, _PREFIXES, parse_options
from control.ng.rtppflags import MAX_TOKENS, entries
from control.sdp.model import CodecWishes

words = st.sampled_from([*_FLAGS, *_PREFIXES, *_KEYS, "all", "PCMU", "IP4", "192.0.2.1"]) | st.text(max_size=12)
values: st.SearchStrategy[Any] = st.recursive(
    words | st.integers() | st.binary(max_size=8) | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)
pieces = st.sampled_from(["[", "]", "=", " ", "--", "..", "=[", "] "]) | words


@given(st.dictionaries(st.sampled_from([*_KEYS]) | words, values, max_size=8))
def test_any_request(body: dict[str, Any]) -> None:
    options = parse_options(body, "192.0.2.250")
    signal, rewriting = options.signal(), options.rewriting("mark")
    assert signal.controller == "192.0.2.250"
    assert signal.family in (0, 4, 6)
    assert len(signal.direction) <= 2
    assert len(signal.mux) <= 5
    assert rewriting.media_address is None or len(rewriting.media_address) < 50
    assert all(len(text) < 250 for text in (*options.unserved, *options.unserved_keys))
    codecs = options.wishes.codecs if options.wishes is not None else None
    assert all(len(names) <= 64 for names in (codecs or CodecWishes())[:4])


@given(st.lists(pieces, max_size=40).map("".join))
def test_any_string_of_flags(text: str) -> None:
    found = entries(text)
    assert len(found) <= 2 * len(text)
    parse_options({"rtpp-flags": text})


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["[", "]", "a=[", "a ", "a=b ", "[] ", "=[", "--", "\t"])
def test_long_strings_take_no_time(piece: str) -> None:
    assert len(entries(piece * (60_000 // len(piece)))) <= MAX_TOKENS
