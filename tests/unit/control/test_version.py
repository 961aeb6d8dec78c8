"""What the daemon says of the code it runs."""

from __future__ import annotations

import os
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from control.version import changed_since


def test_a_source_newer_than_what_was_compiled_of_it_is_named(tmp_path: Path) -> None:
    for number, name in enumerate(("relay/call", "relay/ports", "control/ng/message")):
        source, library = tmp_path / f"{name}.py", tmp_path / f"{name}{EXTENSION_SUFFIXES[0]}"
        source.parent.mkdir(parents=True, exist_ok=True)
        for path, modified in ((source, 100 + number), (library, 101)):
            path.touch()
            os.utime(path, (modified, modified))
    (tmp_path / "relay/types.py").touch()  # not compiled
    assert list(changed_since(tmp_path)) == [Path("control/ng/message.py")]
