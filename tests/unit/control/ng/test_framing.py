"""Messages cut out of a stream, however the stream was cut into pieces."""

from __future__ import annotations

import pytest

from control.ng import bencode
from control.ng.framing import MAX_MESSAGE, Frames, FramingError
from control.ng.message import MAX_COOKIE, decode

PING = b"1_2 d7:command4:pinge"
OFFER = b"cookie " + bencode.encode(
    {"sdp": 'v=0\r\ne: {"\r\n', "flags": ["trust-address", "e"], "TOS": -184, "n": {"": 0}, "command": "offer"}
)
JSON = rb'c3 {"command": "query", "call-id": "}\"{\\", "list": [1, {"a": []}], "e": "\u00e4"}'
MESSAGES = [PING, OFFER, JSON, PING]


def cut(*pieces: bytes) -> list[bytes]:
    frames, found = Frames(), []
    for piece in pieces:
        frames.feed(piece)
        while (message := frames.take()) is not None:
            found.append(message)
    return found


def refused(data: bytes) -> FramingError:
    with pytest.raises(FramingError) as error:
        cut(data)
    return error.value


def test_messages_back_to_back() -> None:
    assert cut(b"".join(MESSAGES)) == MESSAGES


@pytest.mark.parametrize("gap", [b"", b"\n", b"\r\n\r\n"])
def test_every_split_in_two(gap: bytes) -> None:
    stream = gap.join([*MESSAGES, b""])
    for at in range(len(stream) + 1):
        assert cut(stream[:at], stream[at:]) == MESSAGES, at


def test_every_split_in_three() -> None:
    stream = OFFER + JSON
    for first in range(0, len(stream), 3):
        for second in range(first, len(stream)):
            assert cut(stream[:first], stream[first:second], stream[second:]) == [OFFER, JSON]


def test_byte_by_byte() -> None:
    stream = b"".join(MESSAGES)
    assert cut(*(stream[at : at + 1] for at in range(len(stream)))) == MESSAGES


def test_what_is_not_complete_waits() -> None:
    frames = Frames()
    frames.feed(OFFER[:-1])
    assert frames.take() is None
    assert len(frames) == len(OFFER) - 1
    frames.feed(OFFER[-1:] + b"next")
    assert frames.take() == OFFER
    assert frames.take() is None
    assert len(frames) == 4


@pytest.mark.parametrize(
    ("data", "text", "cookie"),
    [
        (b" d", "No cookie in message", b""),
        (b"\n d", "No cookie in message", b""),
        (b"x" * (MAX_COOKIE + 1), "No cookie in message", b""),
        (b"GET / HTTP/1.1\r\n", "Invalid NG data format", b"GET"),
        (b"c l1:ae", "Invalid NG data format", b"c"),
        (b"c dx", "unexpected data at offset 1", b"c"),
        (b"c d1:ai1.5ee", "unexpected data at offset 4", b"c"),
        (b"c d123456:", "unexpected data at offset 1", b"c"),
        (b"c d1:ai12345678901234567890ee", "unexpected data at offset 4", b"c"),
        (b"c d-1:", "unexpected data at offset 1", b"c"),
        (b"c d1:a" + b"l" * 17, "nested deeper than 16", b"c"),
        (b"c d99999:", f"more than {MAX_MESSAGE} bytes", b"c"),
        (b"c " + b"d1:a" + b"4:word" * 12_000, f"more than {MAX_MESSAGE} bytes", b"c"),
        (b'c {"' + b"x" * MAX_MESSAGE, f"more than {MAX_MESSAGE} bytes", b"c"),
        (b"c {" + b" " * MAX_MESSAGE, f"more than {MAX_MESSAGE} bytes", b"c"),
    ],
)
def test_what_is_no_message_is_named(data: bytes, text: str, cookie: bytes) -> None:
    error = refused(data)
    assert (str(error), error.cookie) == (text, cookie)


def test_the_longest_message_passes_and_can_be_decoded() -> None:
    longest = b"c" * MAX_COOKIE + b" d1:a65524:" + b"x" * 65_524 + b"e"
    assert len(longest) == MAX_MESSAGE
    assert cut(longest) == [longest]
    assert len(decode(longest).body["a"]) == 65_524
    assert str(refused(longest[:-1] + b"0:0:e")) == f"more than {MAX_MESSAGE} bytes"
