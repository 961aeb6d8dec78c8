"""The string of flags, read into keys and values."""

from __future__ import annotations

from typing import Any

import pytest

from control.ng.rtppflags import entries


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  \t ", []),
        ("strict-source", [("flags", "strict-source")]),
        ("a  b\tc", [("flags", "a"), ("flags", "b"), ("flags", "c")]),
        ("label=x", [("label", "x")]),
        ("label=x=y", [("label", "x=y")]),
        ("direction=a direction=b", [("direction", "a"), ("direction", "b")]),
        ("replace=[origin  session-name]", [("replace", ["origin", "session-name"])]),
        ("replace=[]", [("replace", [])]),
        ("a=[b=c d=[e f]] g", [("a", {"b": "c", "d": ["e", "f"]}), ("flags", "g")]),
        ("a=[b=[c=[d]]]", [("a", {"b": {"c": ["d"]}})]),
        ("a=[x..y b--c d=e--f..g]", [("a", {"d": "e=f g"})]),
        ("a=[x..y b--c]", [("a", ["x y", "b=c"])]),
        ("via-branch=z9--x..y", [("via-branch", "z9--x..y")]),
        ("to-tag=x", [("to-tag", "x"), ("flags", "to-tag")]),
        ("from_tag=x", [("from_tag", "x"), ("flags", "directional")]),
        ("to-tag", [("flags", "to-tag")]),
        ("media-address=[2001:db8::1]", [("media-address", ["2001:db8::1"])]),
        ("a= b", [("flags", "b")]),
        ("=b =[c] d=", []),
        ("] a [b c] d ]", [("flags", "a"), ("flags", "d")]),
        ("a=[b", [("a", ["b"])]),
        ("a=[b=[c d", [("a", {"b": ["c", "d"]})]),
    ],
)
def test_entries(text: str, expected: list[tuple[str, Any]]) -> None:
    assert entries(text) == expected


def test_depth_and_number_are_bounded() -> None:
    assert entries("a=[" * 5000 + "x") == entries("a=[" * 10 + "x")
    assert len(entries("a " * 5000)) == 1024
