"""SDP: text to model, model to what the engine needs, model to text."""

from control.sdp.model import RewriteOptions, RtcpAttribute, SdpError, SessionDescription
from control.sdp.parse import describe, parse
from control.sdp.rewrite import rewrite

__all__ = [
    "RewriteOptions",
    "RtcpAttribute",
    "SdpError",
    "SessionDescription",
    "describe",
    "parse",
    "rewrite",
]
