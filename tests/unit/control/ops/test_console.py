"""The operators' commands on real calls over the memory data plane, down to the text they print."""

from __future__ import annotations

import random
from typing import Any

import pytest

from control.ops import render
from control.ops.console import Console
from control.ops.moves import Moves
from control.ops.operators import OperatorError
from relay.call import Signal, Who
from relay.dataplane.memory import MemoryDataplane
from relay.ports import Interface, PortPool
from relay.registry import LoadLimit, Registry, Settings
from relay.types import Endpoint, MediaDescription, PayloadType, Treatment

CALLER, CALLEE = Endpoint("198.51.100.1", 4000), Endpoint("198.51.100.2", 5000)

TEXTS = {"rate": "more packets than a port may take"}


def audio(rtp: Endpoint) -> MediaDescription:
    rtcp = Endpoint(rtp.ip, rtp.port + 1)
    return MediaDescription("audio", "RTP/AVP", rtp, rtcp, payload_types=(PayloadType(8, "PCMA", 8000),))


class Nowhere:
    """Announces nothing."""

    draining = False

    def withdraw(self, ip: str | None, force: bool) -> list[str]:
        return []

    def announce(self, ip: str | None, force: bool) -> list[str]:
        return []

    def drain(self) -> list[str]:
        return []

    def resume(self) -> list[str]:
        return []

    def status(self) -> dict[str, Any]:
        return {"addresses": []}


class Relay:
    """A registry over the memory data plane, and its console at a time that tests set."""

    def __init__(self) -> None:
        self.now = 100.0
        self.plane = MemoryDataplane()
        pool = PortPool(30000, 30019, random.Random(1).random)
        interface = Interface("default", "192.0.2.1", "192.0.2.1", pool)
        self.registry = Registry(self.plane, [interface], Settings(tos=184), lambda: self.now)
        about = {"version": "1", "instance": 0, "pid": 1, "uptime": 5.0, "listeners": [], "ports": "", "counters": {}}
        about["reload"] = {"pending": []}
        console = Console(self.registry, self.plane, lambda: about, lambda: self.now, TEXTS)
        self.handlers = {**console.handlers(), **Moves(Nowhere(), None, self.registry, lambda: self.now).handlers()}

    def call(self, call_id: str) -> None:
        self.registry.offer(call_id, "caller", None, [audio(CALLER)], Signal(), self.now)
        self.registry.answer(call_id, "caller", "callee", [audio(CALLEE)], Signal(), self.now)

    def ask(self, command: str, **arguments: Any) -> list[Any]:
        return list(self.handlers[command](arguments))


def made() -> Relay:
    relay = Relay()
    relay.call("one@host")
    return relay


def test_list() -> None:
    relay = made()
    relay.registry.offer("two@host", "t", None, [audio(CALLER)], Signal(), relay.now)
    relay.registry.delete("one@host", relay.now)
    relay.now += 5
    rows = relay.ask("list")
    assert [(row["call_id"], row["state"], row["age"]) for row in rows] == [
        ("one@host", "deleted, 25s left", 5.0),
        ("two@host", "offered", 5.0),
    ]
    assert rows[0]["streams"] == 4
    assert rows[0]["paths"] == ["memory data plane forwards nothing"]
    assert "one@host" in render.calls(rows)


def test_show_tells_each_stream() -> None:
    relay = made()
    call = relay.registry.query("one@host")
    local = call.legs[0].medias[0].rtp.local
    assert local is not None
    relay.plane.arrive(local, Endpoint("203.0.113.5", 1024), packets=7)
    (item,) = relay.ask("show", call="one@host")
    assert [leg["tag"] for leg in item["legs"]] == ["caller", "callee"]
    rtp, rtcp = item["legs"][0]["media"][0]["streams"]
    assert rtp["local"] == str(local)
    assert rtp["signalled"] == "198.51.100.1:4000"
    assert rtp["observed"] == "203.0.113.5:1024"
    assert rtp["last_drop_text"] is None
    assert (rtp["part"], rtcp["part"], rtp["packets"], rtp["tos"]) == ("RTP", "RTCP", 7, 184)
    text = render.call(item)
    assert all(word in text for word in ("leg caller", "46 EF", "203.0.113.5:1024", "192.0.2.1:"))


def test_branches_and_what_is_blocked_are_shown() -> None:
    relay = Relay()
    for branch in ("z1", "z2"):
        relay.registry.offer("one@host", "caller", None, [audio(CALLER)], Signal(via_branch=branch), relay.now)
    relay.registry.answer("one@host", "caller", "callee", [audio(CALLEE)], Signal(via_branch="z1"), relay.now)
    relay.registry.treat("one@host", Who(tag="callee"), Treatment.BLOCK, True, relay.now)
    (row,) = relay.ask("list")
    assert (row["state"], row["branches"], row["streams"]) == ("answered", 2, 8)
    (item,) = relay.ask("show", call="one@host")
    told = [(leg["tag"], leg["branch"], leg["branch_state"], leg["treatment"]) for leg in item["legs"]]
    assert told == [
        ("caller", "z1", "answered", "pass"),
        ("callee", "z1", "answered", "block"),
        ("caller", "z2", "offered", "pass"),
        ("", "z2", "offered", "pass"),
    ]
    assert "leg callee at default; branch z1 (answered); its media is blocked by command" in render.call(item)
    rules = relay.ask("rules")
    assert len(rules) == 8
    assert [rule["treatment"] for rule in rules].count("block") == 1


def test_one_port_on_one_side_is_shown() -> None:
    relay = Relay()
    muxed = audio(CALLER)._replace(rtcp_mux=True)
    relay.registry.offer("one@host", "caller", None, [muxed], Signal(mux=("accept",)), relay.now)
    relay.registry.answer("one@host", "caller", "callee", [audio(CALLEE)], Signal(), relay.now)
    (item,) = relay.ask("show", call="one@host")
    caller, callee = (leg["media"][0] for leg in item["legs"])
    assert (caller["rtcp_mux"], callee["rtcp_mux"]) == ("on", "off")
    assert caller["streams"][0]["part"] == "RTP+RTCP"
    assert [stream["part"] for stream in callee["streams"]] == ["RTP", "RTCP"]
    assert render.call(item).count("audio, RTP/AVP, sendrecv, rtcp-mux") == 1
    rules = {rule["local"]: rule for rule in relay.ask("rules")}
    split = rules[caller["streams"][0]["local"]]
    assert split["split"]
    assert {rule["leaves_from"] for rule in rules.values() if rule["destination"] == "198.51.100.1:4000"} == {
        caller["streams"][0]["local"]
    }


def test_packets_of_replaced_ports_stay_in_the_list() -> None:
    relay = made()
    local = relay.registry.query("one@host").legs[1].medias[0].rtp.local
    assert local is not None
    relay.plane.arrive(local, CALLEE, packets=5)
    moved = audio(Endpoint(CALLER.ip, 9000))
    relay.registry.offer("one@host", "caller", "callee", [moved], Signal(), relay.now)
    assert relay.ask("list")[0]["packets"] == 5
    relay.registry.answer("one@host", "caller", "callee", [audio(CALLEE)], Signal(), relay.now)
    assert relay.ask("list")[0]["packets"] == 5


def test_rules_tell_where_packets_go() -> None:
    relay = made()
    rows = relay.ask("rules")
    assert {row["local"] for row in rows} == {str(local) for local in relay.plane.rules()}
    assert sorted(row["destination"] for row in rows) == [
        "198.51.100.1:4000",
        "198.51.100.1:4001",
        "198.51.100.2:5000",
        "198.51.100.2:5001",
    ]
    assert {row["call_id"] for row in rows} == {"one@host"}
    assert "198.51.100.2:5001" in render.rules(rows)


def test_terminate_ends_the_call_at_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    relay = made()
    assert relay.ask("terminate", call="one@host", operator="uid 5 pid 6") == [{"call_id": "one@host"}]
    assert relay.registry.find("one@host") is None
    assert relay.plane.rules() == []
    assert caplog.messages == ["an operator (uid 5 pid 6) terminates it"]


@pytest.mark.parametrize("command", ["show", "terminate"])
@pytest.mark.parametrize("name", ["two@host", None, 7, ["one@host"]])
def test_no_such_call(command: str, name: object) -> None:
    with pytest.raises(OperatorError, match=r"no call has the Call-ID .*: see `hairpin list`"):
        made().ask(command, call=name)


def test_status_counts_calls_and_ports() -> None:
    relay = made()
    (item,) = relay.ask("status")
    assert item["calls"] == {"standing": 1, "deleted": 0, "ready": 0}
    assert item["interfaces"] == [{"name": "default", "address": "192.0.2.1", "ports_used": 4, "ports_free": 16}]
    relay.ask("terminate", call="one@host")
    (item,) = relay.ask("status")
    assert sum(item["counters"]["calls ended"].values()) == 1
    assert "1 standing" not in render.status(item)


def test_a_long_list_outlives_calls_that_end_meanwhile() -> None:
    relay = made()
    relay.call("two@host")
    rows = iter(relay.handlers["list"]({}))
    assert next(rows)["call_id"] == "one@host"
    relay.ask("terminate", call="two@host")
    assert [row["call_id"] for row in rows] in ([], ["two@host"])


def test_a_draining_relay_takes_no_new_call_and_serves_the_others(caplog: pytest.LogCaptureFixture) -> None:
    relay = made()
    (item,) = relay.ask("drain", operator="uid 5 pid 6")
    assert item == {"addresses": [], "draining": True, "calls": {"standing": 1, "deleted": 0, "ready": 0}}
    assert render.drained(item) == "draining, new calls are refused: 1 standing, 0 in their delete delay"
    with pytest.raises(LoadLimit, match="Parallel session limit reached"):
        relay.call("two@host")
    relay.call("one@host")
    (status,) = relay.ask("status")
    assert status["draining"]
    (item,) = relay.ask("resume", operator="uid 5 pid 6")
    assert render.resumed(item) == "new calls are taken: 1 standing, 0 in their delete delay"
    relay.call("two@host")
    assert caplog.messages == [
        "an operator (uid 5 pid 6) drains the relay: new calls are refused; calls left: 1",
        "an operator (uid 5 pid 6) resumes: new calls are taken again",
    ]
