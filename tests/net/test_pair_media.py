"""Media through two relays that hold each other's calls, while what carries or tells of it fails; without BGP."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.lab import Lab, command, give_address, remove_namespace
from tests.media import Agent, open_party
from tests.ng import Dialogue
from tests.partners import LEASE, OPEN, Member, Partners
from tests.stores import eventually
from tests.supervised import bpf_folder
from tests.talks import Talk

pytestmark = pytest.mark.net

SWEEPS = 4
"""Seconds in which packets are seen on more than three sweeps, also on a busy machine."""
ports = itertools.count(4000, 10)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as laboratory:
        yield laboratory


@pytest.fixture(scope="module")
def bare(lab: Lab) -> Iterator[Partners]:
    with bpf_folder(lab.folder / "bpf") as pins:
        partners = Partners(lab, 2, ("--dataplane=xdp", f"--pin-dir={pins}"))
        yield partners
        partners.close()


@pytest.fixture
def partners(bare: Partners) -> Iterator[Partners]:
    with bare.scene():
        for member in bare.members:
            bare.network.route(member.place.service, member.place)
        yield bare


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as made:
        yield made


def talk(partners: Partners, agent: Agent, member: Member, name: str) -> Talk:
    """A call that a relay was told of, with media both ways from here on."""
    network, port = partners.network, next(ports)
    source = random.Random(port)
    caller = open_party(network.caller, network.CALLER_ADDRESS, port, source)
    callee = open_party(network.callee, network.CALLEE_ADDRESS, port, source)
    agent.add((caller, callee))
    made = Talk(agent, caller, callee, Dialogue(member.proxy, name).set_up(caller.local, callee.local))
    partners.settled({name: member.number})
    made.begin(100_000)
    goes_on(made)
    return made


def goes_on(one: Talk, packets: int = 25) -> None:
    """Wait until so many more packets reached both ends."""
    before = one.heard()
    eventually(lambda: all(now >= then + packets for now, then in zip(one.heard(), before, strict=True)), "media flows")


def owner(member: Member, call_id: str) -> int:
    return member.calls()[call_id][0]


def test_an_interface_that_goes_and_comes_back_costs_no_call(partners: Partners, agent: Agent, lab: Lab) -> None:
    one, two = partners.members
    call = talk(partners, agent, one, "stays")
    partners.network.core.ip("link", "delete", one.place.port)
    partners.network.route(one.place.service, two.place)
    goes_on(call)
    eventually(lambda: owner(two, "stays") == 2, "a claim by packets, since its owner cannot be heard of")
    assert owner(one, "stays") == 1
    cable(lab, partners, one)
    partners.network.route(one.place.service, one.place)
    goes_on(call)
    partners.settled({"stays": 2})


def test_a_namespace_that_goes_and_comes_back_costs_no_call(partners: Partners, agent: Agent, lab: Lab) -> None:
    """All that the kernel had of the relay is gone with it; its calls are in the journal, and the address is served."""
    one, two = partners.members
    call = talk(partners, agent, one, "stays")
    partners.network.route(one.place.service, two.place)
    one.kill()
    one.replica.kill()
    remove_namespace(one.place.host.namespace)
    goes_on(call)
    partners.network.core.run("ip", "link", "delete", one.place.port, check=False)  # the kernel may take its time
    command("ip", "netns", "add", one.place.host.namespace)
    one.place.host.ip("link", "set", "lo", "up")
    cable(lab, partners, one)
    for member in partners.members:
        one.place.host.ip("address", "add", f"{member.place.service}/32", "dev", "lo")
    one.replica.start(*OPEN)
    one.begin()
    partners.network.route(one.place.service, one.place)
    goes_on(call)
    eventually(lambda: owner(one, "stays") == owner(two, "stays"), "agreement")
    partners.settled({"stays": owner(one, "stays")})


def test_packets_claim_no_call_while_redis_is_full_and_do_once_its_owner_is_dead(
    partners: Partners, agent: Agent
) -> None:
    """A full master refuses the leases of all nodes: none of them is dead for that."""
    one, two = partners.members
    call = talk(partners, agent, one, "moved")
    partners.network.route(one.place.service, two.place)
    goes_on(call)
    partners.master.set("maxmemory", "1mb")
    try:
        eventually(lambda: not two.status()["replication"]["partners"]["1"]["lives"], "the end of the lease")
        assert two.status()["replication"]["partners"]["1"]["news arrive"]
        # Which of two reasons stands there depends on whether the last lease still told of ports that had moved.
        for member in partners.members:
            eventually(partial(_silence_counts_for_nothing, member, one), "timers that stand still")
        time.sleep(LEASE + SWEEPS)
        assert owner(one, "moved") == owner(two, "moved") == 1
    finally:
        partners.master.set("maxmemory", "0")
    partners.settled({"moved": 1})
    goes_on(call)
    one.kill()
    eventually(lambda: owner(two, "moved") == 2, "a claim by packets")
    partners.settled({"moved": 2})
    goes_on(call)


def _silence_counts_for_nothing(member: Member, home: Member) -> bool:
    """Whether a relay says why it ends no call at the address of a relay."""
    told = str(member.status()["replication"]["addresses"][home.place.service]["timers"])
    return "does not tell" in told or "fell silent at once" in told


def cable(lab: Lab, partners: Partners, member: Member) -> None:
    """Join a relay's host with the router."""
    place, core = member.place, partners.network.core
    lab.cable(place.host, "eth0", core, place.port, napi=True)
    core.ip("address", "add", f"{place.gateway}/24", "dev", place.port)
    give_address(place.host, place.address, place.gateway)
    place.host.sysctl("ipv4/conf/all/arp_announce", "2")
