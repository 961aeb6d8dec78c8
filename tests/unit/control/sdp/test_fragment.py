"""Fragments of SDP that bring candidates."""

from __future__ import annotations

import pytest

from control.sdp import SdpError
from control.sdp.fragment import without_candidates

FRAGMENT = (
    "a=ice-ufrag:8hhY\r\na=ice-pwd:asd88fgpdd777uzjYhagZg\r\nm=audio 9 RTP/AVP 0\r\na=mid:1\r\n"
    "a=candidate:1 1 UDP 2130706431 10.0.0.1 5000 typ host\r\na=end-of-candidates\r\n"
)
RELAYED = FRAGMENT.replace("a=candidate:1 1 UDP 2130706431 10.0.0.1 5000 typ host\r\n", "")


@pytest.mark.parametrize(
    "given",
    [FRAGMENT, FRAGMENT.encode(), FRAGMENT.replace("\r\n", "\n"), "\r\n" + FRAGMENT.replace("\r\n", " \r\n\r\n")],
)
def test_candidates_of_a_party_do_not_pass(given: str | bytes) -> None:
    assert without_candidates(given) == RELAYED


def test_an_empty_fragment_stays_empty() -> None:
    assert without_candidates("") == ""


@pytest.mark.parametrize(
    ("given", "detail"),
    [
        ("a=mid:1\r\nhello", "line 2: not an SDP line"),
        ("=x", "line 1: not an SDP line"),
        ("a=\0", "3 characters, or a zero byte among them"),
        (b"\xff", "line 1: not an SDP line"),
        ("a=" + "x" * 70_000, "70002 characters, or a zero byte among them"),
    ],
)
def test_what_is_no_fragment(given: str | bytes, detail: str) -> None:
    with pytest.raises(SdpError) as caught:
        without_candidates(given)
    assert str(caught.value) == "Failed to parse SDP"
    assert caught.value.detail == detail
