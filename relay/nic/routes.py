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

ANY_SOURCE = "0.0.0.0"

_TYPE = struct.Struct("=H")
_SEQUENCE = _INDEX = struct.Struct("=I")
_ERROR = struct.Struct("=i")
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_TYPE_AT, _SEQUENCE_AT, _ERROR_AT, _ROUTE_TYPE_AT, _ATTRIBUTES_AT = 4, 8, 16, 23, 28
_DESTINATION, _SOURCE = slice(32, 36), slice(40, 44)
_RTA_OIF, _RTA_GATEWAY, _RTA_VIA = 4, 5, 18


@dataclass(frozen=True, slots=True)
class Route:
    """The way to one destination: out of `ifindex` to the neighbour `hop`."""

    ifindex: int
    hop: str


class RouteLookup:
    """The kernel's choice of a way, one IPv4 destination at a time."""

    def __init__(self) -> None:
        self._socket = open_socket(NETLINK_ROUTE)
        self._question = question("0.0.0.0", ANY_SOURCE)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def find(self, destination: str, source: str = ANY_SOURCE) -> Route | None:
        """The way from `source` to `destination`, None where none leads there or it ends in this host."""
        asked = self._question
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        _SEQUENCE.pack_into(asked, _SEQUENCE_AT, self._sequence)
        asked[_DESTINATION] = socket.inet_aton(destination)
        asked[_SOURCE] = socket.inet_aton(source)
        self._socket.send(asked)
        while True:
            answer = self._socket.recv(RECEIVE_SIZE)
            if _SEQUENCE.unpack_from(answer, _SEQUENCE_AT)[0] == self._sequence:
                return read(answer, destination)


def question(destination: str, source: str) -> bytearray:
    """The request for a route as pyroute2 encodes it."""
    message = rtmsg()
    attributes = [("RTA_DST", destination), ("RTA_SRC", source)]
    message.update(family=socket.AF_INET, dst_len=32, src_len=32, attrs=attributes)
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
    if _RTA_OIF not in found or _RTA_VIA in found:  # an IPv6 gateway (RFC 5549) is left to the kernel's own output
        return None
    gateway = found.get(_RTA_GATEWAY)
    return Route(_INDEX.unpack(found[_RTA_OIF])[0], socket.inet_ntoa(gateway) if gateway else destination)


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
