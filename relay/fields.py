"""What stands in a list that came from outside, taken field by field: each of the type and size it has to be.

Fields are known by their places. A list may be longer than what is taken of it: a later version adds at the end.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from math import isfinite
from typing import NoReturn

from relay.errors import SnapshotError
from relay.types import Endpoint

__all__ = ["Fields"]

MAX_TEXT = 1 << 16
"""Characters of a text: what a command can bring."""
MAX_ADDRESS = 45
MAX_WHOLE = 1 << 53
"""A whole number that any reader of JSON keeps exact."""


class Fields:
    """A cursor over one list. All methods take the next field and raise SnapshotError, which says where it stands."""

    __slots__ = ("_at", "_name", "_parent", "_values")

    def __init__(self, values: object, name: str, parent: Fields | None = None) -> None:
        self._name = name
        self._parent = parent
        self._at = 0
        self._values: list[object] = []
        if not isinstance(values, list):
            self.refuse("is no list")
        self._values = values

    def refuse(self, why: str, field: str = "") -> NoReturn:
        """Say that a field, or the list itself, is not what it has to be."""
        names = [field] if field else []
        place: Fields | None = self
        while place is not None:
            names.insert(0, place._name)
            place = place._parent
        raise SnapshotError(f"{': '.join(names)} {why}")

    def _next(self, name: str) -> object:
        if self._at >= len(self._values):
            self.refuse("is missing", name)
        self._at += 1
        return self._values[self._at - 1]

    def anything(self, name: str) -> object:
        """A value that others judge."""
        return self._next(name)

    def whole(self, name: str, low: int = 0, high: int = MAX_WHOLE) -> int:
        """A whole number."""
        value = self._next(name)
        if type(value) is not int or not low <= value <= high:
            self.refuse(f"is no number from {low} to {high}", name)
        return value

    def maybe_whole(self, name: str, low: int = 0, high: int = MAX_WHOLE) -> int | None:
        """A whole number or null."""
        return None if self._skips_null() else self.whole(name, low, high)

    def number(self, name: str) -> float:
        """A finite number."""
        value = self._next(name)
        if type(value) is not float and type(value) is not int:
            self.refuse("is no number", name)
        assert isinstance(value, (int, float))
        if not isfinite(value) or abs(value) > MAX_WHOLE:
            self.refuse("is too large a number", name)
        return float(value)

    def maybe_number(self, name: str) -> float | None:
        """A finite number or null."""
        return None if self._skips_null() else self.number(name)

    def text(self, name: str) -> str:
        """A text."""
        value = self._next(name)
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            self.refuse("is no text, or too long", name)
        return value

    def maybe_text(self, name: str) -> str | None:
        """A text or null."""
        return None if self._skips_null() else self.text(name)

    def address(self, name: str) -> str:
        """An IP address as this relay writes it."""
        return self._address(self._next(name), name)

    def maybe_address(self, name: str) -> str | None:
        """The same or null."""
        return None if self._skips_null() else self.address(name)

    def endpoint(self, name: str) -> Endpoint:
        """An IP address and a port."""
        value = self._next(name)
        if not isinstance(value, list) or len(value) != 2:
            self.refuse("is no address with a port", name)
        port = value[1]
        if type(port) is not int or not 0 < port < 65536:
            self.refuse("has no port from 1 to 65535", name)
        return Endpoint(self._address(value[0], name), port)

    def maybe_endpoint(self, name: str) -> Endpoint | None:
        """The same or null."""
        return None if self._skips_null() else self.endpoint(name)

    def items(self, name: str, most: int) -> list[object]:
        """A list of at most so many values."""
        value = self._next(name)
        if not isinstance(value, list) or len(value) > most:
            self.refuse(f"is no list of at most {most}", name)
        return value

    def fields(self, name: str) -> Fields:
        """A list to be taken field by field."""
        return Fields(self._next(name), name, self)

    def maybe_fields(self, name: str) -> Fields | None:
        """The same or null."""
        return None if self._skips_null() else self.fields(name)

    def each(self, name: str, most: int) -> list[Fields]:
        """A list of such lists."""
        return [Fields(value, f"{name} {number}", self) for number, value in enumerate(self.items(name, most), 1)]

    def wholes(self, high: int) -> list[int]:
        """All that is left, whole numbers."""
        return [self.whole("number", 0, high) for _ in self._values[self._at :]]

    def _skips_null(self) -> bool:
        """Whether the next field is null, which then is taken."""
        if self._at < len(self._values) and self._values[self._at] is None:
            self._at += 1
            return True
        return False

    def _address(self, value: object, name: str) -> str:
        if not isinstance(value, str) or len(value) > MAX_ADDRESS or not _is_address(value):
            self.refuse("is no IP address", name)
        return value


@lru_cache(maxsize=4096)
def _is_address(text: str) -> bool:
    """Whether a text is an IP address in canonical form, without a scope."""
    try:
        return str(ip_address(text)) == text and "%" not in text
    except ValueError:
        return False
