"""What both relays tell of a call that has talked: counters, totals, and what was seen of its streams."""

from __future__ import annotations

import socket
import struct
import time

from tests.interop.differential.bodies import CALLEE, CALLER, call, reply
from tests.interop.differential.comparison import ABSENT, Difference, differences
from tests.interop.differential.conversation import Told, answer, delete, offer, query
from tests.interop.differential.differences import unlisted_points
from tests.interop.differential.meaning import Telling
from tests.interop.differential.relays import Contestant, Rivals
from tests.lab import Host

NAME = "media"
PATIENCE = 5.0
IMMEDIATE = {"endpoint-learning": "immediate"}


def _open(host: Host, ip: str, port: int) -> socket.socket:
    opened = host.socket()
    opened.settimeout(PATIENCE)
    opened.bind((ip, port))
    return opened


def _rtp(number: int, ssrc: int) -> bytes:
    return struct.pack("!BBHII", 0x80, 8, 1000 + number, 160 * number, ssrc) + bytes(160)


def _report(ssrc: int) -> bytes:
    """A receiver report without blocks, and the sender's name (RFC 3550 section 6.1)."""
    name = struct.pack("!BBHIBB2s", 0x81, 202, 3, ssrc, 1, 1, b"x\0") + bytes(4)
    return struct.pack("!BBHI", 0x80, 201, 1, ssrc) + name


def _shown(body: str) -> tuple[str, int]:
    lines = body.split("\r\n")
    ip = next(line.split()[-1] for line in lines if line.startswith("c="))
    return ip, int(next(line.split()[1] for line in lines if line.startswith("m=")))


def _talk(one: Contestant, rivals: Rivals) -> list[Told]:
    """A call with media both ways; what is told of it then, and at its end."""
    telling = Telling(one.addresses)
    network = rivals.network
    with (
        one.line() as line,
        _open(network.caller, CALLER, 20000) as caller,
        _open(network.callee, CALLEE, 22000) as callee,
        _open(network.caller, CALLER, 20001) as caller_rtcp,
        _open(network.callee, CALLEE, 22001) as callee_rtcp,
    ):
        about = {"call-id": NAME, **IMMEDIATE}
        for_callee = _shown(line.ask({**offer(call()), **about})["sdp"])
        for_caller = _shown(line.ask({**answer(reply()), **about})["sdp"])
        for number in range(30):
            caller.sendto(_rtp(number, 0x1111), for_caller)
            assert callee.recv(2048) == _rtp(number, 0x1111)
        for number in range(20):
            callee.sendto(_rtp(number, 0x2222), for_callee)
            assert caller.recv(2048) == _rtp(number, 0x2222)
        caller_rtcp.sendto(_report(0x1111), (for_caller[0], for_caller[1] + 1))
        callee_rtcp.recv(2048)
        time.sleep(0.2)
        told = []
        for request in (query(), delete(**{"delete-delay": 0})):
            asked = {"call-id": NAME, **request}
            told.append(telling.tell(asked, line.ask(asked)))
        return told


ONCE_TALKED = (
    Difference(
        "Hairpin counts every SSRC as it passes; rtpengine knows those that its RTCP statistics were asked for",
        r"\d / SSRC / (4369|8738)",
        theirs=ABSENT,
    ),
    Difference(
        "An SSRC is one of RTP: who reports is no source of media", r"\d / tags / a / .* / RTCP / SSRC", ours=ABSENT
    ),
    Difference(
        "rtpengine in user space confirms nobody by immediate learning", r".* / flags / confirmed", theirs=ABSENT
    ),
    Difference("Media takes the fast path of Hairpin", r".* / flags / kernelized", theirs=ABSENT),
)
"""What may differ of calls with media, beside what may differ of all."""


def test_both_relays_count_the_same(rivals: Rivals) -> None:
    ours, theirs = _talk(rivals.ours, rivals), _talk(rivals.theirs, rivals)
    points = differences(ours, theirs)
    unlisted = [
        point for point in unlisted_points(NAME, points) if not any(one.covers(NAME, point) for one in ONCE_TALKED)
    ]
    assert not unlisted, "\n".join(map(str, unlisted))
    assert all(any(one.covers(NAME, point) for point in points) for one in ONCE_TALKED)
    for told in ours:
        assert told["totals"]["RTP"] == {"packets": 50, "bytes": 50 * 172, "errors": 0}
        assert told["totals"]["RTCP"]["packets"] == 1
