"""What a relay leaves for the next one of its instance: tables in a BPF file system, and a journal of its calls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from control.config import Config

__all__ = ["Leaving", "Remains", "remains"]


@dataclass(frozen=True, slots=True)
class Remains:
    """Where they lie. Pins belong to a network namespace as its devices do; calls are found again in another one."""

    folder: Path
    """Of this instance, under --state-dir."""
    pins: Path

    @property
    def journal(self) -> Path:
        return self.folder / "journal"


def remains(config: Config, netns: int) -> Remains | None:
    """Of the instance of a configuration in a network namespace; None where nothing is to outlive the relay."""
    if not config.state_dir:
        return None
    pins = Path(config.pin_dir) / f"{config.instance}-{netns}"
    return Remains(Path(config.state_dir).absolute() / str(config.instance), pins)


@dataclass(slots=True)
class Leaving:
    """Whether what is let go of at the end stays in force for the next relay."""

    keep: bool = False
