"""The real programs of a laboratory: Kamailio, Debian's rtpengine, and the relay itself as its users start it."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from control.ops.asking import Failed, ask
from relay.types import Endpoint
from tests.lab import Host, LabError

ROOT = Path(__file__).parents[1]
HAIRPIN = ROOT / ".venv" / "bin" / "hairpin"
NG_PORT = 2223
SIP_PORT = 5060
EF = 184
"""The TOS byte of DSCP EF (RFC 3246), which telephony is marked with."""
PATIENCE = 40.0
"""Seconds a program may take until it answers."""


def pings(host: Host, relay: Endpoint) -> bool:
    """Whether a relay answers a ng ping from this host."""
    with host.socket() as asking:
        asking.settimeout(0.2)
        try:
            asking.sendto(b"lab d7:command4:pinge", relay)
            return b"4:pong" in asking.recv(4096)
        except (TimeoutError, ConnectionRefusedError):
            return False


def answers(host: Host, process: subprocess.Popen[str], relay: Endpoint) -> bool:
    """Wait until a relay answers; False when it ends first or takes too long."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        if pings(host, relay):
            return True
        time.sleep(0.05)
    return False


def start_kamailio(
    host: Host,
    *addresses: str,
    relays: Sequence[Endpoint | str],
    flags: str = "replace-origin",
    define: Sequence[str] = (),
) -> subprocess.Popen[str]:
    """Start the sample configuration on a host's SIP port, its log in the host's folder.

    Relays are ng's UDP ports or URLs; `flags` are what is asked of them for each call.
    """
    sockets = " ".join(relay if isinstance(relay, str) else f"udp:{relay}" for relay in relays)
    defines = (f'RELAY="{sockets}"', f'MEDIA_FLAGS="{flags}"', *define)
    listen = [str(Endpoint(address, SIP_PORT)) for address in addresses]
    with kamailio_log(host).open("a") as log:
        process = host.start(
            *("kamailio", "-DD", "-E", "-f", str(ROOT / "deploy/kamailio/kamailio.cfg"), "-Y", str(host.folder)),
            *("-m", "32"),
            *(word for one in listen for word in ("-l", f"udp:{one}")),
            *(word for one in defines for word in ("-A", one)),
            stderr=log,
        )
    until = time.monotonic() + PATIENCE
    while not all(one in host.run("ss", "-H", "-lun") for one in listen):
        if process.poll() is not None or time.monotonic() > until:
            raise LabError(f"Kamailio does not start:\n{kamailio_log(host).read_text()[-2000:]}")
        time.sleep(0.05)
    return process


def kamailio_log(host: Host) -> Path:
    """All that the Kamailios of a host have said."""
    return host.folder / "kamailio.log"


def start_rtpengine(
    host: Host, address: str, *, ports: tuple[int, int] = (30000, 40000), options: Sequence[str] = ()
) -> subprocess.Popen[str]:
    """Start Debian's rtpengine, all in user space, with its ng port at NG_PORT: the peer to compare with."""
    process = host.start(
        *("rtpengine", "--config-file=none", "--table=-1", "--foreground", "--log-stderr", "--log-level=3"),
        *(f"--interface={address}", f"--listen-ng={address}:{NG_PORT}"),
        *(f"--port-min={ports[0]}", f"--port-max={ports[1]}"),
        *options,
    )
    if not answers(host, process, Endpoint(address, NG_PORT)):
        raise LabError("rtpengine does not start: is the package rtpengine-daemon installed?")
    return process


class Relay:
    """`hairpin run` on a host of the laboratory, and its operators' socket. Use it as a context manager."""

    def __init__(self, host: Host, address: str, *options: str) -> None:
        self.host = host
        self.ng = Endpoint(address, NG_PORT)
        self.socket = host.folder / "operators.sock"
        self.log = host.folder / "hairpin.log"
        with self.log.open("w") as log:
            self.process = host.start(
                *(str(HAIRPIN), "run", "--config-file=none", "--log-stderr", f"--socket={self.socket}"),
                *(f"--interface={address}", f"--listen-ng={self.ng}"),
                *options,
                stdout=log,
                stderr=log,
            )
        if not answers(host, self.process, self.ng):
            said = self.log.read_text()
            self.stop()
            raise LabError(f"the relay does not start:\n{said}")

    def stop(self) -> int:
        """End the relay in order; returns its exit code."""
        return self.host.end(self.process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        if error:
            error.add_note(f"The relay's last words:\n{self.log.read_text()[-2000:]}")
        self.stop()

    def operator(self, command: str, **arguments: Any) -> list[dict[str, Any]]:
        """What an operator's command finds: the items that `hairpin COMMAND --json` prints."""
        return list(ask(self.socket, command, arguments))

    def hairpin(self, *argv: str) -> str:
        """Run an operator's command as a person does, and return what it prints."""
        return self.host.run(str(HAIRPIN), *argv, f"--socket={self.socket}")

    def streams(self) -> Iterator[Stream]:
        """All streams of all standing calls."""
        for call in self.operator("list"):
            with contextlib.suppress(Failed):  # it has just ended
                yield from streams_of(self.operator("show", call=call["call_id"])[0])


class Stream(dict[str, Any]):
    """One stream as `hairpin show --json` has it, with its call's and leg's names in `call` and `leg`."""


def streams_of(call: dict[str, Any]) -> Iterator[Stream]:
    for leg in call["legs"]:
        for media in leg["media"]:
            for stream in media["streams"]:
                yield Stream(stream, call=call["call_id"], leg=leg["tag"])


def media_sockets(host: Host, ports: tuple[int, int]) -> list[int]:
    """Ports of the media range that some process of this host has a UDP socket on, loopback's addresses aside."""
    found = []
    for line in host.run("ss", "-H", "-uan").splitlines():
        address, _, port = line.split()[3].rpartition(":")
        if address in ("127.0.0.1", "[::1]"):
            continue
        if port.isdecimal() and ports[0] <= int(port) <= ports[1]:
            found.append(int(port))
    return found
