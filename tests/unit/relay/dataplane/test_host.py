from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_network
from pathlib import Path

import numpy as np
import pytest

from relay.dataplane import abi
from relay.dataplane.host import DeniedMap, check_host, denied_networks, missing_capabilities, room_for
from relay.dataplane.program import Sizes, constants, nearest_hz
from relay.errors import DataplaneError
from relay.nic.links import Address


def status(effective: int) -> str:
    return f"Name:\thairpin\nCapEff:\t{effective:016x}\nCapBnd:\t0\n"


def test_root_has_all_that_is_needed() -> None:
    assert missing_capabilities(status(0x1FFFFFFFFFF)) == []


def test_missing_capabilities_are_named() -> None:
    assert missing_capabilities(status(0)) == ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_PERFMON", "CAP_BPF"]
    assert missing_capabilities(status(1 << 12 | 1 << 39)) == ["CAP_NET_RAW", "CAP_PERFMON"]


def test_cap_sys_admin_stands_for_those_split_from_it() -> None:
    assert missing_capabilities(status(1 << 21 | 1 << 12)) == ["CAP_NET_RAW"]


def test_an_old_kernel_or_a_poor_process_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "status"
    file.write_text(status(0x1FFFFFFFFFF))
    check_host(file, "6.1.0-18-amd64")
    with pytest.raises(DataplaneError, match=r"Linux 6\.1 or later, this is 5\.15\.0-91-generic"):
        check_host(file, "5.15.0-91-generic")
    file.write_text(status(0))
    with pytest.raises(DataplaneError, match="lacks CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON, CAP_BPF"):
        check_host(file, "6.1.0")


def test_nothing_is_sent_to_this_hosts_other_addresses_and_broadcasts() -> None:
    addresses = [
        Address(2, IPv4Interface("10.0.0.1/24"), IPv4Address("10.0.0.255")),
        Address(2, IPv4Interface("10.0.0.9/24"), None),
        Address(3, IPv4Interface("10.1.0.1/32"), None),
        Address(1, IPv4Interface("127.0.0.1/8"), None),
        Address(1, IPv6Interface("::1/128"), None),
        Address(2, IPv6Interface("fd00::1/64"), None),
        Address(2, IPv6Interface("fd00::2/64"), None),
    ]
    denied = denied_networks([ip_network("192.168.0.0/16")], ["10.0.0.1", "fd00::1"], addresses)
    expected = ["10.0.0.255/32", "10.0.0.9/32", "10.1.0.1/32", "192.168.0.0/16", "fd00::2/128"]
    assert sorted(map(str, denied)) == expected


class FakeMap:
    def __init__(self) -> None:
        self.held: set[bytes] = set()

    def update(self, key: bytes, value: bytes) -> None:
        self.held.add(key)

    def delete(self, key: bytes) -> None:
        self.held.remove(key)

    def keys(self) -> list[bytes]:
        return list(self.held)


def test_the_denied_maps_hold_exactly_what_is_set() -> None:
    fake, fake6 = FakeMap(), FakeMap()
    denied, denied6 = DeniedMap(fake, 4), DeniedMap(fake6, 6)  # type: ignore[arg-type]
    for networks in (("10.0.0.0/8", "2001:db8::/32"), ("10.0.0.0/8", "192.0.2.1/32"), ("192.0.2.1/32", "fd00::1/128")):
        for each in (denied, denied6):
            each.set(map(ip_network, networks))
    (key,), (key6,) = fake.held, fake6.held
    assert np.frombuffer(key, abi.PREFIX)[0].tolist() == (32, int(IPv4Address("192.0.2.1")))
    assert key6 == (128).to_bytes(4, "little") + IPv6Address("fd00::1").packed
    assert len(key6) == abi.PREFIX6.itemsize


def test_a_denied_map_that_a_former_process_filled_is_brought_in_step() -> None:
    fake = FakeMap()
    DeniedMap(fake, 4).set(map(ip_network, ("10.0.0.0/8", "192.0.2.1/32")))  # type: ignore[arg-type]
    DeniedMap(fake, 4).set([ip_network("192.0.2.1/32")])  # type: ignore[arg-type]
    assert len(fake.held) == 1


@pytest.mark.parametrize(
    ("media", "message"),
    [
        ([], "no media address"),
        (["10.0.0.1", "10.0.0.1"], "given twice"),
        (["10.0.0.1", "127.0.0.1"], "cannot serve the loopback address 127.0.0.1"),
        (["fd00::1", "::1"], "cannot serve the loopback address ::1"),
        (["fe80::1"], "cannot serve the link-local address fe80::1"),
        (["10.0.0.1", "10.0.0.2", "10.0.0.3"], "3 media addresses are more than --max-addresses=2"),
    ],
)
def test_media_addresses_that_cannot_be_served(media: list[str], message: str) -> None:
    with pytest.raises(DataplaneError, match=message):
        room_for(media, 2)


@pytest.mark.parametrize(("hz", "shift", "rate"), [(100, 5, 640), (250, 6, 512), (300, 6, 427), (1000, 8, 512)])
def test_ticks_are_about_a_quarter_second_on_every_kernel(hz: int, shift: int, rate: int) -> None:
    found = np.frombuffer(constants(Sizes(65536, 2000, 16), hz), abi.SETTINGS)[0]
    assert (found["tick_shift"], found["rate_per_tick"]) == (shift, rate)
    assert found["window_jiffies"] == 3 * hz
    assert 0.75 <= found["slow_ticks"] * (1 << shift) / hz <= 1.3
    assert found["slow_packets"] == 16


@pytest.mark.parametrize(("jiffies", "hz"), [(10, 100), (9, 100), (25, 250), (26, 250), (30, 300), (101, 1000)])
def test_the_tick_rate_is_the_nearest_that_kernels_have(jiffies: int, hz: int) -> None:
    assert nearest_hz(jiffies, 100_000_000) == hz
