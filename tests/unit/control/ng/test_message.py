"""Datagrams taken apart and put together, and the memory of replies."""

from __future__ import annotations

from typing import Any

import pytest

from control.ng.message import CookieCache, Encoding, Exchange, MessageError, Request, decode, encode
from relay.types import Endpoint

ALICE = Endpoint("10.0.0.1", 5000)
BOB = Endpoint("10.0.0.2", 5000)


@pytest.mark.parametrize(
    ("datagram", "request_"),
    [
        (b"0_1_2 d7:command4:pinge", Request(b"0_1_2", Encoding.BENCODE, {"command": "ping"})),
        (b"0_1_2 d7:command4:ping", Request(b"0_1_2", Encoding.BENCODE, {"command": "ping"})),
        (b'c {"command": "ping"}', Request(b"c", Encoding.JSON, {"command": "ping"})),
        (b'c {"a":{"b":[1,"x",true,null]}}\n', Request(b"c", Encoding.JSON, {"a": {"b": [1, "x", True, None]}})),
        (b'\xff\x01 {"a":"\xf6","a":"\xff"}', Request(b"\xff\x01", Encoding.JSON, {"a": "\udcff"})),
        (b"c d", Request(b"c", Encoding.BENCODE, {})),
        (b"x" * 256 + b" de", Request(b"x" * 256, Encoding.BENCODE, {})),
    ],
)
def test_takes_a_datagram_apart(datagram: bytes, request_: Request) -> None:
    assert decode(datagram) == request_


@pytest.mark.parametrize(
    ("datagram", "text", "cookie", "encoding"),
    [
        (b"", "No cookie in message", None, Encoding.BENCODE),
        (b"d7:command4:pinge", "No cookie in message", None, Encoding.BENCODE),
        (b" d7:command4:pinge", "No cookie in message", None, Encoding.BENCODE),
        (b"x" * 257 + b" de", "No cookie in message", None, Encoding.BENCODE),
        (b"c ", "Invalid data (no payload)", b"c", Encoding.BENCODE),
        (b"c x", "Invalid NG data format", b"c", Encoding.BENCODE),
        (b"c le", "Invalid NG data format", b"c", Encoding.BENCODE),
        (b"c  de", "Invalid NG data format", b"c", Encoding.BENCODE),
        (b"c \xff", "Invalid NG data format", b"c", Encoding.BENCODE),
        (b"c d3:foo", "Could not decode bencode dictionary", b"c", Encoding.BENCODE),
        (b"c {bad", "Failed to parse JSON document", b"c", Encoding.JSON),
        (b'c {"a":1} {}', "Failed to parse JSON document", b"c", Encoding.JSON),
        (b'c {"a":' + b"[" * 60_000, "Failed to parse JSON document", b"c", Encoding.JSON),
        (b'c {"a":' + b"9" * 5_000 + b"}", "Failed to parse JSON document", b"c", Encoding.JSON),
    ],
)
def test_refuses_what_is_no_request(datagram: bytes, text: str, cookie: bytes | None, encoding: Encoding) -> None:
    with pytest.raises(MessageError) as caught:
        decode(datagram)
    assert str(caught.value) == text
    assert (caught.value.cookie, caught.value.encoding) == (cookie, encoding)


def test_the_log_hears_more_than_the_proxy() -> None:
    with pytest.raises(MessageError) as caught:
        decode(b"c d7:command4:pi")
    assert caught.value.detail == "data ends too early, at offset 14"


@pytest.mark.parametrize(
    ("encoding", "reply", "datagram"),
    [
        (Encoding.BENCODE, {"result": "pong"}, b"c d6:result4:ponge"),
        (Encoding.JSON, {"result": "pong"}, b'c {"result":"pong"}'),
        (Encoding.JSON, {"sdp": "s=\xf6\udcff\r\n", "n": 1}, b'c {"sdp":"s=\xc3\xb6\xff\\r\\n","n":1}'),
        (Encoding.JSON, {"a": "\ud800"}, b'c {"a":"?"}'),
    ],
)
def test_a_reply_uses_its_requests_encoding(encoding: Encoding, reply: dict[str, Any], datagram: bytes) -> None:
    assert encode(b"c", encoding, reply) == datagram


@pytest.mark.parametrize(
    ("encoding", "reply"),
    [
        (Encoding.BENCODE, {"a": None}),
        (Encoding.JSON, {"a": b"bytes"}),
        (Encoding.JSON, {"a": float("nan")}),
    ],
)
def test_a_reply_that_cannot_be_written_is_the_programs_fault(encoding: Encoding, reply: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode(b"c", encoding, reply)


def ask(cache: CookieCache, source: Endpoint, datagram: bytes, now: float) -> tuple[Exchange, bool]:
    return cache.begin(source, datagram.partition(b" ")[0], datagram, now)


def answered(cache: CookieCache, source: Endpoint, datagram: bytes, now: float, reply: bytes) -> None:
    exchange, repeated = ask(cache, source, datagram, now)
    assert not repeated
    assert cache.finish(exchange, reply) == 1


def test_a_repeat_gets_the_identical_bytes() -> None:
    cache = CookieCache()
    answered(cache, ALICE, b"c de", 100.0, b"c reply")
    exchange, repeated = ask(cache, ALICE, b"c de", 101.0)
    assert (exchange.reply, repeated) == (b"c reply", True)


def test_a_repeat_that_comes_too_soon_waits_for_the_reply() -> None:
    cache = CookieCache()
    first, _ = ask(cache, ALICE, b"c de", 100.0)
    for _ in range(2):
        again, repeated = ask(cache, ALICE, b"c de", 100.5)
        assert again is first
        assert repeated
        assert again.reply is None
    assert cache.finish(first, b"c reply") == 3


def test_equal_cookies_of_two_proxies_are_two_requests() -> None:
    cache = CookieCache()
    answered(cache, ALICE, b"c de", 100.0, b"for alice")
    answered(cache, BOB, b"c de", 100.0, b"for bob")
    answered(cache, Endpoint(ALICE.ip, ALICE.port + 1), b"c de", 100.0, b"for another process")
    assert ask(cache, ALICE, b"c de", 101.0)[0].reply == b"for alice"


def test_a_restarted_proxy_that_counts_from_zero_gets_no_old_reply() -> None:
    cache = CookieCache()
    answered(cache, ALICE, b"0_1_0 d1:a1:be", 100.0, b"old")
    answered(cache, ALICE, b"0_1_0 d1:a1:ce", 101.0, b"new")
    assert ask(cache, ALICE, b"0_1_0 d1:a1:ce", 102.0)[0].reply == b"new"


def test_a_late_reply_to_a_replaced_request_does_not_answer_the_new_one() -> None:
    cache = CookieCache()
    old, _ = ask(cache, ALICE, b"c d1:a1:be", 100.0)
    new, repeated = ask(cache, ALICE, b"c d1:a1:ce", 100.0)
    assert not repeated
    cache.finish(old, b"old")
    assert new.reply is None


@pytest.mark.parametrize("start", [0.0, 1000.0])
def test_a_reply_is_kept_for_thirty_to_sixty_seconds(start: float) -> None:
    cache = CookieCache()
    answered(cache, BOB, b"b de", start, b"")
    answered(cache, ALICE, b"early de", start + 0.1, b"reply")
    answered(cache, ALICE, b"late de", start + 29.9, b"reply")
    assert ask(cache, ALICE, b"early de", start + 30.0)[1]
    assert ask(cache, ALICE, b"late de", start + 59.9)[1]
    assert not ask(cache, ALICE, b"early de", start + 60.0)[1]
    assert not ask(cache, ALICE, b"late de", start + 60.0)[1]


def test_nothing_is_left_after_a_long_silence() -> None:
    cache = CookieCache()
    answered(cache, ALICE, b"c de", 0.0, b"reply")
    assert not ask(cache, ALICE, b"c de", 3600.0)[1]
    assert len(cache) == 1


def test_the_number_of_entries_is_bounded_and_the_newest_stay() -> None:
    cache = CookieCache(max_entries=10)
    for number in range(100):
        answered(cache, ALICE, b"%d de" % number, 1.0, b"reply")
        assert len(cache) <= 10
    assert cache.crowded == 19
    assert all(ask(cache, ALICE, b"%d de" % number, 1.0)[1] for number in range(95, 100))
    assert not ask(cache, ALICE, b"0 de", 1.0)[1]


def test_the_bytes_are_bounded() -> None:
    cache = CookieCache(max_bytes=100_000)
    for number in range(100):
        answered(cache, ALICE, b"%d de" % number, 1.0, bytes(10_000))
        assert len(cache) <= 10
    assert cache.crowded > 0
