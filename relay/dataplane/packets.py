"""IP packets as bytes, for what user space reads and sends itself: headers, checksums, fragments, errors to senders."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from relay.types import Endpoint

__all__ = [
    "Datagram",
    "addresses",
    "checksum",
    "datagram",
    "fragments",
    "header",
    "pseudo_header",
    "too_big",
    "udp_packet",
]

Bytes = bytes | memoryview

UDP, ICMP, ICMPV6, FRAGMENT = 17, 1, 58, 44
_HEADER, _HEADER6 = 20, 40
_UDP_HEADER = 8
_UDP_LENGTH = slice(4, 6)
_TTL = 64
_MORE = 0x2000  # iphdr.frag_off
_FRAGMENT_HEADER = struct.Struct("!BBHI")  # RFC 8200 section 4.5
_UNREACHABLE, _FRAGMENTATION_NEEDED, _PACKET_TOO_BIG = 3, 4, 2
_QUOTED, _QUOTED6 = 548, 1232  # bytes of the packet an error quotes at most: RFC 1812 section 4.3.2.3, RFC 4443 2.4
_SMALLEST_MTU6 = 1280


class Datagram(NamedTuple):
    """A UDP datagram in its IP packet."""

    source: Endpoint
    destination: Endpoint
    payload: bytes


def is_ip6(packet: Bytes) -> bool:
    """The version in a packet's first four bits, 4 or 6."""
    return packet[0] >> 4 == 6


def addresses(packet: Bytes) -> tuple[str, str]:
    """Source and destination of a packet."""
    if is_ip6(packet):
        return socket.inet_ntop(socket.AF_INET6, packet[8:24]), socket.inet_ntop(socket.AF_INET6, packet[24:40])
    return socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])


def datagram(packet: Bytes) -> Datagram:
    """A UDP packet the program has found sound, without extension headers."""
    start = _HEADER6 if is_ip6(packet) else (packet[0] & 0xF) * 4
    udp = packet[start:]
    source, destination = addresses(packet)
    source_port, destination_port, length = struct.unpack_from("!HHH", udp)
    payload = bytes(udp[_UDP_HEADER:length])
    return Datagram(Endpoint(source, source_port), Endpoint(destination, destination_port), payload)


def checksum(data: Bytes) -> int:
    """The Internet checksum (RFC 1071), of its two zeros the one that UDP wants, 0xffff (RFC 768)."""
    return ~(int.from_bytes(bytes(data) + bytes(len(data) % 2), "big") % 0xFFFF) & 0xFFFF


def header(source: str, destination: str, protocol: int, length: int, ttl: int = _TTL, tos: int = 0) -> bytes:
    """The IP header before `length` bytes; a raw socket fills in the checksum of an IPv4 one."""
    if ":" in source:
        head = struct.pack("!IHBB", 6 << 28 | tos << 20, length, protocol, ttl)
        return head + _packed(source) + _packed(destination)
    head = struct.pack("!BBHHHBBH", 0x45, tos, _HEADER + length, 0, 0, ttl, protocol, 0)
    return head + _packed(source) + _packed(destination)


def udp_packet(content: Datagram, ttl: int, tos: int) -> bytes:
    """A whole UDP packet, its checksums right."""
    (source, destination, payload) = content
    length = _UDP_HEADER + len(payload)
    udp = struct.pack("!HHHH", source.port, destination.port, length, 0)
    check = checksum(pseudo_header(source.ip, destination.ip, UDP, length) + udp + payload)
    head = header(source.ip, destination.ip, UDP, length, ttl, tos)
    if not is_ip6(head):
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return head + udp[:6] + struct.pack("!H", check) + payload


def fragments(packet: Bytes, mtu: int, identification: int) -> Iterator[bytes]:
    """The packet in pieces of at most `mtu` bytes (RFC 791, RFC 8200 section 4.5), which are 68 or more.

    It has no extension headers.
    """
    ip6 = is_ip6(packet)
    size = _HEADER6 if ip6 else (packet[0] & 0xF) * 4
    head, body = bytes(packet[:size]), packet[size:]
    room = mtu - size - (_FRAGMENT_HEADER.size if ip6 else 0) & ~7
    for start in range(0, len(body), room):
        piece = bytes(body[start : start + room])
        more = start + room < len(body)
        if ip6:
            extension = _FRAGMENT_HEADER.pack(head[6], 0, start | more, identification)
            fixed = head[:4] + struct.pack("!HB", len(extension) + len(piece), FRAGMENT) + head[7:]
            yield fixed + extension + piece
        else:
            place = start // 8 | (_MORE if more else 0)
            yield head[:2] + struct.pack("!HHH", size + len(piece), identification & 0xFFFF, place) + head[8:] + piece


def too_big(packet: Bytes, mtu: int) -> bytes:
    """The answer to a packet that does not fit the next link: RFC 1191 section 4, RFC 4443 section 3.2.

    It comes from the address the packet was sent to. The raw socket fills in the IPv4 header's checksum.
    """
    source, destination = addresses(packet)
    if is_ip6(packet):
        quoted = bytes(packet[:_QUOTED6])
        message = struct.pack("!BBHI", _PACKET_TOO_BIG, 0, 0, max(mtu, _SMALLEST_MTU6)) + quoted
        check = checksum(pseudo_header(destination, source, ICMPV6, len(message)) + message)
        protocol = ICMPV6
    else:
        quoted = bytes(packet[:_QUOTED])
        message = struct.pack("!BBHHH", _UNREACHABLE, _FRAGMENTATION_NEEDED, 0, 0, min(mtu, 0xFFFF)) + quoted
        check = checksum(message)
        protocol = ICMP
    message = message[:2] + struct.pack("!H", check) + message[4:]
    return header(destination, source, protocol, len(message)) + message


def pseudo_header(source: str, destination: str, protocol: int, length: int) -> bytes:
    """The pseudo-header of RFC 768 or RFC 8200 section 8.1."""
    ends = _packed(source) + _packed(destination)
    return ends + (
        struct.pack("!IHBB", length, 0, 0, protocol) if ":" in source else struct.pack("!HH", protocol, length)
    )


def _packed(ip: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip)
