"""Random commands in any order: ports, rules and calls agree after each, and nothing is left when all has ended.

A partner and a restart may take each call from its snapshot at any time, also one that is older than what stands there.
"""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from relay import flows, snapshot
from relay.call import Call, Media, Signal, Who
from relay.errors import HairpinError
from relay.registry import MAX_BRANCHES, Outcome
from relay.types import Carries, Direction, Endpoint, Learning, LocalMedia, MediaDescription, Treatment
from tests.calls import Stage, audio, two_families
from tests.keeping import OFFSET, copied, written

TAGS = st.sampled_from(["alice", "bob", "carol", "dave"])
CALLS = st.sampled_from(["c1", "c2"])
ENDPOINTS = st.builds(
    Endpoint,
    st.sampled_from(["198.51.100.1", "198.51.100.2", "192.0.2.1", "127.0.0.1", "2001:db8:1::1", "2001:db8::1"]),
    st.sampled_from([30000, 30002, 30004, 30006, 4000, 5000]),
)
KINDS = (
    *(("audio", protocol) for protocol in ("RTP/AVP", "RTP/AVPF", "RTP/SAVP", "UDP/TLS/RTP/SAVPF")),
    *(("video", "RTP/AVP"), ("image", "udptl"), ("message", "TCP/MSRP")),
)
LINES = st.lists(
    st.builds(
        lambda kind, endpoint, mux, direction, held, rejected: audio(
            endpoint, kind=kind[0], protocol=kind[1], mux=mux, direction=direction, held=held, rejected=rejected
        ),
        st.sampled_from(KINDS),
        ENDPOINTS,
        st.booleans(),
        st.sampled_from(Direction),
        st.sampled_from([False, False, True]),
        st.sampled_from([False, False, True]),
    ),
    max_size=3,
)


def signalled(given: dict[str, Any]) -> Signal:
    return Signal(**given)


SIGNALS = st.fixed_dictionaries(
    {},
    optional={
        "received_from": st.sampled_from([None, "198.51.100.1", "2001:db8:1::1"]),
        "sip_source": st.booleans(),
        "strict_source": st.booleans(),
        "port_latching": st.booleans(),
        "learning": st.sampled_from([None, Learning.OFF]),
        "direction": st.sampled_from([(), (), ("inner", "default"), ("base", "base"), ("default", "nowhere")]),
        "via_branch": st.sampled_from([None, None, "b1", "b2", "b3"]),
        "label": st.sampled_from([None, "x"]),
        "family": st.sampled_from([0, 0, 4, 6]),
        "mux": st.sampled_from(
            [(), (), ("offer",), ("require",), ("demux",), ("accept",), ("reject",), ("offer", "reject")]
        ),
        "transport": st.sampled_from([None, None, "RTP/AVPF", "RTP/SAVP"]),
        "reset": st.sampled_from([False, False, False, True]),
        "new_branch": st.booleans(),
        "provisional": st.booleans(),
    },
).map(signalled)
EXPECTED = (
    "Unknown call-id",
    "Invalid dialogue association",
    "Ran out of ports",
    "port 3",
    "Parallel session limit reached",
    "No party of the call has the tag",
    "No party of the call has the label x",
    "no room for",
    f"Too many branches of a call, {MAX_BRANCHES} stand",
)


def held(call: Call) -> int:
    """Pairs a call has drawn and not given back."""
    return len(call.freed) + len(call.pairs())


def reach(call: Call) -> set[Endpoint]:
    """Ports that may have a rule of this call."""
    return {*call.rules, *(one.local for one in call.unsure)}


def in_force(call: Call) -> set[Endpoint]:
    """Ports of lines as they were answered last: an offer takes none of them away."""
    return {
        local
        for mine, _ in call.sides()
        if mine.line.answered
        for local in (kept(mine) if mine.line.held is not None else [stream.local for stream in mine.streams])
        if local is not None and local in call.rules
    }


def kept(media: Media) -> list[Endpoint]:
    """Ports that a re-offer leaves in force."""
    return [rule.local for rules in media.line.held.rules for rule in rules] if media.line.held is not None else []


def restored(stage: Stage, call_id: str) -> list[Call]:
    """A call read from its snapshot."""
    return stage.registry.read(written(stage, call_id), OFFSET, lambda memory: memory, stage.now)


def unaware(rules: flows.Rules) -> flows.Rules:
    """Rules without the sources that were found so far."""
    return {local: rule._replace(known_source=None) for local, rule in rules.items()}


def _branches(members: list[Call], stage: Stage) -> list[list[object]]:
    """What is written of branches, but for what their ports have counted, which stands behind all else."""
    data = snapshot.encode(members, stage.plane, OFFSET, lambda memory: memory)
    return [branch[:-1] for branch in orjson.loads(data)[3]]


class Calls(RuleBasedStateMachine):
    """Few ports, few tags, few calls, so that they meet."""

    @initialize(pairs=st.sampled_from([3, 8, 40]), sessions=st.sampled_from([-1, 1]), limit=st.sampled_from([None, 9]))
    def begin(self, pairs: int, sessions: int, limit: int | None) -> None:
        self.settings = pairs, limit, sessions
        self.stage, self.partner = self._relay(), self._relay()

    def _relay(self) -> Stage:
        pairs, limit, sessions = self.settings
        return two_families(pairs, limit, max_sessions=sessions)

    @rule(call_id=CALLS, tags=st.tuples(TAGS, st.none() | TAGS), lines=LINES, signal=SIGNALS)
    def offer(self, call_id: str, tags: tuple[str, str | None], lines: list[MediaDescription], signal: Signal) -> None:
        before = {id(call): in_force(call) for call in self.stage.members()}
        try:
            outcome = self.stage.offer(lines, signal, call_id, tags)
        except HairpinError as error:
            self._is_expected(error)
            return
        if self.stage.plane.limit is None:
            assert before.get(id(outcome.call), set()) <= set(self.stage.plane.rules())
        self._shows(outcome, lines)

    @rule(call_id=CALLS, tags=st.tuples(TAGS, TAGS), lines=LINES, signal=SIGNALS)
    def answer(self, call_id: str, tags: tuple[str, str], lines: list[MediaDescription], signal: Signal) -> None:
        try:
            outcome = self.stage.answer(lines, signal, call_id, tags)
        except HairpinError as error:
            self._is_expected(error)
            return
        assert all(media.line.held is None for leg in outcome.call.legs for media in leg.medias)
        self._shows(outcome, lines)

    def _is_expected(self, error: HairpinError) -> None:
        assert str(error).startswith(EXPECTED), error

    def _shows(self, outcome: Outcome, lines: list[MediaDescription]) -> None:
        """What is shown has a rule in force, on a port that the report knows, in the family it is asked in."""
        assert len(outcome.media) == len(lines)
        assert outcome.call in self.stage.members()
        known = {(stream.local, media.index) for media, stream in outcome.call.streams()}
        for index, (shown, line) in enumerate(zip(outcome.media, lines, strict=True)):
            if line.kind == "message" or shown.rtp is None:
                assert shown.rtp is None or shown.rtp == line.rtp
                continue
            assert not line.rejected
            assert (shown.rtp, index) in known
            assert shown.rtp in self.stage.plane.installed
            assert shown.rtcp in (None, shown.rtp, Endpoint(shown.rtp.ip, shown.rtp.port + 1))
            if outcome.far.medias[index].line.held is None:
                self._takes_rtcp(shown)

    def _takes_rtcp(self, shown: LocalMedia) -> None:
        """Where RTCP is to go, and where it may go, it is taken for RTCP."""
        installed = self.stage.plane.installed
        assert shown.rtp is not None
        assert shown.rtcp is None or Carries.RTCP in installed[shown.rtcp].carries
        assert not shown.rtcp_mux or Carries.RTCP in installed[shown.rtp].carries

    @rule(
        call_id=CALLS,
        tag=st.none() | TAGS,
        to_tag=st.none() | TAGS,
        branch=st.sampled_from([None, "b1", "b2", "b9"]),
        delay=st.sampled_from([None, 0, 5]),
        by_to_tag=st.booleans(),
    )
    def delete(
        self, call_id: str, tag: str | None, to_tag: str | None, branch: str | None, delay: int | None, by_to_tag: bool
    ) -> None:
        known = self.stage.registry.find(call_id)
        found = self.stage.delete(
            call_id, from_tag=tag, to_tag=to_tag, via_branch=branch, match_to_tag=by_to_tag, delay=delay
        )
        assert (found is None) <= (known is None or tag is not None)
        if found is not None:
            assert found.deleted is not None
            self.stage.registry.finish(found, self.stage.now)

    @rule(
        call_id=CALLS,
        who=TAGS.map(lambda tag: Who(tag)) | st.sampled_from([Who(), Who(label="x"), Who(each=True)]),
        treatment=st.sampled_from([Treatment.BLOCK, Treatment.SILENCE, Treatment.BLOCK_EVENTS]),
        on=st.booleans(),
    )
    def treat(self, call_id: str, who: Who, treatment: Treatment, on: bool) -> None:
        try:
            call = self.stage.registry.treat(call_id, who, treatment, on, self.stage.now)
        except HairpinError as error:
            self._is_expected(error)
            return
        if on and who == Who(each=True):
            rules = [rule for member in call.members() for rule in member.rules.values() if Carries.RTP in rule.carries]
            assert all(rule.treatment is not Treatment.PASS for rule in rules)

    @rule(data=st.data())
    def packet(self, data: st.DataObject) -> None:
        ports = sorted(self.stage.plane.rules())
        if ports:
            self.stage.plane.arrive(data.draw(st.sampled_from(ports)), data.draw(ENDPOINTS))

    @rule(seconds=st.sampled_from([1, 20, 70, 4000]))
    def wait(self, seconds: int) -> None:
        self.stage.now += seconds
        self.stage.registry.tick(self.stage.now)

    @rule()
    def restart(self) -> None:
        before, self.stage = self.stage, self._relay()
        self.stage.now, self.stage.plane.limit = before.now, None
        for call in before.registry:
            copied(before, self.stage, call.call_id, foreign=call.deed.foreign)
        self.stage.plane.limit = self.settings[1]
        assert self.stage.drawn == before.drawn - sum(len(call.freed) for call in before.members())
        if self.settings[1] is None:
            assert unaware(self.stage.plane.installed) == unaware(before.plane.installed)

    @rule(call_id=CALLS, back=st.booleans())
    def replicate(self, call_id: str, back: bool) -> None:
        source, target = (self.partner, self.stage) if back else (self.stage, self.partner)
        target.now = max(source.now, target.now)
        if source.registry.find(call_id) is None:
            target.registry.forget(call_id, "ended elsewhere", target.now)
            return
        before = target.registry.find(call_id), dict(target.plane.installed), target.drawn
        try:
            copied(source, target, call_id, foreign=not back)
        except HairpinError as error:
            self._is_expected(error)
            assert before == (target.registry.find(call_id), target.plane.installed, target.drawn)

    @rule(call_id=CALLS, tags=st.tuples(TAGS, st.none() | TAGS), lines=LINES, signal=SIGNALS)
    def offer_at_the_partner(
        self, call_id: str, tags: tuple[str, str | None], lines: list[MediaDescription], signal: Signal
    ) -> None:
        try:
            self.partner.offer(lines, signal, call_id, tags)
        except HairpinError as error:
            self._is_expected(error)

    @invariant()
    def what_is_written_reads_back(self) -> None:
        for call in self.stage.registry if hasattr(self, "stage") else ():
            again = restored(self.stage, call.call_id)
            assert len(again) == len(call.members())
            for one, other in zip(call.members(), again, strict=True):
                assert unaware(flows.rules(one)) == unaware(flows.rules(other))
                assert one.pairs() == other.pairs()
            first, second = (_branches(one, self.stage) for one in (call.members(), again))
            assert first == second

    @invariant()
    def the_partners_books_balance(self) -> None:
        if hasattr(self, "partner") and self.partner.plane.limit is None:
            self.partner.check()

    @invariant()
    def nothing_is_booked_twice_or_leaks(self) -> None:
        if not hasattr(self, "stage"):
            return
        if self.stage.plane.limit is None:
            self.stage.check()
        registry = self.stage.registry
        assert registry.standing == sum(not call.over for call in registry)
        assert self.stage.drawn == sum(map(held, self.stage.members()))
        assert set(self.stage.plane.rules()) <= {local for call in self.stage.members() for local in reach(call)}

    @invariant()
    def the_query_agrees(self) -> None:
        for call in self.stage.registry if hasattr(self, "stage") else ():
            report = self.stage.command("query", call_id=call.call_id)
            counted = sum(self.stage.plane.packets(local) for one in call.members() for local in one.rules)
            counted += sum(one.gone_rtp.packets + one.gone_rtcp.packets for one in call.members())
            told = sum(report["totals"][part]["packets"] for part in ("RTP", "RTCP"))
            assert told == counted

    def teardown(self) -> None:
        if not hasattr(self, "stage"):
            return
        for stage in (self.stage, self.partner):
            for call_id in ("c1", "c2"):
                stage.command("delete", call_id=call_id)
            stage.now += 120
            stage.registry.tick(stage.now)
            assert len(stage.registry) == stage.drawn == 0
            assert stage.plane.rules() == []


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
