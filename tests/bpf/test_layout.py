"""abi.py says what the C compiler makes of abi.h, and both sides put a local address into the same slot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from relay.dataplane import abi
from relay.dataplane.addresses import address_slot
from relay.types import Endpoint
from tests.bpf.compiler import HOUSE
from tests.bpf.switchboard import PORT_A, XDP_PASS, XDP_REDIRECT, A, Switchboard, datagram

RECORDS = {f"hp_{name.lower()}": value for name, value in vars(abi).items() if isinstance(value, np.dtype)}


def as_compiled(folder: Path) -> list[str]:
    """Size of each structure and offset and size of its members, as a C program of this machine prints them."""
    lines = [
        f'printf("{name} %zu\\n", sizeof(struct {name}));'
        + "".join(
            f'printf("{name}.{field} %zu %zu\\n", __builtin_offsetof(struct {name}, {field}),'
            f" sizeof(((struct {name} *)0)->{field}));"
            for field in dtype.names or ()
        )
        for name, dtype in RECORDS.items()
    ]
    source = folder / "layout.c"
    body = "\n".join(lines)
    source.write_text(f'#include <stdio.h>\n#include <linux/types.h>\n#include "abi.h"\nint main(void) {{ {body} }}')
    subprocess.run(["clang", "-I", HOUSE / "ebpf", "-o", folder / "layout", source], check=True)
    return subprocess.run([folder / "layout"], check=True, capture_output=True, text=True).stdout.splitlines()


def as_generated() -> list[str]:
    lines = []
    for name, dtype in RECORDS.items():
        lines.append(f"{name} {dtype.itemsize}")
        lines += [f"{name}.{field} {at[1]} {at[0].itemsize}" for field, at in (dtype.fields or {}).items()]
    return lines


def test_the_generated_layout_is_the_compilers(tmp_path: Path) -> None:
    assert as_compiled(tmp_path) == as_generated()


def test_the_committed_layout_is_up_to_date(built_object: Path) -> None:
    command = [sys.executable, "-m", "relay.dataplane.generate_abi", "--check", str(built_object)]
    assert subprocess.run(command, cwd=HOUSE, check=False).returncode == 0


class TestAddressTable:
    @pytest.fixture(autouse=True)
    def _restore(self, board: Switchboard) -> object:
        table = board.object.map("host").array(abi.HOST)
        before = table.copy()
        yield
        table[:] = before

    def look_up(self, board: Switchboard, address: int, slots: dict[int, int]) -> int:
        """The verdict on a packet to `address` while the table holds these numbers by slot."""
        board.steady_call()
        table = board.object.map("host").array(abi.HOST)[0]
        table["slot"] = 0
        for slot, number in slots.items():
            table["slot"][slot % abi.ADDRESS_SLOTS] = (number, 0)
        frame = datagram(A, Endpoint(".".join(str(byte) for byte in address.to_bytes(4, "big")), PORT_A.port))
        return board.run(frame).verdict

    @pytest.mark.parametrize("address", [0x0A000001, 0xC0A80101, 0xC6336464, 0x01020304, 0xDFFFFFFE, 0x64400001])
    def test_an_address_is_found_in_its_slot_and_those_behind_it(self, board: Switchboard, address: int) -> None:
        home = address_slot(address)
        others = {home + step: 0x0B000000 + step for step in range(abi.ADDRESS_PROBES + 1)}
        for step in range(abi.ADDRESS_PROBES):
            assert self.look_up(board, address, others | {home + step: address}) == XDP_REDIRECT
        assert self.look_up(board, address, others | {home + abi.ADDRESS_PROBES: address}) == XDP_PASS

    def test_a_free_slot_ends_the_search(self, board: Switchboard) -> None:
        home = address_slot(0x0A000001)
        assert self.look_up(board, 0x0A000001, {home + 1: 0x0A000001}) == XDP_PASS

    def test_the_table_is_a_ring(self, board: Switchboard) -> None:
        address = next(number for number in range(1, 10**6) if address_slot(number) == abi.ADDRESS_SLOTS - 1)
        last = abi.ADDRESS_SLOTS - 1
        assert self.look_up(board, address, {last: int.from_bytes(b"\x0a\0\0\1"), 0: address}) == XDP_REDIRECT
