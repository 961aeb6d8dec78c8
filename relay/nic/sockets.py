"""Which UDP ports other sockets of this network namespace hold, asked of the kernel (sock_diag), never by binding."""

from __future__ import annotations

import socket

from pyroute2.netlink import NETLINK_SOCK_DIAG, NLM_F_DUMP, nlmsg
from pyroute2.netlink.diag import SOCK_DIAG_BY_FAMILY, inet_diag_req

from relay.nic.netlink import Netlink

_ALL_STATES = 0xFFFFFFFF
_V4_MAPPED = bytes(10) + b"\xff\xff"
_NO_ADDRESS = bytes(16)


class _Socket(nlmsg):  # type: ignore[misc]
    """The beginning of struct inet_diag_msg; to decode all of it takes pyroute2 80 us for every socket of the host."""

    fields = (("family", "B"), ("state", "3s"), ("port", ">H"), ("peer", "2s"), ("address", "16s"))


def busy_udp_ports(ip: str) -> set[int]:
    """Ports that a socket bound to `ip`, or to all addresses, would take packets of. Raises OSError."""
    netlink = Netlink(NETLINK_SOCK_DIAG, {SOCK_DIAG_BY_FAMILY: _Socket})
    try:
        if ":" in ip:
            return _ports(netlink, socket.AF_INET6, {socket.inet_pton(socket.AF_INET6, ip), _NO_ADDRESS})
        address = socket.inet_aton(ip)
        mapped = _V4_MAPPED + address, _V4_MAPPED + bytes(4)
        v4 = _ports(netlink, socket.AF_INET, {address.ljust(16, b"\0"), _NO_ADDRESS})
        return v4 | _ports(netlink, socket.AF_INET6, {_NO_ADDRESS, *mapped})
    finally:
        netlink.close()


def _ports(netlink: Netlink, family: int, addresses: set[bytes]) -> set[int]:
    message = inet_diag_req()
    message.update(sdiag_family=family, sdiag_protocol=socket.IPPROTO_UDP, idiag_states=_ALL_STATES)
    answer = netlink.request(message, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP)
    return {found["port"] for found in answer if found["address"] in addresses}
