"""The same ng requests to this relay and to Debian's rtpengine: where the protocol leaves no choice, the same answers.

SDP is compared by what it means (where media goes, which formats, which way), not to the letter. Each case is a story:
requests in order, and after each one what both relays made of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from control.ng import bencode
from relay.types import Endpoint
from tests.lab import Host, Lab, join_core, standard_network
from tests.peers import NG_PORT, Relay, start_rtpengine

PEER_ADDRESS = "10.99.0.5"
CALLER, CALLEE = Endpoint("10.99.1.2", 20000), Endpoint("10.99.0.4", 22000)
Request = dict[str, Any]


def sdp(media: Endpoint, *lines: str, version: int = 1, formats: str = "0 8 101") -> str:
    head = ("v=0", f"o=- 1 {version} IN IP4 {media.ip}", "s=-", f"c=IN IP4 {media.ip}", "t=0 0")
    telephone_event = ("a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15")
    return "\r\n".join((*head, f"m=audio {media.port} RTP/AVP {formats}", *telephone_event, *lines, ""))


def offer(body: str, **keys: Any) -> Request:
    return {"command": "offer", "from-tag": "a", "sdp": body, **keys}


def answer(body: str, **keys: Any) -> Request:
    return {"command": "answer", "from-tag": "a", "to-tag": "b", "sdp": body, **keys}


def delete(**keys: Any) -> Request:
    return {"command": "delete", "from-tag": "a", **keys}


RTCP_MUX = "a=rtcp-mux"
REJECTED_VIDEO = ("m=video 0 RTP/AVP 96", "a=rtpmap:96 VP8/90000")
CALL = (offer(sdp(CALLER)), answer(sdp(CALLEE)))
CHANGED_PORT = sdp(CALLER._replace(port=20400), version=2)

STORIES: dict[str, tuple[Request, ...]] = {
    "ping": ({"command": "ping"},),
    "a call": (*CALL, delete(), delete()),
    "deleted at once": (*CALL, delete(**{"delete-delay": 0}), delete()),
    "delete with another tag": (*CALL, {"command": "delete", "from-tag": "stranger"}),
    "delete without tag": (*CALL, {"command": "delete"}),
    "revived on the same ports": (*CALL, delete(), *CALL),
    "nothing changes": (*CALL, *CALL),
    "the caller's port changes": (*CALL, offer(CHANGED_PORT), answer(sdp(CALLEE))),
    "port latching": (*CALL, offer(CHANGED_PORT, flags=["port-latching"]), answer(sdp(CALLEE))),
    "the callee offers": (
        *CALL,
        {"command": "offer", "from-tag": "b", "to-tag": "a", "sdp": sdp(CALLEE, version=2)},
        {"command": "answer", "from-tag": "b", "to-tag": "a", "sdp": sdp(CALLER, version=2)},
    ),
    "hold and resume": (
        *CALL,
        offer(sdp(CALLER, "a=sendonly", version=2)),
        answer(sdp(CALLEE, "a=recvonly", version=2)),
        offer(sdp(CALLER, "a=sendrecv", version=3)),
        answer(sdp(CALLEE, "a=sendrecv", version=3)),
    ),
    "inactive": (*CALL, offer(sdp(CALLER, "a=inactive")), answer(sdp(CALLEE, "a=inactive"))),
    "hold by address": (*CALL, offer(sdp(CALLER).replace(f"c=IN IP4 {CALLER.ip}", "c=IN IP4 0.0.0.0"))),
    "rtcp-mux": (offer(sdp(CALLER, RTCP_MUX)), answer(sdp(CALLEE, RTCP_MUX))),
    "rtcp-mux refused": (offer(sdp(CALLER, RTCP_MUX)), answer(sdp(CALLEE))),
    "rejected video": (offer(sdp(CALLER, *REJECTED_VIDEO)), answer(sdp(CALLEE, *REJECTED_VIDEO))),
    "one format chosen": (offer(sdp(CALLER)), answer(sdp(CALLEE, formats="8 101"))),
    "unknown keys and flags": (offer(sdp(CALLER), flags=["no-such-flag"], replace=["origin"], nonsense="yes"),),
    "numbers as strings": (offer(sdp(CALLER), TOS="184"), answer(sdp(CALLEE), TOS="184"), delete()),
    "no from-tag": ({"command": "offer", "sdp": sdp(CALLER)},),
    "no to-tag": (offer(sdp(CALLER)), {"command": "answer", "from-tag": "a", "sdp": sdp(CALLEE)}),
    "no SDP": ({"command": "offer", "from-tag": "a"},),
    "not SDP": (offer("this is no session description"),),
    "answer to no call": (answer(sdp(CALLEE)),),
    "delete of no call": (delete(),),
    "query of no call": ({"command": "query"},),
    "unknown command": ({"command": "frobnicate"},),
    "no command": ({"from-tag": "a"},),
}


@dataclass
class Server:
    """One of the two relays."""

    host: Host
    address: str

    def ask(self, call_id: str, request: Request) -> dict[str, Any]:
        with self.host.socket() as asking:
            asking.settimeout(3)
            asking.connect((self.address, NG_PORT))
            cookie = next(COOKIES)
            asking.send(cookie + b" " + bencode.encode({"call-id": call_id, **request}))
            answered, _, body = asking.recv(65535).partition(b" ")
        assert answered == cookie
        reply: dict[str, Any] = bencode.decode(body)
        return reply


COOKIES = (f"cookie{number}".encode() for number in itertools.count())


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Server, Server]]:
    with Lab() as lab:
        network = standard_network(lab)
        peer = lab.host("peer")
        join_core(lab, network, peer, PEER_ADDRESS)
        start_rtpengine(peer, PEER_ADDRESS)
        with Relay(network.relay, network.RELAY_ADDRESS):
            yield Server(network.relay, network.RELAY_ADDRESS), Server(peer, PEER_ADDRESS)


@dataclass
class Narrator:
    """Tells a server's replies in words that do not depend on its address and choice of ports."""

    server: Server
    call_id: str

    def __post_init__(self) -> None:
        self._ports: dict[str, str] = {}
        """Names for ports in the order of their appearance."""

    def tell(self, request: Request) -> dict[str, Any]:
        reply = self.server.ask(self.call_id, request)
        told: dict[str, Any] = {key: reply[key] for key in ("result", "error-reason", "warning") if key in reply}
        if "sdp" in reply:
            told["media"] = list(self._media(reply["sdp"]))
        return told

    def _media(self, text: str) -> Iterator[dict[str, object]]:
        session, *sections = text.replace("\r\n", "\n").split("\nm=")
        default = next((line for line in session.split("\n") if line.startswith("c=")), "")
        for section in sections:
            first, *lines = section.strip().split("\n")
            kind, port, protocol, *formats = first.split()
            told: dict[str, object] = {"kind": kind, "protocol": protocol, "formats": formats, "port": self._name(port)}
            if port != "0":
                told["address"] = next((line for line in lines if line.startswith("c=")), default).replace(
                    self.server.address, "RELAY"
                )
                told["even"] = int(port) % 2 == 0
                told["rtcp"] = self._rtcp(lines, int(port))
                told["direction"] = [line for line in lines if line in DIRECTIONS]
                told["mux"] = RTCP_MUX in lines
            yield told

    def _name(self, port: str) -> str:
        return "rejected" if port == "0" else self._ports.setdefault(port, f"port {len(self._ports)}")

    @staticmethod
    def _rtcp(lines: list[str], port: int) -> list[int]:
        """How far the RTCP port is from the RTP port."""
        return [int(line.removeprefix("a=rtcp:").split()[0]) - port for line in lines if line.startswith("a=rtcp:")]


DIRECTIONS = ("a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive")


@pytest.mark.parametrize("story", STORIES)
def test_both_relays_tell_the_same_story(servers: tuple[Server, Server], story: str) -> None:
    ours, theirs = (Narrator(server, story) for server in servers)
    for request in STORIES[story]:
        assert ours.tell(request) == theirs.tell(request)


def shape(value: object) -> object:
    """What a reply is made of: names and types; which flags are set is no matter of shape."""
    if isinstance(value, dict):
        return {key: shape(entry) for key, entry in value.items()}
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return "names"
    if isinstance(value, list):
        return [shape(entry) for entry in value]
    return type(value).__name__


def contains(larger: object, smaller: object) -> bool:
    """Whether a shape has all that another has; names of its own are allowed."""
    if isinstance(smaller, dict) and isinstance(larger, dict):
        return all(key in larger and contains(larger[key], entry) for key, entry in smaller.items())
    if isinstance(smaller, list) and isinstance(larger, list):
        return len(larger) == len(smaller) and all(map(contains, larger, smaller))
    return larger == smaller


@pytest.mark.parametrize("command", ["query", "delete"])
def test_what_controllers_read_of_a_call_has_the_same_shape(servers: tuple[Server, Server], command: str) -> None:
    shapes = []
    for server in servers:
        for request in CALL:
            server.ask(command, request)
        shapes.append(shape(server.ask(command, {"command": command, "from-tag": "a", "to-tag": "b"})))
    ours, theirs = shapes
    assert contains(ours, theirs)
    assert not contains({}, theirs)
