"""`hairpin supervise` on a host of the laboratory: relays that die, and what stands meanwhile."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from control.ops.asking import Unreachable, ask
from relay.types import Endpoint
from tests.lab import Host, LabError, command
from tests.peers import HAIRPIN, NG_PORT, answers

PATIENCE = 15.0
"""Seconds a relay may take to be there or gone."""


@contextmanager
def bpf_folder(at: Path) -> Iterator[Path]:
    """A BPF file system of one's own, which goes with all that is pinned in it."""
    at.mkdir(parents=True)
    command("mount", "-t", "bpf", "bpf", str(at))
    try:
        yield at / "pins"
    finally:
        command("umount", "--lazy", str(at), check=False)


class Supervised:
    """A supervisor and its relay, which keeps calls over restarts. Use it as a context manager.

    `address` is where it is commanded, and where its media goes unless `interfaces` name other places. It answers when
    this is made, or after `ready` where that is not waited for.
    """

    def __init__(
        self, host: Host, address: str, pins: Path, *options: str, interfaces: Sequence[str] = (), waits: bool = True
    ) -> None:
        self.host = host
        self.ng = Endpoint(address, NG_PORT)
        self.log = host.folder / f"supervised-{time.monotonic_ns()}.log"
        self.socket = host.folder / "operators.sock"
        self.state = host.folder / "state"
        self.pins = pins
        media = [f"--interface={one}" for one in interfaces or [address]]
        self.options = ("--config-file=none", "--log-stderr", f"--socket={self.socket}", f"--state-dir={self.state}",
                        f"--pin-dir={pins}", *media, f"--listen-ng={self.ng}", *options)  # fmt: skip
        with self.log.open("w") as log:
            self.process = host.start(str(HAIRPIN), "supervise", *self.options, stdout=log, stderr=log)
        if waits:
            self.ready()

    def ready(self) -> None:
        """Wait until the relay answers. Raises LabError where it does not."""
        if not answers(self.host, self.process, self.ng):
            said = self.log.read_text()
            self.stop()
            raise LabError(f"the relay does not start:\n{said}")

    def __enter__(self) -> Supervised:
        return self

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        if error:
            error.add_note(f"The last words of supervisor and relays:\n{self.log.read_text()[-6000:]}")
        self.process.send_signal(signal.SIGCONT)
        self.stop()

    def stop(self) -> int:
        """End supervisor and relay in order; returns the exit code."""
        return self.host.end(self.process, patience=PATIENCE)

    def operator(self, word: str, **arguments: Any) -> list[dict[str, Any]]:
        """The items that `hairpin WORD --json` prints, of the relay that runs or the next one."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return list(ask(self.socket, word, arguments))
            except Unreachable:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)

    def hairpin(self, *words: str) -> str:
        """Run a command of people's on the host, and return all it says."""
        return self.host.run("sh", "-c", '"$@" 2>&1', "sh", str(HAIRPIN), *words, check=False)

    def pid(self) -> int:
        """Of the relay."""
        return int(self.operator("status")[0]["pid"])

    def kill(self) -> None:
        """Kill the relay; the supervisor starts the next one at once."""
        os.kill(self.pid(), signal.SIGKILL)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Kill the relay, and have none until the block ends."""
        pid = self.pid()
        self.process.send_signal(signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        until = time.monotonic() + PATIENCE
        while Path(f"/proc/{pid}/exe").exists():
            assert time.monotonic() < until, "the relay does not die"
            time.sleep(0.01)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def says(self, words: str, times: int = 1) -> str:
        """Wait until the log has these words so often."""
        until = time.monotonic() + PATIENCE
        while self.log.read_text().count(words) < times:
            assert time.monotonic() < until, f"{words!r} is not in the log {times} times:\n{self.log.read_text()}"
            time.sleep(0.02)
        return self.log.read_text()

    def restored(self, starts: int) -> None:
        """Wait until the relay of this many starts has restored what it could."""
        self.says(" calls are restored, ", starts)

    def call_ids(self) -> list[str]:
        return sorted(item["call_id"] for item in self.operator("list"))
