"""A caller with IPv4 and one port for RTP and RTCP, a callee with IPv6 and two, and the relay as users run it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from relay.types import Endpoint
from tests.lab import Lab
from tests.net.conftest import PARTY6_B, PARTY_A, RELAY6_B, RELAY_A, Phone, Table, rtp
from tests.ng import Proxy, until
from tests.peers import Relay

REPORT = bytes.fromhex("80c9000100001234")
_ADDRESS, _PORT = (re.compile(pattern, re.MULTILINE) for pattern in (r"^c=IN IP[46] (\S+)", r"^m=audio (\d+)"))


def sdp(party: Endpoint, *lines: str) -> str:
    family = "IP6" if ":" in party.ip else "IP4"
    head = f"v=0\r\no=- 1 1 IN {family} {party.ip}\r\ns=-\r\nc=IN {family} {party.ip}\r\nt=0 0\r\n"
    return head + f"m=audio {party.port} RTP/AVP 8\r\n" + "".join(f"{line}\r\n" for line in lines)


def shown(reply: dict[str, str]) -> Endpoint:
    """Where the other party is told to send to."""
    address, port = _ADDRESS.search(reply["sdp"]), _PORT.search(reply["sdp"])
    assert address
    assert port
    return Endpoint(address[1], int(port[1]))


@dataclass
class Scene:
    table: Table
    relay: Relay
    proxy: Proxy
    caller: Phone
    callee: Phone
    callee_rtcp: Phone

    def set_up(self) -> tuple[Endpoint, Endpoint]:
        """A call; returns where the caller and the callee send to."""
        keys = {"call_id": "families", "from_tag": "caller"}
        offer = sdp(self.caller.endpoint, "a=rtcp-mux")
        reply = self.proxy.ask("offer", sdp=offer, address_family="IP6", rtcp_mux=["demux"], **keys)
        to_callee = shown(reply)
        reply = self.proxy.ask("answer", sdp=sdp(self.callee.endpoint), to_tag="callee", **keys)
        assert "a=rtcp-mux" in reply["sdp"]
        return shown(reply), to_callee


@pytest.fixture
def scene(lab: Lab) -> Iterator[Scene]:
    table = Table(lab)
    phones = [
        table.phone(host, ip, port)
        for host, ip, port in ((table.a, PARTY_A, 4000), (table.b, PARTY6_B, 6000), (table.b, PARTY6_B, 6001))
    ]
    with Relay(table.relay, RELAY_A, f"--interface={RELAY6_B}") as relay, Proxy(table.a, relay.ng) as proxy:
        yield Scene(table, relay, proxy, *phones)
    table.close()


def test_media_and_their_reports_pass_both_ways(scene: Scene) -> None:
    for_caller, for_callee = scene.set_up()
    assert (for_caller.ip, for_callee.ip) == (RELAY_A, RELAY6_B)
    heard: dict[Phone, list[tuple[bytes, Endpoint]]] = {}

    def hears(phone: Phone, *payloads: bytes) -> None:
        """Wait until a telephone has heard these; the first may come by user space, and late."""
        found = heard.setdefault(phone, [])
        until(lambda: found.extend(phone.received()) or len(found) >= len(payloads))  # type: ignore[func-returns-value]
        assert sorted(payload for payload, _ in found) == sorted(payloads)

    voice = [rtp(number) for number in range(5)]
    for payload in voice:
        scene.caller.send(for_caller, payload)
        scene.callee.send(for_callee, payload)
    scene.caller.send(for_caller, REPORT)
    hears(scene.callee, *voice)
    hears(scene.callee_rtcp, REPORT)
    hears(scene.caller, *voice)
    scene.callee_rtcp.send(Endpoint(for_callee.ip, for_callee.port + 1), REPORT)
    hears(scene.caller, *voice, REPORT)
    assert {source for _, source in heard[scene.caller]} == {for_caller}
    assert {source for _, source in heard[scene.callee]} == {for_callee}
    assert scene.proxy.ask("delete", call_id="families", from_tag="caller", delete_delay=0)["result"] == "ok"


def test_the_operator_sees_addresses_of_both_families(scene: Scene) -> None:
    scene.set_up()
    status = scene.relay.hairpin("status")
    assert f"media addresses {RELAY_A}, {RELAY6_B}" in status
    shown_call = scene.relay.hairpin("show", "families")
    assert f"[{PARTY6_B}]:6000" in shown_call
    assert f"{PARTY_A}:4000" in shown_call


def test_what_comes_in_fragments_is_forwarded_and_told(scene: Scene) -> None:
    for_caller, _ = scene.set_up()
    video = rtp(1) + bytes(2000)
    scene.caller.send(for_caller, video)
    found: list[tuple[bytes, Endpoint]] = []
    until(lambda: found.extend(scene.callee.received()) or bool(found))  # type: ignore[func-returns-value]
    assert [payload for payload, _ in found] == [video]
    status = scene.relay.hairpin("status")
    assert "1 datagrams came in fragments and were forwarded from user space" in status
    assert "put together by the kernel and forwarded from user space" in status
