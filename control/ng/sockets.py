"""The sockets ng commands arrive at: opened here, or handed over by who held them while no relay was there to read.

All of them take what proxies send while a relay starts, so that it is answered late and not lost.
"""

from __future__ import annotations

import ipaddress
import socket

from relay.types import Endpoint

__all__ = ["BACKLOG", "RECEIVE_BUFFER", "buffer_of", "open_datagrams", "open_stream", "prepare"]

RECEIVE_BUFFER = 8 << 20
"""Bytes of socket buffer: what proxies send while the daemon is busy for a second or two, or is started again."""
BACKLOG = 1024
"""Connections that may wait to be accepted."""

# Linux numbers that the socket module of Python 3.11 does not name.
SO_RCVBUFFORCE = 33
IP_PKTINFO = 8


def open_datagrams(endpoint: Endpoint) -> socket.socket:
    """A bound UDP socket; port 0 takes a free one. Raises OSError that names the address it cannot have."""
    return _open(endpoint, socket.SOCK_DGRAM, "")


def open_stream(endpoint: Endpoint) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one. Raises OSError that names the address it cannot have."""
    return _open(endpoint, socket.SOCK_STREAM, "tcp ")


def _open(endpoint: Endpoint, kind: socket.SocketKind, named: str) -> socket.socket:
    v6 = ":" in endpoint.ip
    opened = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, kind)
    try:
        if v6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind is socket.SOCK_STREAM:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if kind is socket.SOCK_DGRAM:  # before it is bound: what comes at once is to carry the address it came to
            prepare(opened, endpoint)
        opened.bind(endpoint)
        if kind is socket.SOCK_STREAM:
            prepare(opened, endpoint)
    except OSError as error:
        opened.close()
        raise OSError(error.errno, f"cannot listen for ng on {named}{endpoint}: {error.strerror}") from error
    return opened


def prepare(opened: socket.socket, endpoint: Endpoint) -> None:
    """Make a socket of `endpoint`'s fit to be read by the event loop, also one that others opened."""
    opened.setblocking(False)
    if opened.type is socket.SOCK_STREAM:
        opened.listen(BACKLOG)
        return
    if ipaddress.ip_address(endpoint.ip).is_unspecified:
        if opened.family is socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            opened.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    try:
        opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except PermissionError:
        if buffer_of(opened) < RECEIVE_BUFFER:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)


def buffer_of(opened: socket.socket) -> int:
    """Bytes of receive buffer the kernel granted."""
    return opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
