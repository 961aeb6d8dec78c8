"""What runs inside the machine: tells what its kernel says of the XDP program, then runs tests.

python -m tests.kernel.guest [ARGUMENTS OF PYTEST...]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from relay.dataplane.libbpf import Object, VerifierError

PROGRAM = Path("build/relay.bpf.o")


def verdict() -> str:
    """One line: the kernel, and what it cost its verifier to accept the program. Raises VerifierError."""
    system = os.uname()
    with Object.open(PROGRAM) as program:
        program.load()
        count = program.program("hairpin").verified_instructions()
    return f"{system.sysname} {system.release} ({system.version}) accepts {PROGRAM}: {count:,} instructions verified"


def main(argv: list[str]) -> None:
    try:
        print(verdict(), flush=True)
    except VerifierError as error:
        sys.exit(f"{error.log}\n{error}")
    if argv:
        os.execv(sys.executable, [sys.executable, "-B", "-m", "pytest", *argv])


if __name__ == "__main__":
    main(sys.argv[1:])
