"""Which call under a Call-ID a command means.

A proxy that forks may tell the branches apart (via-branch). Each then is a call of two legs with ports of its own, all
under one Call-ID and with the caller in each of them. A tag that was never seen is another name of a party that is
there: the same offer was answered by another of those it was forked to downstream. Where neither tag of an offer was
seen, they are the parties of another dialog: a B2BUA has sent the call on under its Call-ID.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.call import Call, Signal
from relay.errors import CallError

__all__ = ["answered", "deleted", "offered"]


def offered(head: Call, from_tag: str, to_tag: str | None, signal: Signal) -> tuple[Call, int] | None:
    """The call that an offer belongs to and the leg that speaks; None for a branch, or two parties, never seen."""
    members, branch = head.members(), signal.via_branch
    if to_tag is not None and (spoken_to := _with(members, to_tag)):
        call = _current(_with(spoken_to, from_tag) or spoken_to)
        return call, _speaker(call, from_tag, to_tag)
    if branch is not None:
        for member in members:
            if member.branch == branch:
                return member, _speaker(member, from_tag, None)
    known = _with(members, from_tag)
    if not known:
        return None
    call = _current(known)
    number = call.tags[from_tag]
    if number == 0 and to_tag is None and branch is not None:
        unnamed = [member for member in known if member.branch is None]
        if not unnamed:
            return None
        call = unnamed[0]
        call.branch = branch
    if number == 0 and to_tag is not None and signal.new_branch:
        return None
    return call, number


def answered(head: Call, from_tag: str, to_tag: str, signal: Signal) -> tuple[Call, int] | None:
    """The call that an answer belongs to and the leg that answers; None for a branch that was never seen.

    Raises CallError where neither tag belongs to the call.
    """
    if head.fork is None and from_tag in head.tags and not signal.new_branch:
        return head, 1 - head.tags[from_tag]
    members = head.members()
    if answerer := _with(members, to_tag):
        call = _current(_with(answerer, from_tag) or answerer)
        return call, 1 - call.tags[from_tag] if from_tag in call.tags else call.tags[to_tag]
    known = _with(members, from_tag)
    if not known:
        raise CallError("Invalid dialogue association")
    waiting = [member for member in known if not member.legs[1 - member.tags[from_tag]].tags]
    named = [member for member in known if signal.via_branch is not None and member.branch == signal.via_branch]
    if signal.new_branch and not waiting:
        return None
    call = named[0] if named else waiting[-1] if waiting else _current(known)
    return call, 1 - call.tags[from_tag]


def deleted(
    head: Call, from_tag: str | None, to_tag: str | None, via_branch: str | None, match_to_tag: bool
) -> list[Call]:
    """The calls that a delete means.

    An unknown branch with a known tag means all that the tag's party is in: the BYE of a call has another branch than
    its INVITE. Who hangs up in the branch that talks ends its sisters too: no proxy deletes those that it cancelled.
    """
    members = head.members()
    if from_tag is None or (head.fork is None and to_tag is None and from_tag in head.tags):
        return members
    branch = [member for member in members if via_branch is not None and member.branch == via_branch]
    if branch and to_tag is None:
        return branch
    tag = to_tag if match_to_tag and to_tag is not None else from_tag
    found = _with(members, tag) or branch
    if not found and tag is not from_tag:
        found = [call for call in _with(members, from_tag) if not call.legs[1 - call.tags[from_tag]].tags]
    talking = _current(members)
    if tag is from_tag and talking.answered and talking in found:
        return _with(members, talking.legs[0].tag)
    return found


def _with(members: Sequence[Call], tag: str) -> list[Call]:
    """The calls that a tag's party is in."""
    return [member for member in members if tag in member.tags]


def _speaker(call: Call, from_tag: str, to_tag: str | None) -> int:
    """The leg that offers. A tag that was never seen is another name of the party that is not spoken to."""
    if from_tag in call.tags:
        return call.tags[from_tag]
    return 1 - call.tags[to_tag] if to_tag is not None and to_tag in call.tags else 0


def _current(members: Sequence[Call]) -> Call:
    """Of several branches the one that stands and was answered last."""
    if len(members) == 1:
        return members[0]
    return max(reversed(members), key=lambda call: (call.deleted is None, call.answered, call.last_signal))
