"""Conversations of many steps: re-INVITEs, forks, deletes, queries, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.interop.differential.bodies import CALLEE, CALLER, MUX, OTHER, body, call, ice, media, reply, video
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
from tests.interop.differential.shapes import fax

CALL = (offer(call()), answer(reply()))
SECOND = {"from_tag": "b", "to_tag": "a"}
"""The keys of an offer of the callee, and of the caller's answer to it."""
AT_ONCE = {"delete_delay": 0}


def again(*lines: str, **of_body: Any) -> Request:
    """The caller's re-INVITE."""
    return offer(call(*lines, version=2, **of_body), to_tag="b")


def and_reply(*lines: str, **of_body: Any) -> Request:
    return answer(reply(*lines, version=2, **of_body))


def of_changes() -> Iterator[Conversation]:
    """Re-INVITEs of the caller."""
    changes: dict[str, tuple[Request, ...]] = {
        "nothing": (again(), and_reply()),
        "nothing, twice": (again(), and_reply(), again(), and_reply()),
        "the caller's port": (again(port=20400), and_reply()),
        "the caller's port and back": (again(port=20400), and_reply(), again(), and_reply()),
        "the caller's address": (again(ip=OTHER), and_reply()),
        "the callee's port": (again(), and_reply(port=22400)),
        "the callee's address": (again(), and_reply(ip="10.99.0.44")),
        "both ports": (again(port=20400), and_reply(port=22400)),
        "hold and resume": (
            again("a=sendonly"),
            and_reply("a=recvonly"),
            again("a=sendrecv"),
            and_reply("a=sendrecv"),
        ),
        "hold by inactive": (again("a=inactive"), and_reply("a=inactive"), again(), and_reply()),
        "hold by address": (again(ip="0.0.0.0"), and_reply("a=recvonly"), again(), and_reply()),
        "hold on both sides": (
            again("a=sendonly"),
            and_reply("a=recvonly"),
            offer(reply("a=sendonly", version=3), **SECOND),
            answer(call("a=recvonly", version=3), **SECOND),
        ),
        "hold on another port": (again("a=sendonly", port=20400), and_reply("a=recvonly")),
        "resumed from another port": (again("a=sendonly"), and_reply("a=recvonly"), again(port=20400), and_reply()),
        "codecs": (again(formats="8 101"), and_reply(formats="8 101")),
        "mux given up": (again(), and_reply()),
        "rejected": (again(port=0), and_reply(port=0)),
        "rejected and back": (again(port=0), and_reply(port=0), again(), and_reply()),
        "the offer alone": (again(port=20400), again(port=20500), and_reply()),
        "video added": (
            offer(body(CALLER, media(20000), video(20010), version=2), to_tag="b"),
            answer(body(CALLEE, media(22000), video(22010), version=2)),
        ),
        "video added and removed": (
            offer(body(CALLER, media(20000), video(20010), version=2), to_tag="b"),
            answer(body(CALLEE, media(22000), video(22010), version=2)),
            offer(body(CALLER, media(20000), video(0), version=3), to_tag="b"),
            answer(body(CALLEE, media(22000), video(0), version=3)),
        ),
        "fax and back": (
            offer(body(CALLER, fax(20000), version=2), to_tag="b"),
            answer(body(CALLEE, fax(22000), version=2)),
            again(),
            and_reply(),
        ),
        "fax by the callee": (
            offer(body(CALLEE, fax(22000), version=2), **SECOND),
            answer(body(CALLER, fax(20000), version=2), **SECOND),
        ),
        "fax refused": (
            offer(body(CALLER, media(0), fax(20010), version=2), to_tag="b"),
            answer(body(CALLEE, media(0), fax(0), version=2)),
        ),
        "the callee offers": (offer(reply(version=2), **SECOND), answer(call(version=2), **SECOND)),
        "the callee offers another port": (
            offer(reply(port=22400, version=2), **SECOND),
            answer(call(version=2), **SECOND),
        ),
        "the callee offers, then the caller": (
            offer(reply(version=2), **SECOND),
            answer(call(version=2), **SECOND),
            again(),
            and_reply(),
        ),
        "the callee holds": (
            offer(reply("a=sendonly", version=2), **SECOND),
            answer(call("a=recvonly", version=2), **SECOND),
        ),
    }
    for name, steps in changes.items():
        yield conversation(f"re-INVITE, {name}", *CALL, *steps, query())
    for flag in ("port-latching", "asymmetric", "strict-source", "reset"):
        yield conversation(
            f"re-INVITE with another port, {flag}", *CALL, {**again(port=20400), "flags": [flag]}, and_reply()
        )
    muxed = (offer(call(MUX)), answer(reply(MUX)))
    yield conversation("re-INVITE of a muxed call", *muxed, again(MUX), and_reply(MUX))
    yield conversation("re-INVITE of a muxed call, given up", *muxed, again(), and_reply())
    yield conversation("re-INVITE of a muxed call, another port", *muxed, again(MUX, port=20400), and_reply(MUX))
    agents = (offer(call(*ice(CALLER, 20000))), answer(reply(*ice(CALLEE, 22000))))
    yield conversation("re-INVITE with ICE, another port", *agents, again(*ice(CALLER, 20400), port=20400))
    version = {"replace": ["SDP-version"]}
    yield conversation(
        "re-INVITE, versions counted",
        offer(call(), **version),
        answer(reply(), **version),
        {**again(), **version},
        {**and_reply(), **version},
        {**again("a=sendonly"), **version},
        {**and_reply("a=recvonly"), **version},
    )
    directed = {"direction": ["internal", "external"]}
    yield conversation(
        "re-INVITE, directions remembered", offer(call(), **directed), answer(reply()), again(), and_reply(), query()
    )
    yield conversation(
        "re-INVITE, other directions",
        offer(call(), **directed),
        answer(reply()),
        {**again(), "direction": ["internal", "internal"]},
        and_reply(),
    )


def of_early_media() -> Iterator[Conversation]:
    """Answers before the last one, and offers that come late."""
    yield conversation("provisional, then final", *CALL, answer(reply()), query())
    yield conversation("provisional on another port", *CALL, answer(reply(port=22400)), query())
    yield conversation("provisional and final with other formats", *CALL, answer(reply(formats="0 101")))
    yield conversation("offer repeated", offer(call()), offer(call()), answer(reply()), query())
    yield conversation("answer repeated", *CALL, answer(reply()), answer(reply()))
    yield conversation("late offer", offer(reply(), **SECOND), answer(call(), **SECOND), query(), delete())
    yield conversation(
        "late offer, deleted by the caller",
        offer(reply(), from_tag="b"),
        answer(call(), from_tag="b", to_tag="a"),
        delete(from_tag="a", to_tag="b", **AT_ONCE),
    )
    yield conversation("a re-INVITE of an unknown call", again(), and_reply(), query())


BRANCHES = ({"via_branch": "one"}, {"via_branch": "two"})


def of_forks() -> Iterator[Conversation]:
    """One INVITE, several callees."""
    first, second = answer(reply()), answer(reply(port=22400, ip="10.99.0.44"), to_tag="c")
    yield conversation("two answers without branches", offer(call()), first, second)
    yield conversation("two answers, the first again", offer(call()), first, second, first)
    one, two = BRANCHES
    branches = (
        offer(call(), **one),
        offer(call(), **two),
        answer(reply(), **one),
        answer(reply(port=22400, ip="10.99.0.44"), to_tag="c", **two),
    )
    yield conversation("two branches offered", *branches[:2])
    yield conversation("two branches, one answered", *branches[:3], query())
    yield conversation("two branches, both answered", *branches)
    yield conversation("two branches, one deleted", *branches[:2], delete(**one, **AT_ONCE), branches[3])
    yield conversation("two branches, the first cancelled after", *branches[:3], delete(**two, **AT_ONCE))
    yield conversation("two branches, all deleted", *branches, delete(**AT_ONCE), query())
    yield conversation("a branch that nobody knows, deleted", *branches[:3], delete(via_branch="three", **AT_ONCE))
    yield conversation("one branch", branches[0], branches[2], query(), delete(**one, **AT_ONCE))
    yield conversation(
        "one branch, another one in the BYE", branches[0], branches[2], delete(via_branch="three", **AT_ONCE), query()
    )
    yield conversation(
        "one branch, re-INVITE without it", branches[0], branches[2], again(), and_reply(), delete(**AT_ONCE)
    )


def of_deletes() -> Iterator[Conversation]:
    """What a delete meets (reference 1.7)."""
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
    yield conversation("delete, and its delay", *CALL, delete(delete_delay=1), query(), Step(query(), pause=3.5))
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
    parts = (
        of_changes,
        of_early_media,
        of_forks,
        of_deletes,
        of_queries,
        of_treatments,
        of_refusals,
    )
    for part in parts:
        yield from part()
