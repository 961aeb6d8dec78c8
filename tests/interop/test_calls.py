"""Calls through a real Kamailio, looked at after each step: media must get where the SDP says, and nowhere else."""

from __future__ import annotations

import pytest

from relay.types import Endpoint
from tests.handset import Handset
from tests.interop.stage import PROXY6, RELAY6, Call, Stage, held
from tests.line import carries, fax, relay_of, silent, talk
from tests.peers import SIP_PORT, Relay

on_both_planes = pytest.mark.parametrize("plane", ["xdp", "userspace"], scope="module")
ONE_FOR_ALL = "replace-origin"
ONE_FOR_EACH = "replace-origin via-branch=auto-next"
"""Flags by which all telephones that ring share the ports of a call, and by which each has its own."""

INSIDE = "192.168.77.7"
"""What a telephone behind NAT takes for its address; nothing leads there."""


def serve(stage: Stage, plane: str = "xdp", flags: str = ONE_FOR_ALL) -> Relay:
    """A relay and a Kamailio that serve both families."""
    relay = stage.relay(f"--interface={RELAY6}", f"--dataplane={plane}")
    stage.kamailio(relay.ng, addresses=(stage.proxy.ip, PROXY6), flags=flags)
    return relay


def sister(stage: Stage) -> Handset:
    """A second callee."""
    return stage.handset("sister", "10.99.0.6")


def modern(stage: Stage) -> Handset:
    """A telephone that knows IPv6 only."""
    return stage.handset("modern", "fd99::7", proxy=Endpoint(PROXY6, SIP_PORT))


def directions(relay: Relay) -> set[str]:
    """What an operator is shown of the directions of a relay's media."""
    shown = [relay.operator("show", call=call["call_id"])[0] for call in relay.operator("list")]
    return {media["direction"] for call in shown for leg in call["legs"] for media in leg["media"]}


@on_both_planes
def test_a_call_is_forwarded_both_ways_until_it_ends(stage: Stage, plane: str) -> None:
    serve(stage, plane)
    call = stage.call(stage.caller, stage.callee)
    talk(call.one, call.other)
    call.hang_up(back=True)


@pytest.mark.parametrize("back", [False, True], ids=["by the caller", "by the callee"])
def test_a_call_is_held_and_resumed(stage: Stage, back: bool) -> None:
    relay = serve(stage)
    call = stage.call(stage.caller, stage.callee)
    talk(call.one, call.other)
    before = call.one.towards, call.other.towards
    holding, held_line = (call.other, call.one) if back else (call.one, call.other)

    offered, answered = call.offer(
        holding.audio("sendonly", version=2), held_line.audio("recvonly", version=2), back=back
    )
    assert "a=sendonly\r\n" in offered
    assert "a=recvonly\r\n" in answered
    assert directions(relay) == {"sendonly", "recvonly"}
    carries(holding, held_line, holding.speech())
    silent(call.one, call.other)

    offered, answered = call.offer(holding.audio(version=3), held_line.audio(version=3), back=back)
    assert "a=sendrecv\r\n" in offered
    assert "a=sendrecv\r\n" in answered
    assert directions(relay) == {"sendrecv"}
    assert (call.one.towards, call.other.towards) == before
    talk(call.one, call.other)
    call.hang_up()


def test_a_call_is_held_by_an_address_of_zeros(stage: Stage) -> None:
    """RFC 2543's way; who is held learns nothing of it but that it is not to send."""
    serve(stage)
    call = stage.call(stage.caller, stage.callee)
    before = call.one.towards, call.other.towards
    offered, _ = call.offer(call.one.audio(version=2, ip="0.0.0.0"), call.other.audio("inactive", version=2))
    assert "c=IN IP4 0.0.0.0\r\n" in offered
    call.offer(call.one.audio(version=3), call.other.audio(version=3))
    assert (call.one.towards, call.other.towards) == before
    talk(call.one, call.other)
    call.hang_up()


@pytest.mark.parametrize("host", ["caller", "sister"])
def test_a_caller_moves_to_another_place(stage: Stage, host: str) -> None:
    """As its own address changes, or as it is transferred to another telephone."""
    serve(stage)
    call = stage.call(stage.caller, stage.callee)
    talk(call.one, call.other)
    left, call.one = call.one, stage.line(stage.caller if host == "caller" else sister(stage))
    call.offer(call.one.audio(version=2), call.other.audio())
    talk(call.one, call.other, left)
    call.hang_up()


@on_both_planes
def test_a_caller_behind_nat_is_found_by_its_first_packets(stage: Stage, plane: str) -> None:
    serve(stage, plane)
    call = stage.call(stage.caller, stage.callee, ip=INSIDE)
    talk(call.one, call.other)
    call.hang_up()


def test_a_caller_behind_nat_is_found_by_its_signalling(stage: Stage) -> None:
    """It need not speak first, as its NAT keeps ports."""
    serve(stage, flags=f"{ONE_FOR_ALL} SIP-source-address")
    call = stage.call(stage.caller, stage.callee, ip=INSIDE)
    carries(call.other, call.one, call.other.speech())
    talk(call.one, call.other)
    call.hang_up()


@on_both_planes
@pytest.mark.parametrize("back", [False, True], ids=["by the caller", "by the callee"])
def test_a_call_becomes_a_fax_and_a_call_again(stage: Stage, plane: str, back: bool) -> None:
    serve(stage, plane)
    call = stage.call(stage.caller, stage.callee)
    talk(call.one, call.other)
    asking, asked = (call.other, call.one) if back else (call.one, call.other)

    for description in call.offer(asking.fax(), asked.fax(), back=back):
        assert " udptl t38\r\n" in description
        assert "a=T38FaxUdpEC:t38UDPRedundancy\r\n" in description
        assert "a=rtcp" not in description
    fax(call.one, call.other)

    call.offer(asking.audio(version=3), asked.audio(version=3), back=back)
    talk(call.one, call.other)
    call.hang_up()


def test_a_fax_machine_with_ports_of_its_own_for_it(stage: Stage) -> None:
    """Both sides take the fax elsewhere than they talked, and go back."""
    serve(stage)
    call = stage.call(stage.caller, stage.callee)
    talk(call.one, call.other)
    talking = call.one, call.other
    call.one, call.other = stage.line(stage.caller), stage.line(stage.callee)
    call.offer(call.other.fax(), call.one.fax(), back=True)
    fax(call.one, call.other)
    silent(*talking)
    call.one, call.other = talking
    call.offer(call.other.audio(version=3), call.one.audio(version=3), back=True)
    talk(call.one, call.other)
    call.hang_up()


def test_a_call_goes_on_where_a_fax_is_refused(stage: Stage) -> None:
    serve(stage)
    call = stage.call(stage.caller, stage.callee)
    talk(call.one, call.other)
    call.refused(stage.line(stage.callee).fax(), back=True)
    talk(call.one, call.other)
    call.hang_up()


@pytest.mark.parametrize("flags", [ONE_FOR_ALL, ONE_FOR_EACH], ids=["shared ports", "branches"])
def test_two_telephones_ring_and_one_answers(stage: Stage, flags: str) -> None:
    serve(stage, flags=flags)
    for handset in (stage.callee, sister(stage)):
        handset.login(f"sip:desk@{stage.proxy}")
    call = Call(stage, stage.caller, stage.callee, f"sip:desk@{stage.proxy}")
    rings, offer = sister(stage).invited(call.first.call_id)
    line = stage.line(sister(stage))
    line.follow(offer)
    assert (line.towards == call.other.towards) is (flags == ONE_FOR_ALL)
    for second in (call.second, rings):
        second.order("RING")
        call.first.expect("180")
    call.answer()
    rings.expect("CANCEL")
    talk(call.one, call.other, line)
    call.hang_up()


def test_one_telephone_declines_and_the_other_answers(stage: Stage) -> None:
    serve(stage)
    for handset in (stage.callee, sister(stage)):
        handset.login(f"sip:desk@{stage.proxy}")
    call = Call(stage, stage.caller, stage.callee, f"sip:desk@{stage.proxy}")
    rings, _ = sister(stage).invited(call.first.call_id)
    rings.order("DECLINE")
    rings.expect("ACK")
    call.answer()
    talk(call.one, call.other)
    call.hang_up()


@pytest.mark.parametrize("answers", ["callee", "modern"])
def test_telephones_of_both_families_ring_and_one_answers(stage: Stage, answers: str) -> None:
    relay = serve(stage, flags=ONE_FOR_EACH)
    desk = {"callee": stage.callee, "modern": modern(stage)}
    for handset in desk.values():
        handset.login(f"sip:desk@{handset.proxy}")
    call = Call(stage, stage.caller, desk.pop(answers), f"sip:desk@{stage.proxy}")
    (other,) = desk.values()
    rings, offer = other.invited(call.first.call_id)
    line = stage.line(other)
    line.follow(offer)
    assert {relay_of(call.other), relay_of(line)} == {relay.ng.ip, RELAY6}
    call.answer()
    rings.expect("CANCEL")
    talk(call.one, call.other, line)
    call.hang_up()


def test_early_media_of_one_telephone_gives_way_to_the_one_that_answers(stage: Stage) -> None:
    serve(stage, flags=ONE_FOR_EACH)
    for handset in (stage.callee, sister(stage)):
        handset.login(f"sip:desk@{stage.proxy}")
    call = Call(stage, stage.caller, stage.callee, f"sip:desk@{stage.proxy}")
    rings, offer = sister(stage).invited(call.first.call_id)
    line = stage.line(sister(stage))
    line.follow(offer)
    rings.order("PROGRESS", line.audio())
    call.one.follow(call.first.expect("183"))
    carries(line, call.one, line.speech())
    call.answer()
    rings.expect("CANCEL")
    talk(call.one, call.other, line)
    call.hang_up()


@pytest.mark.parametrize("flags", [ONE_FOR_ALL, ONE_FOR_EACH], ids=["shared ports", "branches"])
def test_a_caller_gives_up_while_two_telephones_ring(stage: Stage, flags: str) -> None:
    relay = serve(stage, flags=flags)
    for handset in (stage.callee, sister(stage)):
        handset.login(f"sip:desk@{stage.proxy}")
    call = Call(stage, stage.caller, stage.callee, f"sip:desk@{stage.proxy}")
    rings, _ = sister(stage).invited(call.first.call_id)
    for second in (call.second, rings):
        second.order("RING")
        call.first.expect("180")
    assert held(relay) != (0, 0, 0)
    call.first.order("GIVEUP")
    for second in (call.second, rings):
        second.expect("CANCEL")
    call.first.expect("487")


@on_both_planes
def test_a_caller_of_ipv4_talks_to_a_callee_of_ipv6(stage: Stage, plane: str) -> None:
    relay = serve(stage, plane)
    call = stage.call(stage.caller, modern(stage))
    assert (relay_of(call.one), relay_of(call.other)) == (relay.ng.ip, RELAY6)
    talk(call.one, call.other)
    call.offer(call.other.audio("sendonly", version=2), call.one.audio("recvonly", version=2), back=True)
    carries(call.other, call.one, call.other.speech())
    call.offer(call.one.fax(), call.other.fax(version=3))
    fax(call.one, call.other)
    call.offer(call.one.audio(version=3), call.other.audio(version=4))
    talk(call.one, call.other)
    call.hang_up()


def test_a_caller_of_ipv6_talks_to_a_callee_of_ipv4(stage: Stage) -> None:
    relay = serve(stage)
    call = stage.call(modern(stage), stage.callee)
    assert (relay_of(call.one), relay_of(call.other)) == (RELAY6, relay.ng.ip)
    talk(call.one, call.other)
    call.hang_up(back=True)


@on_both_planes
def test_a_call_that_an_operator_terminates_is_forwarded_no_more(stage: Stage, plane: str) -> None:
    """Its packets meet a closed port, and the telephones' BYE finds no call."""
    relay = serve(stage, plane)
    call = stage.call(stage.caller, stage.callee)
    talk(call.one, call.other)
    relay.operator("terminate", call=call.first.call_id)
    call.one.send(call.one.speech())
    silent(call.one, call.other)
    call.hang_up()
