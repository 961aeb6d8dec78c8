"""What one request asks for, typed."""

from __future__ import annotations

from control.sdp.model import BodyWishes, RewriteOptions, RtcpAttribute
from relay.call import DEFAULT_TOS, Signal
from relay.types import Learning

__all__ = ["Options"]

FINAL = 200
"""The lowest code of a final SIP response."""


class Options:
    """What one request asks for. Identification first, then what concerns media, then what concerns the reply.

    Few of them are given in any one request: the rest are the class's own, so that none is stored for each request.
    """

    sdp: str | bytes | None = None
    call_id: str | None = None
    from_tag: str | None = None
    to_tag: str | None = None
    via_branch: str | None = None
    label: str | None = None
    set_label: str | None = None
    """A label for the other party."""
    to_label: str | None = None
    address: str | None = None
    """IP address of a party's media or signalling, by which a command selects it."""
    whole_call: bool = False
    """A command concerns all parties, whoever is named (`all`)."""
    controller: str = ""
    """IP address of the proxy."""
    received_from: str | None = None
    """IP address the SIP message came from."""
    sip_code: int | None = None
    provisional: bool = False
    load_limit: bool = False
    """The controller understands `result: "load limit"` (`supports`)."""
    template: str | None = None
    """Name of a set of flags in the configuration."""
    callback: str | None = None
    """Where a media timeout is to be told (`xmlrpc-callback`)."""
    direction: tuple[str, ...] = ()
    """Names of the interfaces towards the sender and towards the other party; an empty one is not named."""
    family: int = 0
    """IP version of the relay's address towards the other party (`address-family`)."""
    tos: int = DEFAULT_TOS
    learning: Learning | None = None
    strict_source: bool = False
    media_handover: bool = False
    asymmetric: bool = False
    port_latching: bool = False
    sip_source: bool | None = None
    reset: bool = False
    new_branch: bool = False
    mux: tuple[str, ...] = ()
    """Words of `rtcp-mux`."""
    transport: str | None = None
    """`transport-protocol`: what the other party's m-lines are to say."""
    delete_delay: int | None = None
    match_to_tag: bool = False
    """A delete goes by the to-tag (flag `to-tag`)."""
    fatal: bool = False
    """A delete that finds no call is an error."""
    fast: bool = False
    """A delete is answered without counters."""
    full: bool = False
    """A report may be as long as a datagram can be."""
    limit: int = 32
    """Of a list."""
    fragment: bool = False
    """The body is a fragment of SDP with candidates (RFC 8840 section 9)."""
    loop_protect: bool = False
    replace_origin: bool = False
    zero_address: bool = False
    media_address: str | None = None
    remove_ice: bool = False
    original_direction: bool = False
    rtcp_attribute: RtcpAttribute = RtcpAttribute.PORT
    wishes: BodyWishes | None = None
    """What is asked of the body beside addresses and ports."""
    unserved: tuple[str, ...] = ()
    """What was asked for and is not done here, a sentence each."""
    unserved_keys: tuple[str, ...] = ()
    """The same, where media is secured."""
    ignored: int = 0
    """Keys and flags that meant nothing here."""

    def signal(self) -> Signal:
        """The part that concerns the media engine."""
        return Signal(
            self.received_from,
            self.sip_source,
            self.tos,
            self.strict_source,
            self.media_handover,
            self.asymmetric,
            self.port_latching,
            self.learning,
            self.direction,
            self.via_branch,
            self.label,
            self.set_label,
            self.family,
            self.mux,
            self.transport,
            self.reset,
            self.new_branch,
            self.provisional or (self.sip_code is not None and self.sip_code < FINAL),
            self.controller,
            self.callback,
        )

    def rewriting(self, loop_mark: str = "") -> RewriteOptions:
        """The part that concerns addresses, ports and order of the outgoing SDP; `loop_mark` is the relay's own."""
        return RewriteOptions(
            self.replace_origin,
            self.rtcp_attribute,
            self.original_direction,
            self.remove_ice,
            self.zero_address,
            self.media_address,
            loop_mark if self.loop_protect else None,
            self.call_id or "",
        )
