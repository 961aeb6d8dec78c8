"""What a command says about a call beside its media, and which party it means."""

from __future__ import annotations

from typing import NamedTuple

from relay.types import Learning

MAX_SHOWN = 64
"""Characters of a name that an error quotes."""

__all__ = ["DEFAULT_TOS", "Signal", "Who"]

DEFAULT_TOS = 256
"""In `Signal.tos`: what the daemon was told."""


class Signal(NamedTuple):
    """What one offer or answer says about a call beside its media."""

    received_from: str | None = None
    """IP address the signalling came from."""
    sip_source: bool | None = None
    """Take `received_from` for the SDP's address (`SIP-source-address`), or do not (`trust-address`); None: as set."""
    tos: int = DEFAULT_TOS
    """The whole TOS byte; negative leaves each packet's own, 256 and above is the daemon's default."""
    strict_source: bool = False
    media_handover: bool = False
    asymmetric: bool = False
    """The sender's media comes from elsewhere than its SDP says: nothing is learned of it."""
    port_latching: bool = False
    learning: Learning | None = None
    direction: tuple[str, ...] = ()
    """Names of the interfaces towards the sender and towards the other party; an empty one asks for none."""
    via_branch: str | None = None
    label: str | None = None
    set_label: str | None = None
    """A label for the other party."""
    family: int = 0
    """IP version (4 or 6) of the relay's address towards the other party; 0 for that of the sender's media."""
    mux: tuple[str, ...] = ()
    """Words of `rtcp-mux`: offer, require, demux, accept, reject."""
    transport: str | None = None
    """`transport-protocol`: what the other party's m-lines are to say."""
    reset: bool = False
    """Learn anew where the sender's media comes from."""
    new_branch: bool = False
    """A to-tag that was never seen is another party, not another name of the one that was offered to."""
    provisional: bool = False
    """The answer is not final (`provisional`, or a SIP code below 200)."""
    controller: str = ""
    """IP address of the proxy that sent the command."""
    callback: str | None = None
    """Who is to be told if the call ends for want of media (`xmlrpc-callback`); opaque to relay."""


class Who(NamedTuple):
    """Which party of a call a command means, by one of these; none: all of the call."""

    tag: str | None = None
    label: str | None = None
    address: str | None = None
    """IP address of its media or signalling."""
    each: bool = False
    """With no party named: what was switched on for single parties goes off as well."""

    def __str__(self) -> str:
        """As an error says it, cut to a length that fits there."""
        for kind, name in (("tag", self.tag), ("label", self.label), ("address", self.address)):
            if name is not None:
                return f"{kind} {name[:MAX_SHOWN]}"
        return "call"
