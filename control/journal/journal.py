"""The event loop's side of the journal: hands over what is to be kept, and lets replies go when it is written.

All that changes in one turn of the loop is handed over at its end. What changes while the thread writes, or within two
milliseconds, waits for the next hand-over, where of several records of a call only the last is left. So there is one
batch under way at any time, and memory is bounded by the calls there are.

A reply waits for the batch that holds what its command changed, until the thread has had one for `patience` seconds. If
it takes longer or cannot write, replies pass at once until it can again; what they leave behind is written then. How
long the loop was busy with other commands does not count: a burst of them says nothing of the thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from control.journal.files import CALLS, JournalFiles, Slot, lock
from control.journal.format import MAX_BODY, MAX_KEY, Header, JournalError, body, key, name, reply_frame
from control.journal.replies import REPLIES, YOUNG
from control.journal.segment import DAMAGED, listed
from control.journal.writer import Batch, Files, Writer
from control.ng.message import Remembered

__all__ = ["Journal", "flush"]

log = logging.getLogger(__name__)

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
GAP = 0.002
"""Seconds between two hand-overs at least: to wake the thread costs as much as half a command."""
RETRY = 1.0
"""Seconds until what could not be written is tried again."""
STUCK = 1.0
"""Seconds without an answer of the thread after which the log has it."""
GOODBYE = 2.0
"""Seconds that the end waits for what is to be written."""
MAX_REPLIES = 4096
"""Replies that wait to be kept. Those beyond are sent all the same."""
MAX_REPLY = 64 << 10
"""Bytes of a reply that is kept."""
ANEW = "anew"
"""A file that is there while calls are put in force of which nothing was."""


class Journal:
    """Keeps calls and replies on file; is a gate that replies pass (control.ng.service.Gate).

    All but `open` is for the event loop's thread. `kept` grows with each thing that is handed in.
    """

    def __init__(self, files: Files, loop: asyncio.AbstractEventLoop, patience: float = 0.02) -> None:
        """`patience`: seconds that replies wait for the thread at most."""
        self.patience = patience
        self.kept = 0
        self.unjournalled = 0
        """Replies that left before what their commands changed was written."""
        self.too_large = 0
        """Records that are larger than any that would be read again."""
        self.problems: list[str] = []
        """What could not be read, a line for each."""
        self.replies: list[Remembered] = []
        """What was replied in the last seconds before this start."""
        self.failing = ""
        """Why nothing can be written; empty while it can."""
        self._files: Final = files
        self._loop: Final = loop
        self._found: dict[bytes, Slot] = {}
        self._copies: dict[int, int] = {}
        self._locked = -1
        self._batch = Batch()
        self._flight: Batch | None = None
        self._given = 0
        self._gave = 0.0
        self._late = False
        """The batch under way takes longer than patience lasts."""
        self._stuck = False
        """The log has it that the thread does not answer."""
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._handing: asyncio.Handle | None = None
        self._watch: asyncio.Handle | None = None
        self._writer: Writer | None = Writer(files, loop, self._written)

    @classmethod
    def open(
        cls,
        folder: Path,
        loop: asyncio.AbstractEventLoop,
        *,
        keyspace: int = 0,
        version: str = "",
        patience: float = 0.02,
    ) -> Journal:
        """The journal in a folder, with what stands in it. Raises JournalTaken, and nothing else: see `problems`."""
        boot = _boot_id()
        files = JournalFiles(folder, Header(boot, keyspace, version))
        locked = -1
        problems = []
        try:
            locked = lock(folder)
        except OSError as error:
            problems.append(f"{folder} cannot be written: {error.strerror}; calls end with the relay")
        replies, writer, unread = files.read(time.time())
        journal = cls(files, loop, patience)
        journal.replies, journal._locked = replies, locked
        journal.problems += problems + unread + _differences(folder, writer, Header(boot, keyspace, version))
        journal._remember()
        return journal

    def _remember(self) -> None:
        """Hold on to what was found, whatever the thread makes of the files."""
        self._found = dict(self._files.index)
        for slot in self._found.values():
            if slot.segment.number not in self._copies:
                self._copies[slot.segment.number] = os.dup(slot.segment.fd)

    # -- what was found

    def standing(self) -> Iterator[str]:
        """The Call-IDs of records that were found and have not been settled, oldest record first."""
        for call in list(self._found):
            with suppress(UnicodeDecodeError):
                yield name(call)

    def record(self, call_id: str) -> bytes | None:
        """A record that was found; None where there is none. Raises JournalError if it cannot be read any more."""
        slot = self._found.get(key(call_id))
        if slot is None:
            return None
        try:
            return body(os.pread(self._copies[slot.segment.number], slot.size, slot.offset))
        except OSError as error:
            raise JournalError(f"its record in the journal cannot be read: {error.strerror}") from error

    def settle(self, call_id: str) -> None:
        """What was found of a call is done with: it stands, or it has ended."""
        if self._found and self._found.pop(key(call_id), None) is not None and not self._found:
            self._let_go()

    @property
    def anew(self) -> bool:
        """Whether calls are put in force of which nothing was; true at a start where the one before broke off in it."""
        return (self._files.folder / ANEW).exists()

    @anew.setter
    def anew(self, begins: bool) -> None:
        mark = self._files.folder / ANEW
        with suppress(OSError):  # all else that cannot be written is told already
            mark.touch(mode=0o600) if begins else mark.unlink(missing_ok=True)

    def _let_go(self) -> None:
        for fd in self._copies.values():
            os.close(fd)
        self._copies.clear()

    # -- what is to be kept

    def put(self, call_id: str, record: bytes) -> None:
        """Keep a call's record in place of the one before it; nothing once the journal is closed."""
        if self._writer is None:
            return
        if len(record) > MAX_BODY or len(call_id) * 4 > MAX_KEY:
            self.too_large += 1
            return
        self.kept += 1
        self._batch.calls[call_id] = record
        self._plan()

    def drop(self, call_id: str) -> None:
        """A call has ended."""
        if self._writer is None:
            return
        self.settle(call_id)
        self.kept += 1
        under_way = self._flight is not None and call_id in self._flight.calls
        if under_way or key(call_id) in self._files.index:
            self._batch.calls[call_id] = None
            self._plan()
        else:
            self._batch.calls.pop(call_id, None)

    def reply(self, remembered: Remembered) -> None:
        """Keep what was replied to a command, for its repeats."""
        replies = self._batch.replies
        if (
            self._writer is not None
            and not self.failing
            and len(replies) < MAX_REPLIES
            and len(remembered.reply) <= MAX_REPLY
        ):
            replies.append(reply_frame(remembered, time.time() + YOUNG))
            self._plan()

    def after(self, send: Callable[[], None]) -> None:
        """Call `send` when all that was handed in so far is written, or patience is over; at once if nothing waits."""
        if not self._batch and self._flight is None:
            send()
        elif self.failing or self._late:
            self.unjournalled += 1
            send()
        else:
            self._waiting.append((self._given + bool(self._batch), send))
            self._be_patient()

    # -- to the thread and back

    def _plan(self) -> None:
        if self._handing is None and self._flight is None and self._writer is not None and not self.failing:
            wait = self._gave + GAP - time.monotonic()
            later = self._loop.call_soon if wait <= 0 else partial(self._loop.call_later, wait)
            self._handing = later(self._hand_over)

    def _hand_over(self) -> None:
        self._handing = None
        if self._batch and self._flight is None and self._writer is not None:
            self._flight, self._batch = self._batch, Batch()
            self._given += 1
            self._gave = time.monotonic()
            self._writer.hand(self._flight)
            self._be_patient()
        elif self._flight is None:
            self._release(self._given + 1)  # what they waited for has ended before it was written

    def _written(self, failed: str) -> None:
        """The thread has done its batch, or failed to, with nothing of the calls written."""
        flight, self._flight = self._flight, None
        if flight is None:
            return
        if failed:
            self._batch.calls = {**flight.calls, **self._batch.calls}
            self._fail(failed)
        else:
            self._recover(len(flight.calls))
            self._release(self._given)
            if self._batch:
                self._plan()

    def _fail(self, why: str) -> None:
        if not self.failing:
            log.error("journal: %s; calls go on, and end if the relay does before it can be written again", why)
        self.failing = why
        self.unjournalled += len(self._waiting)
        self._release(self._given + 1)
        self._handing = self._loop.call_later(RETRY, self._hand_over)

    def _recover(self, count: int) -> None:
        if self.failing or self._stuck:
            log.warning("journal: it is written again, %d calls had waited for that", count)
        self.failing, self._stuck, self._late = "", False, False

    def _release(self, number: int) -> None:
        """Let the replies go that wait for this batch or an earlier one."""
        waiting = self._waiting
        while waiting and waiting[0][0] <= number:
            _pass(waiting.popleft()[1])

    def _be_patient(self) -> None:
        """Watch the thread while replies wait for it."""
        if self._watch is None and self._waiting and self._flight is not None:
            left = self._gave + self.patience - time.monotonic()
            # What the thread may have said while the loop was busy is heard first.
            if left > 0:
                self._watch = self._loop.call_later(left, self._look)
            else:
                self._watch = self._loop.call_soon(self._give_up, self._given)

    def _look(self) -> None:
        self._watch = None
        self._be_patient()

    def _give_up(self, number: int) -> None:
        """Patience with a batch is over."""
        self._watch = None
        if self._flight is None or self._given != number or not self._waiting:
            self._be_patient()
            return
        self._late = True
        self.unjournalled += len(self._waiting)
        self._release(self._given + 1)
        self._loop.call_later(STUCK, self._complain, self._given)

    def _complain(self, number: int) -> None:
        if self._flight is not None and self._given == number and self._writer is not None:
            self._stuck = True
            log.error(
                "journal: the file system of %s does not answer; replies leave without it, calls end if the relay does",
                self._files.folder,
            )

    # -- the end, and what operators see

    def close(self) -> None:
        """Write what waits, let all replies go, and end the thread; safe to call twice."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        for timer in (self._handing, self._watch):
            if timer is not None:
                timer.cancel()
        behind = self.behind
        if self._batch:
            writer.hand(self._batch)
        self._batch, self._flight = Batch(), None
        if not writer.stop(GOODBYE):
            log.error("journal: %d calls are not written: %s does not answer", behind, self._files.folder)
        self._release(self._given + 1)
        self._let_go()
        if self._locked >= 0:
            os.close(self._locked)
            self._locked = -1

    @property
    def behind(self) -> int:
        """Calls whose last change is not written."""
        flight = self._flight
        return len(self._batch.calls.keys() | flight.calls.keys() if flight else self._batch.calls)

    def status(self) -> dict[str, Any]:
        """What `hairpin status` tells of it."""
        return {
            "folder": str(self._files.folder),
            "calls": len(self._files.index),
            "bytes": self._files.size,
            "behind": self.behind,
            "waiting replies": len(self._waiting),
            "replies before their calls": self.unjournalled,
            "too large": self.too_large,
            "lost with a file cut short": self._files.lost,
            "failing": self.failing or ("its file system does not answer" if self._stuck else ""),
            "problems": list(self.problems),
        }


def flush(folder: Path) -> bool:
    """Remove a journal that no relay has open; whether there was one. Raises JournalTaken, OSError."""
    if not folder.is_dir():
        return False
    locked = lock(folder)
    try:
        paths = [*listed(folder, CALLS), *listed(folder, REPLIES), *listed(folder, DAMAGED)]
        for path in paths:
            path.unlink()
        (folder / ANEW).unlink(missing_ok=True)
    finally:
        os.close(locked)
    return bool(paths)


def _differences(folder: Path, writer: Header | None, reader: Header) -> list[str]:
    """What is to be known of a journal that was written under other circumstances."""
    if writer is None:
        return []
    found = []
    if writer.boot != reader.boot:
        found.append(f"{folder} is from before this host was started: nothing was forwarded for its calls since")
    if writer.keyspace != reader.keyspace:
        own, other = reader.keyspace, writer.keyspace
        found.append(f"{folder} was written under keyspace {other}, this is {own}: its calls are another's")
    return found


def _pass(send: Callable[[], None]) -> None:
    try:
        send()
    except Exception:  # one client's fault must not hold up the replies behind it
        log.exception("journal: a reply could not be sent")


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
