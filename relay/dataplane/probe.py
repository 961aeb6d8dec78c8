"""Self-tests before the plane is trusted: frames really leave by a device, and unfinished checksums are completed.

A driver may take a redirected frame and lose it, or refuse it where nobody looks. So frames of an experimental
EtherType, addressed to the device itself, are redirected to it, and its own counter must show them. A veth takes them
while its peer polls, which may change under traffic: there the driver's counter of redirected frames is asked, which
the host's other packets do not touch. A local sender (veth, containers) leaves the UDP checksum to a card that will
never see the packet; the program must finish it.
"""

from __future__ import annotations

import asyncio
import struct

import numpy as np

from relay.dataplane import abi
from relay.dataplane.libbpf import Program
from relay.dataplane.packets import Datagram, checksum, pseudo_header, udp_packet
from relay.dataplane.program import Tables
from relay.dataplane.words import control, peer, rule_index
from relay.errors import DataplaneError
from relay.nic.ethtool import statistics
from relay.nic.links import Link, Rtnetlink
from relay.types import Endpoint

_ETHERTYPE_EXPERIMENTAL = 0x88B5  # IEEE 802, local experimental 1
_FRAME_SIZE = 60
_FRAMES = 16
_WAITS = (0.0, 0.01, 0.05, 0.2, 0.7, 1.5)  # seconds; some drivers count only now and then

_XDP_REDIRECT = 4
_TEST_PORT = 1  # of the first media address: no pool begins there
_TEST_HOP = abi.NEXTHOPS - 1
# Of RFC 5737 and RFC 3849, and none that samples give to hosts: a media address would be taken for a local one.
_SENDER, _RECEIVER = Endpoint("203.0.113.253", 4000), Endpoint("203.0.113.254", 6000)
_SENDER6 = Endpoint("2001:db8:ffff::1", 4000)
_PAYLOAD = b"hairpin"  # an odd length: the last byte is padded for the sum
_UDP = 17
_ETHERNET = 14


class EgressProbe:
    """Whether frames redirected to a device leave by it. What was found holds until the link changes or another try."""

    def __init__(self, program: Program, kernel: Rtnetlink) -> None:
        self.program = program
        self._kernel = kernel
        self._found: dict[Link, bool] = {}

    def verdict(self, link: Link) -> bool | None:
        """What was found of this link as it is now, None before it was tried."""
        return self._found.get(link)

    async def run(self, link: Link, slot: int) -> bool:
        """Send frames out of a device, which stands at `slot` in the devmap."""
        frame = link.mac + link.mac + struct.pack("!H", _ETHERTYPE_EXPERIMENTAL) + struct.pack("=I", slot)
        before = self._sent(link)
        self.program.test_run(frame.ljust(_FRAME_SIZE, b"\0"), repeat=_FRAMES, live_frames=True)
        for wait in _WAITS:
            await asyncio.sleep(wait)
            if self._sent(link) - before >= _FRAMES:
                break
        found = self._sent(link) - before >= _FRAMES
        self._found = {known: verdict for known, verdict in self._found.items() if known.index != link.index}
        self._found[link] = found
        return found

    def _sent(self, link: Link) -> int:
        """Frames that left by a device, of a veth only those that were redirected to it. Raises OSError."""
        if link.kind != "veth":
            return self._kernel.transmitted(link.index)
        counters = statistics(link.name)
        return sum(value for name, value in counters.items() if name.endswith("_xdp_xmit"))


def check_checksum(tables: Tables, media: str, slot: int) -> None:
    """Run the program on a packet with an unfinished checksum. Raises DataplaneError if it does not finish it.

    Before the program is attached: a rule and a next hop are borrowed for it, and cleared again. `media` is the first
    media address; the packet of an IPv6 one leaves over IPv4, so that nobody needs a token.
    """
    index = rule_index(0, _TEST_PORT)
    rule, hop = tables.rules[index], tables.nexthops[_TEST_HOP]
    hop["mtu"], hop["device"], hop["state"] = _FRAME_SIZE * 10, slot, abi.NEXTHOP_READY
    rule["nexthop"][:] = _TEST_HOP
    rule["signalled"] = peer(_RECEIVER, 1)
    rule["control"] = control(1, abi.LIVE | abi.LEARN_OFF | abi.KEEP_TOS, 0, 0, _TEST_PORT)
    try:
        result = tables.program("hairpin").test_run(_unfinished(Endpoint(media, _TEST_PORT)))
    finally:
        for array, place in ((tables.rules, index), (tables.cold, index), (tables.nexthops, _TEST_HOP)):
            array[place] = np.zeros((), array.dtype)
    if result.verdict != _XDP_REDIRECT or not _sum_is_right(result.data[_ETHERNET:]):
        raise DataplaneError("the XDP program does not complete UDP checksums on this kernel: please report it")


def _unfinished(local: Endpoint) -> bytes:
    """A frame to a local port as a sender leaves it to a card: its checksum is the pseudo-header's sum."""
    ip6 = ":" in local.ip
    sender = _SENDER6 if ip6 else _SENDER
    packet = udp_packet(Datagram(sender, local, _PAYLOAD), ttl=64, tos=0)
    length = 8 + len(_PAYLOAD)
    pseudo = ~checksum(pseudo_header(sender.ip, local.ip, _UDP, length)) & 0xFFFF
    check = len(packet) - length + 6
    unfinished = packet[:check] + struct.pack("!H", pseudo) + packet[check + 2 :]
    return bytes(12) + (b"\x86\xdd" if ip6 else b"\x08\x00") + unfinished


def _sum_is_right(packet: bytes) -> bool:
    """Whether the sum of an IPv4 packet without options leaves nothing."""
    udp = packet[20:]
    return checksum(packet[12:20] + struct.pack("!HH", _UDP, len(udp)) + udp) == 0xFFFF
