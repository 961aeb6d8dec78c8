"""What a datagram is taken for, what blocking and silence make of it, and the books of what arrived."""

from __future__ import annotations

import struct

import pytest

from relay.dataplane.userspace.payload import Kind, classify, read_header, treat
from relay.dataplane.userspace.reception import Reception, RtpHeader
from relay.types import Carries, Endpoint, Rule, StreamState, Treatment

LOCAL, OTHER = Endpoint("192.0.2.1", 30000), Endpoint("192.0.2.1", 30010)
BOTH = Carries.RTP | Carries.RTCP
PCMU = ((0, 8000),)


def rtp(payload_type: int = 0, first: int = 0x80, rest: bytes = b"voice") -> memoryview:
    return memoryview(bytearray(struct.pack("!BBHII", first, payload_type, 1, 160, 0x5EED) + rest))


@pytest.mark.parametrize(
    ("start", "carries", "kind"),
    [
        ("8000", BOTH, Kind.RTP),
        ("80e0", BOTH, Kind.RTP),
        ("bf00", BOTH, Kind.RTP),
        ("80c8", BOTH, Kind.RTCP),
        ("80c0", BOTH, Kind.RTCP),
        ("80df", BOTH, Kind.RTCP),
        ("80c8", Carries.RTP, Kind.RTP),
        ("8000", Carries.RTCP, Kind.OTHER),
        ("80c8", Carries.RTCP, Kind.RTCP),
        ("0001", BOTH, Kind.STUN),
        ("0301", BOTH, Kind.STUN),
        ("1600", BOTH, Kind.DTLS),
        ("1400", BOTH, Kind.DTLS),
        ("3f00", BOTH, Kind.DTLS),
        ("0400", BOTH, Kind.OTHER),
        ("4000", BOTH, Kind.OTHER),
        ("c000", BOTH, Kind.OTHER),
        ("80", BOTH, Kind.OTHER),
        ("", BOTH, Kind.OTHER),
        ("8000", Carries.OPAQUE, Kind.OTHER),
        ("0001", Carries.OPAQUE, Kind.OTHER),
    ],
)
def test_a_datagram_is_told_by_its_first_bytes(start: str, carries: Carries, kind: Kind) -> None:
    assert classify(memoryview(bytes.fromhex(start)), carries) is kind


def treated(packet: memoryview, treatment: Treatment) -> bool:
    rule = Rule(LOCAL, OTHER, None, 0, None, 0, BOTH, treatment=treatment, event_types=(101,), fills=((0, 0xFF),))
    kind = classify(packet, BOTH)
    return treat(packet, kind, read_header(packet) if kind is Kind.RTP else None, rule)


def test_blocked_media_passes_nothing() -> None:
    assert not treated(rtp(), Treatment.BLOCK)
    assert not treated(rtp()[:5], Treatment.BLOCK)
    assert treated(rtp(), Treatment.PASS)
    assert treated(rtp()[:5], Treatment.PASS)


def test_blocked_events_pass_all_but_events() -> None:
    assert not treated(rtp(101), Treatment.BLOCK_EVENTS)
    assert not treated(rtp(0x80 | 101), Treatment.BLOCK_EVENTS)
    assert treated(rtp(0), Treatment.BLOCK_EVENTS)
    assert treated(rtp()[:5], Treatment.BLOCK_EVENTS)


@pytest.mark.parametrize(
    ("first", "rest", "silenced"),
    [
        (0x80, b"voice", b"\xff" * 5),
        (0x80, b"", b""),
        (0x82, b"sourcesAvoice", b"sourcesA" + b"\xff" * 5),
        (0x90, b"\xbe\xde\0\1extvoice!", b"\xbe\xde\0\1extv" + b"\xff" * 5),
        (0x91, b"oneS\xbe\xde\0\0voice", b"oneS\xbe\xde\0\0" + b"\xff" * 5),
    ],
)
def test_silence_leaves_the_header_with_sources_and_extension(first: int, rest: bytes, silenced: bytes) -> None:
    packet = rtp(0, first, rest)
    assert treated(packet, Treatment.SILENCE)
    assert packet[12:] == silenced
    assert packet[0] == first


def test_silence_leaves_the_padding() -> None:
    packet = rtp(0, 0xA0, b"voice\0\0\3")
    assert treated(packet, Treatment.SILENCE)
    assert packet[0] == 0xA0
    assert packet[12:] == b"\xff" * 5 + b"\0\0\3"


@pytest.mark.parametrize("treatment", [Treatment.BLOCK, Treatment.SILENCE])
def test_what_is_of_no_known_kind_is_blocked_with_the_media(treatment: Treatment) -> None:
    assert not treated(memoryview(bytearray(b"\x50unknown")), treatment)
    assert treated(memoryview(bytearray(b"\x50unknown")), Treatment.BLOCK_EVENTS)


@pytest.mark.parametrize("start", ["80c8", "0001", "1600"], ids=["RTCP", "STUN", "DTLS"])
@pytest.mark.parametrize("treatment", list(Treatment))
def test_what_is_no_media_passes(start: str, treatment: Treatment) -> None:
    packet = memoryview(bytearray.fromhex(start) + bytearray(20))
    before = bytes(packet)
    assert treated(packet, treatment)
    assert packet == before


@pytest.mark.parametrize(
    "packet",
    [
        rtp(96),
        rtp()[:11],
        rtp(0, 0x8F, b"too few sources"),
        rtp(0, 0x90, b"\xbe"),
        rtp(0, 0x90, b"\xbe\xde\xff\xffshort"),
        rtp(0, 0xA0, b"\x02"),
    ],
    ids=["no silence known", "short", "sources", "extension cut", "extension beyond the end", "padding"],
)
def test_what_cannot_be_silenced_is_dropped(packet: memoryview) -> None:
    assert not treated(packet, Treatment.SILENCE)


class Stream:
    """Packets into the books of one port."""

    def __init__(self) -> None:
        self.books = Reception()
        self.packets = 0

    def hear(self, *sequences: int, ssrc: int = 1) -> Stream:
        for sequence in sequences:
            header = RtpHeader(0x80, 0, sequence & 0xFFFF, 160 * sequence & 0xFFFFFFFF, ssrc)
            self.books.hear(header, self.packets, PCMU, 0.020 * self.packets)
            self.packets += 1
        return self

    def hear_other(self) -> Stream:
        self.books.hear_other()
        self.packets += 1
        return self

    def state(self) -> StreamState:
        state = StreamState(self.packets)
        self.books.fill(state, measured=True)
        return state

    def figures(self) -> tuple[int, int, int, int]:
        state = self.state()
        return state.expected, state.received, state.duplicates, state.reordered


@pytest.mark.parametrize(
    ("sequences", "figures"),
    [
        ([], (0, 0, 0, 0)),
        ([7], (1, 1, 0, 0)),
        ([7, 8, 9], (3, 3, 0, 0)),
        ([7, 9], (3, 2, 0, 0)),
        ([7, 9, 8], (3, 3, 0, 1)),
        ([7, 8, 8], (2, 3, 1, 0)),
        ([7, 9, 8, 8], (3, 4, 1, 1)),
        ([7, 6], (1, 2, 0, 1)),
        ([65535, 0, 1], (3, 3, 0, 0)),
        ([7, 3006], (3000, 2, 0, 0)),
        ([7, 3007], (1, 1, 0, 0)),
        ([7, 3007, 3008], (3, 3, 0, 0)),
        ([7, 3007, 8], (2, 2, 0, 0)),
        ([200, 101], (1, 2, 0, 1)),
        ([200, 264, 200], (65, 3, 1, 0)),
    ],
)
def test_loss_duplicates_and_reordering(sequences: list[int], figures: tuple[int, int, int, int]) -> None:
    assert Stream().hear(*sequences).figures() == figures


def test_what_is_no_rtp_is_not_counted_as_received() -> None:
    assert Stream().hear_other().hear(7).hear_other().hear(8).figures() == (2, 2, 0, 0)


def test_a_new_source_adds_to_the_books_of_the_one_before() -> None:
    stream = Stream().hear(7, 9).hear(500, 501, 503, ssrc=2)
    assert stream.figures() == (3 + 4, 2 + 3, 0, 0)
    assert (stream.state().ssrc, stream.state().highest_sequence) == (2, 503)


def test_even_spacing_has_no_jitter_and_uneven_has() -> None:
    even = Stream().hear(*range(64)).state().jitter_ms
    assert even == pytest.approx(0, abs=0.01)
    late = Stream()
    for packet in range(64):
        header = RtpHeader(0x80, 0, packet, 160 * packet, 1)
        late.books.hear(header, packet, PCMU, 0.020 * packet + (0.008 if packet % 2 else 0))
    late.packets = 64
    # Three pairs are sampled after the first packet: 8 ms of difference, a sixteenth of it each time (RFC 3550 A.8).
    assert late.state().jitter_ms == pytest.approx(8 * (1 - (15 / 16) ** 3), rel=0.05)


def test_without_a_clock_there_is_no_jitter() -> None:
    stream = Stream().hear(1, 2)
    state = StreamState(2)
    stream.books.fill(state, measured=False)
    assert state.jitter_ms is None
