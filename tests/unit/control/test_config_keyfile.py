"""GLib's key files: sections, lines, escapes, and what stands twice."""

from __future__ import annotations

import pytest

from control.config.keyfile import Entry, KeyFile, escape, unescape


def test_sections_of_one_name_are_one() -> None:
    file = KeyFile("x = outside\n[a]\nb=1\n[ c ]\nd = 2\n\n# note\n; note\n[a]\ne =  3 = 4  \n")
    assert list(file) == ["a", "c"]
    assert file.section("a").entries == [Entry(3, "b", "1"), Entry(10, "e", "3 = 4")]
    assert file.section("c").entries == [Entry(5, "d", "2")]
    assert file.section("none").entries == []


def test_windows_line_ends_are_no_part_of_values() -> None:
    assert KeyFile("[a]\r\nb = 1\r\n").section("a").entries == [Entry(2, "b", "1")]


def test_what_is_wrong_is_told_by_line_and_the_rest_is_read() -> None:
    found = KeyFile("[a]\nwords\n= 5\nb = \\x\nc = 1\nc = 2\nd =\n").section("a")
    assert found.entries == [Entry(6, "c", "2"), Entry(7, "d", "")]
    assert found.problems == [
        (2, "expected `option = value`, a [section] or a # comment"),
        (3, "expected `option = value`, a [section] or a # comment"),
        (4, "b = \\x: has an unknown escape \\x; a backslash itself is written \\\\"),
    ]
    assert found.warnings == [(6, "c", "c is given twice: this one counts, not line 5")]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"a\sb", "a b"),
        (r"\s\n\t\r", " \n\t\r"),
        (r"a\\b", r"a\b"),
        (r"a\;b", "a;b"),
        ("plain = 1", "plain = 1"),
        (r"\\s", r"\s"),
    ],
)
def test_escapes(written: str, meant: str) -> None:
    assert unescape(written) == meant


@pytest.mark.parametrize("bad", ["\\", "a\\", "\\q", "\\\\\\"])
def test_bad_escapes(bad: str) -> None:
    with pytest.raises(ValueError, match="has an unknown escape"):
        unescape(bad)


@pytest.mark.parametrize("text", ["", " ", "  ", " a b ", "a\\b\n\t\r", "\\s", "[x]", "# x"])
def test_what_is_written_reads_back(text: str) -> None:
    assert KeyFile(f"[a]\nb = {escape(text)}").section("a").entries == [Entry(2, "b", unescape(escape(text)))]
    assert unescape(escape(text)) == text
