"""Requests as the proxy sends them, and what is read from the replies."""

import pytest

from bench.calls import FLAGS, Call, CommandFailed, make_calls
from bench.flows import Flow
from relay.types import Endpoint

SESSION = b"v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\n"

FLAG_KEYS = ["ICE", "flags", "replace", "transport-protocol"]


def reply(sdp: bytes) -> bytes:
    return b"d3:sdp%d:%b6:result2:oke" % (len(sdp), sdp)


def a_call() -> Call:
    return Call(7, Endpoint("198.51.100.1", 10_000), Endpoint("203.0.113.1", 20_000))


def test_keys_stand_in_the_order_of_kamailio() -> None:
    assert list(a_call().request("offer")) == (
        ["supports", "sdp", *FLAG_KEYS, "call-id", "received-from", "from-tag", "command"]
    )
    assert list(a_call().request("answer"))[-3:] == ["from-tag", "to-tag", "command"]
    assert list(a_call().request("delete")) == (
        ["supports", *FLAG_KEYS, "call-id", "received-from", "from-tag", "command"]
    )


def test_what_is_asked_for_is_what_the_flags_say() -> None:
    request = a_call().request("offer")
    replaced = [f"replace-{word}" for word in request["replace"]]
    words = [*request["flags"], *replaced, f"ICE={request['ICE']}", request["transport-protocol"]]
    assert words == FLAGS.split()


def test_offer_and_answer_name_the_party_that_sent_them() -> None:
    call = a_call()
    assert "m=audio 10000 " in call.request("offer")["sdp"]
    assert call.request("answer")["received-from"] == ["IP4", "203.0.113.1"]
    assert call.request("offer")["from-tag"] == call.request("answer")["from-tag"] == call.request("delete")["from-tag"]


def test_a_named_interface_is_asked_for_on_both_sides() -> None:
    call = Call(7, Endpoint("198.51.100.1", 10_000), Endpoint("203.0.113.1", 20_000), "a1")
    assert call.request("offer")["direction"] == ["a1", "a1"]


def test_each_party_sends_to_the_port_it_was_told() -> None:
    call = a_call()
    call.take("offer", reply(SESSION))
    call.take("answer", reply(SESSION.replace(b"40000", b"40002")))
    assert call.flows() == [
        Flow(call.caller, Endpoint("192.0.2.1", 40_002)),
        Flow(call.callee, Endpoint("192.0.2.1", 40_000)),
    ]


def test_a_refused_command_is_named() -> None:
    with pytest.raises(CommandFailed, match=r"offer of call 7: .*Ran out of ports"):
        a_call().take("offer", b"d12:error-reason16:Ran out of ports6:result5:errore")


def test_an_unanswered_call_has_no_flows() -> None:
    with pytest.raises(CommandFailed, match="not answered"):
        a_call().flows()


def test_no_two_parties_share_an_endpoint() -> None:
    calls = make_calls(range(50_000), ["a0", "a1"])
    for side in ([call.caller for call in calls], [call.callee for call in calls]):
        assert len(set(side)) == 50_000
    assert {call.interface for call in calls} == {"a0", "a1"}
