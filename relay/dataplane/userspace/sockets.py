"""UDP sockets of local ports: opened with what is needed of each packet's IP header, read and sent through."""

from __future__ import annotations

import errno
import logging
import os
import resource
import socket
import struct
import sys
from typing import NamedTuple

from relay.errors import DataplaneError
from relay.types import Endpoint

__all__ = ["LocalSocket", "Received", "raise_file_limit"]

_log = logging.getLogger(__name__)

_IP_RECVTTL = 12  # linux/in.h; Python's socket module does not have it
_DEFAULT_TTL = 64
_SPARE_FILES = 64  # for all but media
_INT = struct.Struct("=i")
_CONTROL_BYTES = 2 * socket.CMSG_SPACE(_INT.size)
_HEADER = {
    socket.AF_INET: ((socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IP, socket.IP_TOS)),
    socket.AF_INET6: (
        (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT),
        (socket.IPPROTO_IPV6, socket.IPV6_TCLASS),
    ),
}
"""How the two families name a packet's TTL and TOS byte in ancillary data (RFC 3542 section 6 for IPv6)."""
_ADVICE = {
    errno.EADDRINUSE: "another program holds it",
    errno.EADDRNOTAVAIL: "that is no address of this host",
    errno.EACCES: "ports below net.ipv4.ip_unprivileged_port_start are for root",
    errno.EMFILE: "no more files may be opened: raise the limit (ulimit -n, LimitNOFILE= in the unit)",
    errno.ENFILE: "no more files may be opened on this host: raise fs.file-max",
}
_REASONS = {errno.EMSGSIZE: "too_big", errno.ENETUNREACH: "no_next_hop", errno.EHOSTUNREACH: "no_next_hop"}


class Received(NamedTuple):
    """One datagram; its payload lies in the buffer it was read into."""

    size: int
    source: Endpoint
    ttl: int
    tos: int


class LocalSocket:
    """The socket of one local port. Raises DataplaneError saying what is in the way."""

    __slots__ = ("_as_tos", "_as_ttl", "_socket", "local")

    def __init__(self, local: Endpoint) -> None:
        family = socket.AF_INET6 if ":" in local.ip else socket.AF_INET
        self.local = local
        self._as_ttl, self._as_tos = _HEADER[family]
        opened = None
        try:
            opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            _ask_for_headers(opened, family)
            opened.bind(local)
        except OSError as error:
            if opened is not None:
                opened.close()
            number = error.errno or 0
            raise DataplaneError(f"no socket at {local}: {_ADVICE.get(number, os.strerror(number))}") from error
        self._socket = opened

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def receive(self, buffer: bytearray) -> Received | None:
        """Read one datagram into the buffer, None where no more is there."""
        try:
            size, ancillary, _, address = self._socket.recvmsg_into((buffer,), _CONTROL_BYTES)
        except OSError:  # nothing there, or the network is down: in both cases there is nothing to be had
            return None
        ttl, tos = _DEFAULT_TTL, 0
        for _, kind, data in ancillary:
            # The TOS of IPv4 comes as one byte, all else as an int.
            value = int.from_bytes(data, sys.byteorder)
            if kind in (socket.IP_TTL, socket.IPV6_HOPLIMIT):
                ttl = value
            elif kind in (socket.IP_TOS, socket.IPV6_TCLASS):
                tos = value
        return Received(size, Endpoint(address[0], address[1]), ttl, tos)

    def send(self, payload: memoryview, to: Endpoint, ttl: int, tos: int) -> str | None:
        """Send a datagram; gives back the drop reason where it could not be."""
        try:
            self._socket.sendmsg((payload,), ((*self._as_ttl, _INT.pack(ttl)), (*self._as_tos, _INT.pack(tos))), 0, to)
        except OSError as error:
            return _REASONS.get(error.errno or 0, "send_failed")
        return None


def _ask_for_headers(opened: socket.socket, family: socket.AddressFamily) -> None:
    if family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
    else:
        opened.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)


def raise_file_limit() -> int:
    """Allow this process as many open files as it may ask for; returns how many are left for ports."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    except (OSError, ValueError) as error:
        _log.warning("the limit of open files stays at %d: %s", soft, error)
    return max(soft - _SPARE_FILES, 0)
