"""Flags that the configuration has ready: which hold for a request, and that its own come first."""

from __future__ import annotations

from typing import Any

import pytest

from control.ng.templates import Templates, flawed
from relay.types import Learning

TEXTS = {
    "default": "endpoint-learning=off TOS=8",
    "offer": "ICE=remove TOS=16 direction=in direction=out",
    "block media": "all",
    "special": "TOS=32 strict-source",
}


def read(texts: dict[str, str] = TEXTS, /, **body: Any) -> Any:
    return Templates(texts).options({key.replace("_", "-"): value for key, value in body.items()}, "192.0.2.9")


def test_the_default_holds_for_all_commands() -> None:
    options = read(command="delete")
    assert (options.learning, options.tos, options.rewriting().remove_ice) == (Learning.OFF, 8, False)
    assert options.controller == "192.0.2.9"


def test_that_of_the_command_comes_before_the_default() -> None:
    options = read(command="offer")
    assert (options.learning, options.tos, options.rewriting().remove_ice) == (Learning.OFF, 16, True)
    assert options.direction == ("in", "out")


def test_the_named_one_comes_before_that_of_the_command() -> None:
    options = read(command="offer", template="special")
    assert (options.tos, options.strict_source, options.rewriting().remove_ice) == (32, True, True)


def test_what_the_request_says_comes_first() -> None:
    options = read(command="offer", template="special", TOS=64, ICE="default", endpoint_learning="immediate")
    assert (options.tos, options.learning, options.rewriting().remove_ice) == (64, Learning.IMMEDIATE, False)
    assert options.strict_source


def test_a_request_names_one_in_its_string_of_flags_too() -> None:
    assert read(command="answer", rtpp_flags="template=special TOS=1").strict_source
    assert read(command="answer", flags=["template=special"]).tos == 32


@pytest.mark.parametrize("command", ["block media", "block-media", "BLOCK_media"])
def test_commands_are_known_in_all_spellings(command: str) -> None:
    assert read(command=command).whole_call


def test_one_that_nobody_wrote_is_warned_of() -> None:
    options = read(command="offer", template="speciall")
    assert options.unserved == ("there is no template speciall in the configuration",)
    assert options.tos == 16
    assert read({}, command="offer", template="x" * 999).unserved == (
        f"there is no template {'x' * 50} in the configuration",
    )


def test_without_any_a_request_is_read_as_it_stands() -> None:
    options = read({}, command="offer", TOS=64)
    assert (options.tos, options.unserved) == (64, ())


def test_flaws_are_told_by_name() -> None:
    assert list(flawed(TEXTS)) == []
    (unknown, undone) = flawed({"good": "ICE=remove", "odd": "no-such-flag", "much": "ICE=force"})
    assert unknown == "template odd: 1 of its flags are not known here and do nothing"
    assert undone.startswith("template much: ")
