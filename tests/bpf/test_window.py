"""The learning of the plane of sockets against the XDP program's: after any packets both expect and answer the same."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from relay.dataplane import abi, words
from relay.dataplane.userspace.window import WINDOW_SECONDS, State, Terms, Verdict, Window
from relay.types import Endpoint, Learning
from tests.bpf.switchboard import PORT_A, PORT_B, XDP_DROP, A, B, Switchboard, datagram
from tests.bpf.test_learning import PREFERRED, words_address

FLAGS = {
    Learning.DELAYED: abi.LEARN_DELAYED,
    Learning.IMMEDIATE: abi.LEARN_IMMEDIATE,
    Learning.HEURISTIC: abi.LEARN_HEURISTIC,
    Learning.OFF: abi.LEARN_OFF,
}
SOURCES = [Endpoint(ip, port) for ip in (A.ip, PREFERRED.ip, "192.0.2.202", "192.0.2.203") for port in (A.port, 4444)]
TIME, RENEW, MOVE = "time passes", "signalled again", "signalled elsewhere"
SIGNALLED = [A, Endpoint("192.0.2.202", 4444), None]

Step = Endpoint | str


@dataclass(frozen=True)
class Setting:
    """How the port of party A learns."""

    learning: Learning = Learning.DELAYED
    strict: bool = False
    handover: bool = False
    preferred: bool = True
    known: Endpoint | None = None


class Twins:
    """Port A in the program and as a window. The generation and the signalled address of A change together."""

    def __init__(self, board: Switchboard, setting: Setting) -> None:
        self.board = board
        self.setting = setting
        self.generation = 1
        self.signalled: Endpoint | None = A
        self.known = setting.known
        self.now = 50.0
        self.foreign = 0
        board.clear()
        self._signal()
        self.window = Window(self._terms())

    def step(self, step: Step) -> None:
        if isinstance(step, Endpoint):
            self._send(step)
        elif step == TIME:
            self.now += WINDOW_SECONDS
            self.board.end_window(PORT_A)
        else:
            self._renew(step == MOVE)

    def agree(self) -> None:
        standing, state = self.board.standing(PORT_A)
        assert (standing if state else None, state) == (self._standing(), int(self.window.state))
        assert self._answered() == (self.window.answer or self.known or self.signalled)
        assert self.board.cold(PORT_A)["foreign"] == self.foreign

    def _standing(self) -> Endpoint | None:
        return self.window.expected if self.window.state is not State.UNSEEN else None

    def _answered(self) -> Endpoint | None:
        """Where the program sends what arrives for A."""
        hot = self.board.rule(PORT_B)
        learned, signalled = int(hot["learned"]), int(hot["signalled"])
        current = learned >> 48 == signalled >> 48 and words.endpoint_of(learned)
        return current or words.endpoint_of(signalled)

    def _send(self, source: Endpoint) -> None:
        # A new tick, so that the rate and the budget of events stay out of it.
        self.board.refill(PORT_A)
        dropped = self.board.run(bytes(datagram(source, PORT_A))).verdict == XDP_DROP
        verdict = Verdict.TAKEN if self.window.takes(source) else self.window.judge(source, self.now)
        self.foreign += verdict is not Verdict.TAKEN
        assert dropped == (verdict is Verdict.MISMATCH)

    def _renew(self, move: bool) -> None:
        if move:
            self.signalled = SIGNALLED[(SIGNALLED.index(self.signalled) + 1) % len(SIGNALLED)]
        self.generation += 1
        self.known = None
        self.window.renew()
        self.window.terms = self._terms()
        self._signal()

    def _terms(self) -> Terms:
        setting = self.setting
        preferred = PREFERRED.ip if setting.preferred else None
        return Terms(setting.learning, self.signalled, preferred, setting.strict, setting.handover, self.known)

    def _signal(self) -> None:
        setting = self.setting
        flags = FLAGS[setting.learning]
        flags |= abi.STRICT if setting.strict else 0
        flags |= abi.HANDOVER if setting.handover else 0
        fixed = abi.FIXED if self.known else 0
        towards = self.known or self.signalled
        self.board.install(PORT_B, PORT_A, towards, B, flags, generations=(self.generation, 1))
        self.board.install(PORT_A, PORT_B, B, self.signalled, flags | fixed, generations=(1, self.generation))
        self.board.cold(PORT_A)["preferred"] = words_address(PREFERRED) if setting.preferred else 0


STEPS = st.lists(st.sampled_from([*SOURCES, TIME, RENEW, MOVE]), max_size=12)
SETTINGS = st.builds(
    Setting,
    learning=st.sampled_from(list(Learning)),
    strict=st.booleans(),
    handover=st.booleans(),
    preferred=st.booleans(),
    known=st.sampled_from([None, None, SOURCES[1], SOURCES[5]]),
)


@pytest.mark.fuzz
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(setting=SETTINGS, steps=STEPS)
@example(Setting(), [SOURCES[5], TIME, SOURCES[7], SOURCES[1], A])
@example(Setting(handover=True, known=SOURCES[5]), [A, SOURCES[5], SOURCES[7], RENEW, SOURCES[7]])
@example(Setting(Learning.OFF, strict=True), [A, MOVE, A, SOURCES[5], MOVE, A])
def test_the_windows_of_both_planes_agree(board: Switchboard, setting: Setting, steps: list[Step]) -> None:
    twins = Twins(board, setting)
    twins.agree()
    for step in steps:
        twins.step(step)
        twins.agree()
