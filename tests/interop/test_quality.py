"""The relay's figures of RTP quality against tshark's, on the same packets: lost, doubled, late, jittered."""

from __future__ import annotations

import itertools
import random
import re
import statistics
import time
from dataclasses import dataclass

import pytest

from tests.lab import Lab, capture_fields, command, standard_network
from tests.media import Received, Schedule, impaired
from tests.peers import Relay, Stream, start_kamailio
from tests.telephones import Telephones

CALLS = 10
SECONDS = 30.0
SETTLED = 6.0
"""Seconds after which the running mean of jitter has forgotten that it began at zero."""
STREAM_LINE = re.compile(
    r"^\s*[\d.]+\s+[\d.]+\s+(?P<source>\S+)\s+(?P<source_port>\d+)\s+\S+\s+\d+\s+(?P<ssrc>0x[0-9A-F]{8})\s+.*?"
    r"(?P<packets>\d+)\s+(?P<lost>-?\d+) \(.*?\)\s+(?P<figures>[\d.\s-]+?)\s*X?$"
)
"""One line of tshark's `-z rtp,streams`."""


@dataclass(frozen=True)
class Judged:
    """One caller's stream as the relay and tshark have it."""

    relay: Stream
    relay_jitter: float
    """Mean of what the relay showed once a second, in milliseconds."""
    heard: Received
    """Counted from the sequence numbers that tshark dissected."""
    tshark_lost: int
    tshark_jitter: float
    """Mean, in milliseconds."""


class BadNetworks:
    """Loses and doubles packets of all calls; call by call also lets packets overtake one another, or delays them."""

    def __init__(self) -> None:
        self._kinds = itertools.cycle(((0.02, 0.002), (0, 0.0005), (0, 0.004)))

    def __call__(self, packets: int, source: random.Random) -> Schedule:
        reordering, jitter = next(self._kinds)
        return impaired(packets, source, loss=0.03, duplication=0.01, reordering=reordering, jitter=jitter)


@pytest.fixture(scope="module")
def judged() -> list[Judged]:
    with Lab() as lab:
        network = standard_network(lab)
        with (
            Relay(network.relay, network.RELAY_ADDRESS, "--delete-delay=30") as relay,
            Telephones(network, calls=CALLS, seconds=SECONDS, schedule=BadNetworks()) as telephones,
        ):
            start_kamailio(network.proxy, network.PROXY_ADDRESS, relays=[relay.ng])
            only = f"udp and src host {network.CALLER_ADDRESS} and dst host {network.RELAY_ADDRESS}"
            capture = network.core.capture(network.RELAY_PORT, lab.folder / "caller.pcapng", only)
            telephones.dial()
            jitter = watch_jitter(relay, telephones)
            file = capture.stop()
            streams = {stream["ssrc"]: stream for stream in relay.streams() if stream["part"] == "RTP"}
            ssrcs = [caller.ssrc for caller, _ in telephones.pairs()]
        ports = sorted({row[0] for row in capture_fields(file, "udp", ["udp.dstport"]) if int(row[0]) % 2 == 0})
        decode = [word for port in ports for word in ("-d", f"udp.port=={port},rtp")]
        heard: dict[int, Received] = {}
        for ssrc, sequence in capture_fields(file, "rtp", ["rtp.ssrc", "rtp.seq"], decode):
            heard.setdefault(int(ssrc, 16), Received()).add(int(sequence))
        report = command("tshark", "-n", "-q", "-r", str(file), *decode, "-z", "rtp,streams", timeout=60)
        said = {int(m["ssrc"], 16): m for line in report.splitlines() if (m := STREAM_LINE.match(line))}
        return [
            Judged(
                streams[ssrc],
                statistics.mean(jitter[ssrc]),
                heard[ssrc],
                int(said[ssrc]["lost"]),
                float(said[ssrc]["figures"].split()[-2]),
            )
            for ssrc in ssrcs
        ]


def watch_jitter(relay: Relay, telephones: Telephones) -> dict[int, list[float]]:
    """Wait for the end of the calls; the jitter of each stream once a second, by SSRC, after its first few seconds."""
    seen: dict[int, list[float]] = {}
    due = time.monotonic() + SETTLED
    end = time.monotonic() + SECONDS

    def look() -> None:
        nonlocal due
        if not due <= time.monotonic() < end:
            return
        due += 1.0
        for stream in relay.streams():
            if stream["jitter_ms"] is not None:
                seen.setdefault(stream["ssrc"], []).append(stream["jitter_ms"])

    telephones.wait(look)
    return seen


def test_lost_packets_are_as_many_as_tshark_says(judged: list[Judged]) -> None:
    assert [one.relay["lost"] for one in judged] == [one.tshark_lost for one in judged]
    assert sum(one.tshark_lost for one in judged) > CALLS


def test_duplicates_are_as_many_as_in_the_capture(judged: list[Judged]) -> None:
    assert [one.relay["duplicates"] for one in judged] == [one.heard.duplicates for one in judged]
    assert sum(one.heard.duplicates for one in judged) > CALLS


def test_reordered_packets_are_as_many_as_in_the_capture(judged: list[Judged]) -> None:
    assert [one.relay["reordered"] for one in judged] == [one.heard.reordered for one in judged]
    assert sum(one.heard.reordered for one in judged) > CALLS


def test_jitter_is_within_a_fifth_or_a_millisecond_of_tsharks(judged: list[Judged]) -> None:
    """Of streams in order: tshark takes the delay of overtaken packets for jitter, the relay measures none of these."""
    in_order = [one for one in judged if not one.heard.reordered]
    assert len(in_order) > CALLS // 2
    assert max(one.tshark_jitter for one in in_order) > min(one.tshark_jitter for one in in_order) + 1.2
    for one in in_order:
        assert one.relay_jitter == pytest.approx(one.tshark_jitter, rel=0.2, abs=1.0)
