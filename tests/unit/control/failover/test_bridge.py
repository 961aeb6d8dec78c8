"""The bridge ExaBGP runs: what it tells ExaBGP, in which order, and what it does when either end is gone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from control.failover.bridge import MAX_PEERS, MAX_ROUTES, RETRY, Bridge

ONE, TWO = "192.0.2.1/32", "192.0.2.2/32"
EOR = ["announce eor ipv4 unicast", "announce eor ipv6 unicast"]


def route(attributes: str = "next-hop self", lone: bool = False, role: str = "primary") -> dict[str, Any]:
    return {"role": role, "attributes": attributes, "lone": lone}


class Wired:
    """A bridge with an ExaBGP that answers when told to."""

    def __init__(self) -> None:
        self.bridge = Bridge()
        self.now = 10.0

    def hear(self, routes: dict[str, Any], grace: float = 15.0) -> list[str]:
        self.bridge.hear(json.dumps({"grace": grace, "routes": routes}).encode(), self.now)
        return self.bridge.commands(self.now)

    def exabgp(self, *lines: str) -> list[str]:
        return [command for line in lines for command in self.bridge.read(line, self.now)]

    def report(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.bridge.report())
        return said


def told() -> Wired:
    """A bridge that has announced ONE, End-of-RIB and all."""
    wired = Wired()
    assert wired.hear({ONE: route()}) == [f"announce route {ONE} next-hop self"]
    wired.exabgp("done")
    assert wired.bridge.commands(wired.now) == EOR
    wired.exabgp("done", "done")
    assert wired.report() == {"held": {ONE: "primary"}, "done": True, "refused": {}, "peers": {}}
    return wired


def test_only_differences_are_told() -> None:
    wired = told()
    assert wired.hear({ONE: route()}) == []
    assert wired.hear({ONE: route("next-hop self med 5"), TWO: route()}) == [
        f"announce route {ONE} next-hop self med 5",
        f"announce route {TWO} next-hop self",
    ]
    assert wired.hear({TWO: route()}) == [f"withdraw route {ONE} next-hop self med 5"]


def test_nothing_is_held_before_it_is_confirmed() -> None:
    wired = Wired()
    wired.hear({ONE: route(), TWO: route()})
    assert wired.report()["held"] == {}
    wired.exabgp("done")
    assert wired.report()["held"] == {ONE: "primary"}
    assert wired.report()["done"] is False
    wired.exabgp('{"type": "update"}', "done")
    assert wired.report()["done"] is True


def test_what_is_refused_is_told_again_only_after_a_while() -> None:
    wired = Wired()
    wired.hear({ONE: route("nonsense")})
    wired.exabgp("error")
    assert wired.report()["refused"] == {ONE: "nonsense"}
    wired.exabgp("done", "done")
    assert [line for line in wired.hear({ONE: route("nonsense")}) if "route" in line] == []
    wired.now += RETRY
    assert wired.hear({ONE: route("nonsense")})[0] == f"announce route {ONE} nonsense"
    wired.exabgp("error")
    assert f"announce route {ONE} sense" in wired.hear({ONE: route("sense")})
    assert wired.hear({}) == [f"withdraw route {ONE} sense"]
    assert wired.report()["refused"] == {}


def test_without_a_word_for_the_grace_all_is_withdrawn_but_what_no_partner_serves() -> None:
    wired = told()
    wired.hear({ONE: route(), TWO: route(lone=True)})
    wired.exabgp("done")
    wired.now += 15.0
    assert wired.bridge.lapse(wired.now) == []
    wired.now += 0.1
    gone, alarm = wired.bridge.lapse(wired.now)
    assert gone == f"no word from the relay for 15 s: withdrawn: {ONE}"
    assert alarm.startswith("ALARM: ")
    assert TWO in alarm
    assert wired.bridge.commands(wired.now) == [f"withdraw route {ONE} next-hop self"]
    wired.now += 1000.0
    assert wired.bridge.lapse(wired.now) == []
    assert wired.bridge.commands(wired.now) == []
    assert wired.hear({ONE: route(), TWO: route()}) == [f"announce route {ONE} next-hop self"]


def test_a_route_that_a_partner_would_serve_by_then_does_not_stand_for_good() -> None:
    wired = Wired()
    wired.hear({ONE: route(lone=True)})
    wired.exabgp("done", "done", "done")
    wired.hear({ONE: route(lone=False)})
    wired.now += 16
    assert len(wired.bridge.lapse(wired.now)) == 1


def test_a_session_that_comes_up_is_given_its_end_of_rib() -> None:
    up = json.dumps({"type": "state", "neighbor": {"address": {"peer": "192.0.2.9"}, "state": "up"}})
    assert Wired().exabgp(up) == []
    wired = told()
    assert wired.exabgp(up) == EOR
    wired.exabgp("done", "error")
    assert wired.report()["peers"] == {"192.0.2.9": "up"}
    assert wired.report()["done"] is True


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"null",
        b'{"grace": 15}',
        b'{"grace": 0, "routes": {}}',
        b'{"grace": "x", "routes": {}}',
        b'{"grace": 15, "routes": [1]}',
        b'{"grace": 15, "routes": {"a": {}}}',
        b'{"grace": 15, "routes": {"a": {"role": "primary", "attributes": "x\\nshutdown", "lone": false}}}',
        b'{"grace": 15, "routes": {"a": {"role": "primary", "attributes": 5, "lone": false}}}',
        b"[" * 100_000,
        json.dumps({"grace": 1, "routes": {str(n): route() for n in range(MAX_ROUTES + 1)}}).encode(),
    ],
)
def test_nonsense_is_refused_and_changes_nothing(line: bytes) -> None:
    wired = told()
    with pytest.raises(ValueError, match=r"a line is|at most"):
        wired.bridge.hear(line, wired.now)
    assert wired.bridge.commands(wired.now) == []
    assert wired.report()["held"] == {ONE: "primary"}


def test_what_exabgp_says_is_bounded() -> None:
    wired = told()
    for number in range(2 * MAX_PEERS):
        wired.exabgp(json.dumps({"neighbor": {"address": {"peer": str(number)}, "state": "down"}}))
    assert len(wired.report()["peers"]) == MAX_PEERS
    assert wired.exabgp("done", "error", "{", "[]", "[" * 100_000, "shutdown") == []
    assert wired.report()["held"] == {ONE: "primary"}
