"""What the daemon tells those who watch over it: systemd's notifications and a file with its process number."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from relay.errors import HairpinError

SUPERVISED = "HAIRPIN_SUPERVISED"
"""Set by `hairpin supervise` in the environment of its relay: who holds the relay's sockets."""


class SupervisorError(HairpinError):
    """The process number cannot be written where it was asked for."""


def notify(state: str, environ: Mapping[str, str], *sockets: socket.socket) -> None:
    """Tell systemd (sd_notify(3)) a state such as `READY=1`, with sockets to keep; nothing where nobody asked."""
    place = environ.get("NOTIFY_SOCKET")
    if not place:
        return
    address = "\0" + place[1:] if place[0] == "@" else place  # an abstract socket is spelled with @
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out:
            out.connect(address)
            socket.send_fds(out, [state.encode()], [one.fileno() for one in sockets])
    except OSError:
        return  # the supervisor's own trouble, which no relay should die of


def keep_sockets(named: Iterable[tuple[str, socket.socket]], stale: Iterable[str], environ: Mapping[str, str]) -> None:
    """Have systemd hold sockets under their names while no relay runs, in place of those under stale names.

    It does where the unit sets FileDescriptorStoreMax, over a restart and after a crash, and lets go of them at a stop.
    """
    for name in sorted(set(stale)):
        notify(f"FDSTOREREMOVE=1\nFDNAME={name}", environ)
    for name, one in named:
        notify(f"FDSTORE=1\nFDPOLL=0\nFDNAME={name}", environ, one)


def raise_file_limit() -> None:
    """Let this process open as many files as it ever may: a shell's limit is below what clients may connect."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def write_pidfile(path: Path) -> None:
    """Write this process's number. Raises SupervisorError."""
    try:
        path.write_text(f"{os.getpid()}\n")
    except OSError as error:
        raise SupervisorError(f"--pidfile={path}: cannot write it: {error.strerror}") from error


def remove_pidfile(path: Path) -> None:
    """Remove the file unless another process has put its own number there meanwhile."""
    try:
        if path.read_text() == f"{os.getpid()}\n":
            path.unlink()
    except OSError:
        return
