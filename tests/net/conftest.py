"""A relay with a cable to each of two parties, and a data plane that runs on it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path as File
from typing import Any

import pytest

from relay.dataplane.xdp import XdpDataplane, XdpSettings
from relay.types import Carries, Endpoint, Path, Rule
from tests.lab import Host, Lab

RELAY_A, RELAY_B = "10.7.1.1", "10.7.2.1"
PARTY_A, PARTY_B = "10.7.1.2", "10.7.2.2"
RELAY6_A, RELAY6_B = "fd07:1::1", "fd07:2::1"
PARTY6_A, PARTY6_B = "fd07:1::2", "fd07:2::2"
HOUSE = File(__file__).parents[2]
PORT_A, PORT_B = 20000, 20002
MEDIA_A, MEDIA_B = Endpoint(RELAY_A, PORT_A), Endpoint(RELAY_B, PORT_B)
MEDIA6_A, MEDIA6_B = Endpoint(RELAY6_A, PORT_A), Endpoint(RELAY6_B, PORT_B)


@dataclass
class Heard:
    """A listener that remembers what it was told."""

    sources: list[tuple[Endpoint, Endpoint, bool]] = field(default_factory=list)
    reports: list[tuple[Endpoint, Endpoint, bytes]] = field(default_factory=list)

    def learned(self, local: Endpoint, source: Endpoint, confirmed: bool) -> None:
        self.sources.append((local, source, confirmed))

    def rtcp(self, local: Endpoint, source: Endpoint, payload: bytes) -> None:
        self.reports.append((local, source, payload))


class Phone:
    """A UDP socket of one party. Neighbours are resolved by its own kernel, offloads are as the system has them."""

    def __init__(self, host: Host, ip: str, port: int) -> None:
        self.socket = host.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET)
        self.socket.bind((ip, port))
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.endpoint = Endpoint(ip, port)

    def send(self, to: Endpoint, payload: bytes) -> None:
        self.socket.sendto(payload, to)

    def received(self) -> list[tuple[bytes, Endpoint]]:
        """All that has arrived."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                payload, source = self.socket.recvfrom(65535)
                found.append((payload, Endpoint(*source[:2])))
        return found

    async def expect(self, count: int, seconds: float = 3.0) -> list[tuple[bytes, Endpoint]]:
        """Wait for `count` packets, and give back what came when they did or the time was over."""
        found = self.received()
        end = time.monotonic() + seconds
        while len(found) < count and time.monotonic() < end:
            await asyncio.sleep(0.005)
            found += self.received()
        return found

    def close(self) -> None:
        self.socket.close()


class Table:
    """The relay between A and B. `run` runs a scenario on the relay's host, with the plane the test asks for."""

    def __init__(self, lab: Lab, *, napi: bool = True) -> None:
        self.lab = lab
        self.relay, self.a, self.b = (lab.host(name) for name in ("relay", "a", "b"))
        for host in (self.relay, self.a, self.b):
            host.sysctl("ipv6/conf/all/accept_dad", "0")  # link-local addresses are there at once
            host.sysctl("ipv6/conf/default/accept_dad", "0")
        for host, name in ((self.a, "to-a"), (self.b, "to-b")):
            self.connect(host, name, napi=napi)
        self.heard = Heard()
        self._phones: list[Phone] = []

    def connect(self, host: Host, name: str, *, napi: bool = True) -> None:
        """Lay the cable to a party and give both ends their addresses."""
        self.lab.cable(self.relay, name, host, "eth0", napi=napi)
        own, theirs = (RELAY_A, PARTY_A) if host is self.a else (RELAY_B, PARTY_B)
        self.relay.ip("address", "add", f"{own}/24", "dev", name)
        host.ip("address", "add", f"{theirs}/24", "dev", "eth0")
        host.ip("route", "add", "default", "via", own)
        own, theirs = (RELAY6_A, PARTY6_A) if host is self.a else (RELAY6_B, PARTY6_B)
        self.relay.ip("address", "add", f"{own}/64", "dev", name, "nodad")
        host.ip("address", "add", f"{theirs}/64", "dev", "eth0", "nodad")
        host.ip("route", "add", "default", "via", own)

    def phone(self, host: Host, ip: str, port: int) -> Phone:
        phone = Phone(host, ip, port)
        self._phones.append(phone)
        return phone

    def phones(self) -> tuple[Phone, Phone]:
        return self.phone(self.a, PARTY_A, 4000), self.phone(self.b, PARTY_B, 6000)

    def phones6(self) -> tuple[Phone, Phone]:
        return self.phone(self.a, PARTY6_A, 4000), self.phone(self.b, PARTY6_B, 6000)

    @staticmethod
    def settings(**settings: Any) -> XdpSettings:
        """Those of a plane with both media addresses, but for what a test wants otherwise."""
        return replace(XdpSettings((RELAY_A, RELAY_B)), **settings)

    @contextlib.asynccontextmanager
    async def plane(self, **settings: Any) -> AsyncIterator[XdpDataplane]:
        """A running plane with both media addresses."""
        plane = XdpDataplane(self.settings(**settings))
        await plane.start(self.heard)
        try:
            yield plane
        finally:
            await plane.close()

    def run(self, scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a scenario inside the relay's namespace."""
        self.relay.call(lambda: asyncio.run(scenario()))

    def attached(self) -> list[str]:
        """Interfaces of the relay with an XDP program, and its mode."""
        lines = self.relay.ip("-o", "link", "show").splitlines()
        return [line.split(": ")[1].split("@")[0] for line in lines if " xdp" in line or "prog/xdp" in line]

    def close(self) -> None:
        for phone in self._phones:
            phone.close()


@pytest.fixture
def table(lab: Lab) -> Iterator[Table]:
    built = Table(lab)
    yield built
    built.close()


@pytest.fixture
def bpffs(tmp_path: File) -> Iterator[File]:
    """A BPF file system of the test's own."""
    mount = tmp_path / "bpffs"
    mount.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", mount], check=True)
    yield mount
    subprocess.run(["umount", mount], check=True)


@pytest.fixture
def folder(bpffs: File) -> File:
    """Where the plane pins; it makes it itself."""
    return bpffs / "relay" / "0"


@pytest.fixture
def other_object(tmp_path: File) -> File:
    """The object of another version: it counts what it forwards as DTLS."""
    shutil.copytree(HOUSE / "ebpf", tmp_path / "ebpf")
    text = tmp_path / "ebpf" / "send.h"
    text.write_text(text.read_text().replace("HP_COUNT_forwarded", "HP_COUNT_dtls"))
    subprocess.run(["make", "--silent", "--directory", tmp_path / "ebpf"], check=True)
    return tmp_path / "build" / "relay.bpf.o"


async def wait_for(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    """Poll until something is so. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - counters in mapped memory tell nobody
            await asyncio.sleep(0.01)


@pytest.fixture
def quiet_table(lab: Lab) -> Iterator[Table]:
    """The same, with parties whose veth does not poll: it loses what is redirected to it."""
    built = Table(lab, napi=False)
    yield built
    built.close()


_epochs = itertools.count(1)


def mirrored(
    a: Endpoint | None,
    b: Endpoint | None,
    *,
    first: Endpoint = MEDIA_A,
    second: Endpoint = MEDIA_B,
    carries: Carries = Carries.RTP | Carries.RTCP,
    **options: Any,
) -> tuple[Rule, Rule]:
    """The two rules between party `a` at `first` and party `b` at `second`, with epochs never used before."""
    epoch_a, epoch_b = next(_epochs), next(_epochs)
    return (
        Rule(first, second, b, epoch_b, a, epoch_a, carries, **options),
        Rule(second, first, a, epoch_a, b, epoch_b, carries, **options),
    )


def rtp(sequence: int, ssrc: int = 0x1234, payload_type: int = 8) -> bytes:
    """An RTP packet of 20 ms of G.711."""
    head = bytes([0x80, payload_type]) + (sequence & 0xFFFF).to_bytes(2, "big")
    return head + (sequence * 160 & 0xFFFFFFFF).to_bytes(4, "big") + ssrc.to_bytes(4, "big") + bytes(160)


async def ready(plane: XdpDataplane, *locals_: Endpoint) -> None:
    """Wait until the next hops of these media ports are resolved; of both IPv4 ones, if none is named."""
    unresolved = (Path.NO_NEXT_HOP, Path.NOT_ATTACHED)
    await wait_for(lambda: not any(plane.state(local).path in unresolved for local in locals_ or (MEDIA_A, MEDIA_B)))


def described(plane: XdpDataplane, text: str) -> bool:
    """Whether the plane says so to the operator."""
    return any(text in line for line in plane.describe())
