"""Looking up one route: the one netlink request in the middle of an offer, and for all destinations when routes change.

pyroute2 takes 110 us to encode the question and decode the answer. So it encodes the question once, the addresses are
then put in their places, and of the answer only what matters is read: 7 us together.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass

from pyroute2.netlink import NETLINK_ROUTE, NLM_F_REQUEST, NLMSG_ERROR
from pyroute2.netlink.rtnl import RTM_GETROUTE, rt_type
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from relay.nic.netlink import RECEIVE_SIZE, open_socket

UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.EACCES, errno.ENETDOWN)
"""What the kernel answers for a destination no route leads to."""

_TYPE = struct.Struct("=H")
_SEQUENCE = _INDEX = struct.Struct("=I")
_ERROR = struct.Struct("=i")
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_TYPE_AT, _SEQUENCE_AT, _ERROR_AT, _ROUTE_TYPE_AT, _ATTRIBUTES_AT = 4, 8, 16, 23, 28
_DESTINATION, _SOURCE = slice(32, 36), slice(40, 44)
_DESTINATION6, _SOURCE6 = slice(32, 48), slice(52, 68)
_FAMILY = struct.Struct("=H")
_RTA_OIF, _RTA_GATEWAY, _RTA_VIA = 4, 5, 18


@dataclass(frozen=True, slots=True)
class Route:
    """The way to one destination: out of `ifindex` to the neighbour `hop`."""

    ifindex: int
    hop: str


class RouteLookup:
    """The kernel's choice of a way, one destination at a time."""

    def __init__(self) -> None:
        self._socket = open_socket(NETLINK_ROUTE)
        self._question = question("0.0.0.0", "0.0.0.0")
        self._question6 = question("::", "::")
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def find(self, destination: str, source: str) -> Route | None:
        """The way from `source` to `destination`, None where none leads there or it ends in this host.

        A `source` of zeros stands for any.
        """
        asked = self._asked(destination, source)
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        _SEQUENCE.pack_into(asked, _SEQUENCE_AT, self._sequence)
        self._socket.send(asked)
        while True:
            answer = self._socket.recv(RECEIVE_SIZE)
            if _SEQUENCE.unpack_from(answer, _SEQUENCE_AT)[0] == self._sequence:
                return read(answer, destination)

    def _asked(self, destination: str, source: str) -> bytearray:
        if ":" in destination:
            asked = self._question6
            asked[_DESTINATION6] = socket.inet_pton(socket.AF_INET6, destination)
            asked[_SOURCE6] = socket.inet_pton(socket.AF_INET6, source)
        else:
            asked = self._question
            asked[_DESTINATION] = socket.inet_aton(destination)
            asked[_SOURCE] = socket.inet_aton(source)
        return asked


def family_of(ip: str) -> int:
    """AF_INET or AF_INET6, by the text of an address."""
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


def any_source(destination: str) -> str:
    """The address of zeros of a destination's family."""
    return "::" if ":" in destination else "0.0.0.0"


def question(destination: str, source: str) -> bytearray:
    """The request for a route as pyroute2 encodes it."""
    message = rtmsg()
    family, bits = family_of(destination), 128 if ":" in destination else 32
    attributes = [("RTA_DST", destination), ("RTA_SRC", source)]
    message.update(family=family, dst_len=bits, src_len=bits, attrs=attributes)
    message["header"].update(type=RTM_GETROUTE, flags=NLM_F_REQUEST)
    message.encode()
    return bytearray(message.data)


def read(answer: bytes, destination: str) -> Route | None:
    """The route in the kernel's answer. Raises OSError for any error but that no route leads there."""
    if _TYPE.unpack_from(answer, _TYPE_AT)[0] == NLMSG_ERROR:
        code = -_ERROR.unpack_from(answer, _ERROR_AT)[0]
        if code in UNREACHABLE:
            return None
        raise OSError(code, os.strerror(code))
    if answer[_ROUTE_TYPE_AT] != rt_type["unicast"]:
        return None
    found = _attributes(answer)
    if _RTA_OIF not in found:
        return None
    return Route(_INDEX.unpack(found[_RTA_OIF])[0], _gateway(found) or destination)


def _gateway(found: dict[int, bytes]) -> str | None:
    """The next hop a route names, which may be of IPv6 for a destination of IPv4 (RFC 8950)."""
    if via := found.get(_RTA_VIA):
        return socket.inet_ntop(_FAMILY.unpack_from(via)[0], via[_FAMILY.size :])
    gateway = found.get(_RTA_GATEWAY)
    if gateway is None:
        return None
    return socket.inet_ntop(socket.AF_INET if len(gateway) == 4 else socket.AF_INET6, gateway)


def _attributes(answer: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    offset = _ATTRIBUTES_AT
    while offset + _ATTRIBUTE.size <= len(answer):
        length, kind = _ATTRIBUTE.unpack_from(answer, offset)
        if length < _ATTRIBUTE.size:
            break
        found[kind] = answer[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found
