"""Fields of lists from outside: the right types and sizes pass, all others are named with their place."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from relay.errors import SnapshotError
from relay.fields import MAX_TEXT, Fields
from relay.types import Endpoint

Take = Callable[[Fields], object]


@pytest.mark.parametrize(
    ("value", "take", "found"),
    [
        (7, lambda row: row.whole("x", 7, 7), 7),
        (None, lambda row: row.maybe_whole("x"), None),
        (0, lambda row: row.maybe_whole("x"), 0),
        (7, lambda row: row.number("x"), 7.0),
        (-0.5, lambda row: row.maybe_number("x"), -0.5),
        (None, lambda row: row.maybe_number("x"), None),
        ("", lambda row: row.text("x"), ""),
        (None, lambda row: row.maybe_text("x"), None),
        ("2001:db8::1", lambda row: row.address("x"), "2001:db8::1"),
        (["192.0.2.1", 65535], lambda row: row.maybe_endpoint("x"), Endpoint("192.0.2.1", 65535)),
        (None, lambda row: row.maybe_endpoint("x"), None),
        ([1, 2], lambda row: row.items("x", 2), [1, 2]),
        ([1, 2], lambda row: row.fields("x").wholes(2), [1, 2]),
        ([[1], [2]], lambda row: [one.whole("y") for one in row.each("x", 2)], [1, 2]),
        ({"any": "thing"}, lambda row: row.anything("x"), {"any": "thing"}),
    ],
)
def test_what_is_right_is_taken(value: object, take: Take, found: object) -> None:
    row = Fields([value, "and more"], "row")
    assert take(row) == found
    assert row.text("rest") == "and more"


@pytest.mark.parametrize(
    ("value", "take", "text"),
    [
        (8, lambda row: row.whole("x", 0, 7), "row: x is no number from 0 to 7"),
        (True, lambda row: row.whole("x", 0, 7), "row: x is no number from 0 to 7"),
        (1.0, lambda row: row.whole("x", 0, 7), "row: x is no number from 0 to 7"),
        (False, lambda row: row.number("x"), "row: x is no number"),
        (float("nan"), lambda row: row.number("x"), "row: x is too large a number"),
        (float("inf"), lambda row: row.number("x"), "row: x is too large a number"),
        (5, lambda row: row.text("x"), "row: x is no text, or too long"),
        ("x" * (MAX_TEXT + 1), lambda row: row.text("x"), "row: x is no text, or too long"),
        ("2001:DB8::1", lambda row: row.address("x"), "row: x is no IP address"),
        ("fe80::1%eth0", lambda row: row.address("x"), "row: x is no IP address"),
        ("1" * 46, lambda row: row.address("x"), "row: x is no IP address"),
        (["192.0.2.1"], lambda row: row.endpoint("x"), "row: x is no address with a port"),
        (["192.0.2.1", True], lambda row: row.endpoint("x"), "row: x has no port from 1 to 65535"),
        ([1, 2, 3], lambda row: row.items("x", 2), "row: x is no list of at most 2"),
        ("list", lambda row: row.fields("x"), "row: x is no list"),
        ([[1], 2], lambda row: row.each("x", 2), "row: x 2 is no list"),
        ([["?"]], lambda row: row.each("x", 2)[0].whole("y"), f"row: x 1: y is no number from 0 to {1 << 53}"),
    ],
)
def test_what_is_wrong_is_named(value: object, take: Take, text: str) -> None:
    with pytest.raises(SnapshotError) as error:
        take(Fields([value], "row"))
    assert str(error.value) == text


def test_what_is_missing_is_named() -> None:
    with pytest.raises(SnapshotError, match=r"^row: x is missing$"):
        Fields([], "row").maybe_text("x")
