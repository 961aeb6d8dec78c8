from __future__ import annotations

import errno
import re
import struct
from ipaddress import IPv4Interface
from types import SimpleNamespace

import pytest

from relay.dataplane import placement
from relay.dataplane.devices import Attachments, Devmap, attach_points
from relay.dataplane.libbpf import BpfError, XdpMode
from relay.dataplane.placement import Placement, devices_of
from relay.errors import DataplaneError
from relay.nic.links import Address, Link

MAC = bytes(6)


def link(
    index: int, name: str, kind: str = "", *, master: int = 0, lower: int = 0, vlan: int = 0, mac: bytes = MAC
) -> Link:
    return Link(index, name, kind, mac, 1500, True, True, name == "lo", lower, master, vlan)


HOST = {
    found.index: found
    for found in (
        link(1, "lo"),
        link(2, "eth0"),
        link(3, "eth1"),
        link(4, "bond0", "bond"),
        link(5, "slave0", master=4),
        link(6, "slave1", master=4),
        link(7, "eth0.100", "vlan", lower=2, vlan=100),
        link(8, "tun0", "tun", mac=b""),
        link(9, "dummy0", "dummy"),
        link(10, "eth0.100.5", "vlan", lower=7, vlan=5),
        link(11, "bond0.5", "vlan", lower=4, vlan=5),
        link(12, "eth0.900", "vlan", lower=2),
    )
}


@pytest.mark.parametrize(
    ("devices", "names"),
    [
        ([2], ["eth0"]),
        ([4], ["slave0", "slave1"]),
        ([2, 4], ["eth0", "slave0", "slave1"]),
        ([7], ["eth0"]),
        ([2, 7, 10], ["eth0"]),
        ([11], ["slave0", "slave1"]),
        ([12], ["eth0.900"]),
        ([1, 8, 99], []),
    ],
)
def test_the_lowest_devices_are_attached_to(devices: list[int], names: list[str]) -> None:
    assert sorted(point.name for point in attach_points(HOST, devices).values()) == names


def test_a_vlan_whose_tags_the_program_does_not_write_takes_generic_xdp_only() -> None:
    assert attach_points(HOST, [12])[12].generic == "eth0.900 is a vlan device"
    assert attach_points(HOST, [7])[2].generic == ""


def test_a_lower_device_that_is_not_here_ends_the_way_down() -> None:
    """It may be in another network namespace."""
    assert set(attach_points({7: HOST[7]}, [7])) == {7}


def address(ip: str, ifindex: int) -> Address:
    return Address(ifindex, IPv4Interface(ip), None)


@pytest.mark.parametrize(
    ("media", "in_use", "default", "expected"),
    [
        (["10.0.0.1"], set(), {3}, {2}),
        (["10.0.0.1"], {3}, set(), {2, 3}),
        (["10.9.0.1"], set(), {3}, {3}),
        (["10.9.0.2"], {2}, {3}, {2, 3}),
        (["10.9.0.1"], set(), set(), {2, 3}),
        (["10.0.0.1", "10.9.0.1"], set(), {3}, {2, 3}),
    ],
)
def test_devices_follow_addresses_and_routes(
    media: list[str], in_use: set[int], default: set[int], expected: set[int]
) -> None:
    addresses = [address("10.0.0.1/24", 2), address("10.1.0.1/24", 3), address("10.9.0.1/32", 1)]
    addresses.append(address("10.9.0.2/32", 9))
    assert devices_of(media, addresses, HOST, in_use, default) - {9} == expected


class FakeLink:
    def __init__(self, program: FakeProgram, ifindex: int) -> None:
        self.program, self.index = program, ifindex

    def ifindex(self) -> int:
        return 0 if self.index in self.program.gone else self.index

    def detach(self) -> None:
        self.program.attached.pop(self.index)


class FakeProgram:
    """Attaches to what the test lets it; counts how often traffic was interrupted by a change of mode."""

    def __init__(self) -> None:
        self.attached: dict[int, XdpMode] = {}
        self.native_error = 0
        self.tries = 0
        self.gone: set[int] = set()

    def attach_xdp(self, ifindex: int, mode: XdpMode) -> FakeLink:
        self.tries += 1
        if mode is XdpMode.NATIVE and self.native_error:
            raise BpfError("attach", self.native_error)
        self.attached[ifindex] = mode
        return FakeLink(self, ifindex)


class FakeMap:
    def __init__(self) -> None:
        self.held: dict[bytes, bytes] = {}

    def update(self, key: bytes, value: bytes) -> None:
        self.held[key] = value

    def lookup(self, key: bytes) -> bytes | None:
        return self.held.get(key)


class Bench:
    def __init__(self, mode: str = "auto", names: tuple[str, ...] = ()) -> None:
        self.program = FakeProgram()
        self.refusing: set[str] = set()
        devmap = Devmap(FakeMap())  # type: ignore[arg-type]
        devmap.slot(2), devmap.slot(3)
        attachments = Attachments(self.program, lambda _: 42)  # type: ignore[arg-type]
        self.placement = Placement(attachments, devmap, lambda found: found.name not in self.refusing, mode, names)

    def place(self, *devices: int) -> dict[int, XdpMode]:
        self.placement.place(HOST, devices)
        return self.program.attached


def test_native_where_it_works() -> None:
    bench = Bench()
    assert bench.place(2, 3) == {2: XdpMode.NATIVE, 3: XdpMode.NATIVE}
    assert bench.placement.names() == {"eth0", "eth1"}
    assert not any("not native" in line for line in bench.placement.describe())


def test_one_driver_without_native_xdp_makes_all_generic() -> None:
    bench = Bench()
    bench.program.native_error = errno.EOPNOTSUPP
    assert bench.place(2, 3) == {2: XdpMode.GENERIC, 3: XdpMode.GENERIC}
    assert "not native: attach: Operation not supported" in bench.placement.describe()[-1]


def test_one_device_that_takes_no_redirects_makes_all_generic_while_it_does() -> None:
    bench = Bench()
    bench.refusing = {"eth1"}
    assert set(bench.place(2, 3).values()) == {XdpMode.GENERIC}
    assert bench.placement.describe()[-1] == "not native: eth1 does not take redirected frames"
    bench.refusing = set()
    assert set(bench.place(2, 3).values()) == {XdpMode.NATIVE}


def test_a_generic_plane_is_not_interrupted_by_another_try() -> None:
    bench = Bench()
    bench.refusing = {"eth1"}
    bench.place(2, 3)
    tries = bench.program.tries
    bench.place(2, 3)
    assert bench.program.tries == tries


def test_a_mode_asked_for_is_kept() -> None:
    assert Bench("generic").place(2) == {2: XdpMode.GENERIC}
    bench = Bench("native")
    bench.refusing = {"eth0"}
    with pytest.raises(DataplaneError, match="native XDP does not work here: eth0"):
        bench.place(2)
    assert bench.program.attached == {}


def test_another_program_is_named_and_not_taken_for_a_missing_feature() -> None:
    bench = Bench()
    bench.program.native_error = errno.EBUSY
    with pytest.raises(DataplaneError, match="eth0 carries XDP program 42 already"):
        bench.place(2)


def test_named_interfaces_override_the_choice() -> None:
    assert Bench(names=("eth1",)).place(2) == {3: XdpMode.NATIVE}
    with pytest.raises(DataplaneError, match="no interface eth9"):
        Bench(names=("eth9",)).place(2)


def test_what_is_wanted_no_more_is_let_go_and_what_came_back_attached_anew() -> None:
    bench = Bench()
    bench.place(2, 3)
    assert bench.place(3) == {3: XdpMode.NATIVE}
    bench.program.gone = {3}
    assert bench.placement.attached() == set()
    bench.program.gone = set()
    assert bench.place(3) == {3: XdpMode.NATIVE}


def test_a_devmap_gives_each_device_a_place_and_takes_it_back() -> None:
    devmap = Devmap(FakeMap())  # type: ignore[arg-type]
    assert [devmap.slot(2), devmap.slot(3), devmap.slot(2)] == [0, 1, 0]
    devmap.follow({3: HOST[3]})
    assert devmap.devices() == {3}
    assert [devmap.slot(index) for index in range(100, 163)] == [*range(2, 64), 0]
    assert devmap.slot(200) is None


def test_a_device_that_came_back_under_its_number_has_its_place_again() -> None:
    table = FakeMap()
    devmap = Devmap(table)  # type: ignore[arg-type]
    devmap.slot(2), devmap.slot(3)
    before = dict(table.held)
    del table.held[next(iter(before))]  # as the kernel does when it goes
    devmap.follow(HOST)
    assert table.held == before


MISTAGGED = (
    "generic XDP sends packets of eth0.100 on with a tag too many, as eth0 strips tags: `ethtool -K eth0 rxvlan off`"
)


@pytest.mark.parametrize("mode", ["auto", "generic"])
def test_generic_xdp_does_not_begin_where_it_would_tag_twice(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr(placement, "strips_vlan_tags", lambda name: name == "eth0")
    bench = Bench(mode)
    bench.program.native_error = errno.EOPNOTSUPP
    with pytest.raises(DataplaneError, match=re.escape(MISTAGGED)):
        bench.place(7)
    assert bench.program.attached == {}
    assert bench.place(3) == {3: XdpMode.GENERIC}


def test_a_plane_that_becomes_generic_in_mid_run_says_what_it_would_tag_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "strips_vlan_tags", lambda name: name == "eth0")
    bench = Bench()
    assert bench.place(7) == {2: XdpMode.NATIVE}
    assert MISTAGGED not in bench.placement.describe()
    bench.refusing.add("eth1")
    assert bench.place(7) == {2: XdpMode.GENERIC}
    assert bench.placement.describe()[-1] == MISTAGGED


def test_places_that_a_former_process_gave_out_stand() -> None:
    table = FakeMap()
    before = Devmap(table)  # type: ignore[arg-type]
    assert [before.slot(ifindex) for ifindex in (9, 3, 5)] == [0, 1, 2]
    table.held[struct.pack("=I", 1)] = b""  # the kernel has emptied it: the device has gone
    after = Devmap(table)  # type: ignore[arg-type]
    assert after.devices() == {9, 5}
    assert [after.slot(ifindex) for ifindex in (9, 5, 7, 8)] == [0, 2, 1, 3]


class Taken:
    """A link that stands pinned."""

    def __init__(self, ifindex: int) -> None:
        self.index = ifindex
        self.detached = False

    def ifindex(self) -> int:
        return self.index

    def detach(self) -> None:
        self.detached = True


class Pinned:
    """Pins of a relay that was generic, and why."""

    def __init__(self, *links: tuple[XdpMode, Taken], refused: str = "") -> None:
        self.standing = {link.index: (mode, link) for mode, link in links}
        self.said = SimpleNamespace(refused=refused)

    def links(self) -> dict[int, tuple[XdpMode, Taken]]:
        return self.standing

    def refuse(self, reason: str) -> None:
        self.said.refused = reason

    def keep(self, link: FakeLink, ifindex: int, mode: XdpMode) -> None:
        self.standing[ifindex] = mode, Taken(ifindex)


def taking_over(pins: Pinned, program: FakeProgram, mode: str = "auto") -> Placement:
    attachments = Attachments(program, lambda _: 42, pins)  # type: ignore[arg-type]
    return Placement(attachments, Devmap(FakeMap()), lambda _: None, mode)  # type: ignore[arg-type]


def test_a_native_plane_is_taken_over_and_what_is_missing_attached() -> None:
    program, pins = FakeProgram(), Pinned((XdpMode.NATIVE, Taken(2)))
    found = taking_over(pins, program)
    assert found.take_over(HOST)
    assert (found.names(), program.tries) == ({"eth0"}, 0)
    found.place(HOST, [2, 3])
    assert (found.attached(), program.tries) == ({2, 3}, 1)
    assert pins.standing.keys() == {2, 3}


def test_a_generic_plane_is_only_left_where_its_reason_is_gone() -> None:
    program, pins = FakeProgram(), Pinned((XdpMode.GENERIC, Taken(2)), refused="the driver does not support it")
    found = taking_over(pins, program)
    assert found.take_over(HOST)
    found.place(HOST, [2])
    assert (found.native, program.tries) == (False, 0)
    assert "not native: the driver does not support it" in found.describe()
    unknown = taking_over(Pinned((XdpMode.GENERIC, Taken(2))), program)
    assert not unknown.take_over(HOST)
    assert unknown.names() == {"eth0"}


def test_what_native_attaching_came_to_is_kept_for_the_next_process() -> None:
    program, pins = FakeProgram(), Pinned()
    program.native_error = errno.EOPNOTSUPP
    found = taking_over(pins, program)
    found.place(HOST, [2])
    assert "the driver does not support it" in pins.said.refused
    assert taking_over(pins, program).take_over(HOST)


def test_links_of_two_modes_are_not_kept_side_by_side() -> None:
    links = Taken(2), Taken(3)
    found = taking_over(Pinned((XdpMode.NATIVE, links[0]), (XdpMode.GENERIC, links[1])), FakeProgram())
    assert [link.detached for link in links] == [False, True]
    assert found.native
