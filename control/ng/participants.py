"""Whom a command means: one party of a call, or all of them."""

from __future__ import annotations

from collections.abc import Sequence

from control.ng.flags import Options
from control.ng.needed import CommandError
from relay.call import Call, Leg, Who

__all__ = ["known_tag", "members_with", "selected"]

MAX_SHOWN = 64
"""Characters of a name that an error quotes."""


def known_tag(options: Options, members: Sequence[Call]) -> str | None:
    """The tag by which a query looks at a call: the to-tag rather than the from-tag, as far as the call knows it."""
    for tag in (options.to_tag, options.from_tag):
        if tag is not None and any(tag in call.tags for call in members):
            return tag
    return None


def members_with(members: Sequence[Call], tag: str) -> list[Call]:
    """The branches that the party of a tag is in."""
    return [call for call in members if tag in call.tags]


def selected(options: Options, members: Sequence[Call]) -> Who:
    """The party whose media a command is about: by its label, its address or its tag, whichever is given first.

    Where only the receiver is named (`to-tag`, `to-label`), it is who sends to it. Raises CommandError for a receiver
    that is not in the call.
    """
    if options.whole_call:
        return Who(each=True)
    receiver = options.to_tag is not None or options.to_label is not None
    sender = _opposite(options, members) if receiver else Who()
    if options.label is not None:
        return Who(label=options.label)
    if options.address is not None:
        return Who(address=options.address)
    return Who(tag=options.from_tag) if options.from_tag is not None else sender


def _opposite(options: Options, members: Sequence[Call]) -> Who:
    for call in members:
        first, second = call.legs
        for leg, other in ((first, second), (second, first)):
            if _is(leg, options):
                return _named(other)
    name = options.to_label if options.to_label is not None else options.to_tag or ""
    kind = "label" if options.to_label is not None else "tag"
    raise CommandError(f"No party of the call has the {kind} {name[:MAX_SHOWN]}")


def _is(leg: Leg, options: Options) -> bool:
    if options.to_label is not None:
        return leg.label == options.to_label
    return options.to_tag in leg.tags


def _named(leg: Leg) -> Who:
    if leg.tag:
        return Who(tag=leg.tag)
    if leg.label is not None:
        return Who(label=leg.label)
    raise CommandError("The other party has not answered, so that it has no tag: name it by its address")
