"""The journal under random damage: what was not touched is found, and nothing else."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from control.journal.files import JournalFiles
from control.journal.format import Frame, Header, Kind, Scanner, frame, opening, read_header, read_reply
from relay.errors import HairpinError

OPENING = opening(Header("boot", 1, "0.1"))
names = st.sampled_from([b"a", b"b", b"c", b"\xff\xfe", b"d" * 300])
bodies = st.binary(max_size=200) | st.just(frame(Kind.CALL, b"a", b"within another")[1:])
written = st.lists(
    st.tuples(st.sampled_from([Kind.CALL, Kind.CALL, Kind.GONE, Kind.REPLY]), names, bodies), min_size=1, max_size=12
)
changes = st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=30)), max_size=4)


def scan(data: bytes, step: int) -> list[Frame]:
    scanner, found = Scanner(), []
    for at in range(0, len(data), step):
        found += scanner.feed(data[at : at + step], at + step >= len(data), bodies=True)
    return found


@given(written, changes, st.integers(0, 1 << 20), st.sampled_from([50, 333, 1 << 20]))
def test_frames_that_were_not_touched_are_found(
    frames: list[tuple[Kind, bytes, bytes]], damage: list[tuple[int, bytes]], cut: int, step: int
) -> None:
    data = bytearray(OPENING)
    places = []
    for kind, key, body in frames:
        places.append((len(data), len(data) + len(frame(kind, key, body)), (kind, key, body)))
        data += frame(kind, key, body)
    before = bytes(data)
    for at, junk in damage:
        at %= len(data)
        data[at : at + len(junk)] = junk[: len(data) - at]
    del data[len(data) - cut % 200 :]
    after = bytes(data)
    whole = [what for start, end, what in places if before[start:end] == after[start:end]]
    assert [(one.kind, one.key, one.body) for one in scan(after, step) if one.kind != Kind.HEADER] == whole


@given(written, st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 100), st.binary(max_size=30)), max_size=4))
def test_a_start_survives_any_file_and_leaves_what_it_cannot_read(
    frames: list[tuple[Kind, bytes, bytes]], damage: list[tuple[int, int, bytes]]
) -> None:
    data = bytearray(OPENING + b"".join(frame(*one) for one in frames))
    for at, length, junk in damage:
        at %= len(data) + 1
        data[at : at + length] = junk
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in ("calls", "replies"):
            (folder / f"{kind}-00000001").write_bytes(data)
        files = JournalFiles(folder, Header(), floor=0)
        _, _, problems = files.read(time.time())
        assert files.index.keys() <= {key for _, key, _ in frames}
        assert all(str(folder) in problem for problem in problems)
        kept = set(files.index)
        files.write({"new": b"x" * 5000}, [])
        files.write({"new": b"x"}, [])
        while files.tidy():
            pass
        files.close()
        again = JournalFiles(folder, Header())
        again.read(time.time())
        assert set(again.index) == kept | {b"new"}
        again.close()


@given(st.binary(max_size=300))
def test_no_body_breaks_what_reads_it(data: bytes) -> None:
    assert isinstance(read_header(data), Header)
    try:
        read_reply(Frame(Kind.REPLY, b"c", 0, 0, data))
    except HairpinError:
        return
