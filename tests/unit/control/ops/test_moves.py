"""Operators' orders on addresses and calls, from the command line's words down to what the relay is told."""

from __future__ import annotations

import json
import random
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from control.ops import cli, render, routes
from control.ops.moves import Moves
from control.ops.operators import OperatorError
from relay.dataplane.memory import MemoryDataplane
from relay.errors import HairpinError
from relay.ports import Interface, PortPool
from relay.registry import Registry, Settings

IP = "192.0.2.1"


def row(**more: Any) -> dict[str, Any]:
    shown = {"address": IP, "home": 1, "own": True, "role": "primary", "confirmed": True, "order": "announce"}
    told = {"why": "well and in step", "alarm": "", "seconds": 65.0, "partners": {"relay2": "backup"}}
    return {**shown, **told, "busy_ports": 4, "happenings": [], **more}


def status(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    told = {"speaker": "exabgp", "speaker_lines": ["reached"], "unconfirmed": "", "unwell": "", "draining": False}
    return {**told, "addresses": list(rows), **more}


class Announcer:
    """Keeps what it is told."""

    draining = False

    def __init__(self) -> None:
        self.orders: list[tuple[Any, ...]] = []

    def withdraw(self, ip: str | None, force: bool) -> list[str]:
        if not force:
            raise HairpinError("no partner")
        self.orders.append(("withdraw", ip))
        return [IP]

    def announce(self, ip: str | None, force: bool) -> list[str]:
        self.orders.append(("announce", ip, force))
        return [IP]

    def drain(self) -> list[str]:
        self.orders.append(("drain",))
        return [IP]

    def resume(self) -> list[str]:
        self.orders.append(("resume",))
        return [IP]

    def status(self) -> dict[str, Any]:
        return status(row())


class Owner:
    def take(self, ip: str) -> int:
        return 7

    def release(self, ip: str) -> int:
        raise HairpinError("nobody can take them")


class Relay:
    def __init__(self, owner: Owner | None = None) -> None:
        self.announcer = Announcer()
        interface = Interface("default", IP, IP, PortPool(30000, 30019, random.Random(1).random))
        self.registry = Registry(MemoryDataplane(), [interface], Settings(), lambda: 0.0)
        self.handlers = Moves(self.announcer, owner, self.registry, lambda: 1e9).handlers()

    def ask(self, command: str, **arguments: Any) -> list[Any]:
        return list(self.handlers[command](arguments))


def test_orders_reach_who_announces() -> None:
    relay = Relay()
    assert relay.ask("withdraw", address=IP, force=True) == [{"addresses": [IP], "at": 1e9}]
    assert relay.ask("announce") == [{"addresses": [IP], "at": 1e9}]
    assert relay.announcer.orders == [("withdraw", IP), ("announce", None, False)]
    assert relay.ask("addresses") == [status(row())]


def test_a_refusal_is_the_answer() -> None:
    with pytest.raises(HairpinError, match="no partner"):
        Relay().ask("withdraw", address=IP, force="yes")
    with pytest.raises(OperatorError, match="address must be text"):
        Relay().ask("withdraw", address=[IP])


def test_the_log_says_what_was_ordered_and_what_was_refused(caplog: pytest.LogCaptureFixture) -> None:
    relay = Relay(Owner())
    relay.ask("active", operator="uid 5")
    for command in ("withdraw", "standby"):
        with pytest.raises(HairpinError):
            relay.ask(command, address=IP, operator="uid 5")
    relay.ask("withdraw", force=True, operator="uid 5")
    assert caplog.messages == [
        "an operator (uid 5) takes the calls of all addresses",
        f"an operator (uid 5) withdraws {IP}",
        "the operator (uid 5) is refused that: no partner",
        f"an operator (uid 5) releases the calls of {IP}",
        "the operator (uid 5) is refused that: nobody can take them",
        "an operator (uid 5) withdraws all addresses, by force",
    ]


def test_a_drain_refuses_calls_and_drains_routes_and_resume_ends_both() -> None:
    relay = Relay()
    calls = {"standing": 0, "deleted": 0, "ready": 0}
    assert relay.ask("drain") == [{"addresses": [IP], "draining": True, "calls": calls}]
    assert relay.registry.draining
    assert relay.ask("resume") == [{"addresses": [IP], "draining": False, "calls": calls}]
    assert not relay.registry.draining
    assert relay.announcer.orders == [("drain",), ("resume",)]


def test_calls_are_taken_and_released_by_who_has_partners() -> None:
    assert Relay(Owner()).ask("active", address=IP) == [{"address": IP, "calls": 7}]
    assert Relay(Owner()).ask("active") == [{"address": IP, "calls": 7}]
    with pytest.raises(HairpinError, match="nobody can take them"):
        Relay(Owner()).ask("standby")
    with pytest.raises(OperatorError, match=r"192\.0\.2\.9 is no service address"):
        Relay(Owner()).ask("active", address="192.0.2.9")
    with pytest.raises(OperatorError, match="no partners: give it redis"):
        Relay().ask("standby")


# -- the command line


Serve = Callable[[list[list[Any]]], tuple[Path, list[dict[str, Any]]]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """A relay that gives one answer after the other and keeps what it was asked."""
    threads: list[threading.Thread] = []

    def start(answers: list[list[Any]]) -> tuple[Path, list[dict[str, Any]]]:
        asked: list[dict[str, Any]] = []
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(tmp_path / "s"))
        listening.listen()

        def run() -> None:
            with listening:
                for answer in answers:
                    with listening.accept()[0] as client:
                        asked.append(json.loads(client.makefile("rb").readline()))
                        lines = [*({"item": item} for item in answer), {"done": True}]
                        client.sendall("".join(json.dumps(line) + "\n" for line in lines).encode())

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return tmp_path / "s", asked

    yield start
    for thread in threads:
        thread.join(10)


def happening(at: float, what: str) -> dict[str, Any]:
    return {"at": at, "what": what}


def test_withdraw_tells_what_happens_until_no_packets_come(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    before, order = happening(1e9 - 5, "long ago"), happening(1e9, "order: withdraw")
    confirmed, quiet = (
        happening(1e9 + 0.25, "exabgp has confirmed: none"),
        happening(1e9 + 2, "no packets come any more"),
    )
    answers = [
        row(role="none", confirmed=False, happenings=[before, order]),
        row(role="none", happenings=[before, order, confirmed]),
        row(role="none", busy_ports=0, happenings=[before, order, confirmed, quiet]),
    ]
    path, asked = serve([[{"addresses": [IP], "at": 1e9}], *([status(one)] for one in answers)])
    assert cli.main(["withdraw", IP, "--force", f"--socket={path}"]) == cli.DONE
    assert asked[0] == {"command": "withdraw", "arguments": {"address": IP, "force": True}}
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == [
        f"{IP}  order: withdraw",
        f"{IP}  exabgp has confirmed: none",
        f"{IP}  no packets come any more",
    ]
    assert lines[1].split("  ")[0].endswith(".250")
    assert last == f"{IP}: none, no packets come here"


def test_patience_ends_and_says_what_is_not_done(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    answer = status(row(role="none", confirmed=False))
    path, asked = serve([[{"addresses": [IP], "at": 1e9}], [answer], [answer]])
    assert cli.main(["withdraw", "--patience=0.01", f"--socket={path}"]) == cli.DONE
    assert asked[0]["arguments"] == {}
    said = f"{IP}: none, which the speaker has not confirmed, packets come at 4 ports\n"
    assert capsys.readouterr().out == said


def test_orders_as_json_keep_the_happenings_apart(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    shown = row(happenings=[happening(1e9, "order: announce")])
    path, _ = serve([[{"addresses": [IP], "at": 1e9}], [status(shown)]])
    assert cli.main(["announce", "--json", f"--socket={path}"]) == cli.DONE
    said = capsys.readouterr()
    assert json.loads(said.out) == {"addresses": [shown], "at": 1e9}
    assert "order: announce" in said.err


def test_addresses_are_canonical_and_checked(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    path, asked = serve([[{"address": "2001:db8::1", "calls": 3}]])
    assert cli.main(["active", "2001:DB8::1", f"--socket={path}"]) == cli.DONE
    assert asked[0]["arguments"] == {"address": "2001:db8::1"}
    assert capsys.readouterr().out == "2001:db8::1: 3 calls are being taken\n"
    assert cli.main(["active", "relay1"]) == cli.USAGE


def test_a_drain_is_over_when_all_own_addresses_are_withdrawn(
    serve: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control.ops.waiting.LOOK", 0.01)
    left = {"draining": True, "calls": {"standing": 2, "deleted": 0, "ready": 5}}
    moved = {**left, "failover": status(row(role="none", order="drained"), row(own=False))}
    path, _ = serve([[left], [{**left, "failover": status(row(order="drain"))}], [moved]])
    assert cli.main(["drain", "--wait", f"--socket={path}"]) == cli.DONE
    assert "drained" in capsys.readouterr().out


def test_a_drain_does_not_wait_for_calls_that_are_held_ready(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = serve([[{"draining": True, "calls": {"standing": 0, "deleted": 0, "ready": 5}}]])
    assert cli.main(["drain", "--wait", f"--socket={path}"]) == cli.DONE
    assert "0 standing" in capsys.readouterr().out


# -- as text


def test_status_shows_addresses_with_alarms() -> None:
    item = status(
        row(), row(address="192.0.2.2", role="backup", confirmed=False, partners={}, busy_ports=None, alarm="behind"),
        unwell="not attached", unconfirmed="not reached",
    )  # fmt: skip
    assert list(routes.addresses(item)) == [
        "addresses, announced by exabgp",
        "  reached",
        "  ADDRESS    ROLE                    SINCE  PARTNERS       PORTS HEARD  WHY",
        "  192.0.2.1  primary                 1m05s  relay2 backup            4  well and in step",
        "  192.0.2.2  backup (not confirmed)  1m05s  -                        -  well and in step",
        "  ALARM 192.0.2.2: behind",
        "  ALARM not reached",
        "  not well: not attached",
    ]
    assert list(routes.addresses(status())) == []


def test_anything_is_told_by_its_names() -> None:
    told = {
        "keyspace": 1,
        "doubt": None,
        "live": True,
        "partners": {"2": {"lag": 0.5, "lines": ["a", "b\x1b"]}},
        "e": {},
    }
    assert list(routes.tree("replication", told)) == [
        "replication",
        "  keyspace: 1",
        "  live: yes",
        "  partners",
        "    2",
        "      lag: 0.5",
        "      lines",
        "        a",
        "        b\\x1b",
    ]


def test_a_partners_call_is_marked_in_the_list() -> None:
    call = {"call_id": "a@b", "state": "answered", "owner": 2, "age": 5, "branches": 1, "streams": 4, "packets": 7}
    assert "answered, of keyspace 2" in render.calls([{**call, "lost": 0, "paths": ["fast path"]}])
