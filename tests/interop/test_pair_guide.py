"""deploy/PAIR.md as it stands: its commands on hosts with systemd of their own, and what is to be seen by it then.

Not run are apt-get and pip, whose packages this machine has.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from relay.types import Endpoint
from tests.calls import sdp
from tests.lab import Host, Lab, LabError, command, give_address
from tests.ng import Proxy
from tests.peers import ROOT
from tests.routers import BRIDGE, EXABGP
from tests.stores import eventually
from tests.systemd import IN_SIGHT, Systemd

pytestmark = pytest.mark.interop

GUIDE = (ROOT / "deploy/PAIR.md").read_text()
ADDRESSES = {"router": "192.0.2.1", "proxy": "192.0.2.10", "relay1": "192.0.2.11", "relay2": "192.0.2.12"}
RELAYS = ("relay1", "relay2")
SERVICE, OTHER = "198.51.100.1", "198.51.100.2"
HOLD_OFF = 3
"""Seconds; nobody waits for half a minute here."""
OWN_FOLDERS = ("/etc", "/opt", "/usr/bin", "/usr/lib", "/var/lib")
CHECKOUT = f"mkdir -p /opt/hairpin && mount --bind {ROOT} /opt/hairpin"
UNITS = {"router": ("bird",), "proxy": ("redis-server", "redis-sentinel")}
# What was compiled may be older than its sources.
DROP_IN = f"{IN_SIGHT}Environment=HAIRPIN_INTERPRETED={os.environ.get('HAIRPIN_INTERPRETED', '')}\n"


class Site:
    """The four hosts of the guide."""

    def __init__(self, lab: Lab, stack: ExitStack) -> None:
        self.hosts = {name: lab.host(name) for name in ADDRESSES}
        _wire(lab, self.hosts)
        self._systemds = {name: stack.enter_context(_boot(name, host)) for name, host in self.hosts.items()}
        self._told = dict.fromkeys(ADDRESSES, "cd /opt/hairpin\n")

    def run(self, name: str, script: str) -> str:
        """Run a script in bash on a host, with the variables that were set before. Raises LabError where it fails."""
        if re.fullmatch(r"(\w+=\S+\s+)+", script):
            self._told[name] += script
            return ""
        systemd = self._systemds[name]
        done = systemd.run("bash", "-e", "-c", self._told[name] + script)
        if done.returncode:
            units = systemd.run("systemctl", "--no-pager", "--lines=0", "list-units", "--failed").stdout
            raise LabError(f"{name}: {script}\n{done.stdout}{done.stderr}\n{units}\n{systemd.log.read_text()[-3000:]}")
        return done.stdout

    def follow(self, *sections: int, **instead: str) -> None:
        """Run what sections of the guide say, each block on the hosts it names.

        With `instead`, host by word, those blocks alone that name the word, on that host.
        """
        for section in sections:
            (text,) = re.findall(rf"^## {section}\. .*?(?=^## )", GUIDE, re.MULTILINE | re.DOTALL)
            for names, script in re.findall(r"^```sh (.+?)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
                for name in names.split():
                    if name in (instead or ADDRESSES):
                        self.run(instead.get(name, name), script)

    def status(self, name: str) -> dict[str, Any]:
        """What `hairpin status` tells on a relay."""
        told: dict[str, Any] = json.loads(self.run(name, "hairpin status --json"))
        return told

    def announces(self, name: str, wanted: dict[str, str]) -> bool:
        """Whether a relay announces addresses in these roles, and has nothing to complain of."""
        rows = self.status(name)["failover"]["addresses"]
        told = {row["address"]: row["role"] for row in rows if row["confirmed"] and not row["alarm"]}
        return told == wanted

    def covered(self) -> bool:
        """Whether a partner would take the first relay's address, as that knows."""
        rows = self.status("relay1")["failover"]["addresses"]
        return "backup" in next(row["partners"] for row in rows if row["address"] == SERVICE).values()

    def at(self) -> str:
        """Where the router sends the packets of the first relay's address."""
        return self.hosts["router"].ip("route", "show", f"{SERVICE}/32")

    def calls(self, name: str) -> list[str]:
        return [call["call_id"] for call in json.loads(self.run(name, "hairpin list --json"))]


def _wire(lab: Lab, hosts: dict[str, Host]) -> None:
    """A network with the router in it, as an address of its bridge."""
    router = hosts["router"]
    router.ip("link", "add", "lan", "type", "bridge")
    router.ip("link", "set", "lan", "up")
    router.ip("address", "add", f"{ADDRESSES['router']}/24", "dev", "lan")
    router.sysctl("ipv4/ip_forward", "1")
    for name in ("proxy", *RELAYS):
        lab.cable(hosts[name], "eth0", router, f"to-{name}")
        router.ip("link", "set", f"to-{name}", "master", "lan")
        give_address(hosts[name], ADDRESSES[name], ADDRESSES["router"])


def _boot(name: str, host: Host) -> Systemd:
    names = UNITS.get(name, ("bird", "redis-server", "redis-sentinel"))
    units = {f"{one}.service": Path(f"/lib/systemd/system/{one}.service").read_text() for one in names}
    units |= {f"{one}.service.d/lab.conf": DROP_IN for one in ("hairpin", "hairpin-exabgp")}
    return Systemd(host, units, own=OWN_FOLDERS, also=CHECKOUT)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Lab() as lab, ExitStack() as stack:
        site = Site(lab, stack)
        site.follow(1, 2, 3, 4, 5, 6, 7)
        for name in RELAYS:
            site.run(name, f"echo hold-off = {HOLD_OFF} >>/etc/hairpin/hairpin.conf; systemctl reload hairpin")
        yield site


def test_the_guide_leads_to_a_pair(site: Site) -> None:
    own = {"relay1": SERVICE, "relay2": OTHER}
    for name in RELAYS:
        wanted = {ip: "primary" if ip == own[name] else "backup" for ip in own.values()}
        eventually(partial(site.announces, name, wanted), f"{name} announces both", 90)
    site.follow(8)
    assert [site.status(name)["dataplane"][0] for name in RELAYS] == ["xdp", "xdp"]
    assert ADDRESSES["relay1"] in site.at()


def test_what_it_says_to_try(site: Site) -> None:
    relay1, relay2 = (ADDRESSES[name] for name in RELAYS)
    with Proxy(site.hosts["proxy"], Endpoint(relay1, 2223)) as proxy:
        keys = {"call_id": "kept", "from_tag": "a", "sdp": sdp(Endpoint(ADDRESSES["proxy"], 9000))}
        assert proxy.ask("offer", **keys)["result"] == "ok"
    eventually(lambda: site.calls("relay2") == ["kept"], "the partner has the call")

    eventually(site.covered, "a partner for the address")
    said = site.run("relay1", f"hairpin withdraw {SERVICE}")
    assert "has confirmed: none" in said
    eventually(lambda: relay2 in site.at(), "withdrawn")
    site.run("relay1", f"hairpin announce {SERVICE}")
    eventually(lambda: relay1 in site.at(), "announced again")

    for way in ("systemctl kill --signal=KILL hairpin", "systemctl restart hairpin"):
        before = site.status("relay1")["pid"]
        site.run("relay1", way)
        eventually(partial(_restarted, site, before), f"a relay after {way}")
        assert site.calls("relay1") == ["kept"]
        assert relay1 in site.at()

    site.run("proxy", "systemctl stop redis-server")
    eventually(lambda: all(_writes(site, name) for name in RELAYS), "a replica is promoted", 60)

    eventually(site.covered, "a partner for the address")
    site.hosts["router"].ip("link", "set", "to-relay1", "down")
    eventually(lambda: relay2 in site.at(), "taken over")
    eventually(lambda: not _partner(site, "relay2")["lives"], "known to be dead")
    assert site.calls("relay2") == ["kept"]


def _restarted(site: Site, before: int) -> bool:
    try:
        return bool(site.status("relay1")["pid"] != before and site.calls("relay1"))
    except LabError:
        return False


def _writes(site: Site, name: str) -> bool:
    redis = site.status(name)["redis"]
    return bool(redis["writing"]["state"] == "in use" and ADDRESSES["proxy"] not in redis["writing"]["server"])


def _partner(site: Site, name: str) -> dict[str, Any]:
    (partner,) = site.status(name)["replication"]["partners"].values()
    return dict(partner)


def test_bird_may_announce_instead(site: Site) -> None:
    site.hosts["router"].ip("link", "set", "to-relay1", "up")
    site.follow(6, bird="relay1")
    eventually(partial(site.announces, "relay1", {SERVICE: "primary", OTHER: "backup"}), "announced by BIRD", 60)
    assert site.status("relay1")["failover"]["speaker"] == "bird"
    eventually(lambda: ADDRESSES["relay1"] in site.at(), "taken by the router")
    eventually(site.covered, "a partner for the address")
    site.run("relay1", f"hairpin withdraw {SERVICE}")
    eventually(lambda: ADDRESSES["relay2"] in site.at(), "withdrawn")


@pytest.mark.parametrize("sample", sorted((ROOT / "deploy/bird").glob("*.conf")), ids=lambda path: path.name)
def test_bird_reads_its_samples(sample: Path) -> None:
    command("bird", "-p", "-c", str(sample))


def test_exabgp_reads_its_sample(tmp_path: Path) -> None:
    text = (ROOT / "deploy/exabgp/exabgp.conf").read_text()
    own = tmp_path / "exabgp.conf"
    own.write_text(text.replace("/usr/lib/hairpin/bridge.py", str(BRIDGE)))  # what is to be run has to be there
    command(str(EXABGP), "validate", "-n", str(own))
