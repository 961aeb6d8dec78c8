"""The plane of sockets on loopback: forwarding, marking, learning, refusals, what ends a port, what is in the way."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import resource
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from relay.dataplane.userspace import UserspaceDataplane, UserspaceSettings
from relay.errors import DataplaneError
from relay.types import Carries, Endpoint, Learning, Path, Rule, Treatment
from tests.contract import RTCP, RTP, Heard
from tests.loopback import own_ip, own_port

RELAY = own_ip(1)
PORT_A, PORT_B = Endpoint(RELAY, 30000), Endpoint(RELAY, 30010)
BOTH = Carries.RTP | Carries.RTCP
IP_RECVTTL = 12
NOT_SENT_SECONDS = 0.05
"""Long enough on loopback for what must not arrive."""


class Phone:
    """A UDP socket of one party, that sees what TTL and TOS its packets have."""

    def __init__(self, ip: str, port: int) -> None:
        self.endpoint = Endpoint(ip, port)
        self.socket = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(self.endpoint)
        self.socket.setblocking(False)
        if ":" in ip:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        else:
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
            self.socket.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)

    def send(self, to: Endpoint, payload: bytes, ttl: int = 64, tos: int = 0) -> None:
        if ":" in to.ip:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos)
        else:
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
        self.socket.sendto(payload, to)

    async def hears(self) -> tuple[bytes, Endpoint, int, int]:
        """The next packet: payload, source, TTL, TOS. Raises TimeoutError."""
        async with asyncio.timeout(5):
            while True:
                with contextlib.suppress(BlockingIOError):
                    payload, ancillary, _, source = self.socket.recvmsg(65535, 256)
                    header = {kind: int.from_bytes(data, "little") for _, kind, data in ancillary}
                    ttl = header.get(socket.IP_TTL, header.get(socket.IPV6_HOPLIMIT, 0))
                    tos = header.get(socket.IP_TOS, header.get(socket.IPV6_TCLASS, 0))
                    return payload, Endpoint(source[0], source[1]), ttl, tos
                await asyncio.sleep(0.002)

    async def hears_nothing(self) -> bool:
        await asyncio.sleep(NOT_SENT_SECONDS)
        try:
            self.socket.recv(65535)
        except BlockingIOError:
            return True
        return False


@pytest.fixture
def phone() -> Iterator[Callable[[str, int], Phone]]:
    with contextlib.ExitStack() as held:

        def make(ip: str, port: int) -> Phone:
            made = Phone(ip, port)
            held.callback(made.socket.close)
            return made

        yield make


@pytest.fixture
def parties(phone: Callable[[str, int], Phone]) -> tuple[Phone, Phone]:
    return phone(own_ip(2), 4000), phone(own_ip(3), 5000)


_epochs = itertools.count(1)


def mirrored(
    a: Endpoint | None,
    b: Endpoint | None,
    first: Endpoint = PORT_A,
    second: Endpoint = PORT_B,
    carries: Carries = BOTH,
    **options: Any,
) -> list[Rule]:
    epoch_a, epoch_b = next(_epochs), next(_epochs)
    return [
        Rule(first, second, b, epoch_b, a, epoch_a, carries, **options),
        Rule(second, first, a, epoch_a, b, epoch_b, carries, **options),
    ]


Scenario = Callable[[UserspaceDataplane, Heard], Coroutine[Any, Any, None]]


def run(scenario: Scenario, *addresses: str, **settings: Any) -> None:
    async def started() -> None:
        heard = Heard()
        plane = UserspaceDataplane(UserspaceSettings(addresses or (RELAY,), **settings))
        await plane.start(heard)
        try:
            await scenario(plane, heard)
        finally:
            await plane.close()

    asyncio.run(started())


async def until(condition: Callable[[], bool]) -> None:
    """Poll until something is so. Raises TimeoutError."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - counters tell nobody
            await asyncio.sleep(0.002)


async def dropped(plane: UserspaceDataplane, local: Endpoint, reason: str, times: int = 1) -> None:
    await until(lambda: plane.state(local).drops == times)
    assert plane.state(local).last_drop == reason
    assert plane.counters()[reason] >= 1


def test_packets_go_both_ways_between_the_ports_of_a_call(parties: tuple[Phone, Phone]) -> None:
    a, b = parties

    async def scenario(plane: UserspaceDataplane, _: Heard) -> None:
        plane.install(mirrored(a.endpoint, b.endpoint))
        assert plane.state(PORT_A).path is Path.NO_PACKET
        a.send(PORT_A, RTP, ttl=64, tos=0xB9)
        assert await b.hears() == (RTP, PORT_B, 63, 0xB9)
        b.send(PORT_B, RTP, ttl=9)
        assert await a.hears() == (RTP, PORT_A, 8, 0)
        assert plane.state(PORT_A).path is Path.SOCKET
        assert plane.octets() == 2 * len(RTP)
        plane.remove([PORT_A, PORT_B], 0)
        assert plane.octets() == 2 * len(RTP)
        assert plane.counters() == {"forwarded": 2, "learned": 2}

    run(scenario)


@pytest.mark.parametrize(
    ("first", "second"), [(RELAY, "::1"), ("::1", RELAY), ("::1", "::1")], ids=["4 to 6", "6 to 4", "6 to 6"]
)
def test_the_families_are_bridged_with_ttl_and_tos(phone: Callable[[str, int], Phone], first: str, second: str) -> None:
    a = phone("::1" if ":" in first else own_ip(2), own_port(0))
    b = phone("::1" if ":" in second else own_ip(3), own_port(10))

    async def scenario(plane: UserspaceDataplane, heard: Heard) -> None:
        here, there = Endpoint(first, own_port(20)), Endpoint(second, own_port(30))
        plane.install(mirrored(a.endpoint, b.endpoint, here, there, tos=0x68))
        for number in range(3):
            a.send(here, RTP + bytes((number,)), ttl=40, tos=0x01)
            assert await b.hears() == (RTP + bytes((number,)), there, 39, 0x69)
        b.send(there, RTP)
        assert await a.hears() == (RTP, here, 63, 0x68)
        assert heard.sources == [(here, a.endpoint, True), (there, b.endpoint, True)]

    run(scenario, *dict.fromkeys((first, second)))


def test_a_party_behind_nat_is_answered_where_it_sends_from(parties: tuple[Phone, Phone]) -> None:
    a, b = parties

    async def scenario(plane: UserspaceDataplane, heard: Heard) -> None:
        plane.install(mirrored(Endpoint("10.0.0.7", 4000), b.endpoint))
        a.send(PORT_A, RTP)
        await b.hears()
        b.send(PORT_B, RTP)
        assert (await a.hears())[1] == PORT_A
        state = plane.state(PORT_A)
        assert (state.observed_source, state.confirmed) == (a.endpoint, False)
        assert heard.sources == [(PORT_A, a.endpoint, False), (PORT_B, b.endpoint, True)]

    run(scenario)


def test_a_replaced_port_keeps_answering_where_its_party_was_observed(parties: tuple[Phone, Phone]) -> None:
    """A re-offer moves A's media to another port towards B; B sends to the one it knows until it has answered."""
    a, b = parties
    signalled, new_port = Endpoint("10.0.0.7", 4000), Endpoint(RELAY, 30020)

    async def scenario(plane: UserspaceDataplane, _: Heard) -> None:
        first = mirrored(signalled, b.endpoint)
        plane.install(first)
        a.send(PORT_A, RTP)
        await b.hears()
        plane.install(mirrored(signalled, b.endpoint, PORT_A, new_port))
        b.send(PORT_B, RTP)
        assert (await a.hears())[:2] == (RTP, PORT_A)
        a.send(PORT_A, RTP)
        assert (await b.hears())[1] == new_port
        b.send(new_port, RTP)
        assert (await a.hears())[1] == PORT_A

    run(scenario)


def test_a_port_that_is_installed_again_answers_where_its_party_was_observed(parties: tuple[Phone, Phone]) -> None:
    a, b = parties

    async def scenario(plane: UserspaceDataplane, _: Heard) -> None:
        rules = mirrored(Endpoint("10.0.0.7", 4000), b.endpoint)
        plane.install(rules)
        a.send(PORT_A, RTP)
        await b.hears()
        plane.remove([PORT_B], 0)
        plane.install(rules[1:])
        b.send(PORT_B, RTP)
        assert (await a.hears())[:2] == (RTP, PORT_A)

    run(scenario)


def test_strict_source_drops_strangers(parties: tuple[Phone, Phone], phone: Callable[[str, int], Phone]) -> None:
    a, b = parties
    stranger = phone(own_ip(66), 6000)

    async def scenario(plane: UserspaceDataplane, heard: Heard) -> None:
        plane.install(mirrored(a.endpoint, b.endpoint, strict_source=True))
        a.send(PORT_A, RTP)
        await b.hears()
        stranger.send(PORT_A, RTP)
        await dropped(plane, PORT_A, "source_mismatch")
        assert plane.state(PORT_A).foreign == 1
        assert await b.hears_nothing()

    run(scenario)


def test_rtcp_of_a_party_with_one_port_goes_to_the_other_ports_of_the_other(
    phone: Callable[[str, int], Phone],
) -> None:
    a, b, b_rtcp = phone(own_ip(2), 4000), phone(own_ip(3), 5000), phone(own_ip(3), 5001)
    above_a, above_b = Endpoint(RELAY, 30001), Endpoint(RELAY, 30011)

    async def scenario(plane: UserspaceDataplane, heard: Heard) -> None:
        private = Endpoint("10.0.0.7", 4000)
        first, second = mirrored(private, b.endpoint, carries=Carries.RTP, tos=0x68)
        third, fourth = mirrored(private, b_rtcp.endpoint, above_a, above_b, carries=Carries.RTCP, tos=0x68)
        muxed = first._replace(carries=BOTH, split=True)
        plane.install([muxed, second, third, fourth._replace(joined=True)])
        a.send(PORT_A, RTP)
        assert await b.hears() == (RTP, PORT_B, 63, 0x68)
        a.send(PORT_A, RTCP)
        assert await b_rtcp.hears() == (RTCP, above_b, 63, 0x68)
        assert await b.hears_nothing()
        b_rtcp.send(above_b, RTCP)
        assert await a.hears() == (RTCP, PORT_A, 63, 0x68)
        b.send(PORT_B, RTP)
        assert await a.hears() == (RTP, PORT_A, 63, 0x68)
        assert [plane.packets(port) for port in (PORT_A, above_a, PORT_B, above_b)] == [2, 0, 1, 1]
        reports = [(PORT_A, a.endpoint, RTCP), (above_b, b_rtcp.endpoint, RTCP)]
        assert heard.reports == reports
        a.send(above_a, RTCP)  # nobody is learned at a port that its party has no use for
        assert (await b_rtcp.hears())[1] == above_b
        assert (plane.state(above_a).foreign, plane.state(above_a).observed_source) == (1, None)
        plane.install([third._replace(strict_source=True)])
        a.send(above_a, RTCP)
        await dropped(plane, above_a, "source_mismatch")

    run(scenario)


def test_treatments(parties: tuple[Phone, Phone]) -> None:
    a, b = parties

    async def scenario(plane: UserspaceDataplane, _: Heard) -> None:
        rules = mirrored(a.endpoint, b.endpoint, event_types=(101,), fills=((0, 0xD5),))
        plane.install([rule._replace(treatment=Treatment.BLOCK) for rule in rules])
        a.send(PORT_A, RTP)
        await dropped(plane, PORT_A, "blocked")
        state = plane.state(PORT_A)
        assert (state.path, state.packets, state.confirmed) == (Path.BLOCKED, 1, True)
        for passing in (RTCP, b"\0\1stun", b"\x16dtls"):
            a.send(PORT_A, passing)
            assert (await b.hears())[0] == passing
        plane.install([rule._replace(treatment=Treatment.SILENCE) for rule in rules])
        a.send(PORT_A, RTP)
        assert (await b.hears())[0] == RTP[:12] + b"\xd5" * 160
        a.send(PORT_A, b"\x80\x60" + RTP[2:])
        await dropped(plane, PORT_A, "blocked", 2)
        plane.install([rule._replace(treatment=Treatment.BLOCK_EVENTS) for rule in rules])
        a.send(PORT_A, b"\x80\x65" + RTP[2:])
        await dropped(plane, PORT_A, "blocked", 3)
        plane.install(rules)
        a.send(PORT_A, RTP)
        assert (await b.hears())[0] == RTP
        assert plane.counters()["silenced"] == plane.counters()["stun"] == plane.counters()["dtls"] == 1

    run(scenario)


def test_a_port_takes_so_many_packets_and_no_more(parties: tuple[Phone, Phone]) -> None:
    a, b = parties

    async def scenario(plane: UserspaceDataplane, _: Heard) -> None:
        plane.install(mirrored(a.endpoint, b.endpoint))
        for _number in range(100):
            a.send(PORT_A, RTP)
        await until(lambda: plane.packets(PORT_A) + plane.state(PORT_A).drops == 100)
        # Ten in each quarter of a second; a loaded machine may see several of those.
        assert 10 <= plane.packets(PORT_A) <= 50
        assert plane.state(PORT_A).last_drop == "rate"

    run(scenario, port_rate=40)


def test_copies_of_rtcp_keep_to_their_budget(parties: tuple[Phone, Phone]) -> None:
    a, b = parties

    async def scenario(plane: UserspaceDataplane, heard: Heard) -> None:
        plane.install(mirrored(a.endpoint, b.endpoint))
        for _number in range(20):
            a.send(PORT_A, RTCP)
        await until(lambda: plane.packets(PORT_A) == 20)
        assert 3 <= len(heard.reports) <= 12
        assert plane.counters()["copies_held"] == 20 - len(heard.reports)

    run(scenario, slow_rate=3)


def test_a_destination_that_is_refused_is_not_sent_to(parties: tuple[Phone, Phone]) -> None:
    a, _b = parties

    async def scenario(plane: UserspaceDataplane, _: Heard) -> None:
        plane.install(mirrored(a.endpoint, Endpoint("224.0.0.1", 5000)))
        assert plane.state(PORT_A).path is Path.REFUSED
        a.send(PORT_A, RTP)
        await dropped(plane, PORT_A, "no_destination")
        plane.install(mirrored(a.endpoint, PORT_A))
        assert plane.state(PORT_A).path is Path.REFUSED
        plane.install(mirrored(a.endpoint, None))
        assert plane.state(PORT_A).path is Path.NO_DESTINATION

    run(scenario)


def test_denied_networks_are_neither_sent_to_nor_learned(
    parties: tuple[Phone, Phone], phone: Callable[[str, int], Phone]
) -> None:
    _, b = parties
    denied = phone(own_ip(99), 6000)

    async def scenario(plane: UserspaceDataplane, _: Heard) -> None:
        plane.install(mirrored(denied.endpoint, b.endpoint))
        assert plane.state(PORT_B).path is Path.REFUSED
        denied.send(PORT_A, RTP)
        await dropped(plane, PORT_A, "source_refused")
        assert plane.state(PORT_A).observed_source is None

    run(scenario, deny=(ip_network(own_ip(99)),))


def test_who_chooses_a_destination_on_loopback_does_not_command_the_relay(
    parties: tuple[Phone, Phone], phone: Callable[[str, int], Phone]
) -> None:
    a, b = parties
    commanded = phone(own_ip(4), 2223)

    async def scenario(plane: UserspaceDataplane, _: Heard) -> None:
        plane.install(mirrored(a.endpoint, commanded.endpoint))
        assert plane.state(PORT_A).path is Path.REFUSED
        a.send(PORT_A, b"d7:command4:pinge")
        await dropped(plane, PORT_A, "no_destination")
        plane.install(mirrored(None, b.endpoint))
        commanded.send(PORT_A, RTP)
        await dropped(plane, PORT_A, "source_refused", 2)

    run(scenario, commanded=frozenset({2223}))


def test_calls_are_chained_through_ports_of_the_relay(parties: tuple[Phone, Phone]) -> None:
    a, b = parties
    inner, outer = Endpoint(RELAY, 30020), Endpoint(RELAY, 30030)

    async def scenario(plane: UserspaceDataplane, _: Heard) -> None:
        plane.install(mirrored(a.endpoint, inner))
        plane.install(mirrored(PORT_B, b.endpoint, inner, outer))
        a.send(PORT_A, RTP)
        assert await b.hears() == (RTP, outer, 62, 0)
        b.send(outer, RTP)
        assert await a.hears() == (RTP, PORT_A, 62, 0)

    run(scenario)


def test_a_loop_ends_with_the_ttl(parties: tuple[Phone, Phone]) -> None:
    a, _ = parties
    inner, outer = Endpoint(RELAY, 30020), Endpoint(RELAY, 30030)

    async def scenario(plane: UserspaceDataplane, _: Heard) -> None:
        plane.install(mirrored(outer, inner, learning=Learning.OFF))
        plane.install(mirrored(PORT_B, PORT_A, inner, outer, learning=Learning.OFF))
        a.send(PORT_A, RTP, ttl=20)
        await until(lambda: plane.counters().get("ttl", 0) == 1)
        assert plane.counters()["forwarded"] == 19

    run(scenario)


def test_an_ended_port_drops_in_silence_while_it_lingers(parties: tuple[Phone, Phone]) -> None:
    a, b = parties

    async def scenario(plane: UserspaceDataplane, _: Heard) -> None:
        plane.install(mirrored(a.endpoint, b.endpoint))
        for phone, port in ((a, PORT_A), (b, PORT_B)):
            phone.socket.connect(port)  # a connected socket is told of ICMP
        plane.remove([PORT_A], 60)
        plane.remove([PORT_B], 0.01)
        assert plane.rules() == []
        for number in range(1, 4):
            a.socket.send(RTP)  # raises ConnectionRefusedError after an ICMP
            await until(lambda: plane.counters().get("closed", 0) >= number)  # noqa: B023 - called at once
        await until(lambda: plane.sockets() == [PORT_A])
        b.socket.send(RTP)
        with pytest.raises(ConnectionRefusedError):
            b.socket.send(RTP)

    run(scenario)


def test_a_port_taken_again_while_it_lingers_stays(parties: tuple[Phone, Phone]) -> None:
    a, b = parties

    async def scenario(plane: UserspaceDataplane, _: Heard) -> None:
        plane.install(mirrored(a.endpoint, b.endpoint))
        plane.remove([PORT_A, PORT_B], 0.05)
        plane.install(mirrored(a.endpoint, b.endpoint))
        await asyncio.sleep(0.1)
        a.send(PORT_A, RTP)
        assert (await b.hears())[0] == RTP

    run(scenario)


def test_a_port_of_another_program_is_named_and_nothing_is_installed(phone: Callable[[str, int], Phone]) -> None:
    phone(*PORT_B)

    async def scenario(plane: UserspaceDataplane, _: Heard) -> None:
        with pytest.raises(DataplaneError, match=f"no socket at {RELAY}:30010: another program holds it"):
            plane.install(mirrored(None, None))
        assert (plane.rules(), plane.sockets()) == ([], [])
        plane.install(mirrored(None, None, PORT_A, Endpoint(RELAY, 30020)))

    run(scenario)


def test_a_failed_change_leaves_what_stands(parties: tuple[Phone, Phone], phone: Callable[[str, int], Phone]) -> None:
    a, b = parties
    phone(RELAY, 30020)

    async def scenario(plane: UserspaceDataplane, _: Heard) -> None:
        plane.install(mirrored(a.endpoint, b.endpoint))
        with pytest.raises(DataplaneError):
            plane.install(mirrored(a.endpoint, b.endpoint, PORT_A, Endpoint(RELAY, 30020)))
        a.send(PORT_A, RTP)
        assert (await b.hears())[1] == PORT_B

    run(scenario)


def test_an_address_of_no_interface_is_named() -> None:
    async def scenario(plane: UserspaceDataplane, _: Heard) -> None:
        with pytest.raises(DataplaneError, match=r"no socket at 192\.0\.2\.99:30000: that is no address of this host"):
            plane.install(mirrored(None, None, Endpoint("192.0.2.99", 30000)))

    run(scenario)


def test_the_limit_of_open_files_is_named() -> None:
    async def scenario(plane: UserspaceDataplane, _: Heard) -> None:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket() as highest:
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest.fileno(), limits[1]))
        try:
            with pytest.raises(DataplaneError, match=r"no more files may be opened: raise the limit \(ulimit -n"):
                plane.install(mirrored(None, None))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert plane.rules() == []

    run(scenario)


def test_it_says_why_it_was_taken() -> None:
    async def scenario(plane: UserspaceDataplane, _: Heard) -> None:
        assert plane.describe()[0].startswith("userspace: a UDP socket per port, 0 open, ")
        assert plane.describe()[1:] == ["not XDP: of a reason"]

    run(scenario, reason="of a reason")


def test_without_media_addresses_it_does_not_start() -> None:
    plane = UserspaceDataplane(UserspaceSettings(()))
    with pytest.raises(DataplaneError, match="no media address is given: name one with --interface"):
        asyncio.run(plane.start(Heard()))


def test_a_flood_at_one_port_leaves_turns_to_others(parties: tuple[Phone, Phone]) -> None:
    a, b = parties

    async def scenario(plane: UserspaceDataplane, _: Heard) -> None:
        plane.install(mirrored(a.endpoint, b.endpoint))
        for _number in range(100):
            a.send(PORT_A, RTP)
        turns, until_ = 0, time.monotonic() + 5
        while plane.packets(PORT_A) < 100 and time.monotonic() < until_:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 100 // 8

    run(scenario)
