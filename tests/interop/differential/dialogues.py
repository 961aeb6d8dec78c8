"""Conversations of many steps: re-INVITEs, forks, deletes, queries, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.interop.differential.bodies import CALLEE, CALLER, MUX, OTHER, body, call, ice, media, reply, video
from tests.interop.differential.conversation import (
    Conversation,
    Request,
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
    yield conversation("re-INVITE, reset", *CALL, {**again(), "flags": ["reset"]}, and_reply(), query())
    yield conversation("re-INVITE, reset, refused", *CALL, {**again(port=20400), "flags": ["reset"]}, query())
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


def of_transfers() -> Iterator[Conversation]:
    """Parties that come and go under one Call-ID."""
    to_the_caller = {"from_tag": "c", "to_tag": "a"}
    third = call(ip=OTHER, port=20800)
    yield conversation(
        "a third party calls the caller", *CALL, offer(third, **to_the_caller), answer(call(version=2), **to_the_caller)
    )
    yield conversation(
        "a third party is called",
        *CALL,
        offer(call(version=2), to_tag="c"),
        answer(reply(port=22800), to_tag="c"),
        query(),
    )
    yield conversation(
        "deleted, then another callee",
        *CALL,
        delete(to_tag="b", **AT_ONCE),
        offer(call(version=2)),
        answer(reply(port=22800), to_tag="c"),
        query(),
    )
    yield conversation(
        "both offer at once",
        *CALL,
        again(port=20400),
        offer(reply(port=22400, version=2), **SECOND),
        answer(call(port=20400, version=3), **SECOND),
        and_reply(port=22400),
    )
    yield conversation(
        "a refused re-INVITE",
        *CALL,
        again(port=20400),
        again(),
        and_reply(),
        query(),
    )
    yield conversation(
        "an update before the answer",
        offer(call()),
        answer(reply("a=inactive")),
        offer(reply(version=2), **SECOND),
        answer(call(version=2), **SECOND),
        answer(reply(version=3)),
    )
    yield conversation(
        "a dialogue beside the first",
        *CALL,
        offer(third, from_tag="x"),
        answer(reply(port=22800), from_tag="x", to_tag="y"),
    )


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


def of_forks_in_turn() -> Iterator[Conversation]:
    """Callees that are tried one after the other, and what becomes of those that answered."""
    one, two = BRANCHES
    second = answer(reply(port=22400, ip="10.99.0.44"), to_tag="c")
    yield conversation(
        "in turn, with branches",
        offer(call(), **one),
        delete(**one, **AT_ONCE),
        offer(call(), **two),
        {**second, "via-branch": "two"},
        query(),
    )
    yield conversation(
        "in turn, without branches", offer(call()), delete(**AT_ONCE), offer(call()), second, query(), delete(**AT_ONCE)
    )
    yield conversation(
        "in turn, with a delay",
        offer(call(), **one),
        delete(**one),
        offer(call(), **two),
        {**second, "via-branch": "two"},
    )
    yield conversation(
        "a re-INVITE in a branch",
        offer(call(), **one),
        answer(reply(), **one),
        {**again("a=sendonly"), "via-branch": "one"},
        {**and_reply("a=recvonly"), "via-branch": "one"},
    )
    yield conversation(
        "a re-INVITE in the second branch",
        offer(call(), **one),
        offer(call(), **two),
        answer(reply(), **one),
        {**second, "via-branch": "two"},
        offer(call(version=2), to_tag="c"),
        answer(reply(port=22400, ip="10.99.0.44", version=2), to_tag="c"),
    )
    yield conversation(
        "a re-INVITE of the callee in a branch",
        offer(call(), **one),
        answer(reply(), **one),
        offer(reply(version=2), **SECOND),
        answer(call(version=2), **SECOND),
        delete(from_tag="b", to_tag="a", **AT_ONCE),
    )
    yield conversation(
        "the callee of a branch hangs up",
        offer(call(), **one),
        offer(call(), **two),
        answer(reply(), **one),
        delete(from_tag="b", to_tag="a", **AT_ONCE),
        query(),
    )


def conversations() -> Iterator[Conversation]:
    parts = (
        of_changes,
        of_early_media,
        of_transfers,
        of_forks,
        of_forks_in_turn,
    )
    for part in parts:
        yield from part()
