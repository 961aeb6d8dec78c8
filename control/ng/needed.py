"""What a request cannot do without: the value, or the error that names what lacks."""

from __future__ import annotations

from control.ng.flags import Options
from relay.errors import HairpinError

__all__ = ["CommandError", "call_id", "from_tag", "sdp", "to_tag"]


class CommandError(HairpinError):
    """A request that lacks something; the text is the reply's error-reason."""


def call_id(options: Options) -> str:
    """The Call-ID a command is about."""
    if options.call_id is None:
        raise CommandError("No call-id in message")
    return options.call_id


def from_tag(options: Options) -> str:
    """The tag of the party that sent the SIP request."""
    if options.from_tag is None:
        raise CommandError("No from-tag in message")
    return options.from_tag


def to_tag(options: Options) -> str:
    """The tag of the party that answered it."""
    if options.to_tag is None:
        raise CommandError("No to-tag in message")
    return options.to_tag


def sdp(options: Options) -> str | bytes:
    """The SDP body, possibly an empty one."""
    if options.sdp is None:
        raise CommandError("No SDP body in message")
    return options.sdp
