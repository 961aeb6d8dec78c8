"""The manual page and the sample configuration say what the table of options says."""

from __future__ import annotations

import runpy
import subprocess
from pathlib import Path

from control.config import options, read_file
from control.config.foreign import FOREIGN

DEPLOY = Path(__file__).parents[3] / "deploy"
GENERATOR = runpy.run_path(str(DEPLOY / "generate.py"))


def test_the_committed_files_are_up_to_date() -> None:
    assert (DEPLOY / "man" / "hairpin.1").read_text() == GENERATOR["manual"](), "run: python deploy/generate.py"
    assert (DEPLOY / "hairpin.conf").read_text() == GENERATOR["sample"](), "run: python deploy/generate.py"
    assert GENERATOR["MIGRATING"].read_text() == GENERATOR["migrating"](), "run: python deploy/generate.py"


def test_the_manual_has_every_option_and_no_roff_error() -> None:
    page = subprocess.run(
        ["groff", "-man", "-Tascii", "-ww", "-P-bcou", str(DEPLOY / "man" / "hairpin.1")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert page.stderr == ""
    assert all(f"--{name}" in page.stdout for name, _, _ in options())


def test_whoever_migrates_finds_every_option_that_means_nothing() -> None:
    text = GENERATOR["MIGRATING"].read_text()
    assert [name for name in FOREIGN if f"`{name}`" not in text] == []


def test_the_samples_sections_can_be_uncommented() -> None:
    text = (DEPLOY / "hairpin.conf").read_text()
    sections = text[text.index("#[interface-public]") :]
    lines = (line[1:] if line[:1] == "#" and line[1:2] != " " else line for line in sections.splitlines())
    values = read_file("[rtpengine]\n" + "\n".join(lines), "rtpengine", "sample")
    assert [str(one) for one in values["interface"]] == ["external/192.0.2.1!203.0.113.1", "old-name=external"]
    assert values["flag_templates"] == {"offer": "replace=[origin] ICE=remove"}


def test_the_sample_is_a_file_of_defaults() -> None:
    text = (DEPLOY / "hairpin.conf").read_text()
    assert read_file(text, "rtpengine", "sample") == {}
    single = {name: default for name, given, default in options() if not given.shown}
    table = text.removesuffix(GENERATOR["SECTIONS"])
    lines = [line for line in table.splitlines() if line[:1] != "#" or line[1:].split(" ")[0] in single]
    uncommented = "\n".join(line.removeprefix("#") for line in lines)
    assert read_file(uncommented, "rtpengine", "sample") == {n.replace("-", "_"): d for n, d in single.items()}
