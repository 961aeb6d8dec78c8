"""Notifications to systemd and the process number's file."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from control.supervisor import SupervisorError, notify, remove_pidfile, write_pidfile


@pytest.mark.parametrize("abstract", [True, False])
def test_systemd_is_told(tmp_path: Path, abstract: bool) -> None:
    name = f"hairpin-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name if abstract else name)
        systemd.settimeout(5)
        notify("READY=1", {"NOTIFY_SOCKET": "@" + name if abstract else name})
        assert systemd.recv(100) == b"READY=1"


def test_no_systemd_and_a_dead_one_are_no_trouble(tmp_path: Path) -> None:
    notify("READY=1", {})
    notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "none")})


def test_the_pidfile_is_ours_to_remove(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    write_pidfile(path)
    assert path.read_text() == f"{os.getpid()}\n"
    remove_pidfile(path)
    assert not path.exists()
    path.write_text("1\n")
    remove_pidfile(path)
    assert path.exists()
    remove_pidfile(tmp_path / "none")
    with pytest.raises(SupervisorError, match=r"--pidfile=.*/no/pid: cannot write it: No such file or directory"):
        write_pidfile(tmp_path / "no" / "pid")


def test_files_may_be_opened_up_to_the_hard_limit() -> None:
    code = (
        "import resource; from control.supervisor import raise_file_limit as raise_it; "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 500)); raise_it(); "
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "(500, 500)\n"
