"""What the daemon tells those who watch over it: systemd's notifications and a file with its process number."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Mapping
from pathlib import Path

from relay.errors import HairpinError


class SupervisorError(HairpinError):
    """The process number cannot be written where it was asked for."""


def notify(state: str, environ: Mapping[str, str]) -> None:
    """Tell systemd (sd_notify(3)) a state such as `READY=1`; nothing where nobody asked."""
    place = environ.get("NOTIFY_SOCKET")
    if not place:
        return
    address = "\0" + place[1:] if place[0] == "@" else place  # an abstract socket is spelled with @
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out:
            out.sendto(state.encode(), address)
    except OSError:
        return  # the supervisor's own trouble, which no relay should die of


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
