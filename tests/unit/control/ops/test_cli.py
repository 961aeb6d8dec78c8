"""The operators' commands against a socket: text, JSON, exit codes, and what is said when nobody answers."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from control.__main__ import main as hairpin
from control.ops import cli, place, waiting

Relay = Callable[[list[Any]], Path]


def left(standing: int, draining: bool = True) -> list[Any]:
    """What a relay with so many calls replies to `drain` or `status`."""
    return [{"item": {"draining": draining, "calls": {"standing": standing, "deleted": 0}}}, {"done": True}]


class Draining:
    """A relay that gives one reply after the other, to a connection each."""

    def __init__(self, path: Path, replies: list[list[Any]]) -> None:
        self.commands: list[str] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._thread = threading.Thread(target=self._serve, args=(replies,))
        self._thread.start()

    def _serve(self, replies: list[list[Any]]) -> None:
        with self._listening:
            for reply in replies:
                with self._listening.accept()[0] as client:
                    self.commands.append(json.loads(client.makefile("rb").readline())["command"])
                    client.sendall(b"".join(json.dumps(one).encode() + b"\n" for one in reply))

    def ended(self) -> list[str]:
        self._thread.join(10)
        return self.commands


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    """A relay that answers one request with the given lines, and keeps the request in `request.json`."""
    threads = []

    def start(replies: list[Any]) -> Path:
        path = tmp_path / "relay.sock"
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            with listening, listening.accept()[0] as client:
                (tmp_path / "request.json").write_bytes(client.makefile("rb").readline())
                client.sendall(b"".join(json.dumps(reply).encode() + b"\n" for reply in replies))

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return path

    yield start
    for thread in threads:
        thread.join(10)


ROW = {
    "call_id": "a@b",
    "state": "answered",
    "age": 5,
    "branches": 1,
    "streams": 4,
    "packets": 7,
    "lost": 0,
    "paths": ["fast path"],
}


def test_list_as_text_and_json(relay: Relay, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = relay([{"item": ROW}, {"done": True}])
    assert cli.main(["list", f"--socket={path}"]) == cli.DONE
    assert capsys.readouterr().out.splitlines()[1].split() == ["a@b", "answered", "5s", "4", "7", "0", "fast", "path"]
    assert json.loads((tmp_path / "request.json").read_text()) == {"command": "list", "arguments": {}}
    path.unlink()
    path = relay([{"item": ROW}, {"done": True}])
    assert cli.main(["list", "--json", f"--socket={path}"]) == cli.DONE
    assert json.loads(capsys.readouterr().out) == [ROW]


def test_terminate_names_its_call(relay: Relay, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = relay([{"item": {"call_id": "a@b"}}, {"done": True}])
    assert cli.main(["terminate", "a@b", f"--socket={path}"]) == cli.DONE
    assert capsys.readouterr().out == "terminated a@b\n"
    assert json.loads((tmp_path / "request.json").read_text())["arguments"] == {"call": "a@b"}


def test_drain_waits_for_the_last_call_where_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LOOK", 0.01)
    relay = Draining(tmp_path / "s", [left(2)])
    assert cli.main(["drain", f"--socket={tmp_path}/s"]) == cli.DONE
    assert capsys.readouterr().out.startswith("draining, new calls are refused: 2 standing")
    assert relay.ended() == ["drain"]
    (tmp_path / "s").unlink()
    relay = Draining(tmp_path / "s", [left(2), left(2), left(1), left(0)])
    assert cli.main(["drain", "--wait", f"--socket={tmp_path}/s"]) == cli.DONE
    said = capsys.readouterr()
    assert said.out == "draining, new calls are refused: 0 standing, 0 in their delete delay\n"
    assert said.err == "hairpin: calls left: 2\nhairpin: calls left: 1\n"
    assert relay.ended() == ["drain", "status", "status", "status"]


def test_drain_waits_no_longer_where_another_operator_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LOOK", 0.01)
    relay = Draining(tmp_path / "s", [left(2), left(2, draining=False)])
    assert cli.main(["drain", "--wait", f"--socket={tmp_path}/s"]) == cli.FAILED
    assert "does not drain any more" in capsys.readouterr().err
    relay.ended()


def test_resume(relay: Relay, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = relay(left(1, draining=False))
    assert cli.main(["resume", f"--socket={path}"]) == cli.DONE
    assert capsys.readouterr().out == "new calls are taken: 1 standing, 0 in their delete delay\n"
    assert json.loads((tmp_path / "request.json").read_text())["command"] == "resume"


def test_the_relays_refusal_is_said_and_is_exit_code_1(relay: Relay, capsys: pytest.CaptureFixture[str]) -> None:
    path = relay([{"error": "no call has this Call-ID"}])
    assert cli.main(["show", "x", f"--socket={path}"]) == cli.FAILED
    assert capsys.readouterr().err == "hairpin: no call has this Call-ID\n"


def test_an_answer_cut_short_is_no_answer(relay: Relay, capsys: pytest.CaptureFixture[str]) -> None:
    path = relay([{"item": ROW}])
    assert cli.main(["list", f"--socket={path}"]) == cli.UNREACHABLE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "closed the connection before its answer was complete" in captured.err


def test_nobody_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / f"hairpin-0-{place.namespace()}.sock"
    assert cli.main(["list", f"--socket={missing}"]) == cli.UNREACHABLE
    said = capsys.readouterr().err
    assert f"no relay answers at {missing} (No such file or directory). Is it running" in said
    assert "nsenter --net=" in said
    (tmp_path / f"hairpin-4-{place.namespace()}.sock").touch()
    assert cli.main(["list", f"--socket={missing}"]) == cli.UNREACHABLE
    assert "in this network namespace there is --table=4" in capsys.readouterr().err


def test_the_default_place_is_this_namespaces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 5)
    given = cli._parser().parse_args(["list", "--table=-1"])
    assert cli._where(given) == tmp_path / "hairpin" / f"hairpin-0-{place.namespace()}.sock"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert cli.main(["list"]) == cli.UNREACHABLE


@pytest.mark.parametrize("arguments", [["reboot"], ["show"], ["list", "--jsn"], ["list", "--table=x"], []])
def test_what_is_not_understood_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert hairpin(arguments) == cli.USAGE
    assert capsys.readouterr().err != ""


def test_a_command_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    hairpin(["reboot"])
    assert capsys.readouterr().err == "hairpin: there is no command reboot; `hairpin help` lists them\n"


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert hairpin(["help"]) == 0
    text = capsys.readouterr().out
    assert all(f"hairpin {name}" in text for name in ("run", *cli.COMMANDS))
    assert hairpin(["version"]) == 0
    assert capsys.readouterr().out.startswith("hairpin ")


def test_operators_commands_load_nothing_heavy() -> None:
    code = (
        "import sys; from control.__main__ import main; main(['list', '--socket=/nonexistent/s']); "
        "print([m for m in ('asyncio', 'numpy', 'cffi', 'control.daemon', 'pyroute2') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_output_into_a_closed_pipe_is_no_error(relay: Relay) -> None:
    path = relay([{"item": {**ROW, "call_id": "x" * 300_000}}, {"done": True}])
    command = f"{sys.executable} -m control list --socket={path} | head -c 10; exit ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
