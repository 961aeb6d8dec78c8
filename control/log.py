"""Log lines for an operator: one line per event, with its call where there is one, never blocking the event loop.

Lines look like `2026-01-31 03:04:05.678 WARNING [call-id] what happened`; syslog adds its own time. A logger call names
its call with `extra={"call_id": ...}`. Repeats of one warning are counted instead of written (Repeats).
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import ClassVar, TextIO

NOTICE = 25
SYSLOG_SOCKET = "/dev/log"
QUEUE_LENGTH = 10_000
"""Lines kept for a slow reader; beyond, lines are lost and counted rather than the loop held up."""
GATHER = 0.1
"""Seconds lines are gathered for before they are written."""

LONGEST_LINE = 8192
"""Characters of a message; Call-IDs, tags and commands of any length come from the network."""
LONGEST_CALL_ID = 256

_LEVELS = (*[logging.CRITICAL] * 3, logging.ERROR, logging.WARNING, NOTICE, logging.INFO, logging.DEBUG)
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(128, 160)) if code != 10}


def python_level(level: int) -> int:
    """The logging level for syslog's numbers, 0 (emergencies only) to 7 (everything)."""
    return _LEVELS[level]


class Formatter(logging.Formatter):
    """One readable line per record. Control characters from the network cannot forge or break lines.

    Nor can bytes that are no UTF-8, which syslog's handler would drop with the whole line, or words without end.
    """

    def __init__(self, times: bool) -> None:
        super().__init__()
        self._times = times

    def format(self, record: logging.LogRecord) -> str:
        call = getattr(record, "call_id", None)
        where = f"[{_cut(str(call), LONGEST_CALL_ID)}] " if call else ""
        text = _cut(f"{record.levelname} {where}{record.getMessage()}").replace("\n", "\\n").translate(_CONTROL)
        if self._times:
            text = f"{self.formatTime(record, '%Y-%m-%d %H:%M:%S')}.{int(record.msecs):03d} {text}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info).translate(_CONTROL)
        return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _cut(text: str, longest: int = LONGEST_LINE) -> str:
    return text if len(text) <= longest else f"{text[:longest]}..."


class Repeats(logging.Filter):
    """Lets the first `burst` lines of one kind through in each `period` (seconds); counts the rest and says so.

    A kind is a logger's message before its arguments are filled in. Lines below WARNING pass, but for those that every
    call may cause again: their logger call says so by `extra={"repeats": True}`.
    """

    def __init__(self, burst: int = 5, period: float = 10.0, room: int = 500) -> None:
        super().__init__()
        self._burst, self._period, self._room = burst, period, room
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING and not getattr(record, "repeats", False):
            return True
        kind = (record.name, str(record.msg))
        since, count = self._seen.get(kind, (record.created, 0))
        if not 0 <= record.created - since < self._period:
            if count > self._burst:
                record.msg, record.args = f"{record.getMessage()} ({count - self._burst} more like it before)", None
            since, count = record.created, 0
        if len(self._seen) >= self._room and kind not in self._seen:
            self._seen.clear()
        self._seen[kind] = (since, count + 1)
        return count < self._burst


class _Writer(logging.Handler):
    """Writes lines in a thread of its own, many at a time: to wake a thread for each would cost more than the line.

    The event loop's thread only puts records on a list. A list that is full loses the record and counts it.
    """

    def __init__(self, out: logging.Handler) -> None:
        super().__init__()
        self._out = out
        self._waiting: deque[logging.LogRecord] = deque()
        self._some = threading.Event()
        self._ended = threading.Event()
        self._lost = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if len(self._waiting) >= QUEUE_LENGTH:
            self._lost += 1
            return
        record.msg, record.args = record.getMessage(), None  # the arguments may change before the line is written
        self._waiting.append(record)
        if not self._some.is_set():
            self._some.set()

    def close(self) -> None:
        """Write the last lines and let go."""
        self._ended.set()
        self._some.set()
        self._thread.join()
        self._out.close()
        super().close()

    def _run(self) -> None:
        while not self._ended.is_set():
            self._some.wait()
            self._ended.wait(GATHER)
            self._some.clear()
            self._write()
        self._write()

    def _write(self) -> None:
        while self._waiting:
            self._out.handle(self._waiting.popleft())
        lost, self._lost = self._lost, 0
        if lost:
            self._out.handle(_lost(lost))


class _Syslog(logging.handlers.SysLogHandler):
    append_nul = False
    priority_map: ClassVar[dict[str, str]] = {**logging.handlers.SysLogHandler.priority_map, "NOTICE": "notice"}


def syslog_wanted(to_stderr: bool, stream: TextIO, socket: str) -> bool:
    """Whether lines go to syslog: not with -E, not on a terminal, and only where a syslog listens."""
    return not to_stderr and not stream.isatty() and os.path.exists(socket)


def _handler(to_stderr: bool, stream: TextIO, times: bool, facility: str) -> logging.Handler:
    if not syslog_wanted(to_stderr, stream, SYSLOG_SOCKET):
        handler: logging.Handler = logging.StreamHandler(stream)
        handler.setFormatter(Formatter(times))
        return handler
    syslog = _Syslog(SYSLOG_SOCKET, logging.handlers.SysLogHandler.facility_names[facility])
    syslog.ident = f"hairpin[{os.getpid()}]: "
    syslog.setFormatter(Formatter(times=False))
    return syslog


def setup(
    level: int, to_stderr: bool, stream: TextIO | None = None, times: bool = True, facility: str = "daemon"
) -> Callable[[], None]:
    """Send all loggers' lines to stderr, with their times, or to a facility of syslog.

    Returns what writes the last lines and lets go.
    """
    logging.addLevelName(NOTICE, "NOTICE")
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a log that cannot be written is no reason to say so in its place
    writer = _Writer(_handler(to_stderr, stream or sys.stderr, times, facility))
    writer.addFilter(Repeats())
    root = logging.getLogger()
    root.setLevel(python_level(level))
    root.addHandler(writer)

    def close() -> None:
        root.removeHandler(writer)
        writer.close()

    return close


def _lost(count: int) -> logging.LogRecord:
    text = "%d log lines were lost because the log could not be written as fast"
    return logging.LogRecord("hairpin", logging.WARNING, "", 0, text, (count,), None)
