"""`hairpin check-config`, and the settings it prints: they read back as the same."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from control.__main__ import main as hairpin
from control.check import main as check
from control.config import Config, ConfigError, examine, load, options
from control.config.foreign import FOREIGN
from control.config.show import settings

NOWHERE = Path("/nonexistent/hairpin.conf")
PEERS = Path("/etc/rtpengine/rtpengine.conf")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-i", "in/10.0.0.1!192.0.2.1;in/2001:db8::1;old=in;eth0", "--b2b-url=http://%%:5060/x", "--max-load=2.5"],
        ["-E", "--tos=-1", "--deny-peer=10.0.0.0/8,::1", "-n", "localhost:5;[::1]:6", "--ng-allow="],
    ],
)
def test_what_is_shown_reads_back_as_the_same(arguments: list[str], tmp_path: Path) -> None:
    loaded = examine(arguments, NOWHERE)
    again = tmp_path / "again.conf"
    again.write_text("\n".join(settings(loaded.config, loaded.origins)))
    assert load([], again) == loaded.config


def test_sections_and_templates_read_back_too(tmp_path: Path) -> None:
    first, again = tmp_path / "first.conf", tmp_path / "again.conf"
    first.write_text(
        "[rtpengine]\nsocket = \\sodd\\\\path\\t\\s\n[interface-out]\naddress = 192.0.2.1\nadvertised = 203.0.113.1\n"
        "port-min = 20000\nexclude-ports = 20002-20004\nkeyspace = 0\n[templates]\noffer = ICE=remove \\\\ x\n"
    )
    loaded = examine([], first)
    assert loaded.config.socket == " odd\\path\t "
    again.write_text("\n".join(settings(loaded.config, loaded.origins)))
    assert load([], again) == loaded.config


def test_a_good_configuration_is_shown_with_where_it_is_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "hairpin.conf"
    path.write_text("[rtpengine]\ninterface = in/127.0.0.1!192.0.2.1\nnum-threads = 4\ntimeout = 70\n")
    assert check(["--tos=184"], path) == 0
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        f"warning: {path} line 3: num-threads means nothing here: one event loop serves all commands, and the kernel "
        "forwards media on the cores it arrives at"
    ]
    lines = said.out.splitlines()
    assert lines[0] == f"# options: from the command line and {path}"
    assert lines[lines.index("timeout = 70") - 1] == f"# {path} line 4"
    assert lines[lines.index("tos = 184") - 1] == "# command line"
    assert lines[lines.index("port-min = 30000") - 1] == "# default"
    assert lines[-1] == "# media: in 127.0.0.1, shown as 192.0.2.1, ports 30000-40000"


def test_every_error_is_told_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "hairpin.conf"
    path.write_text("[rtpengine]\nmos = CQ\ntimeout = soon\nlisten-gn = 5\n")
    assert hairpin(["check-config", f"--config-file={path}"]) == 2
    said = capsys.readouterr()
    assert [line.split(": ")[:2] for line in said.err.splitlines()] == [
        ["warning", f"{path} line 2"],
        ["error", f"{path} line 3"],
        ["error", f"{path} line 4"],
    ]
    assert said.out == ""


def test_templates_that_say_what_nobody_knows_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "hairpin.conf"
    path.write_text("[rtpengine]\ninterface = 127.0.0.1\n[templates]\noffer = ICE=remove no-such-flag other=1\n")
    assert check([], path) == 0
    assert capsys.readouterr().err == "warning: template offer: 2 of its flags are not known here and do nothing\n"


def test_what_this_host_has_not_is_an_error_too(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--interface=203.0.113.77", "--listen-https=1443", "--https-cert=/nonexistent/cert.pem"]
    assert check(arguments, NOWHERE) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[0] == "error: https-cert = /nonexistent/cert.pem: No such file or directory"
    assert errors[1].startswith("error: --interface=203.0.113.77 is no address of this host, which has ")


def test_the_peers_packaged_file_runs_the_relay(tmp_path: Path) -> None:
    if not PEERS.exists():
        pytest.skip(f"{PEERS} is missing: apt-get install rtpengine-daemon")
    path = tmp_path / "rtpengine.conf"
    shutil.copy(PEERS, path)
    arguments = ["-f", "-E", "--no-log-timestamps", "--pidfile", "/run/x.pid", "--config-file", str(path)]
    loaded = examine(arguments, NOWHERE)
    config = loaded.config
    assert (config.tos, config.timeout, config.port_min, config.port_max, config.table) == (184, 60, 30000, 40000, 0)
    assert [str(endpoint) for endpoint in (*config.listen_ng, *config.listen_http)] == [
        "127.0.0.1:2223",
        "127.0.0.1:2225",
    ]
    assert [one.address for one in config.interface] == ["any"]
    assert config.no_log_timestamps
    assert [text.split(" means nothing here: ")[0].split(": ")[-1] for text in loaded.warnings] == [
        "listen-cli",
        "recording-dir",
        "recording-method",
    ]
    assert load(["--config-section=rtpengine-testing", "--config-file", str(path)], NOWHERE).instance == 0


def test_every_option_of_the_peer_is_known_by_its_names() -> None:
    program = shutil.which("rtpengine")
    if program is None:
        pytest.skip("rtpengine is missing: apt-get install rtpengine-daemon")
    text = subprocess.run([program, "--help-all"], capture_output=True, text=True, check=True).stdout
    theirs = re.findall(r"^  (?:-(\w), )?--([a-z0-9-]+)(=?)", text, re.MULTILINE)
    ours = {name: (given.short, given.metavar is not None) for name, given, _ in options()}
    ours |= {one.name: (one.short, not one.switch) for one in FOREIGN.values()}
    assert len(theirs) > 100
    for short, name, valued in theirs:
        if name not in ("help", "version", "config-file", "config-section"):
            known = ours.get(name)
            assert known is not None, f"--{name} is not known"
            assert known[0] == (short or None), f"--{name}"
            assert known[1] or not valued, f"--{name} takes a value there"


def test_called_by_the_peers_name_it_is_the_relay(capsys: pytest.CaptureFixture[str]) -> None:
    assert hairpin(["--no-such-option"], called="/usr/bin/rtpengine") == 2
    assert "there is no option --no-such-option" in capsys.readouterr().err
    assert hairpin(["-v"], called="/usr/bin/rtpengine") == 0
    assert capsys.readouterr().out.startswith("hairpin ")


def test_nothing_is_shown_of_a_configuration_that_is_none() -> None:
    with pytest.raises(ConfigError):
        examine(["--timeout=x"], NOWHERE)
    assert Config() == examine([], NOWHERE).config
