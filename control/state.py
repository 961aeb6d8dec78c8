"""What a relay leaves for the next one of its instance: tables in a BPF file system, and a journal of its calls."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from control.config import Config
from control.ops import place

__all__ = ["Leaving", "Remains", "claim", "pin_folder", "remains"]


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
    return Remains(Path(config.state_dir).absolute() / str(config.instance), pin_folder(config, netns))


def pin_folder(config: Config, netns: int) -> Path:
    """Where tables are pinned, if they are."""
    return Path(config.pin_dir).absolute() / f"{config.instance}-{netns}"


def claim(config: Config) -> tuple[place.Claim, Path]:
    """Take this instance's place in this namespace; with it, where the operators' socket goes. Raises PlaceError."""
    asked = Path(config.socket).absolute() if config.socket else None
    try:
        path = place.socket_path(place.directory(os.environ, os.geteuid()), config.instance, place.namespace())
        held = place.Claim(path.with_suffix(".lock"), config.instance)
    except place.InstanceTaken:
        raise
    except place.PlaceError:
        if asked is None:
            raise
        path = place.socket_path(asked.parent, config.instance, place.namespace())
        held = place.Claim(path.with_suffix(".lock"), config.instance)
    return held, asked or path


@dataclass(slots=True)
class Leaving:
    """Whether what is let go of at the end stays in force for the next relay."""

    keep: bool = False
