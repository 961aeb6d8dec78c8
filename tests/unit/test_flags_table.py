"""FLAGS.md against the code: each word the code knows stands there with what becomes of it, and no other word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from control.ng import flags
from control.ng.commands import NOT_DONE
from control.ng.flags import parse_options
from control.ng.takers import LEARNING, plain
from tests.calls import ALICE, Stage, sdp

TEXT = (Path(__file__).parents[2] / "FLAGS.md").read_text()
KEYS, FLAGS, NOT_SERVED, COMMANDS = "Keys", "Flags", "What is not done", "Commands"
VALUES: dict[str, Any] = {
    "replace": flags._REPLACE,
    "ICE": flags._ICE,
    "rtcp-mux": flags._MUX,
    "codec": flags._CODEC,
    "transport-protocol": flags._TRANSPORTS.keys() - {"rtp", "srtp", "avp", "avpf", "dtls"},
}
"""Keys whose words have a table of their own, and these words."""
CODE_SAYS = {
    "works": {"works"},
    "partly": {"works", "partly"},
    "warning": {"warning"},
    "no effect": {"no effect"},
    "unknown": {"unknown"},
}
"""What the code may make of a word, by what the table says of it: a restriction need not show when it is read."""
SAMPLES: dict[str, Any] = {
    "flags": ["strict-source"],
    "rtpp-flags": "strict-source",
    "supports": ["load limit"],
    "all": "all",
    "received-from": ["IP4", "192.0.2.9"],
    "sip-code": 183,
    "replace": ["origin"],
    "ice": "remove",
    "rtcp-mux": ["offer"],
    "transport-protocol": "RTP/AVPF",
    "address-family": "IP6",
    "media-address": "192.0.2.9",
    "tos": 184,
    "codec": {"strip": ["G729"]},
    "ptime": 30,
    "delete-delay": 5,
    "endpoint-learning": "off",
    "limit": 5,
}
"""Values of keys that a word at random would mean nothing to."""


class Row(NamedTuple):
    """One word of a table."""

    table: str
    word: str
    mark: str
    remark: str

    def __str__(self) -> str:
        return f"{self.table}: {self.word}"


def rows() -> Iterator[Row]:
    table = ""
    for line in TEXT.splitlines():
        if line.startswith("#"):
            table = line.strip("# `")
        elif line.startswith("| `"):
            words, *rest = [cell.strip() for cell in line.strip("|").split(" | ")]
            mark, remark = ("warning", rest[0]) if len(rest) == 1 else rest
            yield from (Row(table, word, mark, remark.rstrip("| ")) for word in quoted(words))
    paragraph = re.search(r"^Unknown, .*?\n\n", TEXT, re.MULTILINE | re.DOTALL)
    assert paragraph is not None
    yield from (Row(KEYS, word, "unknown", "") for word in quoted(paragraph.group()))


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


ROWS = list(rows())


def told(*tables: str) -> set[str]:
    """The words of tables that are not said to be unknown, as the code spells them."""
    return {plain(row.word) for row in ROWS if row.table in tables and row.mark != "unknown"}


def outcome(body: dict[str, Any]) -> tuple[str, list[str]]:
    """What the code makes of a request's words, and what it warns of."""
    options = parse_options(body)
    found = vars(options).copy()
    warnings = [*found.pop("unserved", ()), *found.pop("unserved_keys", ())]
    del found["controller"]
    if options.ignored:
        return "unknown", warnings
    if warnings:
        return "partly" if found else "warning", warnings
    return "works" if found else "no effect", warnings


def requests(row: Row) -> Iterator[dict[str, Any]]:
    """All ways to say the word that a row is about."""
    word = plain(row.word)
    if row.table in VALUES:
        yield {row.table: {row.word: ["G729"]} if row.table == "codec" else row.word}
    if row.table == KEYS or (row.table == NOT_SERVED and word in flags._KEYS):
        yield {row.word: SAMPLES.get(word, "word")}
    if row.table == FLAGS or (row.table == NOT_SERVED and word in flags._FLAGS):
        yield {"flags": [row.word]}
    if row.table == NOT_SERVED and word.endswith("-"):
        yield {"flags": [f"{row.word}word"]}


def test_every_key_is_told() -> None:
    assert told(KEYS) | (told(NOT_SERVED) & flags._KEYS.keys()) == flags._KEYS.keys()


def test_every_flag_is_told() -> None:
    values = {plain(f"{key}-{word}") for key in ("replace", "ICE", "rtcp-mux") for word in told(key)}
    values |= {f"endpoint-learning-{word}" for word in LEARNING} | told("transport-protocol") - {"accept", "udptl"}
    assert told(FLAGS) | values | (told(NOT_SERVED) & flags._FLAGS.keys()) == flags._FLAGS.keys()


def test_every_prefix_is_told() -> None:
    prefixes = {word for word in told(NOT_SERVED) if word.endswith("-")}
    assert prefixes | {f"codec-{word}-" for word in told("codec")} == flags._PREFIXES.keys()


@pytest.mark.parametrize("key", VALUES)
def test_every_value_is_told(key: str) -> None:
    assert told(key) == {plain(word) for word in VALUES[key]}


def test_ways_of_learning_are_told() -> None:
    (remark,) = (row.remark for row in ROWS if row.word == "endpoint-learning")
    assert set(quoted(remark)) == LEARNING.keys()


@pytest.mark.parametrize("row", [row for row in ROWS if row.table in (KEYS, FLAGS, NOT_SERVED, *VALUES)], ids=str)
def test_a_word_is_what_the_table_says(row: Row) -> None:
    said = list(requests(row))
    assert said, "no such word"
    for body in said:
        found, warnings = outcome(body)
        assert found in CODE_SAYS[row.mark] or row.word == "command"
        for warning in warnings:
            assert warning.partition(": ")[2] in row.remark


def test_every_command_is_told() -> None:
    assert told(COMMANDS) == {plain(name) for name in (*Stage().commands._handlers, *NOT_DONE)}


@pytest.mark.parametrize("row", [row for row in ROWS if row.table == COMMANDS], ids=str)
def test_a_command_is_what_the_table_says(row: Row) -> None:
    stage = Stage()
    call = {"call_id": "c1", "from_tag": "alice", "sdp": sdp(ALICE)}
    stage.command("offer", **call)
    reply = stage.command(row.word, **call, **({"to_tag": "bob"} if row.word == "answer" else {}))
    if row.mark == "refused":
        assert reply == {"result": "error", "error-reason": row.remark}
    elif row.mark == "warning":
        assert reply == {"result": "ok", "warning": row.remark}
    else:
        assert reply["result"] == ("pong" if row.word == "ping" else "ok")
        assert "warning" not in reply
