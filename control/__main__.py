"""The command `hairpin`: the relay itself, or one of the operators' words to it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

PEER = "rtpengine"
"""Called by this name, as by a link in its place, the command is `hairpin run` with that program's configuration."""
PEER_FILE = Path("/etc/rtpengine/rtpengine.conf")


def main(arguments: Sequence[str] | None = None, called: str | None = None) -> int:
    """Dispatch on the first word; returns the exit code. Imports only what that word needs."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    first = words[0] if words else None
    if first in ("version", "-v", "--version"):
        from control.version import version

        print(f"hairpin {version()}")
        return 0
    if Path(called or sys.argv[0]).name == PEER:
        from control.daemon import main as run

        return run(words, PEER_FILE)
    if first == "run":
        from control.daemon import main as run

        return run(words[1:])
    if first == "supervise":
        from control.supervise import main as supervise

        return supervise(words[1:])
    if first == "flush":
        from control.flush import main as flush

        return flush(words[1:])
    if first == "check-config":
        from control.check import main as check

        return check(words[1:])
    from control.ops.cli import HELP, USAGE
    from control.ops.cli import main as operate

    if first is None or first in ("help", "-h", "--help"):
        print(HELP, end="", file=sys.stdout if first else sys.stderr)
        return 0 if first else USAGE
    return operate(words)


if __name__ == "__main__":
    sys.exit(main())
