from __future__ import annotations

import asyncio
import struct
from ipaddress import IPv4Interface, IPv6Interface
from types import SimpleNamespace
from typing import Any

import pytest

from relay.dataplane import attaching
from relay.dataplane.attaching import Absences, Attaching
from relay.dataplane.libbpf import XdpMode
from relay.dataplane.opening import Opened
from relay.errors import DataplaneError
from relay.nic.links import Address, Link, Route
from relay.nic.netdev import XdpFeatures

MAC = bytes([2, 0, 0, 0, 0, 1])
TAKES_ALL = XdpFeatures(native=True, takes_redirects=True)


class Program:
    """Attaches wherever it is asked to."""

    def __init__(self) -> None:
        self.attached: dict[int, XdpMode] = {}

    def attach_xdp(self, ifindex: int, mode: XdpMode) -> Any:
        self.attached[ifindex] = mode
        return SimpleNamespace(ifindex=lambda: ifindex, detach=lambda: self.attached.pop(ifindex))


class FakeMap:
    """A map of the kernel."""

    def __init__(self) -> None:
        self.held: dict[bytes, bytes] = {}

    def update(self, key: bytes, value: bytes) -> None:
        self.held[key] = value

    def delete(self, key: bytes) -> bool:
        return self.held.pop(key, None) is not None

    def keys(self) -> list[bytes]:
        return list(self.held)


class Bench:
    """A host with a card and a VLAN on it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *media: Address) -> None:
        monkeypatch.setattr(attaching, "check_checksum", lambda *_: None)
        self.program = Program()
        self.vlans = FakeMap()
        links = [
            Link(1, "lo", "", bytes(6), 65536, True, True, True),
            Link(2, "card0", "", MAC, 1500, True, True, False),
            Link(3, "card0.5", "vlan", MAC, 1500, True, True, False, lower=2, vlan=5),
        ]
        self.watch = SimpleNamespace(
            links={link.index: link for link in links},
            addresses=list(media),
            kernel=SimpleNamespace(route=self.route, xdp_program=lambda _: 0),
            netdev=SimpleNamespace(features=lambda _: TAKES_ALL),
        )
        self.tables = SimpleNamespace(
            devices=SimpleNamespace(update=lambda *_: None, lookup=lambda _: None),
            vlans=self.vlans,
            program=lambda _: self.program,
            zero_counters=lambda: None,
        )
        self.opened = Opened(self.tables)  # type: ignore[arg-type]
        self.media = [str(address.interface.ip) for address in media]
        self.default: Route | None = None

    def route(self, destination: str, source: str) -> Route | None:
        return self.default

    def run(self) -> tuple[dict[int, XdpMode], set[int], list[str]]:
        """Start: interfaces and modes, egress devices, what is told."""

        async def start() -> Attaching:
            made = Attaching(self.watch, self.opened, self.media, "auto", (), set)  # type: ignore[arg-type]
            await made.start()
            return made

        made = asyncio.run(start())
        found = dict(self.program.attached), made._devmap.devices(), made.describe()
        made.close()
        assert self.program.attached == {}
        return found


@pytest.mark.parametrize("ifindex", [2, 3])
def test_a_media_address_in_a_vlan_is_served_at_the_lower_device(monkeypatch: pytest.MonkeyPatch, ifindex: int) -> None:
    bench = Bench(monkeypatch, Address(ifindex, IPv4Interface("10.0.0.1/24"), None))
    attached, egress, said = bench.run()
    assert attached == {2: XdpMode.NATIVE}
    assert egress == {2}
    assert bench.vlans.held == {struct.pack("=I", 3): struct.pack("=I", 2) + bytes([0, 5, 0, 0])}
    assert said == ["native XDP on card0 (no driver name), tags on the wire"]


def test_a_service_address_is_served_where_the_default_route_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, Address(1, IPv6Interface("2001:db8::1/128"), None))
    bench.default = Route(3, "fe80::1")
    attached, egress, _ = bench.run()
    assert (attached, egress) == ({2: XdpMode.NATIVE}, {2})


def test_without_an_interface_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, Address(1, IPv6Interface("2001:db8::1/128"), None))
    with pytest.raises(DataplaneError, match="no network interface leads to the media addresses"):
        bench.run()


def test_nothing_is_said_of_what_is_there() -> None:
    absences = Absences()
    absences.see({"eth0", "eth1"}, {"lo", "eth0", "eth1"})
    absences.see({"eth0"}, {"lo", "eth0", "eth1"})
    absences.see_addresses([])
    assert absences.describe() == []


def test_an_interface_that_goes_and_comes_back_is_told(caplog: pytest.LogCaptureFixture) -> None:
    absences = Absences()
    absences.see({"eth0", "eth1"}, {"eth0", "eth1"})
    absences.see({"eth0"}, {"eth0"})
    assert absences.describe() == ["interface eth1 has gone"]
    absences.see({"eth0"}, {"eth0", "eth1"})
    assert absences.describe() == ["interface eth1 has gone"], "it is not attached to yet"
    absences.see({"eth0", "eth1"}, {"eth0", "eth1"})
    assert absences.describe() == ["interface eth1 was gone, and is attached to again"]
    absences.see({"eth0"}, {"eth0"})
    assert absences.describe() == ["interface eth1 has gone"]
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "interface eth1 has gone",
        "interface eth1 is back, and attached to again",
        "interface eth1 has gone",
    ]


def test_only_the_latest_are_remembered() -> None:
    absences = Absences()
    for number in range(100):
        absences.see({f"veth{number}"}, {f"veth{number}"})
    assert len(absences.describe()) == 16
    assert absences.describe()[-1] == "interface veth98 has gone"


def test_a_media_address_that_is_missing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    absences = Absences()
    absences.see_addresses(["10.0.0.1"])
    absences.see_addresses(["10.0.0.1"])
    assert absences.describe() == ["media address 10.0.0.1 is on no interface"]
    absences.see_addresses([])
    assert absences.describe() == []
    assert [record.getMessage() for record in caplog.records] == [
        "media address 10.0.0.1 is on no interface any more",
        "media address 10.0.0.1 is back",
    ]
