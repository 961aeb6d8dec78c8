"""Random commands in any order: ports, rules and calls agree after each, and nothing is left when all has ended."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from relay.call import Call
from relay.types import Endpoint
from tests.calls import Stage

TAGS = st.sampled_from(["alice", "bob", "carol", "dave"])
CALLS = st.sampled_from(["c1", "c2", "c3"])
ENDPOINTS = st.builds(
    Endpoint,
    st.sampled_from(["198.51.100.1", "198.51.100.2", "192.0.2.1", "127.0.0.1", "224.0.0.1"]),
    st.sampled_from([30000, 30002, 30004, 30006, 4000, 5000]),
)
LINES = st.lists(
    st.tuples(
        st.sampled_from(["audio", "video", "image", "message"]),
        ENDPOINTS,
        st.sampled_from(["", "a=rtcp-mux", "a=sendonly", "a=inactive", "c=IN IP4 0.0.0.0"]),
        st.booleans(),
    ),
    max_size=3,
)
FLAGS = st.lists(
    st.sampled_from(["port-latching", "strict-source", "asymmetric", "media-handover", "endpoint-learning-off", "x"]),
    max_size=2,
)


def body(lines: list[tuple[str, Endpoint, str, bool]]) -> str:
    text = "v=0\r\no=- 1 1 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n"
    for kind, endpoint, extra, rejected in lines:
        protocol = {"image": "udptl t38", "message": "TCP/MSRP *"}.get(kind, "RTP/AVP 0")
        text += f"m={kind} {0 if rejected else endpoint.port} {protocol}\r\nc=IN IP4 {endpoint.ip}\r\n"
        text += f"{extra}\r\n" if extra else ""
    return text


EXPECTED = (
    "Unknown call-id",
    "Invalid dialogue association",
    "Ran out of ports",
    "Parallel session limit reached",
    "Error rewriting SDP",
)


def held(call: Call) -> int:
    """Pairs a call has drawn and not given back."""
    return len(call.freed) + len(call.pairs())


def reach(call: Call) -> set[Endpoint]:
    """Ports that may have a rule of this call."""
    return {*call.rules, *(one.local for one in call.unsure)}


class Calls(RuleBasedStateMachine):
    """Few ports, few tags, few calls, so that they meet."""

    @initialize(pairs=st.sampled_from([3, 8, 40]), sessions=st.sampled_from([-1, 2]), limit=st.sampled_from([None, 9]))
    def begin(self, pairs: int, sessions: int, limit: int | None) -> None:
        self.stage = Stage(30000, 29999 + 2 * pairs, limit, max_sessions=sessions)

    @rule(call_id=CALLS, tags=st.tuples(TAGS, st.none() | TAGS), lines=LINES, flags=FLAGS, branch=st.none() | TAGS)
    def offer(
        self,
        call_id: str,
        tags: tuple[str, str | None],
        lines: list[tuple[str, Endpoint, str, bool]],
        flags: list[str],
        branch: str | None,
    ) -> None:
        keys = {"to_tag": tags[1], "via_branch": branch}
        self._speak("offer", call_id, tags[0], lines, flags, {k: v for k, v in keys.items() if v is not None})

    @rule(call_id=CALLS, tags=st.tuples(TAGS, TAGS), lines=LINES, flags=FLAGS)
    def answer(
        self, call_id: str, tags: tuple[str, str], lines: list[tuple[str, Endpoint, str, bool]], flags: list[str]
    ) -> None:
        self._speak("answer", call_id, tags[0], lines, flags, {"to_tag": tags[1]})

    def _speak(
        self,
        command: str,
        call_id: str,
        tag: str,
        lines: list[tuple[str, Endpoint, str, bool]],
        flags: list[str],
        keys: dict[str, str],
    ) -> None:
        """One offer or answer. What it shows has a rule, on a port that the query knows, too."""
        reply = self.stage.command(command, call_id=call_id, from_tag=tag, sdp=body(lines), flags=flags, **keys)
        assert reply["result"] in ("ok", "error")
        if reply["result"] == "error":
            assert reply["error-reason"] in EXPECTED or reply["error-reason"].startswith("no room for")
            return
        shown = [line.split()[:2] for line in reply["sdp"].split("\r\n") if line.startswith("m=")]
        assert [kind for kind, _ in shown] == [f"m={line[0]}" for line in lines]
        tags = self.stage.command("query", call_id=call_id)["tags"].values()
        known = {stream["local port"] for one in tags for media in one["medias"] for stream in media["streams"]}
        relayed = [int(port) for kind, port in shown if kind != "m=message" and port != "0"]
        assert set(relayed) <= known
        assert {Endpoint("192.0.2.1", port) for port in relayed} <= set(self.stage.plane.rules())

    @rule(call_id=CALLS, tag=st.none() | TAGS, delay=st.sampled_from([None, 0, 5]))
    def delete(self, call_id: str, tag: str | None, delay: int | None) -> None:
        keys = {"from_tag": tag, "delete_delay": delay}
        given = {key: value for key, value in keys.items() if value is not None}
        assert self.stage.command("delete", call_id=call_id, **given)["result"] == "ok"

    @rule(data=st.data())
    def packet(self, data: st.DataObject) -> None:
        ports = sorted(self.stage.plane.rules())
        if ports:
            self.stage.plane.arrive(data.draw(st.sampled_from(ports)), data.draw(ENDPOINTS))

    @rule(seconds=st.sampled_from([1, 20, 70, 4000]))
    def wait(self, seconds: int) -> None:
        self.stage.now += seconds
        self.stage.registry.tick(self.stage.now)

    @invariant()
    def nothing_is_booked_twice_or_leaks(self) -> None:
        if not hasattr(self, "stage"):
            return
        if self.stage.plane.limit is None:
            self.stage.check()
        registry = self.stage.registry
        assert registry.standing == sum(call.deleted is None for call in registry)
        assert self.stage.pool.drawn == sum(map(held, self.stage.members()))
        assert set(self.stage.plane.rules()) <= {local for call in self.stage.members() for local in reach(call)}

    def teardown(self) -> None:
        if not hasattr(self, "stage"):
            return
        for call_id in ("c1", "c2", "c3"):
            self.stage.command("delete", call_id=call_id)
        self.stage.now += 30
        self.stage.registry.tick(self.stage.now)
        assert len(self.stage.registry) == self.stage.pool.drawn == 0
        assert self.stage.plane.rules() == []


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
