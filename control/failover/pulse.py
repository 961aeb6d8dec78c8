"""Signs of life that the kernel lets run out: addresses with a lifetime on a device of their own.

BIRD follows the kernel's addresses, and a static route through a gateway stands as long as there is an address to reach
the gateway by. So a route through a gateway behind such an address goes by itself when nobody has renewed the address
for its lifetime, and nothing but the kernel and BIRD need be alive for that.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct

from relay.errors import HairpinError

__all__ = ["FOREVER", "Pulse", "PulseError"]

FOREVER = 0xFFFFFFFF
"""A lifetime without an end (linux/if_addr.h)."""
MAX_BEATS = 64

_NEWLINK, _DELLINK, _NEWADDR, _ERROR = 16, 17, 20, 2
_REQUEST, _ACK, _EXCL, _REPLACE, _CREATE = 1, 4, 0x200, 0x100, 0x400
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_INFO_KIND = 3, 18, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO, _IFA_FLAGS = 1, 2, 6, 8
_NODAD, _NOPREFIXROUTE = 0x02, 0x200
_UP = 1
_KINDS = (b"dummy", b"bridge")
"""Devices without a cable."""
_PATIENCE = 1.0


class PulseError(HairpinError):
    """The kernel refuses the device or an address on it."""


class Pulse:
    """Up to 64 addresses of each family on a device without a cable, told apart by number."""

    def __init__(self, instance: int) -> None:
        self._instance = instance
        self._name = f"hairpin-beat{instance}"
        self._serial = itertools.count(1)

    def gateway(self, number: int, ip6: bool) -> str:
        """Where a route that depends on a beat leads: nobody is there."""
        return self._at(number, ip6, 2)

    def beats(self, number: int, ip6: bool) -> bool:
        """Whether the beat of this number stands."""
        with socket.socket(socket.AF_INET6 if ip6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((self._at(number, ip6, 1), 0))
            except OSError:
                return False
        return True

    def beat(self, number: int, ip6: bool, lifetime: int) -> None:
        """Have a beat stand for `lifetime` seconds from here on. Raises PulseError."""
        family = socket.AF_INET6 if ip6 else socket.AF_INET
        address = socket.inet_pton(family, self._at(number, ip6, 1))
        head = struct.pack("=BBBBi", family, 64 if ip6 else 30, 0, 0, self._device())
        flags = _NODAD | _NOPREFIXROUTE if ip6 else 0  # without the route of its prefix an IPv4 gateway is not found
        attributes = (
            _attribute(_IFA_LOCAL, address)
            + _attribute(_IFA_ADDRESS, address)
            + _attribute(_IFA_FLAGS, struct.pack("=I", flags))
            + _attribute(_IFA_CACHEINFO, struct.pack("=4I", FOREVER if lifetime == FOREVER else 0, lifetime, 0, 0))
        )
        self._ask(_NEWADDR, _CREATE | _REPLACE, head + attributes)

    def stop(self) -> None:
        """Remove the device and all beats; nothing where there is none. Raises PulseError."""
        try:
            index = socket.if_nametoindex(self._name)
        except OSError:
            return
        self._ask(_DELLINK, 0, struct.pack("=BxHiII", 0, 0, index, 0, 0))

    def _at(self, number: int, ip6: bool, place: int) -> str:
        if not 0 <= number < MAX_BEATS:
            raise PulseError(f"there are beats for {MAX_BEATS} addresses only")
        if ip6:
            return f"fd68:7069:{self._instance:x}:{number:x}::{place}"
        return f"169.254.{128 + self._instance}.{4 * number + place}"

    def _device(self) -> int:
        """The index of the device, which is made where there is none."""
        try:
            return socket.if_nametoindex(self._name)
        except OSError:
            self._make(_KINDS)
        return socket.if_nametoindex(self._name)

    def _make(self, kinds: tuple[bytes, ...]) -> None:
        """The first kind of device that the kernel has."""
        kind = _attribute(_IFLA_LINKINFO, _attribute(_IFLA_INFO_KIND, kinds[0]))
        head = struct.pack("=BxHiII", 0, 0, 0, _UP, _UP)
        try:
            self._ask(_NEWLINK, _CREATE | _EXCL, head + _attribute(_IFLA_IFNAME, self._name.encode() + b"\0") + kind)
        except PulseError:
            if not kinds[1:]:
                raise
            self._make(kinds[1:])

    def _ask(self, kind: int, flags: int, body: bytes) -> None:
        """One request to the kernel, and its answer."""
        header = struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | _ACK | flags, next(self._serial), 0)
        try:
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
                kernel.settimeout(_PATIENCE)
                kernel.sendto(header + body, (0, 0))
                answer = kernel.recv(8192)
        except OSError as error:
            raise PulseError(f"the kernel does not answer: {error}") from error
        _, said, _, _, _, code = struct.unpack_from("=IHHIIi", answer)
        if said == _ERROR and code:
            hint = " (CAP_NET_ADMIN is needed)" if -code == errno.EPERM else ""
            raise PulseError(f"the kernel refuses {self._name}: {os.strerror(-code)}{hint}")


def _attribute(kind: int, value: bytes) -> bytes:
    """A netlink attribute, padded to four bytes."""
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)
