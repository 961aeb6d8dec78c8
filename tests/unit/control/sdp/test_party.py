"""What a body owes to those before it."""

from __future__ import annotations

import pytest

from control.sdp import parse, rewrite
from control.sdp.model import BodyWishes, RewriteOptions, SessionDescription
from control.sdp.party import Memory, adapt, carry_over, offered, pin, versioned
from relay.types import Endpoint, LocalMedia

LOCAL = LocalMedia(Endpoint("192.0.2.1", 30000))
FIRST = "v=0\no=alice 77 5 IN IP4 10.0.0.1\ns=call\nc=IN IP4 10.0.0.1\nt=0 0\nm=audio 4000 RTP/AVP 0\n"
OTHER = FIRST.replace("alice 77 5", "bob 78 9").replace("s=call", "s=talk")


def session(*attributes: str, sections: int = 1, text: str = FIRST) -> SessionDescription:
    """A body whose last section has these attributes."""
    more = "m=audio 4002 RTP/AVP 8\n" * (sections - 1)
    return parse(text + more + "".join(f"{line}\n" for line in attributes))


def values(found: SessionDescription, name: str) -> list[str | None]:
    """Values of an attribute, by section."""
    placed = [section.attributes.placed.get(name) for section in found.media]
    return [lines[0].partition(":")[2] if lines else None for lines in placed]


def sent(text: str, wishes: BodyWishes, memory: Memory) -> list[str]:
    """The o= and s= lines a party is sent."""
    found = parse(text)
    pin(found, wishes, memory)
    body = versioned(rewrite(found, [LOCAL], RewriteOptions()), found.origin, wishes, memory)
    return body.split("\r\n")[1:3]


@pytest.mark.parametrize(
    ("offer", "answer", "mid"),
    [
        (["a=mid:audio"], ["a=mid:audio"], "audio"),
        (["a=mid:audio"], [], "audio"),
        (["a=mid:audio"], ["a=mid:1"], "audio"),
        ([], ["a=mid:1"], None),
        ([], [], None),
    ],
)
def test_an_answer_has_the_mids_of_its_offer(offer: list[str], answer: list[str], mid: str | None) -> None:
    found = session(*answer)
    carry_over(found, offered(session(*offer), None))
    assert values(found, "mid") == [mid]


@pytest.mark.parametrize(
    ("offer", "answer", "ptime"),
    [
        (["a=ptime:20"], [], "20"),
        (["a=ptime:20"], ["a=ptime:30"], "30"),
        ([], ["a=ptime:30"], "30"),
        ([], [], None),
    ],
)
def test_an_answer_has_a_packet_time_of_its_own_or_its_offers(
    offer: list[str], answer: list[str], ptime: str | None
) -> None:
    found = session(*answer)
    carry_over(found, offered(session(*offer), None))
    assert values(found, "ptime") == [ptime]


def test_only_an_offer_that_says_something_is_remembered_and_a_later_one_replaces_it() -> None:
    assert offered(session(), None) is None
    memory = offered(session("a=mid:x", sections=2), None)
    assert memory is not None
    assert list(memory.mids) == [None, "x"]
    assert offered(session(), memory) is memory
    assert list(memory.mids) == [None]


def test_an_answer_with_more_sections_than_its_offer_is_written() -> None:
    found = session("a=mid:3", sections=3)
    carry_over(found, offered(session("a=mid:1"), None))
    assert values(found, "mid") == ["1", None, None]


def test_mids_are_made_for_sections_that_have_none() -> None:
    found = session("a=mid:2", sections=3)
    assert adapt(found, BodyWishes(generate_mid=True), answer=False) == []
    assert values(found, "mid") == ["1", "3", "2"]
    found = session()
    adapt(found, BodyWishes(generate_mid=True), answer=True)
    assert values(found, "mid") == [None]


def test_a_packet_time_is_written_for_audio_alone() -> None:
    found = session("a=ptime:20", "m=video 5000 RTP/AVP 31", "m=image 5002 udptl t38")
    adapt(found, BodyWishes(ptime=30), answer=False)
    assert values(found, "ptime") == ["30", None, None]


def test_header_extensions_are_taken_out_everywhere() -> None:
    text = FIRST.replace("t=0 0", "t=0 0\na=extmap-allow-mixed\na=extmap:1 urn:x\na=tool:x")
    found = session("a=extmap:2 urn:y", "a=extmap-allow-mixed", "a=x", text=text)
    adapt(found, BodyWishes(strip_extmap=True), answer=False)
    assert [name for name, _ in found.attributes.every] == ["tool"]
    assert [name for name, _ in found.media[0].attributes.every] == ["x"]


@pytest.mark.parametrize(
    ("wishes", "second"),
    [
        (BodyWishes(), ["o=bob 78 9 IN IP4 10.0.0.1", "s=talk"]),
        (BodyWishes(username=True), ["o=alice 78 9 IN IP4 10.0.0.1", "s=talk"]),
        (BodyWishes(session_id=True), ["o=bob 77 9 IN IP4 10.0.0.1", "s=talk"]),
        (BodyWishes(session_name=True), ["o=bob 78 9 IN IP4 10.0.0.1", "s=call"]),
        (
            BodyWishes(username=True, session_id=True, session_name=True, version=True),
            ["o=alice 77 5 IN IP4 10.0.0.1", "s=call"],
        ),
    ],
)
def test_what_stays_as_it_was_first(wishes: BodyWishes, second: list[str]) -> None:
    memory = Memory()
    assert sent(FIRST, wishes, memory) == ["o=alice 77 5 IN IP4 10.0.0.1", "s=call"]
    assert sent(OTHER, wishes, memory) == second


def test_the_version_counts_changes_of_what_is_sent() -> None:
    memory, wishes = Memory(), BodyWishes(version=True)
    changed = FIRST + "a=x\n"
    versions = [
        sent(text, wishes, memory)[0].split()[2]
        for text in (FIRST, FIRST, FIRST.replace("77 5", "77 9"), changed, changed, FIRST)
    ]
    assert versions == ["5", "5", "5", "6", "6", "7"]


def test_the_version_counts_each_body_where_that_is_asked_for() -> None:
    memory, wishes = Memory(), BodyWishes(version=True, force_version=True)
    assert [sent(FIRST, wishes, memory)[0].split()[2] for _ in range(3)] == ["5", "6", "7"]


@pytest.mark.parametrize(
    ("version", "second"), [("18446744073709551615", "18446744073709551616"), ("x", "1"), ("9" * 30, "1"), ("-4", "1")]
)
def test_versions_of_any_size(version: str, second: str) -> None:
    memory, wishes = Memory(), BodyWishes(version=True)
    sent(FIRST.replace("77 5", f"77 {version}"), wishes, memory)
    assert sent(FIRST + "a=x\n", wishes, memory)[0] == f"o=alice 77 {second} IN IP4 10.0.0.1"


def test_names_beyond_all_measure_are_not_remembered() -> None:
    long = "x" * 200
    memory, wishes = Memory(), BodyWishes(username=True, session_id=True, session_name=True)
    sent(FIRST.replace("alice", long).replace("s=call", f"s={long}"), wishes, memory)
    assert (memory.username, memory.session_id, memory.name) == (None, None, None)
    assert sent(OTHER, wishes, memory) == ["o=bob 78 9 IN IP4 10.0.0.1", "s=talk"]
    assert offered(session(f"a=mid:{long}"), None) is None
    found = session(f"a=mid:{long}")
    carry_over(found, None)
    assert values(found, "mid") == [long]


def test_a_user_with_blanks_in_its_name_keeps_it() -> None:
    memory, wishes = Memory(), BodyWishes(version=True)
    text = FIRST.replace("o=alice", "o=Desk Phone")
    sent(text, wishes, memory)
    assert sent(text + "a=x\n", wishes, memory)[0] == "o=Desk Phone 77 6 IN IP4 10.0.0.1"


def test_a_body_without_origin_has_none_to_pin() -> None:
    memory, wishes = Memory(), BodyWishes(username=True, session_id=True, version=True)
    text = FIRST.replace("o=alice 77 5 IN IP4 10.0.0.1\n", "")
    assert sent(text, wishes, memory) == ["s=call", "t=0 0"]
