"""Where relays and their operators meet: names, and one relay per instance and namespace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from control.ops.place import (
    Claim,
    InstanceTaken,
    PlaceError,
    clear_socket,
    directory,
    namespace,
    socket_path,
    standing_instances,
)


def test_root_has_run_and_others_their_runtime_directory() -> None:
    assert directory({"XDG_RUNTIME_DIR": "/run/user/5"}, uid=0) == Path("/run/hairpin")
    assert directory({"XDG_RUNTIME_DIR": "/run/user/5"}, uid=5) == Path("/run/user/5/hairpin")
    with pytest.raises(PlaceError, match=r"XDG_RUNTIME_DIR is not set: name the operators' socket with --socket=PATH"):
        directory({}, uid=5)


def test_the_name_carries_instance_and_namespace(tmp_path: Path) -> None:
    assert socket_path(Path("/run/hairpin"), 3, 4026531840) == Path("/run/hairpin/hairpin-3-4026531840.sock")
    for instance, netns in ((0, 1), (7, 1), (5, 2)):
        socket_path(tmp_path, instance, netns).touch()
    (tmp_path / "hairpin-x-1.sock").touch()
    assert standing_instances(tmp_path, 1) == [0, 7]


def test_the_namespace_is_that_of_this_process() -> None:
    assert os.readlink("/proc/self/ns/net") == f"net:[{namespace()}]"


def test_a_second_relay_of_one_number_is_refused_by_pid(tmp_path: Path) -> None:
    path = tmp_path / "new" / "hairpin-0-1.lock"
    claim = Claim(path, 0)
    with pytest.raises(InstanceTaken) as caught:
        Claim(path, 0)
    assert str(caught.value) == (
        f"hairpin instance 0 already runs in this network namespace (pid {os.getpid()}); "
        "stop it, or take another number with --table=N"
    )
    claim.release()
    claim.release()
    assert not path.exists()
    Claim(path, 0).release()


def test_what_a_killed_relay_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "hairpin-0-1.lock"
    killed = (
        "import os, signal, sys; from pathlib import Path; from control.ops.place import Claim; "
        "kept = Claim(Path(sys.argv[1]), 0); kept.note('1-2,7'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", killed, str(path)], check=False).returncode == -9
    assert path.exists()
    claim = Claim(path, 0)
    assert claim.left_behind == "1-2,7"
    assert path.read_text().split() == [str(os.getpid()), "1-2,7"], "until another note takes its place"
    claim.release(keep=True)
    claim = Claim(path, 0)
    assert claim.left_behind == "1-2,7"
    claim.release()
    assert Claim(path, 0).left_behind == ""


def test_a_place_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PlaceError, match=r"cannot make .*/file/x\.lock: .*; choose a place with --socket=PATH"):
        Claim(tmp_path / "file" / "x.lock", 0)


def test_only_a_socket_is_cleared(tmp_path: Path) -> None:
    clear_socket(tmp_path / "none")
    (tmp_path / "precious").write_text("data")
    with pytest.raises(PlaceError, match="exists and is not a socket"):
        clear_socket(tmp_path / "precious")
    assert (tmp_path / "precious").read_text() == "data"
