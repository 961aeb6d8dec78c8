"""The binding on libbpf against the real kernel: maps, pins, links, and what its errors say."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from relay.dataplane import abi
from relay.dataplane.libbpf import BpfError, Link, Map, MapFull, Object, VerifierError, XdpMode
from tests.bpf.compiler import compiled

KEY = struct.Struct("=I")


@pytest.fixture
def program(built_object: Path) -> Iterator[Object]:
    with Object.open(built_object) as opened:
        opened.load()
        yield opened


@pytest.fixture
def pin(tmp_path: Path) -> Iterator[Path]:
    """A free path in a bpffs of its own, which takes what is pinned with it when it goes."""
    folder = tmp_path / "bpffs"
    folder.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", str(folder)], check=True)
    yield folder / "pinned"
    subprocess.run(["umount", str(folder)], check=True)


class TestOpening:
    def test_a_missing_object_says_how_to_build_it(self, tmp_path: Path) -> None:
        with pytest.raises(BpfError, match=r"no BPF object at .*: run `make build`"):
            Object.open(tmp_path / "relay.bpf.o")

    def test_what_is_no_object_is_refused_in_libbpfs_words(self, tmp_path: Path) -> None:
        (tmp_path / "text.o").write_text("not an object")
        with pytest.raises(BpfError, match="not a proper ELF object"):
            Object.open(tmp_path / "text.o")

    def test_an_object_of_another_layout_is_refused(self, built_object: Path) -> None:
        with Object.open(built_object) as opened:
            opened.check_layout(abi.DIGEST)
            with pytest.raises(BpfError, match=r"has layout \w+, this program speaks 0000: run `make build`"):
                opened.check_layout("0000")

    def test_names_that_are_not_there_are_refused(self, program: Object) -> None:
        with pytest.raises(BpfError, match="has no map sesame"):
            program.map("sesame")
        with pytest.raises(BpfError, match="has no program sesame"):
            program.program("sesame")

    def test_constants_are_checked_and_set_before_the_load(self, built_object: Path) -> None:
        with Object.open(built_object) as opened:
            with pytest.raises(BpfError, match="has no constant sesame"):
                opened.set_rodata("sesame", b"")
            with pytest.raises(BpfError, match=f"has {abi.SETTINGS.itemsize} bytes, not 1"):
                opened.set_rodata("settings", b"x")
            opened.load()
            with pytest.raises(BpfError, match="loaded already"):
                opened.set_rodata("settings", bytes(abi.SETTINGS.itemsize))

    def test_closing_twice_is_closing_once(self, built_object: Path) -> None:
        before = len(os.listdir("/proc/self/fd"))
        opened = Object.open(built_object)
        opened.load()
        opened.map("rules").array(abi.RULE)
        assert len(os.listdir("/proc/self/fd")) > before
        opened.close()
        opened.close()
        assert len(os.listdir("/proc/self/fd")) == before


class TestVerifier:
    REFUSED = 'SEC("xdp") int broken(struct xdp_md *c) { return *(int *)(long)c->data; }'

    def test_a_refusal_is_one_line_and_the_whole_log(self, tmp_path: Path) -> None:
        with Object.open(compiled(tmp_path, self.REFUSED)) as opened, pytest.raises(VerifierError) as caught:
            opened.load()
        assert "the kernel refused program broken" in str(caught.value)
        assert "outside of the packet" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.errno == errno.EACCES
        assert "processed" in caught.value.log

    @pytest.mark.parametrize("name", ["hairpin", "reassembled"])
    def test_the_programs_are_far_from_the_limit(self, program: Object, name: str) -> None:
        assert program.program(name).verified_instructions() < 250_000


class TestMaps:
    def test_a_value_can_be_stored_read_and_deleted(self, program: Object) -> None:
        denied, key = program.map("denied"), KEY.pack(32) + bytes([192, 0, 2, 1])
        assert denied.lookup(key) is None
        denied.update(key, b"\1")
        assert (denied.lookup(key), denied.keys()) == (b"\1", [key])
        assert (denied.delete(key), denied.delete(key)) == (True, False)
        assert denied.keys() == []

    def test_sizes_are_checked(self, program: Object) -> None:
        with pytest.raises(BpfError, match="map denied takes keys of 8 bytes, not 4"):
            program.map("denied").lookup(bytes(4))
        with pytest.raises(BpfError, match="map denied takes values of 1 bytes, not 2"):
            program.map("denied").update(bytes(8), b"xx")

    def test_a_full_map_has_an_error_of_its_own(self, built_object: Path) -> None:
        with Object.open(built_object) as opened:
            opened.map("denied").resize(2)
            opened.load()
            denied = opened.map("denied")
            for number in range(2):
                denied.update(KEY.pack(32) + bytes([192, 0, 2, number]), b"\1")
            with pytest.raises(MapFull, match=r"map denied is full \(2 entries\): No space left"):
                denied.update(KEY.pack(32) + bytes([192, 0, 2, 9]), b"\1")

    def test_many_elements_in_one_call(self, program: Object) -> None:
        keys = b"".join(KEY.pack(number) for number in range(5))
        values = np.zeros(5, abi.NEXTHOP)
        values["mtu"] = range(5)
        program.map("nexthops").update_batch(keys, values.tobytes())
        assert list(program.map("nexthops").array(abi.NEXTHOP)["mtu"][:6]) == [0, 1, 2, 3, 4, 0]
        with pytest.raises(BpfError, match="as many whole keys as values"):
            program.map("nexthops").update_batch(keys, b"")

    def test_a_mapping_and_the_kernel_see_the_same(self, program: Object) -> None:
        rules = program.map("rules").array(abi.RULE)
        rules["packets"][7] = 42
        value = program.map("rules").lookup(KEY.pack(7))
        assert value is not None
        assert np.frombuffer(value, abi.RULE)["packets"][0] == 42
        with pytest.raises(BpfError, match="holds values of 64 bytes"):
            program.map("rules").array(abi.COLD)

    def test_a_map_can_be_sized_before_the_load(self, built_object: Path) -> None:
        with Object.open(built_object) as opened:
            opened.map("rules").resize(3 * abi.PORTS)
            opened.load()
            assert len(opened.map("rules").array(abi.RULE)) == 3 * abi.PORTS

    def test_per_cpu_values(self, program: Object) -> None:
        counters = program.map("counters")
        cpus = len(counters.lookup(KEY.pack(0)) or b"") // 8
        counters.update_per_cpu(KEY.pack(1), [KEY.pack(cpu + 1) for cpu in range(cpus)])
        assert counters.lookup(KEY.pack(1)) == b"".join(struct.pack("=Q", cpu + 1) for cpu in range(cpus))
        with pytest.raises(BpfError, match="takes values for"):
            counters.update_per_cpu(KEY.pack(1), [])

    def test_what_the_kernel_refuses_names_map_and_errno(self, program: Object) -> None:
        with pytest.raises(BpfError, match="update map devices: Invalid argument") as caught:
            program.map("devices").update(KEY.pack(0), KEY.pack(0x7FFFFFFF))
        assert caught.value.errno == errno.EINVAL

    def test_a_pinned_map_outlives_its_object_and_is_taken_over(self, built_object: Path, pin: Path) -> None:
        with Object.open(built_object) as first:
            first.load()
            first.map("rules").array(abi.RULE)["packets"][9] = 99
            first.map("rules").pin(pin)
        kept = Map.from_pin(pin)
        assert (kept.name, kept.key_size, kept.value_size, kept.max_entries) == ("rules", 4, 64, abi.PORTS)
        with Object.open(built_object) as second:
            second.map("rules").reuse(kept.fd)
            second.load()
            assert second.map("rules").array(abi.RULE)["packets"][9] == 99
        assert kept.array(abi.RULE)["packets"][9] == 99
        kept.close()
        kept.close()


class TestPrograms:
    @pytest.fixture
    def interface(self) -> Iterator[int]:
        """The index of an interface of our own, down and connected to nothing."""
        name = f"hp-xdp-{uuid.uuid4().hex[:6]}"
        subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p"], check=True)
        yield socket.if_nametoindex(name)
        subprocess.run(["ip", "link", "delete", name], check=True)

    @pytest.mark.parametrize("mode", XdpMode)
    def test_a_link_attaches_while_it_is_open(self, program: Object, interface: int, mode: XdpMode) -> None:
        hairpin = program.program("hairpin")
        with hairpin.attach_xdp(interface, mode) as link:
            assert link.ifindex() == interface
            with pytest.raises(BpfError, match="another program or link stands there already") as caught:
                hairpin.attach_xdp(interface, mode)
            assert caught.value.errno == errno.EBUSY
            link.update(hairpin)
        with hairpin.attach_xdp(interface, mode):
            pass

    def test_a_pinned_link_stays(self, program: Object, interface: int, pin: Path) -> None:
        with program.program("hairpin").attach_xdp(interface, XdpMode.NATIVE) as link:
            link.pin(pin)
        with Link.from_pin(pin) as again:
            assert again.ifindex() == interface

    def test_an_interface_that_is_not_there_is_named(self, program: Object) -> None:
        with pytest.raises(BpfError, match=r"attach hairpin to interface 2147483647 \(native XDP\)"):
            program.program("hairpin").attach_xdp(0x7FFFFFFF, XdpMode.NATIVE)

    def test_a_test_run_that_cannot_be_is_an_error(self, program: Object) -> None:
        with pytest.raises(BpfError, match="test-run hairpin"):
            program.program("hairpin").test_run(b"short")

    def test_the_clocks_run(self, program: Object) -> None:
        clocks = program.program("clocks")
        first, second = (np.frombuffer(clocks.call(bytes(16)), abi.CLOCK_READING)[0] for _ in range(2))
        assert second["nanoseconds"] > first["nanoseconds"]
        assert second["jiffies"] >= first["jiffies"] > 0

    def test_a_failed_pin_names_the_path(self, program: Object, tmp_path: Path) -> None:
        with pytest.raises(BpfError, match=f"pin map rules at {tmp_path}"):
            program.map("rules").pin(tmp_path / "not-in-bpffs")
        with pytest.raises(BpfError, match="open pin"):
            Map.from_pin(tmp_path / "nothing")
