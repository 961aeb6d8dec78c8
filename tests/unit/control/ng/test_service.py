"""What all transports of ng share, without a socket."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from control.ng import service as service_module
from control.ng.service import Service
from relay.types import Endpoint

Body = dict[str, Any]


def echo(body: Body, source: Endpoint, now: float, room: int | None = 0) -> Body:
    """What the handler was given."""
    return {"result": "ok", "body": body, "ip": source.ip, "room": "any" if room is None else room}


class Clock:
    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_a_repeat_within_the_handler_gets_the_same_reply_later() -> None:
    source = Endpoint("10.0.0.1", 5000)
    early: list[list[bytes]] = []

    def handle(body: Body, source: Endpoint, now: float, room: int | None = 0) -> Body:
        early.append(service.answer(b"c de", source, now))
        return {"result": "ok"}

    service = Service(handle, [], lambda: 0.0)
    assert service.answer(b"c de", source, 1.0) == [b"c d6:result2:oke"] * 2
    assert early == [[]]


@pytest.mark.parametrize("reply", [None, {"a": None}, {"a": 1.5}, {"a": object()}])
def test_a_reply_that_cannot_be_encoded_is_a_failure(reply: Any) -> None:
    service = Service(lambda body, source, now, room=0: reply, [], lambda: 0.0)
    replies = service.answer(b"c de", Endpoint("10.0.0.1", 5000), 1.0)
    assert replies == [b"c d6:result5:error12:error-reason14:Internal errore"]


def test_the_allow_list_knows_both_families_and_forgets_floods_of_sources() -> None:
    service = Service(echo, [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")], lambda: 0.0)
    assert service.allowed("10.1.2.3")
    assert service.allowed("fd00::1")
    assert not service.allowed("192.0.2.1")
    assert not service.allowed("fe80::1%eth0")
    for number in range(10_000):
        service.allowed(f"192.0.{number >> 8}.{number & 255}")
    assert len(service._known) <= service_module.MAX_KNOWN_SOURCES
    assert service.allowed("10.1.2.3")


def test_statistics_hold_what_an_operator_asks_for() -> None:
    service = Service(echo, [], lambda: 0.0)
    for datagram in (b"a de", b"a de", b"b x"):
        service.answer(datagram, Endpoint("10.0.0.1", 5000), 0.0)
    wanted = {
        "requests": 1,
        "repeats": 1,
        "malformed": 1,
        "remembered": 2,
        "remembered_too_many": 0,
    }
    assert wanted.items() <= service.statistics().items()


def test_complaints_of_one_kind_are_spaced_out(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    service = Service(echo, [], clock)
    for _ in range(30):
        service.answer(b"nonsense", Endpoint("10.0.0.1", 5000), clock.now)
        clock.now += 0.1
    assert 3 <= caplog.text.count("No cookie in message") <= 4
    assert service.counters.malformed == 30


def test_a_stream_has_room_for_any_reply() -> None:
    def long(body: Body, source: Endpoint, now: float, room: int | None = 0) -> Body:
        return {"room": "any" if room is None else room, "x": "y" * 100_000}

    service = Service(long, [], lambda: 0.0)
    source = Endpoint("10.0.0.1", 5000)
    (reply,) = service.answer(b"a de", source, 0.0, stream=True)
    assert reply.startswith(b"a d4:room3:any1:x100000:")
    assert service.answer(b"b de", source, 0.0) == [b"b d6:result5:error12:error-reason15:Reply too largee"]


def test_a_request_without_cookie_is_answered_without_one_each_time() -> None:
    service = Service(echo, [], lambda: 0.0)
    source = Endpoint("10.0.0.1", 5000)
    assert service.answer_plain(b'{"a":"b"}', source, 0.0).startswith(b'{"result":"ok","body":{"a":"b"}')
    assert service.answer_plain(b"d1:a1:be", source, 0.0).startswith(b"d6:result2:ok4:bodyd1:a1:be")
    assert service.answer_plain(b"d1:a1:be", source, 0.0).startswith(b"d6:result2:ok4:bodyd1:a1:be")
    assert b"Invalid NG data format" in service.answer_plain(b"hello", source, 0.0)
    assert b"Invalid data (no payload)" in service.answer_plain(b"", source, 0.0)
    assert service.counters.requests == 3
    assert len(service._cookies) == 0


def test_who_may_command_can_change() -> None:
    service = Service(echo, [ipaddress.ip_network("10.0.0.0/8")], lambda: 0.0)
    assert service.allowed("10.0.0.1")
    service.allow([ipaddress.ip_network("192.0.2.0/24")])
    assert not service.allowed("10.0.0.1")
    assert service.allowed("192.0.2.1")
    assert service.open_to(Endpoint("0.0.0.0", 2223)) == "from 192.0.2.0/24"
    assert service.open_to(Endpoint("::1", 2223)) == "from this host"
