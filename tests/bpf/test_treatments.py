"""Media that is blocked or silenced, and what of it is not: RTCP, STUN, DTLS, learning and counters."""

from __future__ import annotations

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q, Ether

from relay.dataplane import abi
from relay.types import Endpoint
from tests.bpf.switchboard import (
    A6,
    B6,
    PORT_A,
    PORT_A6,
    PORT_B,
    PORT_B6,
    XDP_DROP,
    XDP_REDIRECT,
    A,
    B,
    Switchboard,
    datagram,
    leaving,
    payload_of,
    rtcp,
    rtp,
)
from tests.bpf.test_forward import folded_pseudo_header

PCMU, PCMA, G729, EVENT = 0, 8, 18, 101
FILLS = {PCMU: 0xFF, PCMA: 0xD5}
CLOCK_8K = 32
STUN, DTLS, ZRTP = b"\0\1\0\0" + bytes(16), b"\x16" + bytes(20), b"\x10\0ZRTP" + bytes(20)
MUXED = abi.RTP | abi.RTCP


def prepare(board: Switchboard, treatment: int, flags: int = MUXED) -> None:
    """A call that treats what A sends."""
    board.steady_call(flags)
    board.install(PORT_A, PORT_B, B, A, flags | treatment)
    tell_types(board, PORT_A)


def tell_types(board: Switchboard, port: Endpoint) -> None:
    board.cold(port)["clock"] = [
        (PCMU, FILLS[PCMU], CLOCK_8K),
        (PCMA, FILLS[PCMA], CLOCK_8K),
        (EVENT, 0, abi.EVENT_CLOCK),
        (255, 0, 0),
    ]


def packet(payload_type: int, payload: bytes, first: int = 0x80, more: bytes = b"") -> bytes:
    """RTP with `more` between the fixed header and the payload (RFC 3550 section 5.1)."""
    return struct.pack(">BBHII", first, payload_type, 7, 160, 0x5EED) + more + payload


MEDIA = {
    "PCMU": rtp(1, PCMU),
    "a type of which nothing is known": rtp(1, G729),
    "telephone-event": rtp(1, EVENT),
    "RTP cut short": rtp(1)[:11],
    "of no known kind": ZRTP,
    "nothing": b"",
}
PASSED = {"RTCP": rtcp(), "STUN": STUN, "DTLS": DTLS}


class TestBlock:
    @pytest.mark.parametrize("name", MEDIA)
    def test_media_is_dropped(self, board: Switchboard, name: str) -> None:
        prepare(board, abi.BLOCK)
        frame = bytes(datagram(payload=MEDIA[name]))
        run = board.run(frame)
        assert (run.verdict, run.data) == (XDP_DROP, frame)
        assert board.drop_reason(PORT_A) == "blocked"

    @pytest.mark.parametrize("name", PASSED)
    @pytest.mark.parametrize("treatment", [abi.BLOCK, abi.SILENCE, abi.BLOCK_EVENTS])
    def test_what_is_no_media_passes(self, board: Switchboard, name: str, treatment: int) -> None:
        prepare(board, treatment)
        assert board.run(datagram(payload=PASSED[name])).data == bytes(leaving(PORT_B, B, PASSED[name]))

    def test_it_is_counted_and_learned_from_all_the_same(self, board: Switchboard) -> None:
        board.call(MUXED)
        board.install(PORT_A, PORT_B, B, A, MUXED | abi.BLOCK)
        for sequence in (1, 2, 4):
            board.run(datagram(payload=rtp(sequence)))
        assert board.standing(PORT_A) == (A, abi.CONFIRMED)
        assert board.learned(PORT_B) == A
        assert (board.rule(PORT_A)["packets"], board.cold(PORT_A)["drops"]) == (3, 3)
        assert board.rule(PORT_A)["sequence"] == abi.FIRST_CYCLE + 4

    def test_the_other_direction_passes(self, board: Switchboard) -> None:
        prepare(board, abi.BLOCK)
        assert board.run(datagram(B, PORT_B, rtp(1))).verdict == XDP_REDIRECT

    def test_a_port_of_another_protocol_is_blocked_whole(self, board: Switchboard) -> None:
        """UDPTL may look like STUN by its first byte."""
        prepare(board, abi.BLOCK, flags=0)
        for payload in (STUN, rtp(1), b"\0\0"):
            assert board.run(datagram(payload=payload)).verdict == XDP_DROP
        assert board.counters() == {"blocked": 3}

    def test_a_later_rule_of_the_same_run_blocks_too(self, board: Switchboard) -> None:
        near, far = Endpoint(PORT_A.ip, 31000), Endpoint(PORT_A.ip, 31002)
        board.call(MUXED, b=near)
        board.call(MUXED, 0, PORT_B, B, (near, far))
        board.install(near, far, B, PORT_B, MUXED | abi.BLOCK)
        assert board.run(datagram(payload=rtp(1))).verdict == XDP_DROP
        assert (board.drop_reason(near), board.cold(PORT_A)["drops"]) == ("blocked", 0)


class TestEvents:
    def test_telephone_events_are_dropped_and_speech_passes(self, board: Switchboard) -> None:
        prepare(board, abi.BLOCK_EVENTS)
        assert board.run(datagram(payload=rtp(1, EVENT))).verdict == XDP_DROP
        assert board.run(datagram(payload=rtp(2, EVENT, marker=True))).verdict == XDP_DROP
        assert board.counters()["blocked"] == 2
        for payload in (rtp(3, PCMU), rtp(4, G729), ZRTP):
            assert board.run(datagram(payload=payload)).data == bytes(leaving(PORT_B, B, payload))

    def test_both_of_two_event_types_are_dropped(self, board: Switchboard) -> None:
        prepare(board, abi.BLOCK_EVENTS)
        board.cold(PORT_A)["clock"][3] = (96, 0, abi.EVENT_CLOCK)
        assert board.run(datagram(payload=rtp(1, 96))).verdict == XDP_DROP

    def test_their_entry_is_no_clock_to_measure_jitter_by(self, board: Switchboard) -> None:
        prepare(board, 0)
        for sequence in range(64):
            board.run(datagram(payload=rtp(sequence, EVENT, timestamp=sequence * 160)))
        assert board.cold(PORT_A)["jitter"] == 0
        board.cold(PORT_A)["clock"][2] = (EVENT, 0, CLOCK_8K)
        for sequence in range(64, 128):
            board.run(datagram(payload=rtp(sequence, EVENT, timestamp=sequence * 160)))
        assert board.cold(PORT_A)["jitter"] > 0


EXTENSION = struct.pack(">HHI", 0xBEDE, 1, 0x10203040)
HEADERS = {
    "plain": (0x80, b""),
    "contributing sources": (0x83, bytes(range(12))),
    "an extension": (0x90, EXTENSION),
    "both": (0x9F, bytes(range(60)) + EXTENSION),
}


class TestSilence:
    @pytest.mark.parametrize("size", [0, 1, 2, 7, 8, 9, 160, 161, 1376])
    @pytest.mark.parametrize("payload_type", FILLS)
    def test_the_payload_is_overwritten(self, board: Switchboard, payload_type: int, size: int) -> None:
        prepare(board, abi.SILENCE)
        speech = bytes(index * 7 & 0xFF for index in range(size))
        run = board.run(datagram(payload=packet(payload_type, speech)))
        sent = packet(payload_type, bytes([FILLS[payload_type]]) * size)
        assert (run.verdict, run.data) == (XDP_REDIRECT, bytes(leaving(PORT_B, B, sent)))
        assert board.counters() == {"forwarded": 1, "silenced": 1}

    @pytest.mark.parametrize("checksum", ["unfinished", "absent"])
    def test_other_checksums_are_right_as_well(self, board: Switchboard, checksum: str) -> None:
        prepare(board, abi.SILENCE)
        arriving, sent = datagram(payload=packet(PCMA, b"speech!")), leaving(PORT_B, B, packet(PCMA, b"\xd5" * 7))
        if checksum == "absent":
            arriving[UDP].chksum = sent[UDP].chksum = 0
        else:
            arriving[UDP].chksum = folded_pseudo_header(arriving)
        assert board.run(arriving).data == bytes(sent)

    @pytest.mark.parametrize("name", HEADERS)
    def test_headers_are_left_as_they_are(self, board: Switchboard, name: str) -> None:
        prepare(board, abi.SILENCE)
        first, more = HEADERS[name]
        run = board.run(datagram(payload=packet(PCMU, b"speech", first, more)))
        assert run.data == bytes(leaving(PORT_B, B, packet(PCMU, b"\xff" * 6, first, more)))

    def test_padding_still_says_how_long_it_is(self, board: Switchboard) -> None:
        prepare(board, abi.SILENCE)
        run = board.run(datagram(payload=packet(PCMU, b"speech" + b"\0\0\3", 0xA0)))
        assert run.data == bytes(leaving(PORT_B, B, packet(PCMU, b"\xff" * 6 + b"\0\0\3", 0xA0)))

    @pytest.mark.parametrize(
        "payload",
        [
            packet(G729, b"speech"),
            packet(EVENT, b"\1\0\0\0"),
            packet(PCMU, b"speech")[:11],
            packet(PCMU, b"", 0x8F),
            packet(PCMU, b"\0\0\0", 0x90),
            packet(PCMU, b"\xff", 0x90, struct.pack(">HH", 0xBEDE, 1)),
            packet(PCMU, b"\xff" * 4, 0x90, struct.pack(">HH", 0xBEDE, 0xFFFF)),
            packet(PCMU, b"speech" + b"\x0a", 0xA0),
            packet(PCMU, bytes(1600)),
            ZRTP,
        ],
        ids=[
            "no silence is known for it",
            "an event",
            "cut off in the header",
            "cut off in the sources",
            "cut off in the extension's header",
            "cut off in the extension",
            "an extension of 256 kB",
            "more padding than payload",
            "longer than an Ethernet frame",
            "of no known kind",
        ],
    )
    def test_what_cannot_be_silenced_is_dropped(self, board: Switchboard, payload: bytes) -> None:
        prepare(board, abi.SILENCE)
        frame = bytes(datagram(payload=payload))
        run = board.run(frame)
        assert (run.verdict, run.data) == (XDP_DROP, frame)
        assert board.drop_reason(PORT_A) == "blocked"
        assert "silenced" not in board.counters()

    def test_a_wrong_checksum_is_not_made_right(self, board: Switchboard) -> None:
        prepare(board, abi.SILENCE)
        payload = packet(PCMU, b"damaged")
        arrived = Ether(bytes(datagram(payload=payload)))[UDP].chksum
        sent = board.run(datagram(payload=payload, chksum=arrived ^ 0x0101)).packet
        assert sent[UDP].chksum != Ether(bytes(leaving(PORT_B, B, payload_of(sent))))[UDP].chksum

    def test_over_ip6_and_behind_a_tag(self, board: Switchboard) -> None:
        board.steady_call(MUXED, 0, A6, B6, (PORT_A6, PORT_B6))
        board.install(PORT_A6, PORT_B6, B6, A6, MUXED | abi.SILENCE)
        tell_types(board, PORT_A6)
        frame = datagram(A6, PORT_A6, packet(PCMA, b"speech"))
        run = board.run(Ether(src=frame.src, dst=frame.dst) / Dot1Q(vlan=7) / frame.payload)
        assert run.data == bytes(leaving(PORT_B6, B6, packet(PCMA, b"\xd5" * 6)))

    def test_on_the_way_from_one_family_to_the_other(self, board: Switchboard) -> None:
        board.steady_call(MUXED, 0, A, B6, (PORT_A, PORT_B6))
        board.install(PORT_A, PORT_B6, B6, A, MUXED | abi.SILENCE)
        tell_types(board, PORT_A)
        run = board.run(datagram(payload=packet(PCMU, b"speech")))
        assert run.data == bytes(leaving(PORT_B6, B6, packet(PCMU, b"\xff" * 6)))

    @pytest.mark.fuzz
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(speech=st.binary(max_size=300), checksum=st.sampled_from(["full", "unfinished", "absent"]))
    def test_any_speech_is_silenced_with_a_right_checksum(
        self, board: Switchboard, speech: bytes, checksum: str
    ) -> None:
        prepare(board, abi.SILENCE)
        arriving = datagram(payload=packet(PCMU, speech))
        sent = leaving(PORT_B, B, packet(PCMU, b"\xff" * len(speech)))
        if checksum == "unfinished":
            arriving[UDP].chksum = folded_pseudo_header(arriving)
        if checksum == "absent":
            arriving[UDP].chksum = sent[UDP].chksum = 0
        assert board.run(arriving).data == bytes(sent)
        assert IP in sent
