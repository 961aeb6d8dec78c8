"""How an option is declared: a field of a dataclass that carries what people need to know to give it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from control.config.readers import whole

__all__ = ["SECONDS", "Option", "option"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Option:
    """How one field of `Config` is given by people."""

    read: Callable[[str], Any]
    help: str
    metavar: str | None = None
    """None for a switch, which takes no value."""
    short: str | None = None
    shown: str = ""
    """The default in words, where the value alone would not say it."""
    repeat: bool = False
    """A list: given several times on the command line, or with `;` or `,` between its values."""
    live: bool = False
    """SIGHUP takes a changed value over; others need a restart."""
    secret: bool = False
    """May hold a password, before its last @, which is repeated nowhere."""

    def repeated(self, text: str) -> str:
        """A value as it may be told again, as in what is wrong with it."""
        return text.rpartition("@")[2] if self.secret else text


def option(default: T, read: Callable[[str], T], help: str, metavar: str | None = None, **more: Any) -> T:
    """A field of `Config`; typed as its default so that the class reads as plain annotations."""
    declared: T = field(default=default, metadata={"option": Option(read, help, metavar, **more)})
    return declared


SECONDS = whole(0, None, "whole seconds")
