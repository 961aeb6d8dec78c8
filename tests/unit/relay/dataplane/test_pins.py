"""What pins say of themselves, and where they may stand."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from relay.dataplane.pins import Identity, bpf_devices, flush, stands
from relay.errors import DataplaneError

SAID = Identity("830b318788c7db51", "ab" * 32, "00" * 28, 250, 4026531840, "the driver does not support it")

MOUNTS = """\
23 28 0:21 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
31 23 0:27 / /sys/fs/bpf rw,nosuid,nodev,noexec,relatime shared:9 - bpf bpf rw,mode=700
45 28 0:44 / /run/bpf rw master:2 propagate_from:1 - bpf none rw
46 28 0:45 / /mnt/bpf rw - ext4 /dev/bpf rw
"""


def test_what_they_are_is_read_back() -> None:
    assert Identity.parse(SAID.packed()) == SAID
    assert len(SAID.packed()) == 1024


@pytest.mark.parametrize(
    "value",
    [
        b"",
        bytes(1024),
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"[" * 1000,
        json.dumps(asdict(SAID) | {"hertz": "250"}).encode(),
        json.dumps(asdict(SAID) | {"hertz": True}).encode(),
        json.dumps(asdict(SAID) | {"hertz": 0}).encode(),
        json.dumps(asdict(SAID) | {"settings": "no digits"}).encode(),
        json.dumps(asdict(SAID) | {"more": 1}).encode(),
        json.dumps({name: value for name, value in asdict(SAID).items() if name != "layout"}).encode(),
    ],
)
def test_what_nobody_can_have_written_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Identity.parse(value)


def test_a_bpf_file_system_is_known_by_its_kind_and_not_by_its_name() -> None:
    assert bpf_devices(MOUNTS) == {"0:27", "0:44"}


def test_where_nothing_stands_there_is_nothing_to_flush(tmp_path: Path) -> None:
    assert not stands(tmp_path / "nowhere")
    assert not flush(tmp_path / "nowhere")


def test_no_file_is_removed_that_is_no_pin(tmp_path: Path) -> None:
    (tmp_path / "identity").write_text("of somebody else")
    with pytest.raises(DataplaneError, match="is not in a BPF file system"):
        flush(tmp_path)
    assert (tmp_path / "identity").exists()
