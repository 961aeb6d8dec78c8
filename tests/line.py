"""A telephone's media, one step at a time: its sockets, the SDP that names them, what must reach them or must not."""

from __future__ import annotations

import itertools
import re
import socket
import struct
import time

from relay.types import Endpoint
from tests.lab import Host

FIRST_PORT = 20000
PATIENCE = 10.0
"""Seconds to wait for what must come."""
SILENCE = 0.2
"""Seconds to wait for what must not come."""
PACE = 0.002
"""Seconds between two packets."""
BATCH = 10
RTP, RTCP = 0, 1

_PLACE = re.compile(r"^c=IN IP[46] (\S+)", re.MULTILINE)
_MEDIA = re.compile(r"^m=\S+ (\d+) ", re.MULTILINE)
_RTCP = re.compile(r"^a=rtcp:(\d+)", re.MULTILINE)

_ports = itertools.count(FIRST_PORT, 2)


class Line:
    """The sockets of one call's media: RTP, or UDPTL, on an even port and RTCP on the next one."""

    def __init__(self, host: Host, address: str) -> None:
        self.local = Endpoint(address, next(_ports))
        self.towards: tuple[Endpoint, Endpoint] | None = None
        """Where the SDP that was heard last wants RTP and RTCP."""
        self._sockets = host.call(lambda: (_bound(self.local, 0), _bound(self.local, 1)))
        self._sent = 0

    # -- its SDP, and that of the other side

    def audio(self, *attributes: str, version: int = 1, ip: str = "") -> str:
        """SDP of a telephone that talks on this line; an `ip` of 0.0.0.0 holds it in the way of RFC 2543."""
        more = ("a=rtpmap:0 PCMU/8000", *(f"a={attribute}" for attribute in attributes))
        return self._sdp(version, f"m=audio {self.local.port} RTP/AVP 0", *more, ip=ip)

    def fax(self, version: int = 2) -> str:
        """SDP of a telephone that has turned out to be a fax machine (ITU-T T.38 annex D)."""
        more = ("a=T38FaxVersion:0", "a=T38MaxBitRate:14400", "a=T38FaxUdpEC:t38UDPRedundancy")
        return self._sdp(version, f"m=image {self.local.port} udptl t38", *more)

    def _sdp(self, version: int, *media: str, ip: str = "") -> str:
        family = f"IN IP{6 if ':' in self.local.ip else 4}"
        head = ("v=0", f"o=- 1 {version} {family} {self.local.ip}", "s=-", f"c={family} {ip or self.local.ip}", "t=0 0")
        return "".join(f"{line}\r\n" for line in (*head, *media))

    def follow(self, sdp: str) -> str:
        """Send to where this SDP says from here on; returns it."""
        (ip,), (port,) = set(_PLACE.findall(sdp)), map(int, _MEDIA.findall(sdp))
        rtcp = _RTCP.search(sdp)
        self.towards = Endpoint(ip, port), Endpoint(ip, int(rtcp[1]) if rtcp else port + 1)
        return sdp

    # -- its packets

    def speech(self, count: int = BATCH) -> list[bytes]:
        """The next RTP packets of this line."""
        first, self._sent = self._sent, self._sent + count
        head = [struct.pack("!BBHII", 0x80, 0, n, n * 160, self.local.port) for n in range(first, self._sent)]
        return [one + bytes(160) for one in head]

    def report(self) -> list[bytes]:
        """An RTCP receiver report without blocks (RFC 3550 section 6.4.2)."""
        return [struct.pack("!BBHI", 0x80, 201, 1, self.local.port)]

    def send(self, packets: list[bytes], part: int = RTP) -> None:
        assert self.towards
        for packet in packets:
            self._sockets[part].sendto(packet, self.towards[part])
            time.sleep(PACE)

    def heard(self, count: int, part: int = RTP, seconds: float = PATIENCE) -> list[tuple[bytes, Endpoint]]:
        """Wait for datagrams, with where they come from: as many, or fewer if time runs out."""
        found: list[tuple[bytes, Endpoint]] = []
        until = time.monotonic() + seconds
        while len(found) < count and (left := until - time.monotonic()) > 0:
            self._sockets[part].settimeout(left)
            try:
                data, source = self._sockets[part].recvfrom(2048)
            except TimeoutError:
                break
            found.append((data, Endpoint(source[0], source[1])))
        return found

    def close(self) -> None:
        for opened in self._sockets:
            opened.close()


def _bound(local: Endpoint, above: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET6 if ":" in local.ip else socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind((local.ip, local.port + above))
    return opened


def relay_of(line: Line) -> str:
    """The address that a line sends to."""
    assert line.towards
    return line.towards[0].ip


def carries(sender: Line, receiver: Line, packets: list[bytes], part: int = RTP) -> None:
    """Assert that datagrams reach the receiver as they are and in order, from where it sends its own to."""
    assert receiver.towards
    assert relay_of(sender) != receiver.local.ip, f"{receiver.local} is not spoken to through a relay"
    sender.send(packets, part)
    came = receiver.heard(len(packets), part)
    told = f"of {len(packets)} packets from {sender.local}, {len(came)} came to {receiver.local}, from"
    assert [data for data, _ in came] == packets, f"{told} { ({source for _, source in came}) }"
    assert {source for _, source in came} == {receiver.towards[part]}, f"{told} elsewhere than {receiver.towards[part]}"


def talk(one: Line, other: Line, *strangers: Line) -> None:
    """Assert that RTP and RTCP pass both ways, and reach nobody else."""
    for sender, receiver in ((one, other), (other, one)):
        carries(sender, receiver, sender.speech())
        carries(sender, receiver, sender.report(), RTCP)
    silent(one, other, *strangers)


def fax(one: Line, other: Line) -> None:
    """Assert that UDPTL passes both ways, also where its sequence number looks like the first bytes of RTP or RTCP."""
    for sender, receiver in ((one, other), (other, one)):
        numbers = (0, 1, 0x1400, 0x4000, 0x8000, 0x80C8, 0x9000, 0xFFFF)
        carries(sender, receiver, [struct.pack("!HBB", number, 6, 0) + b"\x01" * 40 for number in numbers])
    silent(one, other)


def silent(*lines: Line) -> None:
    """Assert that nothing more reaches these lines."""
    time.sleep(SILENCE)
    for line in lines:
        came = line.heard(1, RTP, 0.001) + line.heard(1, RTCP, 0.001)
        assert not came, f"{line.local} gets what it must not, from {came[0][1]}: {came[0][0].hex()}"
