from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.packet import Packet

from relay.dataplane import abi
from relay.dataplane.slowpath import Complaints, Copies
from relay.types import Endpoint

REPORT = bytes.fromhex("80c90001cafe0001")
SENDER, LOCAL = Endpoint("192.0.2.1", 4001), Endpoint("10.0.0.1", 30001)
SENDER6, LOCAL6 = Endpoint("2001:db8::1", 4001), Endpoint("2001:db8::2", 30001)
ENDS = [(SENDER, LOCAL), (SENDER6, LOCAL6)]


def packet(payload: bytes, source: Endpoint = SENDER, to: Endpoint = LOCAL, options: int = 0) -> bytes:
    """A UDP packet; `options`: words of them in an IPv4 header."""
    ports = UDP(sport=source.port, dport=to.port) / payload
    if ":" in source.ip:
        return bytes(IPv6(src=source.ip, dst=to.ip) / ports)
    return bytes(IP(src=source.ip, dst=to.ip, options=[b"\1\1\1\1"] * options) / ports)


def record(kind: int, content: bytes, room: int = abi.COPY_SMALL, index: int = 30001, mtu: int = 0) -> memoryview:
    head = struct.pack("=6I", kind, index, len(content), 3, mtu, 0)
    return memoryview(head + content.ljust(room, b"\xee"))


class FakeRing:
    def __init__(self, *records: memoryview) -> None:
        self.records = records

    def read(self, limit: int) -> Iterator[memoryview]:
        yield from self.records[:limit]


class FakeSender:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, content: bytes | memoryview) -> bool:
        self.sent.append(bytes(content))
        return True


class Bench:
    def __init__(self) -> None:
        self.sender = FakeSender()
        self.reports: list[tuple[int, Endpoint, bytes]] = []
        self.now = 0.0
        self.refused: set[str] = set()
        self.complaints = Complaints(
            self.sender,  # type: ignore[arg-type]
            lambda to, _: "refused" if to.ip in self.refused else None,
            lambda: self.now,
        )

    def handle(self, *records: memoryview) -> None:
        ring = FakeRing(*records)
        Copies(
            ring,  # type: ignore[arg-type]
            self.sender,  # type: ignore[arg-type]
            self.complaints,
            lambda *report: self.reports.append(report),
        ).read()


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("ends", ENDS)
def test_a_packet_without_a_next_hop_is_sent_as_it_is(bench: Bench, ends: tuple[Endpoint, Endpoint]) -> None:
    content = packet(b"voice", *ends)
    bench.handle(record(abi.COPY_UNRESOLVED, content))
    assert (bench.sender.sent, bench.reports) == ([content], [])


@pytest.mark.parametrize("options", [0, 1])
def test_rtcp_is_handed_over_without_its_headers(bench: Bench, options: int) -> None:
    bench.handle(record(abi.COPY_RTCP, packet(REPORT, options=options) + b"padding"))
    assert (bench.sender.sent, bench.reports) == ([], [(30001, SENDER, REPORT)])


def test_rtcp_of_ipv6_is_handed_over(bench: Bench) -> None:
    bench.handle(record(abi.COPY_RTCP, packet(REPORT, SENDER6, LOCAL6)))
    assert bench.reports == [(30001, SENDER6, REPORT)]


def test_a_kind_from_a_newer_program_is_passed_over(bench: Bench) -> None:
    bench.handle(record(99, packet(REPORT)))
    assert (bench.sender.sent, bench.reports) == ([], [])


def big(index: int = 1, source: Endpoint = SENDER, to: Endpoint = LOCAL) -> memoryview:
    return record(abi.COPY_TOO_BIG, packet(bytes(1452), source, to), abi.COPY_LARGE, index, mtu=1400)


def test_who_sends_too_much_for_the_next_link_is_told(bench: Bench) -> None:
    bench.handle(big())
    (content,) = bench.sender.sent
    error = IP(content)
    assert (error.src, error.dst) == (LOCAL.ip, SENDER.ip)
    assert (error[ICMP].type, error[ICMP].code, error[ICMP].nexthopmtu) == (3, 4, 1400)
    assert content[28:] == packet(bytes(1452))[:548]
    assert error[ICMP].chksum == IP(bytes(rebuilt(error)))[ICMP].chksum


def test_who_sends_too_much_over_ipv6_is_told(bench: Bench) -> None:
    bench.handle(big(source=SENDER6, to=LOCAL6))
    (content,) = bench.sender.sent
    error = IPv6(content)
    assert (error.src, error.dst, len(content)) == (LOCAL6.ip, SENDER6.ip, 1280)
    assert error[ICMPv6PacketTooBig].mtu == 1400
    assert error[ICMPv6PacketTooBig].cksum == IPv6(bytes(rebuilt(error)))[ICMPv6PacketTooBig].cksum


def rebuilt(error: Packet) -> Packet:
    """The same with checksums and lengths as scapy computes them."""
    again = error.copy()
    for field in ("chksum", "cksum"):
        if field in again.payload.fields:
            again.payload.delfieldval(field)
    return again


def test_complaints_are_few(bench: Bench) -> None:
    bench.handle(big(), big())
    assert len(bench.sender.sent) == 1
    bench.handle(*(big(index) for index in range(2, 100)))
    assert len(bench.sender.sent) == bench.complaints.sent == 50
    bench.now = 1.0
    bench.handle(big())
    assert len(bench.sender.sent) == 51


def test_nobody_complains_to_an_address_that_is_refused(bench: Bench) -> None:
    bench.refused = {SENDER.ip}
    bench.handle(big(), big(2, Endpoint("192.0.2.9", 0)), big(3, SENDER6, LOCAL6))
    assert [IPv6(sent).dst for sent in bench.sender.sent] == [SENDER6.ip]
