"""Commands to the running relay over its operators' socket, and what is said where nobody answers."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from control.ops import place
from relay.errors import HairpinError

__all__ = ["Failed", "Unreachable", "ask"]

PATIENCE = 15.0
"""Seconds to wait for the relay's next line."""


class Unreachable(HairpinError):
    """No relay answers; the text says where it was looked for and what to do."""


class Failed(HairpinError):
    """The relay answered that it cannot."""


def ask(path: Path, command: str, arguments: dict[str, Any]) -> Iterator[Any]:
    """The items of the relay's reply; raises Unreachable, or Failed with the relay's own words."""
    with _connect(path) as connection:
        request = {"command": command, "arguments": arguments}
        try:
            connection.sendall(json.dumps(request).encode() + b"\n")
            for line in connection.makefile("rb"):
                reply = json.loads(line)
                if "error" in reply:
                    raise Failed(reply["error"])
                if "done" in reply:
                    return
                yield reply["item"]
        except (OSError, ValueError) as error:
            raise Unreachable(f"the relay at {path} stopped answering ({error}); see its log") from error
    raise Unreachable(f"the relay at {path} closed the connection before its answer was complete; see its log")


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(PATIENCE)
    try:
        connection.connect(str(path))
    except OSError as error:
        connection.close()
        raise Unreachable(_nobody(path, error)) from error
    return connection


def _nobody(path: Path, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"may not open {path}: run this as the user the relay runs as (sudo hairpin ...)"
    reason = f"no relay answers at {path} ({error.strerror or error})"
    standing = place.standing_instances(path.parent, place.namespace())
    if standing and not isinstance(error, ConnectionRefusedError):
        return f"{reason}; in this network namespace there is --table={', --table='.join(map(str, standing))}"
    return (
        f"{reason}. Is it running (`systemctl status hairpin`, `hairpin run`)? In another network namespace, "
        f"enter that first (`nsenter --net=/run/netns/NAME hairpin ...`); elsewhere, name its --socket=PATH"
    )
