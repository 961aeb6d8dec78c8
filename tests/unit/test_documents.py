"""What the documents name is there: options, commands, files, modules, numbers, and what the relay says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.config import options
from control.config.foreign import FOREIGN
from control.config.load import examine
from control.ng import rtppflags, stream, web
from control.ops.cli import COMMANDS
from control.sdp.parse import MAX_FORMATS, MAX_LINES, MAX_MEDIA, MAX_SIZE
from relay.call import MAX_NAMES
from relay.dataplane import abi
from relay.registry import MAX_BRANCHES

ROOT = Path(__file__).parents[2]
PATHS = sorted([*ROOT.glob("*.md"), ROOT / "bench/README.md", ROOT / "deploy/PAIR.md"])
DOCUMENTS = {str(path.relative_to(ROOT)): path.read_text() for path in PATHS}
FLAGS, HOUSE = DOCUMENTS["FLAGS.md"], DOCUMENTS["ARCHITECTURE.md"]
ELSEWHERE = {
    *("config-file", "config-section", "json", "wait", "force", "patience", "quick", "rate", "against", "profile"),
    *("case", "replicated", "standing", "rounds"),
    *("now", "signal", "no-auth-warning"),
}
"""Options that are not of the table: of `hairpin run` itself, of operators' commands, of benches, of other programs."""
WORDS = {*COMMANDS, "run", "supervise", "flush", "check-config", "version", "help"}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_options_exist(name: str) -> None:
    known = {option for option, _, _ in options()} | ELSEWHERE | set(FOREIGN)
    assert set(re.findall(r"(?<![\w-])--([a-z][a-z0-9-]+)", DOCUMENTS[name])) <= known


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_exist(name: str) -> None:
    assert set(re.findall(r"(?:^    |`|/|sudo )hairpin ([a-z][a-z-]+)", DOCUMENTS[name], re.MULTILINE)) <= WORDS


@pytest.mark.parametrize("name", DOCUMENTS)
def test_make_targets_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^    |`)make ([a-z]+)", DOCUMENTS[name], re.MULTILINE)) <= targets


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_exist(name: str) -> None:
    named = re.findall(r"`((?:bench|control|deploy|ebpf|relay|tests)/[\w./-]*)`|\b([A-Z]{4,}\.md)\b", DOCUMENTS[name])
    assert [path for pair in named if (path := "".join(pair)) and not (ROOT / path).exists()] == []


@pytest.mark.parametrize(("folder", "suffix"), [("ebpf", ".h"), ("relay", ".py"), ("control", ".py")])
def test_every_module_and_header_has_its_place_in_the_house(folder: str, suffix: str) -> None:
    (house,) = re.findall(rf"^{folder}/.*\n(?: .*\n)+", HOUSE, re.MULTILINE)
    names = {path.stem for path in (ROOT / folder).rglob(f"*{suffix}")} - {"__init__"}
    assert {name for name in names if not re.search(rf"\b{name}\b", house)} == set()


@pytest.mark.parametrize(
    ("row", "numbers"),
    [
        ("ports", (MAX_MEDIA,)),
        ("body", (MAX_SIZE, MAX_LINES, MAX_FORMATS)),
        ("a Call-ID", (MAX_BRANCHES, MAX_NAMES)),
        ("IPv6 addresses of parties", (abi.PEERS - 1,)),
        ("connections", (stream.MAX_CONNECTIONS, web.MAX_CONNECTIONS)),
    ],
)
def test_limits_are_those_of_the_code(row: str, numbers: tuple[int, ...]) -> None:
    (line,) = re.findall(rf"^\| {row} \| (.*) \|$", FLAGS, re.MULTILINE)
    assert [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", line)] == list(numbers)


CODE = [ast.parse(path.read_text()) for folder in ("relay", "control") for path in (ROOT / folder).rglob("*.py")]
RUNBOOK = [
    re.split(r" ?… ?", text)
    for cell in re.findall(r"^\| (`.*?`) \|", DOCUMENTS["deploy/PAIR.md"].partition("## Runbook")[2], re.MULTILINE)
    for text in re.findall("`(.*?)`", cell)
]
"""Texts of its rows, as the parts between what is filled in."""


def said() -> Iterator[str]:
    """All that the code may say, with … for what is filled in."""
    for node in (node for tree in CODE for node in ast.walk(tree)):
        if isinstance(node, ast.JoinedStr | ast.Constant):
            yield wording(node)


def wording(node: ast.AST) -> str:
    """A text as the code has it."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    found = node.value if isinstance(node, ast.Constant) else ""
    return re.sub(r"%[sd]|%\.\df|\{\}", "…", found) if isinstance(found, str) else ""


def errors() -> Iterator[str]:
    """What is logged as an error by a relay that runs."""
    for node in (node for tree in CODE for node in ast.walk(tree)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("log.error", "_log.error"):
            yield wording(node.args[0])


def test_the_runbook_has_what_the_relay_says() -> None:
    texts = list(said())
    assert len(RUNBOOK) > 30
    assert [parts for parts in RUNBOOK if not all(any(part in text for text in texts) for part in parts)] == []


def test_the_runbook_has_all_errors() -> None:
    filled_in = {"", "…"}
    told = {error for error in errors() for parts in RUNBOOK if all(part in error for part in parts)}
    assert set(errors()) - told - filled_in == set()


def test_samples_of_a_pair_are_mirror_images() -> None:
    one, other = (examine([f"--config-file={ROOT}/deploy/pair/relay{number}.conf"]) for number in (1, 2))
    assert one.warnings == other.warnings == []
    assert one.config.subscribe_keyspace == (other.config.keyspace,)
    assert other.config.subscribe_keyspace == (one.config.keyspace,)
    assert {given.address: given.keyspace for given in one.config.interface} == {"198.51.100.1": -1, "198.51.100.2": 2}
    assert {given.address: given.keyspace for given in other.config.interface} == {
        "198.51.100.2": -1,
        "198.51.100.1": 1,
    }
    assert one.config.redis_sentinel == other.config.redis_sentinel != ()


def test_bound_of_a_string_of_flags_is_that_of_the_code() -> None:
    assert f"at most {rtppflags.MAX_TOKENS:,} words in `rtpp-flags`" in FLAGS
