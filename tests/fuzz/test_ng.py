"""ng datagrams under random input: every one with a cookie gets a reply that a proxy can read, and nothing raises."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from control.ng import bencode
from control.ng.message import CookieCache, Encoding, MessageError, decode, encode
from control.ng.service import Service
from relay.types import Endpoint

SOURCES = [Endpoint("10.0.0.1", 5000), Endpoint("10.0.0.1", 5001), Endpoint("2001:db8::1", 5000)]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
payloads = (
    st.binary(max_size=100)
    | st.binary(max_size=100).map(lambda raw: b"d" + raw)
    | st.binary(max_size=100).map(lambda raw: b"{" + raw)
    | st.dictionaries(st.text(), json_values, max_size=4).map(lambda body: json.dumps(body).encode())
    | st.dictionaries(st.text(), st.text(), max_size=4).map(bencode.encode)
)
datagrams = st.binary(max_size=100) | st.builds(
    lambda cookie, payload: cookie + b" " + payload, st.binary(max_size=20), payloads
)


def echo(body: dict[str, Any], source: Endpoint, now: float, room: int | None = 0) -> dict[str, Any]:
    """Everything a request can hold comes back, where the reply's encoding can hold it."""
    return {"result": "ok", "body": body}


@given(datagrams)
@example(b'c {"a":' + b"[" * 65_000)
@example(b'c {"a":' + b'{"a":' * 12_000)
@example(b'c {"a":"\\ud800"}')
@example(b'c {"\\udfff":1}')
@example(b"c {\x00}")
def test_a_datagram_is_a_request_or_an_error_with_a_text(datagram: bytes) -> None:
    try:
        request = decode(datagram)
    except MessageError as error:
        cookie, text = error.cookie, str(error)
    else:
        cookie, text = request.cookie, "a request"
        assert isinstance(request.body, dict)
    assert text
    assert cookie is None or datagram.startswith(cookie + b" ")


@given(datagrams)
@example(b'c {"a":"\\ud800"}')
@example(b'c {"\\udfff":NaN}')
def test_every_datagram_with_a_cookie_gets_one_readable_reply(datagram: bytes) -> None:
    service = Service(echo, [], lambda: 0.0)
    replies = service.answer(datagram, SOURCES[0], 0.0)
    if datagram.partition(b" ")[0].strip() and b" " in datagram:
        (reply,) = replies
        assert decode(reply).cookie == datagram.partition(b" ")[0]
        assert "result" in decode(reply).body
    else:
        assert replies == []


@given(st.dictionaries(st.text(), st.text(), max_size=6), st.sampled_from(Encoding))
def test_a_reply_reads_back_as_it_was_written(reply: dict[str, Any], encoding: Encoding) -> None:
    request = decode(encode(b"cookie", encoding, reply))
    assert (request.cookie, request.encoding, request.body) == (b"cookie", encoding, reply)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(SOURCES), st.sampled_from([b"1", b"2"]), st.sampled_from([b" a", b" b"]), st.floats(0, 20)
        ),
        max_size=60,
    )
)
def test_a_reply_is_never_another_requests(events: list[tuple[Endpoint, bytes, bytes, float]]) -> None:
    cache = CookieCache(max_entries=6)
    now = 0.0
    for source, cookie, payload, pause in events:
        now += pause
        exchange, repeated = cache.begin(source, cookie, cookie + payload, now)
        reply = repr((source, cookie, payload)).encode()
        if repeated:
            assert exchange.reply == reply
        else:
            assert cache.finish(exchange, reply) == 1
        assert len(cache) <= 6
