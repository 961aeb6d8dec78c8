"""What the documents name is there: options, commands, files, modules and numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from control.config import options
from control.config.foreign import FOREIGN
from control.ng import rtppflags, stream, web
from control.ops.cli import COMMANDS
from control.sdp.parse import MAX_FORMATS, MAX_LINES, MAX_MEDIA, MAX_SIZE
from relay.call import MAX_NAMES
from relay.dataplane import abi
from relay.registry import MAX_BRANCHES

ROOT = Path(__file__).parents[2]
PATHS = sorted([*ROOT.glob("*.md"), ROOT / "bench/README.md"])
DOCUMENTS = {str(path.relative_to(ROOT)): path.read_text() for path in PATHS}
FLAGS, HOUSE = DOCUMENTS["FLAGS.md"], DOCUMENTS["ARCHITECTURE.md"]
ELSEWHERE = {
    *("config-file", "config-section", "json", "wait", "force", "patience", "quick", "rate", "against", "profile")
}
"""Options that are not of the table: of `hairpin run` itself, of the operators' commands, and of the benches."""
WORDS = {*COMMANDS, "run", "check-config", "version", "help"}


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


def test_bound_of_a_string_of_flags_is_that_of_the_code() -> None:
    assert f"at most {rtppflags.MAX_TOKENS:,} words in `rtpp-flags`" in FLAGS
