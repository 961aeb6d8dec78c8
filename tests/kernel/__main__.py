"""`make floor`: the XDP program and its tests under the oldest kernel that is supported, on a machine in software.

python -m tests.kernel [--series=6.1] [--accel=tcg] [--seconds=N] [ARGUMENTS OF PYTEST...]
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

from tests.kernel import machine
from tests.lab import LabError

HOUSE = Path(__file__).resolve().parents[2]
TESTS = (
    "tests/bpf",
    *(f"tests/net/test_xdp_{name}.py" for name in ("selftest", "forwarding", "contract", "sizes")),
    "tests/net/test_pins.py",
)
NOT_HERE = (
    # It bounds the time between two stores of one processor; an emulated one may be stopped there for longer.
    "tests/bpf/test_races.py::test_of_two_sources_that_race_one_is_both_expected_and_answered",
    # It waits for a device to announce what it can do, which devices do since Linux 6.3.
    "tests/net/test_xdp_forwarding.py::test_a_party_whose_veth_does_not_poll_is_served_by_generic_xdp",
)
PYTEST = ("--no-skips", "-p", "no:cacheprovider", *(f"--deselect={test}" for test in NOT_HERE))


def arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(prog="python -m tests.kernel", description="Run tests under another kernel.")
    parser.add_argument("--series", default="6.1", help="kernel series of Debian's archive, default 6.1")
    parser.add_argument("--accel", default="tcg", help="what runs the machine: tcg (default, everywhere) or kvm")
    parser.add_argument("--seconds", type=float, default=3600, help="when to give up, default 3600")
    parser.add_argument("--command", help="a shell command to run in the machine instead of tests")
    return parser.parse_known_args()


def main() -> int:
    """Returns the exit code of what ran in the machine."""
    options, tests = arguments()
    if os.geteuid():
        raise LabError("the machine reads this host's files as root does: run `make floor`")
    machine.install_packages()
    folder = HOUSE / "build/kernels"
    folder.mkdir(parents=True, exist_ok=True)
    kernel = machine.fetch(machine.newest_package(options.series), folder)
    inside = [".venv/bin/python", "-B", "-m", "tests.kernel.guest", *PYTEST, *(tests or TESTS)]
    return machine.run(kernel, HOUSE, options.command or shlex.join(inside), options.accel, options.seconds)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (LabError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"floor: {error}")
