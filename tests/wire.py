"""Packets by hand: forged ones put on a wire, and all that passes a wire, seen below the kernel's network stack."""

from __future__ import annotations

import itertools
import socket
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from relay.types import Endpoint
from tests.lab import Host

ETH_P_ALL, ETH_P_IP = 3, 0x0800
SOL_PACKET, PACKET_STATISTICS = 263, 6
PACKET_OUTGOING = 4
SO_RCVBUFFORCE = 33
ICMP, UDP = 1, 17
UNREACHABLE = 3
BUFFER = 32 << 20
BATCH_SECONDS = 0.005


def ipv4(
    source: str, destination: str, body: bytes, *, ttl: int = 64, fragment: int = 0, options: bytes = b""
) -> bytes:
    """An IPv4 packet that says it carries UDP, its header checksum right.

    `fragment` is the word of flags and offset; `options` come in whole words.
    """
    rest = socket.inet_aton(source) + socket.inet_aton(destination) + options
    words = 5 + len(options) // 4
    head = struct.pack("!BBHHHBBH", 0x40 | words, 0, 4 * words + len(body), 0x4850, fragment, ttl, UDP, 0)
    return head[:10] + struct.pack("!H", internet_checksum(head + rest)) + rest + body


def udp(source: Endpoint, destination: Endpoint, payload: bytes) -> bytes:
    """A UDP datagram without a checksum (RFC 768) in its IPv4 packet."""
    head = struct.pack("!HHHH", source.port, destination.port, 8 + len(payload), 0)
    return ipv4(source.ip, destination.ip, head + payload)


def internet_checksum(data: bytes) -> int:
    """The Internet checksum of an even number of bytes (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


class Injector:
    """Puts packets on a host's wire towards one MAC address, whatever they claim to be."""

    def __init__(self, host: Host, interface: str, towards: str) -> None:
        self._socket = host.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.bind((interface, ETH_P_IP))
        macs = bytes.fromhex((towards + host.mac(interface)).replace(":", ""))
        self._head = macs + struct.pack("!H", ETH_P_IP)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def send(self, packet: bytes) -> None:
        """Send one IP packet, which may be wrong in any way."""
        self._socket.send(self._head + packet)


class Spray:
    """Sends packets round and round at a steady rate, from a thread of its own, within its `with` block."""

    def __init__(self, injector: Injector, packets: Sequence[bytes], rate: int) -> None:
        self.sent = 0
        self._injector = injector
        self._packets = itertools.cycle(packets)
        self._rate = rate
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spray")

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self.seconds = time.monotonic() - self._started

    def _run(self) -> None:
        while not self._over.wait(BATCH_SECONDS):
            due = int((time.monotonic() - self._started) * self._rate)
            for packet in itertools.islice(self._packets, due - self.sent):
                self._injector.send(packet)
            self.sent = due


@dataclass(frozen=True, slots=True)
class Seen:
    """One UDP datagram on a wire."""

    source: Endpoint
    destination: Endpoint
    ttl: int
    check: int
    """The checksum in its header, 0 where there is none."""
    payload: bytes

    @property
    def is_sound(self) -> bool:
        """Whether its checksum is right (RFC 768)."""
        length = 8 + len(self.payload)
        addresses = socket.inet_aton(self.source.ip) + socket.inet_aton(self.destination.ip)
        head = struct.pack("!HHHHHH", UDP, length, self.source.port, self.destination.port, length, self.check)
        return internet_checksum(addresses + head + self.payload + bytes(length % 2)) == 0


@dataclass
class Traffic:
    """What a sniffer saw come in."""

    udp: list[Seen] = field(default_factory=list)
    unreachables: list[Endpoint] = field(default_factory=list)
    """ICMP destination unreachable: who says so, and the port it speaks of."""
    fragments: int = 0


class Sniffer:
    """Sees all IPv4 that comes in on a host's interface. Nothing is read before `seen`; the kernel keeps it."""

    def __init__(self, host: Host, interface: str) -> None:
        self._socket = host.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        self._socket.setblocking(False)
        self._socket.bind((interface, ETH_P_ALL))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def seen(self) -> Traffic:
        """What came in since the last time. Raises OverflowError where the kernel could not keep all of it."""
        found = Traffic()
        while True:
            try:
                packet, (_, protocol, kind, *_) = self._socket.recvfrom(65535)
            except BlockingIOError:
                break
            if protocol == ETH_P_IP and kind != PACKET_OUTGOING:
                _take(found, packet)
        _, missed = struct.unpack("II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        if missed:
            raise OverflowError(f"{missed} packets were not kept")
        return found


def _take(found: Traffic, packet: bytes) -> None:
    header = (packet[0] & 15) * 4
    fragment, ttl, protocol = struct.unpack_from("!HBB", packet, 6)
    source, destination = (socket.inet_ntoa(packet[at : at + 4]) for at in (12, 16))
    if fragment & 0x3FFF:
        found.fragments += 1
    elif protocol == UDP:
        source_port, destination_port, _, check = struct.unpack_from("!HHHH", packet, header)
        ends = Endpoint(source, source_port), Endpoint(destination, destination_port)
        found.udp.append(Seen(*ends, ttl, check, packet[header + 8 :]))
    elif protocol == ICMP and packet[header] == UNREACHABLE:
        quoted = packet[header + 8 :]
        port: int = struct.unpack_from("!H", quoted, (quoted[0] & 15) * 4 + 2)[0]
        found.unreachables.append(Endpoint(source, port))
