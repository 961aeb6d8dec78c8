"""A SIP proxy's side of the ng protocol, for one call after the other: what it asks, and the ports the relay shows."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from control.ng import bencode
from relay.types import Endpoint
from tests.calls import sdp
from tests.lab import Host

CALLER, CALLEE = "caller", "callee"
PATIENCE = 2.0
"""Seconds until a request is sent again."""
ATTEMPTS = 4

_ADDRESS = re.compile(r"^c=IN IP4 (\S+)", re.MULTILINE)
_PORT = re.compile(r"^m=\S+ (\d+) ", re.MULTILINE)


class Refused(Exception):
    """The relay answered with an error, or not at all."""


class Proxy:
    """Speaks ng from a host to one relay, one request at a time. Use it as a context manager."""

    def __init__(self, host: Host, relay: Endpoint) -> None:
        self._socket = host.socket()
        self._socket.settimeout(PATIENCE)
        self._socket.connect(relay)
        self._serial = itertools.count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def ask(self, command: str, **keys: Any) -> dict[str, Any]:
        """A command with its keys, underscores for hyphens; returns the reply. Raises Refused."""
        body = {"command": command, **{key.replace("_", "-"): value for key, value in keys.items()}}
        cookie = f"{id(self):x}_{next(self._serial)}".encode()
        reply = self._exchange(cookie, cookie + b" " + bencode.encode(body))
        if reply["result"] == "error":
            raise Refused(f"{command}: {reply['error-reason']}")
        return reply

    def _exchange(self, cookie: bytes, request: bytes) -> dict[str, Any]:
        for _ in range(ATTEMPTS):
            self._socket.send(request)
            try:
                answered, _, reply = self._socket.recv(65535).partition(b" ")
                while answered != cookie:
                    answered, _, reply = self._socket.recv(65535).partition(b" ")
            except TimeoutError:
                continue
            found: dict[str, Any] = bencode.decode(reply)
            return found
        raise Refused(f"no answer to {request[:60]!r}")


class Dialogue:
    """One call as its proxy sees it. `keys` go with each of its offers and answers.

    The relay's ports appear as they are shown: `for_callee` in the last offer of the caller, `for_caller` in the last
    answer of the callee.
    """

    def __init__(self, proxy: Proxy, call_id: str, **keys: Any) -> None:
        self._proxy = proxy
        self.call_id = call_id
        self.keys = keys
        self.warning = ""
        """Of the last reply."""
        self.for_caller: Endpoint
        self.for_callee: Endpoint

    def offer(self, media: Endpoint, *lines: str, **keys: Any) -> Endpoint:
        """The caller offers `media`, with more lines in its SDP; returns where the callee is told to send to."""
        self.for_callee = self._signal("offer", media, lines, keys)
        return self.for_callee

    def answer(self, media: Endpoint, *lines: str, **keys: Any) -> Endpoint:
        """The callee answers with `media`; returns where the caller is told to send to."""
        self.for_caller = self._signal("answer", media, lines, {"to_tag": CALLEE, **keys})
        return self.for_caller

    def set_up(self, caller: Endpoint, callee: Endpoint) -> Self:
        """Offer and answer."""
        self.offer(caller)
        self.answer(callee)
        return self

    def delete(self, **keys: Any) -> dict[str, Any]:
        return self._proxy.ask("delete", call_id=self.call_id, from_tag=CALLER, **keys)

    def _signal(self, command: str, media: Endpoint, lines: tuple[str, ...], keys: dict[str, Any]) -> Endpoint:
        asked = {"call_id": self.call_id, "from_tag": CALLER, "sdp": sdp(media, *lines), **self.keys, **keys}
        reply = self._proxy.ask(command, **asked)
        self.warning = reply.get("warning", "")
        address, port = _ADDRESS.search(reply["sdp"]), _PORT.search(reply["sdp"])
        if not address or not port:
            raise Refused(f"no media in the relay's SDP: {reply['sdp']}")
        return Endpoint(address[1], int(port[1]))


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until something is so. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not so within {seconds} s")
        time.sleep(0.002)


def above(endpoint: Endpoint) -> Endpoint:
    """The RTCP port of an RTP port, where the SDP names none (RFC 3550 section 11)."""
    return Endpoint(endpoint.ip, endpoint.port + 1)
