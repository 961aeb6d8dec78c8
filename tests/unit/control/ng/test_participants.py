"""Whom a command means, and what becomes of the media of those it means."""

from __future__ import annotations

from typing import Any

import pytest

from relay.call import Signal
from relay.types import Carries, Treatment
from tests.calls import Stage

COMMANDS = {"media": Treatment.BLOCK, "DTMF": Treatment.BLOCK_EVENTS}


@pytest.fixture
def stage() -> Stage:
    """A call of alice, labelled caller, and bob, labelled callee."""
    stage = Stage()
    stage.offer(signal=Signal(label="caller"))
    stage.answer(signal=Signal(label="callee"))
    return stage


def treated(stage: Stage) -> tuple[Treatment, Treatment]:
    """What becomes of the RTP of alice and of bob."""
    return tuple(stage.plane.installed[port].treatment for port in stage.ports())  # type: ignore[return-value]


BOTH, ALICE, BOB, NONE = (True, True), (True, False), (False, True), (False, False)


@pytest.mark.parametrize(
    ("keys", "whom"),
    [
        ({}, BOTH),
        ({"from_tag": "alice"}, ALICE),
        ({"from_tag": "alice", "flags": ["directional"]}, ALICE),
        ({"from_tag": "bob"}, BOB),
        ({"from_tag": "bob", "flags": "all"}, BOTH),
        ({"from_tag": "bob", "all": "all"}, BOTH),
        ({"label": "callee"}, BOB),
        ({"from_label": "caller"}, ALICE),
        ({"address": "203.0.113.20"}, BOB),
        ({"label": "callee", "from_tag": "alice"}, BOB),
        ({"to_tag": "bob"}, ALICE),
        ({"to_label": "caller"}, BOB),
        ({"from_tag": "alice", "to_tag": "bob"}, ALICE),
    ],
)
def test_a_command_means_whom_it_names(stage: Stage, keys: dict[str, Any], whom: tuple[bool, bool]) -> None:
    assert stage.command("block media", call_id="c1", **keys) == {"result": "ok"}
    assert tuple(one is Treatment.BLOCK for one in treated(stage)) == whom
    assert stage.command("unblock media", call_id="c1", **keys) == {"result": "ok"}
    assert treated(stage) == (Treatment.PASS, Treatment.PASS)


@pytest.mark.parametrize(
    ("command", "treatment"),
    [
        ("block media", Treatment.BLOCK),
        ("silence media", Treatment.SILENCE),
        ("block DTMF", Treatment.BLOCK_EVENTS),
        ("block_dtmf", Treatment.BLOCK_EVENTS),
        ("silence-media", Treatment.SILENCE),
    ],
)
def test_each_command_has_its_effect_and_its_end(stage: Stage, command: str, treatment: Treatment) -> None:
    stage.command(command, call_id="c1", from_tag="alice")
    assert treated(stage) == (treatment, Treatment.PASS)
    stage.command(f"un{command}", call_id="c1", from_tag="alice")
    assert treated(stage) == (Treatment.PASS, Treatment.PASS)


def test_rtcp_passes_where_media_is_blocked(stage: Stage) -> None:
    stage.command("block media", call_id="c1")
    rules = stage.plane.installed.values()
    assert {rule.treatment for rule in rules if rule.carries is Carries.RTCP} == {Treatment.PASS}


@pytest.mark.parametrize(
    "keys",
    [
        {"from_tag": "mallory"},
        {"label": "mallory"},
        {"address": "198.51.100.99"},
        {"address": "nonsense"},
        {"to_tag": "mallory"},
        {"to_label": "mallory"},
        {"to_tag": "m" * 10_000},
    ],
)
def test_who_is_not_in_the_call_is_named(stage: Stage, keys: dict[str, str]) -> None:
    reply = stage.command("block media", call_id="c1", **keys)
    assert reply["result"] == "error"
    (name,) = keys.values()
    assert name[:60] in reply["error-reason"]
    assert len(reply["error-reason"]) < 200
    assert treated(stage) == (Treatment.PASS, Treatment.PASS)


def test_commands_need_a_call(stage: Stage) -> None:
    assert stage.command("block media")["error-reason"] == "No call-id in message"
    assert stage.command("block media", call_id="c2")["error-reason"] == "Unknown call-id"


def test_the_other_party_of_the_receiver_may_have_no_tag_yet() -> None:
    stage = Stage()
    stage.offer()
    reply = stage.command("block media", call_id="c1", to_tag="alice")
    assert reply["error-reason"] == "The other party has not answered, so that it has no tag: name it by its address"
    stage.offer(signal=Signal(label="caller"))
    assert stage.command("block media", call_id="c1", from_tag="alice") == {"result": "ok"}
    assert treated(stage) == (Treatment.BLOCK, Treatment.PASS)
