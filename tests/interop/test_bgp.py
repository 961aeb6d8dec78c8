"""Service addresses announced to a router running BIRD, through ExaBGP and through BIRD, with the samples of deploy/.

What is asserted is the route in the router's kernel, which is what sends packets.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from control.failover.bird import Bird as BirdSpeaker
from control.failover.exabgp import ExaBgp
from control.failover.pulse import Pulse
from control.failover.speaker import Attributes, Role, Route, Speaker, SpeakerLost, Styles
from tests.lab import Lab, LabError
from tests.pair import PairNetwork, RelayHost, pair_network, reach, silence
from tests.routers import Bird, ExaBgpd, Speaking, relay_bfd, relay_bird, relay_exabgp, router_bird, until

pytestmark = pytest.mark.interop

SERVICES = "10.98.100.0/24"
SERVICE6, NEXT_HOP6, CORE6 = "2001:db8:100::1", "2001:db8:11::2", "2001:db8:11::1"
STYLES = Styles(
    Attributes(med=100, local_preference=200, communities=("65000:7", "65000:1:2")),
    Attributes(prepend=2, med=200, local_preference=100),
    65010,
    (NEXT_HOP6,),
)
GRACE = 2
ROUNDS = 20


@dataclass
class Site:
    """The pair's network with its router's BIRD, and what runs on the relays in one test."""

    network: PairNetwork
    router: Bird
    kind: str = ""
    daemons: dict[int, Bird | ExaBgpd] = field(default_factory=dict)
    speaking: dict[int, Speaking] = field(default_factory=dict)
    watching: list[Bird] = field(default_factory=list)

    def start(self, number: int) -> Speaking:
        """The daemon that speaks BGP on a relay, with its session up, and the relay's side of it."""
        relay = self.network.relays[number - 1]
        begin = relay_exabgp if self.kind == "exabgp" else relay_bird
        self.daemons[number] = begin(relay.host, relay.address, relay.gateway)
        self.established(number)
        return self.speak(number)

    def speak(self, number: int) -> Speaking:
        """A relay's side alone, as after a restart of the relay."""
        self.speaking[number] = Speaking(self.network.relays[number - 1].host, lambda: self._speaker(number))
        return self.speaking[number]

    def established(self, number: int) -> None:
        until("the session", lambda: self.router.established(f"relay{number}"))

    def _speaker(self, number: int) -> Speaker:
        relay, daemon = self.network.relays[number - 1], self.daemons[number]
        if isinstance(daemon, ExaBgpd):
            return ExaBgp(daemon.bridge, STYLES, GRACE)
        addresses = [*(one.service for one in self.network.relays), SERVICE6]
        return BirdSpeaker(daemon.socket, relay.host.folder / "bgp/hairpin.conf", addresses, STYLES, GRACE, Pulse(0))

    def route(self, relay: RelayHost | None, service: int = 1, patience: float = 15.0) -> float:
        """Wait until the router sends a relay's service address to a relay, or nowhere; returns the seconds."""
        ip = self.network.relays[service - 1].service
        where = f"to {relay.host.name}" if relay else "gone"

        def there() -> bool:
            routed = self.network.routed(ip)
            return relay.address in routed if relay else not routed

        return until(f"the route of {ip} {where}", there, patience, 0.002)

    def seen(self, ip: str = "10.98.100.1/32") -> str:
        """All the router knows of an address."""
        return self.router.ask(f"show route all {ip}")

    def clear(self) -> None:
        for one in self.speaking.values():
            one.vanish()
        for daemon in (*self.daemons.values(), *self.watching):
            daemon.end()
        for relay in self.network.relays:
            relay.host.call(Pulse(0).stop)
            with contextlib.suppress(FileNotFoundError):
                (relay.host.folder / "bgp/hairpin.conf").unlink()
        self.daemons.clear()
        self.speaking.clear()
        self.watching.clear()
        for number in (1, 2):
            self.router.ask(f"restart relay{number}")  # else ExaBGP's routes stand for a graceful restart
        for number in (1, 2):
            self.route(None, number)


@pytest.fixture(scope="module")
def bare() -> Iterator[Site]:
    with Lab() as lab:
        network = pair_network(lab)
        one, other = network.relays
        for host, device, ip in ((network.core, one.port, CORE6), (one.host, "eth0", NEXT_HOP6)):
            host.ip("address", "add", f"{ip}/64", "dev", device, "nodad")
        yield Site(network, router_bird(network.core, network.CORE_ADDRESS, [one.address, other.address], SERVICES))


@pytest.fixture(params=["exabgp", "bird"])
def site(request: pytest.FixtureRequest, bare: Site) -> Iterator[Site]:
    """A site for each kind of speaker."""
    bare.kind = request.param
    yield bare
    bare.clear()


@pytest.fixture
def exabgp(bare: Site) -> Iterator[Site]:
    bare.kind = "exabgp"
    yield bare
    bare.clear()


@pytest.fixture
def bird(bare: Site) -> Iterator[Site]:
    bare.kind = "bird"
    yield bare
    bare.clear()


def test_announced_with_its_attributes_and_withdrawn_within_milliseconds(site: Site) -> None:
    relay, speaking = site.network.relays[0], site.start(1)
    assert speaking.found == {}
    speaking.announce({relay.service: Role.PRIMARY})
    site.route(relay)
    for attribute in ("BGP.med: 100", "BGP.community: (65000,7)", "BGP.large_community: (65000, 1, 2)"):
        assert attribute in site.seen()
    times: dict[Role, list[float]] = {Role.NONE: [], Role.PRIMARY: []}
    for _ in range(ROUNDS):
        for role, found in times.items():
            began = time.monotonic()
            speaking.announce({relay.service: role})
            site.route(relay if role is Role.PRIMARY else None)
            found.append(1000 * (time.monotonic() - began))
    for role, found in times.items():
        middle, worst = statistics.median(found), max(found)
        print(f"{site.kind}: {role.value}: median {middle:.1f} ms, worst {worst:.1f} ms of {ROUNDS}")
        assert middle < 250


def test_a_backup_takes_over_and_a_drain_moves_the_route_while_it_stands(site: Site) -> None:
    one, other = site.network.relays
    primary, backup = site.start(1), site.start(2)
    backup.announce({one.service: Role.BACKUP})
    site.route(other)
    primary.announce({one.service: Role.PRIMARY})
    site.route(one)
    assert "BGP.as_path: 65010 65010 65010\n" in site.seen()
    primary.announce({one.service: Role.DRAINING})
    site.route(other)
    assert "BGP.community: (65000,7) (65535,0)" in site.seen()
    primary.announce({one.service: Role.PRIMARY})
    site.route(one)
    primary.announce({one.service: Role.NONE})
    print(f"{site.kind}: to the backup after {1000 * site.route(other):.1f} ms")


def test_ipv6_routes_have_the_next_hop_that_is_given(site: Site) -> None:
    speaking = site.start(1)
    speaking.announce({SERVICE6: Role.PRIMARY})
    until("the route", lambda: f"via {NEXT_HOP6} " in site.network.core.ip("-6", "route", "show", SERVICE6))
    speaking.announce({})
    until("its end", lambda: not site.network.core.ip("-6", "route", "show", SERVICE6))


def test_without_the_relay_routes_stand_for_the_grace_and_those_nobody_else_serves_for_good(site: Site) -> None:
    one, other = site.network.relays
    speaking = site.start(1)
    speaking.announce({one.service: Role.PRIMARY, other.service: Route(Role.BACKUP, lone=True)})
    site.route(one, 1)
    site.route(one, 2)
    speaking.vanish()
    went = site.route(None, 1)
    assert GRACE - 0.5 < went < GRACE + 5
    print(f"{site.kind}: withdrawn {went:.1f} s after the relay's last word")
    time.sleep(1)
    site.route(one, 2)
    again = site.speak(1)
    assert again.found == {other.service: Role.BACKUP}
    again.announce({one.service: Role.PRIMARY})
    site.route(one, 1)
    site.route(None, 2)


def test_a_relay_that_restarts_within_the_grace_finds_what_stands(site: Site) -> None:
    relay, speaking = site.network.relays[0], site.start(1)
    speaking.announce({relay.service: Role.PRIMARY})
    site.route(relay)
    speaking.vanish()
    again = site.speak(1)
    assert again.found == {relay.service: Role.PRIMARY}
    again.announce({relay.service: Role.PRIMARY})
    time.sleep(GRACE + 1)
    site.route(relay)


def test_the_router_restarts(site: Site) -> None:
    relay, speaking = site.network.relays[0], site.start(1)
    speaking.announce({relay.service: Role.PRIMARY})
    site.route(relay)
    site.router.end()
    site.route(None)
    site.router.start()
    print(f"{site.kind}: announced {site.route(relay):.1f} s after the router's return")


def test_the_speaker_is_killed_and_returns(site: Site) -> None:
    one = site.network.relays[0]
    speaking = site.start(1)
    speaking.announce({one.service: Role.PRIMARY})
    site.route(one)
    site.daemons[1].kill()
    time.sleep(0.5)
    site.daemons[1].start()
    site.established(1)
    print(f"{site.kind}: announced again {site.route(one):.1f} s after the session")
    if site.kind == "bird":
        until("the speaker's return to it", lambda: confirmed(speaking, {one.service: Role.NONE}))
        site.route(None)
        speaking.announce({one.service: Role.PRIMARY})
    site.route(one)
    site.route(None, 2)


def confirmed(speaking: Speaking, routes: dict[str, Role]) -> bool:
    try:
        speaking.announce(routes)
    except SpeakerLost:
        return False
    return True


def test_exabgp_that_dies_leaves_its_routes_to_a_graceful_restart(exabgp: Site) -> None:
    """Not one moment without the route: it would be, had ExaBGP sent its End-of-RIB before the relay spoke."""
    relay, speaking = exabgp.network.relays[0], exabgp.start(1)
    speaking.announce({relay.service: Role.PRIMARY})
    exabgp.route(relay)
    seen = exabgp.network.core.folder / "routes"
    with seen.open("w") as file:
        monitor = exabgp.network.core.start("ip", "monitor", "route", stdout=file)
        exabgp.daemons[1].kill()
        until("the session's end", lambda: not exabgp.router.established("relay1"))
        exabgp.daemons[1].start()
        exabgp.established(1)
        time.sleep(2)
        speaking.announce({relay.service: Role.NONE})
        exabgp.route(None)
        time.sleep(0.5)
        exabgp.network.core.end(monitor)
    assert seen.read_text().count(f"Deleted {relay.service} ") == 1


def test_the_bridge_is_killed_and_told_again(exabgp: Site) -> None:
    one, other = exabgp.network.relays
    speaking = exabgp.start(1)
    speaking.announce({one.service: Role.PRIMARY})
    exabgp.route(one)
    daemon = exabgp.daemons[1]
    assert isinstance(daemon, ExaBgpd)
    before = daemon.bridges()
    os.kill(before[0], signal.SIGKILL)
    until("another bridge", lambda: daemon.bridges() not in ([], before))
    until("the relay at the bridge", lambda: "is reached" in speaking.speaker.describe()[0])
    speaking.announce({one.service: Role.NONE, other.service: Role.BACKUP})
    exabgp.route(one, 2)
    assert exabgp.router.established("relay1")


def test_a_relay_that_hangs_is_a_relay_that_is_gone(exabgp: Site) -> None:
    relay, speaking = exabgp.network.relays[0], exabgp.start(1)
    daemon = exabgp.daemons[1]
    assert isinstance(daemon, ExaBgpd)
    speaking.vanish()
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.connect(str(daemon.bridge))
        line = f'{{"grace": {GRACE}, "routes": {{"{relay.service}/32": '
        hanging.sendall(line.encode() + b'{"role": "primary", "attributes": "next-hop self", "lone": false}}}\n')
        exabgp.route(relay)
        assert exabgp.route(None) > GRACE - 1


def test_the_bridge_drops_who_says_nonsense_and_goes_on(exabgp: Site) -> None:
    relay, speaking = exabgp.network.relays[0], exabgp.start(1)
    daemon = exabgp.daemons[1]
    assert isinstance(daemon, ExaBgpd)
    speaking.vanish()
    for nonsense in (b"x\n", b'{"routes": 5}\n', b"y" * 200_000):
        with socket.socket(socket.AF_UNIX) as stranger, contextlib.suppress(OSError):
            stranger.settimeout(5)
            stranger.connect(str(daemon.bridge))
            stranger.sendall(nonsense)
            while stranger.recv(65536):
                pass
    exabgp.speak(1).announce({relay.service: Role.PRIMARY})
    exabgp.route(relay)
    assert daemon.log.read_text().count("cannot be understood") == 3


def test_an_operators_birdc_configure_brings_nothing_back(bird: Site) -> None:
    relay, speaking = bird.network.relays[0], bird.start(1)
    speaking.announce({relay.service: Role.PRIMARY})
    bird.route(relay)
    speaking.announce({relay.service: Role.NONE})
    bird.route(None)
    daemon = bird.daemons[1]
    assert isinstance(daemon, Bird)
    assert "Reconfig" in daemon.ask("configure")
    with pytest.raises(LabError):
        bird.route(relay, patience=1.5)
    speaking.announce({relay.service: Role.PRIMARY})
    bird.route(relay)
    daemon.ask("configure")
    with pytest.raises(LabError):
        bird.route(None, patience=1.5)


def test_what_an_operator_enables_or_disables_by_hand_is_told_again(bird: Site) -> None:
    relay, speaking = bird.network.relays[0], bird.start(1)
    speaking.announce({relay.service: Role.PRIMARY})
    bird.route(relay)
    daemon = bird.daemons[1]
    assert isinstance(daemon, Bird)
    (name,) = re.findall(r"protocol static (hairpin_primary_\w+) \{\s+disabled no", _include(bird))
    daemon.ask(f"disable {name}")
    bird.route(None)
    bird.route(relay)


def test_a_bird_whose_configuration_is_broken_still_withdraws(bird: Site) -> None:
    relay, speaking = bird.network.relays[0], bird.start(1)
    speaking.announce({relay.service: Role.PRIMARY})
    bird.route(relay)
    daemon = bird.daemons[1]
    daemon.config.write_text(daemon.config.read_text() + "protocol nonsense {")
    speaking.announce({relay.service: Role.NONE})
    bird.route(None)


def test_bfd_withdraws_a_silent_host(site: Site) -> None:
    relay, speaking = site.network.relays[0], site.start(1)
    if site.kind == "exabgp":
        site.watching.append(relay_bfd(relay.host, relay.address, relay.gateway))
    speaking.announce({relay.service: Role.PRIMARY})
    site.route(relay)
    until("BFD", lambda: site.router.watched(relay.address))
    silence(site.network, relay)
    try:
        gone = site.route(None)
        print(f"{site.kind}: a silent host's route gone after {1000 * gone:.0f} ms")
        assert gone < 1.0
    finally:
        reach(site.network, relay)
    site.route(relay, patience=30)


def _include(site: Site) -> str:
    folder: Path = site.network.relays[0].host.folder
    return (folder / "bgp/hairpin.conf").read_text()
