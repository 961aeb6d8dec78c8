"""Several relays, several ways to reach them, and what becomes of calls while relays and proxies come and go."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from relay.types import Endpoint
from tests.interop.stage import Call, Stage, held
from tests.lab import Network
from tests.line import carries, relay_of, talk
from tests.peers import SIP_PORT, Relay

SPARE = "10.99.0.5"
FAR_PROXY = "10.99.0.8"
FAR_CALLEE = "10.99.0.9"
HTTP, TCP = Endpoint(Network.RELAY_ADDRESS, 8080), Endpoint(Network.RELAY_ADDRESS, 2224)
LISTENERS = f"--listen-http={HTTP}", f"--listen-tcp-ng={TCP}"
ENOUGH = 20
"""Calls among which Kamailio's hash of their Call-ID finds either of two relays."""


def spare(stage: Stage) -> Relay:
    """A second relay on a host of its own."""
    return stage.relay(host=stage.host("spare", SPARE), address=SPARE)


def hold_and_resume(call: Call) -> None:
    call.offer(call.one.audio("sendonly", version=2), call.other.audio("recvonly", version=2))
    carries(call.one, call.other, call.one.speech())
    call.offer(call.one.audio(version=3), call.other.audio(version=3))
    talk(call.one, call.other)


def call_through(stage: Stage, relay: Relay) -> Call:
    """A call that is at this relay, among those that Kamailio gives to another."""
    for _ in range(ENOUGH):
        call = stage.call(stage.caller, stage.callee)
        if relay_of(call.one) == relay.ng.ip:
            return call
        call.hang_up()
    raise AssertionError(f"no call reaches {relay.ng}")


def test_media_passes_the_relays_of_two_operators_in_series(stage: Stage) -> None:
    """caller - proxy and relay - another proxy and its relay - callee."""
    near, far = stage.relay(), spare(stage)
    far_proxy = Endpoint(FAR_PROXY, SIP_PORT)
    stage.kamailio(near.ng)
    stage.kamailio(far.ng, host=stage.host("far-proxy", FAR_PROXY), addresses=(FAR_PROXY,))
    callee = stage.handset("far-callee", FAR_CALLEE, far_proxy)
    callee.login(f"sip:desk@{far_proxy}")
    call = stage.call(stage.caller, callee, f"sip:desk@{far_proxy}")
    assert (relay_of(call.one), relay_of(call.other)) == (near.ng.ip, far.ng.ip)
    talk(call.one, call.other)
    hold_and_resume(call)
    assert held(near)[0] == held(far)[0] == 1
    call.hang_up()


def test_two_proxies_share_a_relay(stage: Stage) -> None:
    """What the relay has written comes back to it, which it knows by `loop-protect`."""
    relay = stage.relay()
    far_proxy = Endpoint(FAR_PROXY, SIP_PORT)
    flags = "replace-origin loop-protect"
    stage.kamailio(relay.ng, flags=flags)
    stage.kamailio(relay.ng, host=stage.host("far-proxy", FAR_PROXY), addresses=(FAR_PROXY,), flags=flags)
    callee = stage.handset("far-callee", FAR_CALLEE, far_proxy)
    callee.login(f"sip:desk@{far_proxy}")
    call = stage.call(stage.caller, callee, f"sip:desk@{far_proxy}")
    talk(call.one, call.other)
    hold_and_resume(call)
    assert held(relay)[0] == 1
    call.hang_up()


def test_a_call_outlives_its_proxy(stage: Stage) -> None:
    relay = stage.relay()
    first = stage.kamailio(relay.ng)
    call = stage.call(stage.caller, stage.callee)
    before = call.one.towards, call.other.towards
    stage.network.proxy.end(first)
    talk(call.one, call.other)
    stage.kamailio(relay.ng)
    hold_and_resume(call)
    assert (call.one.towards, call.other.towards) == before
    call.hang_up()


def test_a_relay_that_drains_keeps_its_calls_while_another_takes_the_new_ones(stage: Stage) -> None:
    draining, other = stage.relay(), spare(stage)
    stage.excused += ["drains the relay", "drained by order", "resumes: new calls", "Parallel session limit reached"]
    stage.kamailio(draining.ng, other.ng)
    standing = call_through(stage, draining)

    draining.hairpin("drain")
    fresh = [stage.call(stage.caller, stage.callee) for _ in range(4)]
    assert {relay_of(call.one) for call in fresh} == {other.ng.ip}
    hold_and_resume(standing)
    assert relay_of(standing.one) == draining.ng.ip
    for call in (standing, *fresh):
        talk(call.one, call.other)
        call.hang_up()

    draining.hairpin("resume")
    call = call_through(stage, draining)
    talk(call.one, call.other)
    call.hang_up()


def test_kamailio_commands_over_websocket(stage: Stage) -> None:
    stage.relay(*LISTENERS)
    stage.kamailio(f"ws://{HTTP}", define=("WITH_WEBSOCKET",))
    call = stage.call(stage.caller, stage.callee)
    talk(call.one, call.other)
    hold_and_resume(call)
    call.hang_up()


def test_a_plain_client_commands_over_tcp(stage: Stage) -> None:
    stage.relay(*LISTENERS)
    one, other = stage.line(stage.caller), stage.line(stage.callee)
    with Client.connect(stage, TCP) as client:
        names = {"call-id": "over-tcp", "from-tag": "a"}
        (offered,) = client.ask(names | {"command": "offer", "sdp": one.audio()})
        other.follow(offered["sdp"])
        (answered,) = client.ask(names | {"command": "answer", "to-tag": "b", "sdp": other.audio()})
        one.follow(answered["sdp"])
        talk(one, other)
        queried, listed, _ = client.ask(*({"command": name} | names for name in ("query", "list", "delete")))
    assert queried["totals"]["RTP"]["packets"] == 20
    assert listed["calls"] == ["over-tcp"]


class Client:
    """Speaks ng over one TCP connection, in pieces that fit no message."""

    PIECE = 100

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._cookies = itertools.count()
        self._text = ""

    @classmethod
    @contextmanager
    def connect(cls, stage: Stage, address: Endpoint) -> Iterator[Client]:
        with stage.network.proxy.socket(kind=socket.SOCK_STREAM) as connection:
            connection.settimeout(5)
            connection.connect(address)
            yield cls(connection)

    def ask(self, *requests: dict[str, Any]) -> list[dict[str, Any]]:
        """Send requests together; returns their replies, which must come in order."""
        cookies = [f"tcp-{next(self._cookies)}" for _ in requests]
        stream = "".join(f"{cookie} {json.dumps(body)}" for cookie, body in zip(cookies, requests, strict=True))
        for start in range(0, len(stream), self.PIECE):
            self._connection.sendall(stream[start : start + self.PIECE].encode())
        return [self._reply(cookie) for cookie in cookies]

    def _reply(self, cookie: str) -> dict[str, Any]:
        while True:
            answered, _, rest = self._text.partition(" ")
            try:
                reply, end = json.JSONDecoder().raw_decode(rest)
            except json.JSONDecodeError:
                self._text += self._connection.recv(65535).decode()
                continue
            self._text = rest[end:]
            assert answered == cookie
            assert reply["result"] == "ok"
            return dict(reply)
