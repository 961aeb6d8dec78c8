"""Options of what outlives the daemon: pinned tables, the journal of calls, what an end leaves behind."""

from __future__ import annotations

from dataclasses import dataclass

from control.config.declare import SECONDS, option
from control.config.readers import choice, whole

__all__ = ["Keeping"]


@dataclass(frozen=True)
class Keeping:
    """What a restart finds again."""

    state_dir: str = option(
        "",
        str,
        "keep tables and calls over a restart: folder of the journal, best on a tmpfs such as /run",
        "DIR",
        shown="none: calls end with the relay",
    )
    pin_dir: str = option(
        "/sys/fs/bpf/hairpin",
        str,
        "folder in a BPF file system where tables and program are pinned, if there is a state-dir",
        "DIR",
    )
    on_exit: str = option(
        "flush",
        choice("keep", "flush"),
        "what an orderly stop does with a state-dir: keep forwarding for the next start, or end all calls",
        "keep|flush",
        live=True,
    )
    orphan_limit: int = option(
        600,
        SECONDS,
        "stop forwarding when no relay has taken over pinned tables for this long; 0 never does",
        "SECS",
    )
    journal_patience: int = option(
        20,
        whole(1, 1000, "milliseconds"),
        "milliseconds a reply to the proxy waits for the journal at most",
        "MSECS",
        live=True,
    )
