"""Which UDP ports other sockets of this network namespace hold, asked of the kernel (sock_diag), never by binding."""

from __future__ import annotations

import socket
import struct

from relay.nic.netlink import NLM_F_DUMP, Netlink

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST = struct.Struct("=BBBxI48s")
_PORT, _ADDRESS = 4, 8  # offsets in struct inet_diag_msg
_ALL_STATES = 0xFFFFFFFF
_V4_MAPPED = bytes(10) + b"\xff\xff"


def busy_udp_ports(ip: str) -> set[int]:
    """Ports that a socket bound to `ip`, or to all addresses, would take packets of. Raises OSError."""
    address = socket.inet_aton(ip)
    netlink = Netlink(_NETLINK_SOCK_DIAG)
    try:
        return _ports(netlink, socket.AF_INET, {address, bytes(4)}) | _ports(
            netlink, socket.AF_INET6, {bytes(16), _V4_MAPPED + address, _V4_MAPPED + bytes(4)}
        )
    finally:
        netlink.close()


def _ports(netlink: Netlink, family: int, addresses: set[bytes]) -> set[int]:
    size = 4 if family == socket.AF_INET else 16
    body = _REQUEST.pack(family, socket.IPPROTO_UDP, 0, _ALL_STATES, bytes(48))
    found = set()
    for _, answer in netlink.request(_SOCK_DIAG_BY_FAMILY, body, NLM_F_DUMP):
        if bytes(answer[_ADDRESS : _ADDRESS + size]) in addresses:
            found.add(int.from_bytes(answer[_PORT : _PORT + 2], "big"))
    return found
