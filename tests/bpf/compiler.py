"""BPF objects made for one test."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[2]

_HEAD = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
"""
LICENCE = 'char _license[] SEC("license") = "GPL";\n'


def compiled(folder: Path, source: str, licence: str = LICENCE) -> Path:
    """The object of a C text that may include what is in ebpf/; "" for `licence` where that brings its own."""
    text, result = folder / "program.bpf.c", folder / "program.bpf.o"
    text.write_text(_HEAD + licence + source)
    includes = ["-I", str(HOUSE / "ebpf"), "-I", f"/usr/include/{os.uname().machine}-linux-gnu"]
    options = ["-target", "bpf", "-mcpu=v3", "-g", "-O2", *includes]
    subprocess.run(["clang", *options, "-c", text, "-o", result], check=True)
    return result
