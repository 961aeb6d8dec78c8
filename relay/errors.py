"""Errors of the media engine.

HairpinError
 +- DataplaneError      the data plane cannot be had: says what is missing and what to do
 +- PortsExhausted      no free pair of ports is left on an address
 +- PortsTaken          a pair that a call brings with it cannot be had here
 +- SnapshotError       bytes that are no call, or one that cannot stand here
 +- CallError           a command that does not fit the call; its text is the reply's error-reason
     +- UnknownCall
"""

from __future__ import annotations


class HairpinError(Exception):
    """Base of all errors this project raises on purpose."""


class DataplaneError(HairpinError):
    """The data plane cannot be had here. The text names the thing that is missing and what to do about it."""


class PortsExhausted(HairpinError):
    """No free pair of ports is left. The text is compared to the letter by Kamailio."""

    def __init__(self) -> None:
        super().__init__("Ran out of ports")


class PortsTaken(HairpinError):
    """A pair of ports that a call brings with it belongs to another call here, or to no range of this relay."""


class SnapshotError(HairpinError):
    """Bytes that are no call, or one of another format, or on an address this relay has not; the text says which."""


class CallError(HairpinError):
    """A command that does not fit the state of its call; the text is what the proxy is told."""


class UnknownCall(CallError):
    """No call of this Call-ID stands here."""

    def __init__(self) -> None:
        super().__init__("Unknown call-id")
