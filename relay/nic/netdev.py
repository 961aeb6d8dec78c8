"""What a device can do for XDP, from the kernel's own announcement (generic netlink family "netdev", Linux 6.3)."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from pyroute2.netlink import CTRL_CMD_GETFAMILY, GENL_ID_CTRL, NETLINK_GENERIC, ctrlmsg, genlmsg

from relay.nic.netlink import Netlink

PROTOCOL = NETLINK_GENERIC
_DEV_GET = 1
_BASIC = 1 << 0
_NDO_XMIT = 1 << 2


class _Device(genlmsg):  # type: ignore[misc]
    """NETDEV_CMD_DEV_GET and its answer (linux/netdev.h), which pyroute2 does not have."""

    nla_map = (
        (1, "NETDEV_A_DEV_IFINDEX", "uint32"),
        (3, "NETDEV_A_DEV_XDP_FEATURES", "uint64"),
    )


@dataclass(frozen=True, slots=True)
class XdpFeatures:
    """`native`: the driver runs XDP programs; `takes_redirects`: it sends frames another device redirected to it."""

    native: bool
    takes_redirects: bool


class Netdev:
    """The "netdev" family; `available` is False on kernels before 6.3, where only trying tells."""

    def __init__(self) -> None:
        self._netlink = Netlink(PROTOCOL, {GENL_ID_CTRL: ctrlmsg})
        self._family, self.group = self._find()
        self._netlink.messages[self._family] = _Device

    @property
    def available(self) -> bool:
        return self._family != 0

    def close(self) -> None:
        self._netlink.close()

    def features(self, ifindex: int) -> XdpFeatures | None:
        """What the device says of itself now (a veth's answer follows its peer); None if it cannot be asked."""
        if not self._family:
            return None
        message = _Device()
        message.update(cmd=_DEV_GET, version=1, attrs=[("NETDEV_A_DEV_IFINDEX", ifindex)])
        try:
            (answer,) = self._netlink.request(message, self._family)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        bits = answer.get_attr("NETDEV_A_DEV_XDP_FEATURES", 0)
        return XdpFeatures(native=bool(bits & _BASIC), takes_redirects=bool(bits & _NDO_XMIT))

    def _find(self) -> tuple[int, int]:
        """The family's number and its group of change notices, zeros where the kernel has none."""
        message = ctrlmsg()
        message.update(cmd=CTRL_CMD_GETFAMILY, version=1, attrs=[("CTRL_ATTR_FAMILY_NAME", "netdev")])
        try:
            (answer,) = self._netlink.request(message, GENL_ID_CTRL)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return 0, 0
            raise
        groups = {
            group.get_attr("CTRL_ATTR_MCAST_GRP_NAME"): group.get_attr("CTRL_ATTR_MCAST_GRP_ID")
            for group in answer.get_attr("CTRL_ATTR_MCAST_GROUPS", [])
        }
        return answer.get_attr("CTRL_ATTR_FAMILY_ID"), groups.get("mgmt", 0)
