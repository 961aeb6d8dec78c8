"""Bencode as proxies send it, and every way in which it can be wrong."""

from __future__ import annotations

from typing import Any

import pytest

from control.ng import bencode

KAMAILIO_DELETE = (
    b"d8:supportsl10:load limite7:call-id16:1-31337@10.1.0.213:received-froml3:IP48:10.1.0.2e"
    b"8:from-tag15:31337SIPpTag0017:command6:deletee"
)


def test_reads_what_kamailio_sends_in_its_own_order() -> None:
    body = bencode.decode(KAMAILIO_DELETE)
    assert body == {
        "supports": ["load limit"],
        "call-id": "1-31337@10.1.0.2",
        "received-from": ["IP4", "10.1.0.2"],
        "from-tag": "31337SIPpTag001",
        "command": "delete",
    }
    assert list(body) == ["supports", "call-id", "received-from", "from-tag", "command"]
    assert bencode.encode(body) == KAMAILIO_DELETE


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"d7:command4:pinge", {"command": "ping"}),
        (b"d7:command4:ping", {"command": "ping"}),
        (b"d7:command4:pinge\n", {"command": "ping"}),
        (b"d7:command4:pinge and more", {"command": "ping"}),
        (b"d", {}),
        (b"de", {}),
        (b"d1:a1:x1:a1:ye", {"a": "y"}),
        (b"d3:TOSi184ee", {"TOS": 184}),
        (b"d3:TOSi-1e3:abci0e", {"TOS": -1, "abc": 0}),
        (b"d1:a0:0:1:be", {"a": "", "": "b"}),
        (b"d1:ad1:bd1:cl1:d2:efeeee", {"a": {"b": {"c": ["d", "ef"]}}}),
        (b"d1:alee", {"a": []}),
        (b"d1:al1:xi5eli6eedeee", {"a": ["x", 5, [6], {}]}),
        (b"d12:twelve chars12:also twelve!e", {"twelve chars": "also twelve!"}),
        (b"d1:a100:" + b"x" * 100 + b"e", {"a": "x" * 100}),
        (b"d100:" + b"k" * 100 + b"1:ve", {"k" * 100: "v"}),
        (b"l10:load limite", ["load limit"]),
        (b"4:ping", "ping"),
        (b"i42e", 42),
        (b"i-9223372036854775808e", -(2**63)),
    ],
)
def test_decodes(data: bytes, value: Any) -> None:
    assert bencode.decode(data) == value


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "data ends too early, at offset 0"),
        (b"x", "unexpected data at offset 0"),
        (b"e", "unexpected data at offset 0"),
        (b"d3:foo", "data ends too early, at offset 6"),
        (b"d3:fooe", "unexpected data at offset 6"),
        (b"d7:comm", "data ends too early, at offset 7"),
        (b"d7:command4:pi", "data ends too early, at offset 14"),
        (b"d7:command14:pi", "data ends too early, at offset 15"),
        (b"d7:command140:pi", "data ends too early, at offset 16"),
        (b"d12:twelv", "data ends too early, at offset 9"),
        (b"d1:ad1:b1:c", "data ends too early, at offset 11"),
        (b"d1:al1:b", "data ends too early, at offset 8"),
        (b"l", "data ends too early, at offset 1"),
        (b"l5:abce", "data ends too early, at offset 7"),
        (b"di3e1:ae", "unexpected data at offset 1"),
        (b"d1:a1:b?", "unexpected data at offset 7"),
        (b"d1:a-1:be", "unexpected data at offset 4"),
        (b"d01:a1:be", "unexpected data at offset 1"),
        (b"d1:a001:be", "unexpected data at offset 4"),
        (b"d1:a999999:be", "unexpected data at offset 4"),
        (b"d1:a \x002:be", "unexpected data at offset 4"),
        ("d1:a\N{ARABIC-INDIC DIGIT ONE}:be".encode(), "unexpected data at offset 4"),
        (b"d1:a\xb2:be", "unexpected data at offset 4"),
        (b"ie", "invalid integer at offset 1"),
        (b"i-e", "invalid integer at offset 1"),
        (b"i--1e", "invalid integer at offset 1"),
        (b"i 1e", "invalid integer at offset 1"),
        (b"i1_0e", "invalid integer at offset 1"),
        (b"i12", "invalid integer at offset 1"),
        (b"i" + b"9" * 21 + b"e", "invalid integer at offset 1"),
        (b"l" * 17 + b"e" * 17, "nested deeper than 16 at offset 17"),
        (b"d1:a" * 17, "nested deeper than 16 at offset 64"),
        (b"l" * 60_000, "nested deeper than 16 at offset 17"),
        (b"d1:a" + b"l" * 17, "nested deeper than 16 at offset 20"),
        (b"d" + b"0:" * 40_000, "80001 bytes are more than 65535"),
    ],
)
def test_says_what_is_wrong_and_where(data: bytes, text: str) -> None:
    with pytest.raises(bencode.BencodeError) as caught:
        bencode.decode(data)
    assert str(caught.value) == text


def test_depth_of_sixteen_is_still_read() -> None:
    assert bencode.decode(b"l" * 16 + b"e" * 16) is not None


@pytest.mark.parametrize("raw", [b"J\xc3\xb6rg", b"J\xf6rg", b"\xff\xfe\x00", "\N{HOT BEVERAGE}".encode()])
def test_bytes_survive_whether_utf8_or_not(raw: bytes) -> None:
    data = b"d4:name%d:%s3:key1:ve" % (len(raw), raw)
    body = bencode.decode(data)
    assert body["name"] == raw.decode("utf-8", "surrogateescape")
    assert bencode.encode(body) == data


def test_keys_that_are_not_ascii_survive_in_nested_values() -> None:
    data = b"d2:\xc3\xb6l2:\xc3\xa4d1:a2:\xc3\xbcee" + b"e"
    assert bencode.decode(data) == {"\xf6": ["\xe4", {"a": "\xfc"}]}
    assert bencode.encode(bencode.decode(data)) == data


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ({"result": "ok"}, b"d6:result2:oke"),
        ({"b": 1, "a": 2}, b"d1:bi1e1:ai2ee"),
        ({"t": True, "f": False}, b"d1:ti1e1:fi0ee"),
        ({b"raw": b"\xff\x00"}, b"d3:raw2:\xff\x00e"),
        (["a", ("b", [])], b"l1:al1:bleee"),
        ({}, b"de"),
        (-5, b"i-5e"),
        ("\xf6", b"2:\xc3\xb6"),
        ("a\ud800b\udcff", b"4:a?b\xff"),
    ],
)
def test_encodes(value: Any, data: bytes) -> None:
    assert bencode.encode(value) == data


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "bencode has no NoneType"),
        ({"jitter": 1.5}, "bencode has no float"),
        ({1: "a"}, "a bencode key must be a string, not int"),
        ([object()], "bencode has no object"),
    ],
)
def test_refuses_to_encode_what_bencode_lacks(value: Any, text: str) -> None:
    with pytest.raises(TypeError) as caught:
        bencode.encode(value)
    assert str(caught.value) == text
