"""Conversations about all other commands: deletes, queries, treatments of media, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator

from tests.interop.differential.bodies import CALLEE, CALLER, body, call, media, reply, video
from tests.interop.differential.conversation import (
    Conversation,
    Request,
    Step,
    answer,
    conversation,
    delete,
    offer,
    query,
)
from tests.interop.differential.dialogues import AT_ONCE, CALL, again, and_reply


def of_deletes() -> Iterator[Conversation]:
    """What a delete meets."""
    deletes: dict[str, Request] = {
        "by the caller's tag": delete(),
        "by both tags": delete(to_tag="b"),
        "by both tags reversed": delete(from_tag="b", to_tag="a"),
        "by the callee's tag": delete(from_tag="b"),
        "without tags": delete(from_tag=None),
        "by another tag": delete(from_tag="stranger"),
        "by another to-tag": delete(to_tag="stranger"),
        "by two other tags": delete(from_tag="x", to_tag="y"),
        "with another branch": delete(via_branch="z"),
        "with flags": delete(flags=["trust-address"], ICE="remove", TOS=184, label="x"),
        "fatal": delete(flags=["fatal"]),
        "fatal by another tag": delete(from_tag="stranger", flags=["fatal"]),
        "with the flag to-tag": delete(to_tag="b", flags=["to-tag"]),
    }
    for name, request in deletes.items():
        yield conversation(f"delete {name}", *CALL, request, query())
        yield conversation(f"delete at once {name}", *CALL, {**request, "delete-delay": 0}, query())
        yield conversation(f"delete unanswered {name}", offer(call()), {**request, "delete-delay": 0}, query())
    yield conversation("delete twice", *CALL, delete(), delete(), query())
    yield conversation("delete at once twice", *CALL, delete(**AT_ONCE), delete(**AT_ONCE))
    yield conversation("delete without a body", *CALL, delete(flags=["fast"], **AT_ONCE))
    yield conversation("delete, and its delay", *CALL, delete(delete_delay=3), query(), Step(query(), pause=6))
    yield conversation("delete, then an offer", *CALL, delete(), offer(call()), answer(reply()), query())
    yield conversation("delete at once, then an offer", *CALL, delete(**AT_ONCE), *CALL)
    yield conversation("delete, then an answer", *CALL, delete(), answer(reply()))
    yield conversation("delete with a delay in text", *CALL, delete(delete_delay="0"), query())
    yield conversation("delete with a spaced key", *CALL, {**delete(), "delete delay": 0}, query())


def of_queries() -> Iterator[Conversation]:
    """What is told of a call, and to whom."""
    yield conversation("query after the offer", offer(call()), query())
    yield conversation("query", *CALL, query())
    yield conversation("query by the caller's tag", *CALL, query(from_tag="a"))
    yield conversation("query by both tags", *CALL, query(from_tag="a", to_tag="b"))
    yield conversation("query by the callee's tag", *CALL, query(from_tag="b"))
    yield conversation("query by the to-tag", *CALL, query(to_tag="b"))
    yield conversation("query by another tag", *CALL, query(from_tag="stranger"))
    yield conversation("query with labels", offer(call(), label="x"), answer(reply(), label="y"), query())
    yield conversation("query of a held call", *CALL, again("a=inactive"), and_reply("a=inactive"), query())
    yield conversation(
        "query of two media",
        offer(body(CALLER, media(20000), video(20010))),
        answer(body(CALLEE, media(22000), video(0))),
        query(),
    )
    yield conversation("list", *CALL, {"command": "list"}, {"command": "list", "limit": 1})


def of_treatments() -> Iterator[Conversation]:
    """Commands about the media of a call."""
    for command in (
        "block media",
        "unblock media",
        "silence media",
        "unsilence media",
        "block DTMF",
        "unblock DTMF",
        "start recording",
        "stop recording",
        "pause recording",
        "start forwarding",
        "stop forwarding",
    ):
        yield conversation(f"{command}: the whole call", *CALL, {"command": command})
        yield conversation(
            f"{command}: one party", *CALL, {"command": command, "from-tag": "a", "flags": ["directional"]}
        )
        yield conversation(f"{command}: of no call", {"command": command, "call-id": "nobody's"})
    for selector in ({"address": CALLER}, {"label": "x"}, {"address": "192.0.2.99"}, {"label": "none"}):
        (key,) = selector.items()
        yield conversation(
            f"block media: by {key[0]} {key[1]}",
            offer(call(), label="x"),
            CALL[1],
            {"command": "block media", **selector},
        )
    yield conversation("block media: hyphen", *CALL, {"command": "block-media"})


def of_refusals() -> Iterator[Conversation]:
    """Requests that cannot be done, and how that is said."""
    refused: dict[str, Request | bytes] = {
        "ping": {"command": "ping"},
        "unknown command": {"command": "frobnicate"},
        "no command": {"from-tag": "a"},
        "a command that is a number": {"command": 7},
        "offer without Call-ID": offer(call(), call_id=None),
        "offer without tag": offer(call(), from_tag=None),
        "offer with an empty tag": offer(call(), from_tag=""),
        "offer without SDP": {"command": "offer", "from-tag": "a"},
        "offer with an empty SDP": offer(""),
        "offer of garbage": offer("this is no session description"),
        "offer without v=": offer(call().replace("v=0\r\n", "")),
        "offer without o=": offer("".join(line for line in call().splitlines(True) if line[0] != "o")),
        "offer without s=": offer(call().replace("s=-\r\n", "")),
        "offer without c=": offer("".join(line for line in call().splitlines(True) if line[0] != "c")),
        "offer without m=": offer(call().partition("m=")[0]),
        "offer with a c= of a name": offer(call().replace(f"c=IN IP4 {CALLER}", "c=IN IP4 phone.example")),
        "offer with a c= of another family": offer(call().replace(f"c=IN IP4 {CALLER}", f"c=IN IP6 {CALLER}")),
        "offer with a port too high": offer(call(port=70000)),
        "offer with a port that is none": offer(call().replace("20000", "x")),
        "offer with a short m-line": offer(call().replace("20000 RTP/AVP 0 8 101", "20000")),
        "offer with an o= too short": offer(call().replace(f"o=- 4711 1 IN IP4 {CALLER}", "o=- 1 1")),
        "answer to no call": answer(reply()),
        "answer without to-tag": answer(reply(), to_tag=None),
        "answer without from-tag": answer(reply(), from_tag=None),
        "delete of no call": delete(),
        "delete without Call-ID": delete(call_id=None),
        "delete of no call, fatal": delete(flags=["fatal"]),
        "query of no call": query(),
        "query without Call-ID": query(call_id=None),
        "no dictionary": b"this is neither",
        "a list": b"le",
        "nothing": b"",
        "half a dictionary": b"d7:command4:ping",
        "a dictionary that is broken": b"d7:command99:pinge",
        "JSON": b'{"command": "ping"}',
        "JSON that is broken": b'{"command": ',
        "JSON of no call": b'{"command": "query", "call-id": "nobody\'s"}',
    }
    for name, request in refused.items():
        yield conversation(f"refused, {name}", request)
    yield conversation("refused, an answer by a stranger", offer(call()), answer(reply(), from_tag="x", to_tag="y"))
    yield conversation("refused, an answer without to-tag", offer(call()), answer(reply(), to_tag=None))
    yield conversation("refused, an answer that is garbage", offer(call()), answer("v=0"), answer(reply()))
    yield conversation("refused, the caller answers itself", offer(call()), answer(reply(), to_tag="a"))
    yield conversation("refused, garbage in the middle", *CALL, offer("garbage", to_tag="b"), again(), and_reply())


def conversations() -> Iterator[Conversation]:
    for part in (of_deletes, of_queries, of_treatments, of_refusals):
        yield from part()
