"""Compiles what an ng command passes through, where HAIRPIN_COMPILE is set; all else stands in pyproject.toml.

mypyc makes C of typed Python. The sources stay the ones that run without it, at nearly twice the CPU per call.
"""

from __future__ import annotations

import os
from typing import Any

from setuptools import setup

COMPILED = [
    *(f"relay/{name}.py" for name in ("call", "dialogs", "flows", "forwarding", "interfaces", "leg", "media", "ports")),
    *(f"relay/{name}.py" for name in ("fields", "quality", "receiving", "recording", "registry", "rtcp")),
    *(f"relay/{name}.py" for name in ("snapshot", "standing", "timers")),
    *(f"relay/dataplane/{name}.py" for name in ("adopting", "cells", "counts", "entries", "nexthops", "options")),
    *(f"relay/dataplane/{name}.py" for name in ("reading", "table", "words")),
    "control/chronicle.py",
    *(f"control/ng/{name}.py" for name in ("bencode", "commands", "flags", "message", "needed", "offeranswer")),
    *(f"control/ng/{name}.py" for name in ("report", "room", "service", "takers", "templates")),
    *(f"control/sdp/{name}.py" for name in ("attributes", "codecs", "model", "parse", "party", "rewrite")),
]


def extensions() -> list[Any]:
    """The compiled modules, all in one library beside the packages that it serves."""
    if not os.environ.get("HAIRPIN_COMPILE"):
        return []
    from mypyc.build import mypycify

    together: list[tuple[list[str], str | None]] = [(COMPILED, "control.compiled")]
    return list(mypycify(["--config-file=pyproject.toml", *COMPILED], separate=together, opt_level="2"))


setup(ext_modules=extensions())
