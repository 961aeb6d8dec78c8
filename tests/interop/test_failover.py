"""A pair of relays as operators know it: real daemons, Redis, ExaBGP and a router, moved by `hairpin`'s own commands.

The data plane is the one that keeps rules and forwards nothing: what is looked at is who announces what, and what is
said about it. Media through a failover is tests/net's and bench's.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from relay.types import Endpoint
from tests.daemon import Daemon, hairpin, offer
from tests.lab import Lab
from tests.pair import PairNetwork, pair_network
from tests.routers import Bird, ExaBgpd, relay_exabgp, router_bird, until
from tests.stores import RedisServer
from tests.supervised import bpf_folder

pytestmark = pytest.mark.interop

HOLD_OFF = 2
GRACE = 5
"""Seconds, longer than a relay takes to be there again, also on a busy machine."""


@dataclass
class Pair:
    """Two relays with everything between them."""

    network: PairNetwork
    router: Bird
    redis: RedisServer
    speakers: list[ExaBgpd]
    daemons: dict[int, Daemon]

    def begin(self, number: int, plane: str = "memory", pins: Path = Path("/nonexistent")) -> None:
        """Start the daemon of a relay, which keeps what it must in its host's folder."""
        relay, other = self.network.relays[number - 1], self.network.relays[2 - number]
        self.daemons[number] = Daemon(
            relay.host,
            f"--dataplane={plane}",
            f"--pin-dir={pins}",
            f"--interface={relay.service};{other.service}@{other.number}",
            f"--listen-ng={relay.address}:2223",
            "--ng-allow=10.98.0.0/16",
            f"--redis={self.redis.address}:{self.redis.port}/{relay.number}",
            f"--subscribe-keyspace={other.number}",
            "--no-redis-required",
            f"--node-name=relay{number}",
            "--node-lease=2",
            "--bgp=exabgp",
            f"--bgp-socket={self.speakers[number - 1].bridge}",
            f"--bgp-grace={GRACE}",
            f"--hold-off={HOLD_OFF}",
            "--health-grace=1",
            f"--state-dir={relay.host.folder}/state",
        ).ready(Endpoint(relay.address, 2223))

    def said(self, number: int, *words: str) -> subprocess.CompletedProcess[str]:
        """An operator's command at a relay."""
        return hairpin(self.network.relays[number - 1].host, *words)

    def address(self, number: int, ip: str) -> dict[str, Any]:
        """What a relay tells of a service address."""
        rows = json.loads(self.said(number, "status", "--json").stdout)["failover"]["addresses"]
        return next(row for row in rows if row["address"] == ip)

    def routed(self, service: int, to: int, patience: float = 30.0) -> float:
        """Wait until the router sends a relay's service address to a relay."""
        relay, ip = self.network.relays[to - 1], self.network.relays[service - 1].service
        return until(f"{ip} to relay{to}", lambda: relay.address in self.network.routed(ip), patience)

    def at_rest(self) -> None:
        """Each relay serves its own address, and each would serve the other's."""
        for number in (1, 2):
            if number not in self.daemons:
                self.begin(number)
        for number, other in ((1, 2), (2, 1)):
            self._serve(number, *(self.network.relays[one - 1].service for one in (number, other)))

    def _serve(self, number: int, own: str, theirs: str) -> None:
        self.said(number, "resume")
        self.said(number, "announce")
        self.routed(number, number)
        until(f"a backup of {theirs}", lambda: self.address(number, theirs)["role"] == "backup", 30)
        until(f"{own} covered", lambda: "backup" in self.address(number, own)["partners"].values(), 30)


@pytest.fixture(scope="module")
def bare() -> Iterator[Pair]:
    with Lab() as lab:
        network = pair_network(lab)
        one, other = network.relays
        redis = RedisServer(network.store, network.STORE_ADDRESS, options=("--protected-mode", "no"))
        router = router_bird(network.core, network.CORE_ADDRESS, [one.address, other.address], "10.98.100.0/24")
        speakers = [relay_exabgp(relay.host, relay.address, relay.gateway) for relay in network.relays]
        yield Pair(network, router, redis, speakers, {})


@pytest.fixture
def pair(bare: Pair) -> Pair:
    bare.at_rest()
    return bare


SERVICE = "10.98.100.1"


def test_withdraw_moves_an_address_and_says_so_and_announce_brings_it_back(pair: Pair) -> None:
    said = pair.said(1, "withdraw", SERVICE)
    assert said.returncode == 0, said.stderr
    for what in ("order: withdraw", "exabgp is told: none", "exabgp has confirmed: none"):
        assert f"{SERVICE}  {what}" in said.stdout
    assert said.stdout.splitlines()[-1].startswith(f"{SERVICE}: none")
    pair.routed(1, 2, patience=5)
    said = pair.said(1, "announce", SERVICE)
    assert f"{SERVICE}  exabgp has confirmed: primary" in said.stdout
    pair.routed(1, 1, patience=5)


def test_a_withdrawn_address_stays_withdrawn_over_a_kill(pair: Pair) -> None:
    pair.said(1, "withdraw", SERVICE)
    pair.routed(1, 2)
    pair.daemons.pop(1).end(signal.SIGKILL)
    pair.begin(1)
    time.sleep(HOLD_OFF + 3)
    assert pair.address(1, SERVICE)["role"] == "none"
    pair.routed(1, 2, patience=1)


def test_without_a_partner_withdraw_is_refused_and_status_says_who_serves(pair: Pair) -> None:
    pair.daemons[2].process.send_signal(signal.SIGSTOP)
    try:
        until("the partner's lease to end", lambda: not pair.address(1, SERVICE)["partners"], 20)
        said = pair.said(1, "withdraw", SERVICE)
        assert said.returncode == 1
        assert "no partner lives, is well, announces 10.98.100.1 and has its calls" in said.stderr
        assert pair.address(1, SERVICE)["role"] == "primary"
        forced = pair.said(1, "withdraw", SERVICE, "--force")
        assert "ALARM: withdrawn by order, and no partner serves it" in forced.stdout
        pair.said(1, "announce", SERVICE)
    finally:
        pair.daemons[2].process.send_signal(signal.SIGCONT)
    until("the partner in the status", lambda: "relay2 backup" in pair.said(1, "status").stdout, 20)


def test_a_killed_relay_is_withdrawn_after_the_grace_and_announces_after_the_hold_off(pair: Pair) -> None:
    pair.daemons.pop(1).end(signal.SIGKILL)
    assert pair.routed(1, 2) > GRACE - 1.5
    pair.begin(1)
    began = time.monotonic()
    until("the reason", lambda: "well and in step, announced in" in pair.address(1, SERVICE)["why"], 20)
    pair.routed(1, 1)
    assert time.monotonic() - began > HOLD_OFF - 1.5


def test_a_relay_that_is_killed_and_at_once_started_keeps_its_route(pair: Pair) -> None:
    pair.daemons.pop(1).end(signal.SIGKILL)
    pair.begin(1)
    until("the look at what stands", lambda: pair.address(1, SERVICE)["confirmed"], 20)
    pair.daemons[1].says("relay before this one")
    time.sleep(GRACE + 1)
    assert pair.address(1, SERVICE)["role"] == "primary"
    assert "primary instead of none" not in pair.daemons[1].said()
    pair.routed(1, 1, patience=1)


def test_an_orderly_stop_withdraws_at_once_and_leaves_the_calls_to_the_partner(pair: Pair) -> None:
    relay, other = pair.network.relays
    assert offer(relay.host, "stays@test", Endpoint(relay.address, 2223))["result"] == "ok"
    until("the call at the partner", lambda: "stays@test" in pair.said(2, "list").stdout)
    assert "of keyspace 1" in pair.said(2, "list").stdout
    assert pair.daemons.pop(1).end() == 0
    pair.routed(1, 2, patience=3)
    time.sleep(1)
    row = next(line for line in pair.said(2, "list").stdout.splitlines() if line.startswith("stays@test"))
    assert "of keyspace" not in row
    assert other.number == 2


def test_a_drain_moves_the_route_first_and_ends_with_a_resume(pair: Pair) -> None:
    relay = pair.network.relays[0]
    assert offer(relay.host, "drained@test", Endpoint(relay.address, 2223))["result"] == "ok"
    said = pair.said(1, "drain", "--wait")
    assert said.returncode == 0, said.stderr
    assert f"drained: {SERVICE}" in said.stdout
    pair.routed(1, 2, patience=3)
    assert offer(relay.host, "refused@test", Endpoint(relay.address, 2223))["error-reason"]
    assert pair.said(1, "resume").returncode == 0
    pair.routed(1, 1, patience=5)


def test_calls_of_an_address_are_taken_and_released_by_order(pair: Pair) -> None:
    relay = pair.network.relays[0]
    assert offer(relay.host, "moves@test", Endpoint(relay.address, 2223))["result"] == "ok"

    def owner(number: int) -> Any:
        calls = json.loads(pair.said(number, "list", "--json").stdout)
        return next((call["owner"] for call in calls if call["call_id"] == "moves@test"), "nobody")

    until("the call at the partner", lambda: owner(2) == 1)
    assert "calls are being taken" in pair.said(2, "active", SERVICE).stdout
    until("its new owner", lambda: owner(1) == 2 and owner(2) is None)
    assert "keyspace 1 is asked to take the calls" in pair.said(2, "standby", SERVICE).stdout
    until("its former owner", lambda: owner(2) == 1 and owner(1) is None)


def test_a_relay_that_cannot_forward_withdraws_while_a_partner_serves(pair: Pair) -> None:
    """Its service address is gone from the host: packets of it are answered by nobody."""
    relay = pair.network.relays[0]
    pair.daemons.pop(1).end()
    shutil.rmtree(relay.host.folder / "state")
    with bpf_folder(relay.host.folder / "bpf") as pins:
        pair.begin(1, "xdp", pins)
        pair.at_rest()
        relay.host.ip("address", "del", f"{SERVICE}/32", "dev", "lo")
        try:
            pair.routed(1, 2)
            row = pair.address(1, SERVICE)
            assert row["role"] == "none"
            assert f"media address {SERVICE} is on no interface" in row["why"]
            assert "not well" in pair.said(1, "status").stdout
            refused = pair.said(1, "announce", SERVICE)
            assert "would not be served well from here: media address" in refused.stderr
        finally:
            relay.host.ip("address", "add", f"{SERVICE}/32", "dev", "lo")
        began = time.monotonic()
        pair.routed(1, 1)
        assert time.monotonic() - began > HOLD_OFF - 1.5
        pair.daemons.pop(1).end()
