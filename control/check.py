"""`hairpin check-config`: what `hairpin run` would make of its options, without starting or touching anything.

Errors and warnings go to standard error with their places, the settings that would hold to standard output, as a
configuration file that says the same. Exit codes: 0 it would start, also with warnings; 2 it would refuse.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from control.config import DEFAULT_FILE, Config, ConfigError, examine
from control.config.show import settings
from control.host import places
from control.ng.templates import flawed

GOOD, REFUSED = 0, 2


def main(arguments: Sequence[str], default_file: Path = DEFAULT_FILE) -> int:
    """Say all there is to say; returns the exit code."""
    try:
        loaded = examine(arguments, default_file, "hairpin check-config")
    except ConfigError as error:
        _tell("warning", error.warnings)
        _tell("error", error.problems)
        return REFUSED
    _tell("warning", [*loaded.warnings, *flawed(loaded.config.flag_templates)])
    print(f"# options: from {loaded.source}", *settings(loaded.config, loaded.origins), sep="\n")
    problems = _unreadable(loaded.config)
    try:
        config = loaded.config
        for one in places(config):
            shown = f", shown as {one.advertised}" if one.advertised else ""
            partner = f", held ready for keyspace {one.keyspace}" if one.keyspace not in (-1, config.keyspace) else ""
            print(f"# media: {one.name} {one.address}{shown}, ports {one.port_min}-{one.port_max}{partner}")
    except ConfigError as error:
        problems += error.problems
    _tell("error", problems)
    return REFUSED if problems else GOOD


def _tell(kind: str, texts: Iterable[str]) -> None:
    for text in texts:
        print(f"{kind}: {text}", file=sys.stderr)


def _unreadable(config: Config) -> list[str]:
    """Files that are named and cannot be read."""
    problems = []
    for name, path in (("https-cert", config.https_cert), ("https-key", config.https_key)):
        try:
            if config.listen_https and path:
                Path(path).read_bytes()
        except OSError as error:
            problems.append(f"{name} = {path}: {error.strerror}")
    return problems
