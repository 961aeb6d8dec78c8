"""What sipp plays as the two telephones of a recording: scenarios put together from their messages.

A caller's injection file has the flags for the relay in its first field, and one attribute of its media in the second.
"""

from __future__ import annotations

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<scenario name="{}">\n'
_BODY = """
      v=0
      o={user} 1 {version} IN IP4 [local_ip]
      s=-
      c=IN IP4 [local_ip]
      t=0 0
      m=audio {port} RTP/AVP {formats}
      a=rtpmap:0 PCMU/8000
      a=rtpmap:8 PCMA/8000
      a=rtpmap:101 telephone-event/8000
      a=fmtp:101 0-15
      a=ptime:20
      {more}
"""
_REQUEST = """
      {method} {uri} SIP/2.0
      Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
      {routes}From: <sip:caller@[local_ip]>;tag=caller
      To: <sip:callee@[callee]>{to}
      Call-ID: [call_id]
      CSeq: {number} {method}
      Contact: <sip:caller@[local_ip]:[local_port]>
      Max-Forwards: 70
      X-Media-Flags: [field0]
"""
_REPLY = """
      SIP/2.0 {status}
      [last_Via:]
      [last_Record-Route:]
      [last_From:]
      [last_To:]{to}
      [last_Call-ID:]
      [last_CSeq:]
      Contact: <sip:callee@[local_ip]:[local_port]>
"""
_SDP = "      Content-Type: application/sdp\n      Content-Length: [len]\n"
_EMPTY = "      Content-Length: 0\n\n"


def _send(text: str, again: bool = False) -> str:
    retrans = ' retrans="500"' if again else ""
    return f"  <send{retrans}><![CDATA[{text}    ]]></send>\n"


def _receive(what: str, more: str = "") -> str:
    kind = "response" if what.isdecimal() else "request"
    return f'  <recv {kind}="{what}"{more}/>\n'


_OPTIONAL, _ROUTES = ' optional="true"', ' rrs="true"'


def _request(method: str, number: int, body: str = "") -> str:
    inside = number > 1 or method == "ACK"
    head = _REQUEST.format(
        method=method,
        number=number,
        uri="[next_url]" if inside else "sip:callee@[callee]:5060",
        routes="[routes]\n      " if inside else "",
        to="[peer_tag_param]" if inside else "",
    )
    return _send(head + (_SDP + body if body else _EMPTY), again=method != "ACK")


def _reply(status: str, body: str = "", to: str = "") -> str:
    return _send(_REPLY.format(status=status, to=to) + (_SDP + body if body else _EMPTY))


def _offer(version: int, more: str, port: int = 20000) -> str:
    return _BODY.format(user="caller", version=version, port=port, formats="0 8 101", more=more)


def _answer(more: str = "a=sendrecv", port: int = 22000, version: int = 1) -> str:
    return _BODY.format(user="callee", version=version, port=port, formats="8 101", more=more)


def _ringing(more: str) -> str:
    return "".join(_receive(code, _OPTIONAL) for code in ("100", "180", "183")) + _receive("200", more)


_INVITED = _request("INVITE", 1, _offer(1, "a=[field1]")) + _ringing(_ROUTES) + _request("ACK", 1)
_PAUSE = '  <pause milliseconds="100"/>\n'
_HELD = (
    _request("INVITE", 2, _offer(2, "a=sendonly")) + _receive("100", _OPTIONAL) + _receive("200") + _request("ACK", 2)
)
_MOVED = (
    _request("INVITE", 3, _offer(3, "a=sendrecv", 20400))
    + _receive("100", _OPTIONAL)
    + _receive("200")
    + _request("ACK", 3)
)
_GONE = _request("BYE", 4) + _receive("200")
_GIVEN_UP = """
      {method} sip:callee@[callee]:5060 SIP/2.0
      Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch-{back}]
      From: <sip:caller@[local_ip]>;tag=caller
      To: <sip:callee@[callee]>{to}
      Call-ID: [call_id]
      CSeq: 1 {method}
      Max-Forwards: 70
      Content-Length: 0

"""
"""CANCEL and its ACK have the branch of the INVITE, which was so many steps back."""

CALLERS = {
    "call": _INVITED + _PAUSE + _GONE,
    "re-INVITE": _INVITED + _PAUSE + _HELD + _PAUSE + _MOVED + _PAUSE + _GONE,
    "early media": _INVITED + _PAUSE + _GONE,
    "CANCEL": _request("INVITE", 1, _offer(1, "a=[field1]"))
    + _receive("100", _OPTIONAL)
    + _receive("180")
    + _PAUSE
    + _send(_GIVEN_UP.format(method="CANCEL", back=4, to=""), again=True)
    + _receive("200")
    + _receive("487")
    + _send(_GIVEN_UP.format(method="ACK", back=7, to="[peer_tag_param]")),
}
"""Scenarios of the caller, by what happens in them."""

_TAG = ";tag=callee"
_TAKEN = _receive("INVITE", _ROUTES) + _reply("180 Ringing", to=_TAG) + _reply("200 OK", _answer(), _TAG)
_TAKEN_EARLY = (
    _receive("INVITE", _ROUTES)
    + _reply("183 Session Progress", _answer(), _TAG)
    + _PAUSE
    + _reply("200 OK", _answer(), _TAG)
)
_LEFT = _receive("BYE") + _reply("200 OK")

CALLEES = {
    "call": _TAKEN + _receive("ACK") + _LEFT,
    "re-INVITE": _TAKEN
    + _receive("ACK")
    + _receive("INVITE")
    + _reply("200 OK", _answer("a=recvonly", version=2))
    + _receive("ACK")
    + _receive("INVITE")
    + _reply("200 OK", _answer(version=3))
    + _receive("ACK")
    + _LEFT,
    "early media": _TAKEN_EARLY + _receive("ACK") + _LEFT,
    "CANCEL": _receive("INVITE", _ROUTES)
    + _reply("180 Ringing", to=_TAG)
    + _receive("CANCEL")
    + _reply("200 OK")
    + _send(_REPLY.format(status="487 Request Terminated", to=_TAG).replace("[last_CSeq:]", "CSeq: 1 INVITE") + _EMPTY)
    + _receive("ACK"),
}


def scenario(name: str, steps: str) -> str:
    """A scenario as sipp reads it."""
    return _HEAD.format(name) + steps + "</scenario>\n"
