"""What a device can do for XDP, from the kernel's own announcement (generic netlink family "netdev", Linux 6.3)."""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass

from relay.nic.netlink import Netlink, attribute, attributes, u32

PROTOCOL = 16  # NETLINK_GENERIC
_GENL = struct.Struct("=BBH")
_CTRL, _CTRL_GETFAMILY = 16, 3
_CTRL_FAMILY_ID, _CTRL_FAMILY_NAME, _CTRL_MULTICAST_GROUPS = 1, 2, 7
_GROUP_NAME, _GROUP_ID = 1, 2
_DEV_GET = 1
_DEV_IFINDEX, _DEV_XDP_FEATURES = 1, 3

_BASIC = 1 << 0
_NDO_XMIT = 1 << 2


@dataclass(frozen=True, slots=True)
class XdpFeatures:
    """`native`: the driver runs XDP programs; `takes_redirects`: it sends frames another device redirected to it."""

    native: bool
    takes_redirects: bool


class Netdev:
    """The "netdev" family; `available` is False on kernels before 6.3, where only trying tells."""

    def __init__(self) -> None:
        self._netlink = Netlink(PROTOCOL)
        self._family, self.group = self._find()

    @property
    def available(self) -> bool:
        return self._family != 0

    def close(self) -> None:
        self._netlink.close()

    def features(self, ifindex: int) -> XdpFeatures | None:
        """What the device says of itself now (a veth's answer follows its peer); None if it cannot be asked."""
        if not self._family:
            return None
        body = _GENL.pack(_DEV_GET, 1, 0) + attribute(_DEV_IFINDEX, struct.pack("=I", ifindex))
        try:
            (answer,) = self._netlink.request(self._family, body)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        bits = attributes(answer[1], _GENL.size).get(_DEV_XDP_FEATURES)
        value = struct.unpack("=Q", bits)[0] if bits is not None else 0
        return XdpFeatures(native=bool(value & _BASIC), takes_redirects=bool(value & _NDO_XMIT))

    def _find(self) -> tuple[int, int]:
        """The family's number and its group of change notices, zeros where the kernel has none."""
        body = _GENL.pack(_CTRL_GETFAMILY, 1, 0) + attribute(_CTRL_FAMILY_NAME, b"netdev\0")
        try:
            (answer,) = self._netlink.request(_CTRL, body)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return 0, 0
            raise
        found = attributes(answer[1], _GENL.size)
        group = 0
        for entry in attributes(found[_CTRL_MULTICAST_GROUPS]).values():
            fields = attributes(entry)
            if bytes(fields[_GROUP_NAME]) == b"mgmt\0":
                group = u32(fields[_GROUP_ID])
        return struct.unpack("=H", found[_CTRL_FAMILY_ID])[0], group
