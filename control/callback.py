"""Telling a proxy or B2BUA by XMLRPC that a call's media has ceased, so that it can end the call's signalling.

Who is told: `b2b-url`, where `%%` stands for the proxy's address, or for the address that the call's `xmlrpc-callback`
gives instead. That key may also be a whole URL. A call's own word counts only where it names an address that may
command the relay, lest an SDP's author could send the relay anywhere. What is told:

    format        method               parameters
    -----------   ------------------   ----------------------------------------
    0, SEMS       di                   sbc, postControlCmd, tag, teardown, for each tag
    1, generic    teardown             Call-ID
    2, Kamailio   dlg.terminate_dlg    Call-ID, from-tag, to-tag, for each answered branch

Only calls that ended for want of media are told of: those that a proxy deleted it knows of itself.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit
from xmlrpc.client import dumps

from relay.call import Call

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Notice", "Notifier", "requests"]

log = logging.getLogger(__name__)

PLACE = "%%"
REASONS = frozenset({"timeout", "silent timeout", "offer timeout"})
SEMS, GENERIC, KAMAILIO = range(3)

UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write."""
QUEUE = 10_000
"""Notices that may wait: what a relay can lose of calls at once when a network fails."""
SENDERS = 8
"""Notices on their way at a time."""
ANSWER_WITHIN = 5.0
"""Seconds for one attempt."""
PAUSES = (1.0, 4.0)
"""Seconds before each further attempt."""
MAX_URL = 2048
MAX_ANSWER = 65_536


class Notice(NamedTuple):
    """One request to send."""

    call_id: str
    url: str
    body: bytes


@dataclass(slots=True)
class Counters:
    """What became of the notices."""

    told: int = 0
    refused: int = 0
    """Answered with an error, which no other attempt would change."""
    failed: int = 0
    """Not answered in any attempt."""
    lost: int = 0
    """Not sent, for too many were waiting."""


def requests(form: int, call: Call) -> list[bytes]:
    """The bodies that tell of a call's end."""
    members = call.members()
    if form == GENERIC:
        return [_request("teardown", call.call_id)]
    if form == SEMS:
        tags = dict.fromkeys(leg.tag for member in members for leg in member.legs if leg.tag)
        return [_request("di", "sbc", "postControlCmd", tag, "teardown") for tag in tags]
    pairs = dict.fromkeys((member.legs[0].tag, member.legs[1].tag) for member in members)
    return [_request("dlg.terminate_dlg", call.call_id, *pair) for pair in pairs if all(pair)]


def _request(method: str, *parameters: str) -> bytes:
    writable = tuple(UNWRITABLE.sub("?", parameter) for parameter in parameters)
    return dumps(writable, method, encoding="utf-8").encode()


class Notifier:
    """Tells of ended calls, in the background. `allowed` says whether an IP address may command the relay."""

    def __init__(self, url: str | None, form: int, allowed: Callable[[str], bool]) -> None:
        self.counters = Counters()
        self.url = url
        self.form = form
        self._allowed = allowed
        self._queue: asyncio.Queue[Notice] = asyncio.Queue(QUEUE)
        self._senders: Sequence[asyncio.Task[None]] = ()

    def statistics(self) -> dict[str, int]:
        """The counters, and how many notices wait."""
        return {**asdict(self.counters), "waiting": self._queue.qsize()}

    def ended(self, call: Call, reason: str) -> None:
        """Tell of a call if it has to be; to be called on the event loop's thread."""
        if reason not in REASONS or (self.url is None and call.callback is None):
            return
        url = self.target(call)
        if url is None:
            log.warning(
                "nobody is told of a timeout: neither --b2b-url nor xmlrpc-callback=%s gives an address in --ng-allow",
                call.callback or "",
                extra={"call_id": call.call_id},
            )
            return
        for body in requests(self.form, call):
            self._send(Notice(call.call_id, url, body))

    def target(self, call: Call) -> str | None:
        """The URL to tell, None where there is none."""
        asked = call.callback
        if asked is not None and self._may_ask(asked):
            if not _is_address(asked):
                return asked
            return _placed(self.url, asked)
        return _placed(self.url, call.controller)

    async def close(self) -> None:
        """Stop, whatever waits."""
        senders, self._senders = self._senders, ()
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
        if waiting := self._queue.qsize():
            log.warning("%d timeouts of calls were not told any more", waiting)

    def _may_ask(self, asked: str) -> bool:
        """Whether a call's own word names an address that may command the relay, alone or in a URL."""
        try:
            where = urlsplit(asked)
            host = asked if _is_address(asked) else where.hostname or ""
        except ValueError:
            return False
        spelled = host == asked or (len(asked) <= MAX_URL and where.scheme in ("http", "https"))
        return spelled and _is_address(host) and self._allowed(host)

    def _send(self, notice: Notice) -> None:
        try:
            self._queue.put_nowait(notice)
        except asyncio.QueueFull:
            self.counters.lost += 1
            log.warning("its timeout is not told: %d others wait", QUEUE, extra={"call_id": notice.call_id})
            return
        if not self._senders:
            self._senders = [asyncio.create_task(self._run()) for _ in range(SENDERS)]

    async def _run(self) -> None:
        import aiohttp

        patience = aiohttp.ClientTimeout(total=ANSWER_WITHIN)
        async with aiohttp.ClientSession(timeout=patience, headers={"Content-Type": "text/xml"}) as session:
            while True:
                await self._deliver(session, await self._queue.get())

    async def _deliver(self, session: aiohttp.ClientSession, notice: Notice) -> None:
        trouble = ""
        for pause in (0.0, *PAUSES):
            await asyncio.sleep(pause)
            try:
                refused = await _attempt(session, notice)
            except Exception as error:
                trouble = str(error) or type(error).__name__
                continue
            if refused is None:
                self.counters.told += 1
                return
            self.counters.refused += 1
            self._complain(notice, refused)
            return
        self.counters.failed += 1
        self._complain(notice, trouble)

    def _complain(self, notice: Notice, trouble: str) -> None:
        log.warning("its timeout could not be told to %s: %s", notice.url, trouble, extra={"call_id": notice.call_id})


async def _attempt(session: aiohttp.ClientSession, notice: Notice) -> str | None:
    """Post it; returns why it was refused, None if it was not. Raises where another attempt may help."""
    async with session.post(notice.url, data=notice.body, allow_redirects=False) as reply:
        text = await reply.content.read(MAX_ANSWER)
        if reply.status >= 500:
            raise ConnectionError(f"HTTP status {reply.status}")
        if reply.status != 200:
            return f"HTTP status {reply.status}"
        return "it answered with a fault" if b"<fault>" in text else None


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _placed(url: str | None, address: str) -> str | None:
    """The URL with the address in its place; None where that needs one and there is none."""
    if url is None or PLACE not in url:
        return url
    return url.replace(PLACE, f"[{address}]" if ":" in address else address) if address else None
