"""Log lines: their form, where they go, repeats, and a log that cannot be written."""

from __future__ import annotations

import io
import logging
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from control import log as logs


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger as it stood, put back afterwards: `setup` is the process's own."""
    logger = logging.getLogger()
    level, handlers = logger.level, logger.handlers[:]
    logger.handlers.clear()
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logging.captureWarnings(False)
    logging.raiseExceptions = True


def written(level: int, write: object) -> list[str]:
    stream = io.StringIO()
    close = logs.setup(level, to_stderr=True, stream=stream)
    write(logging.getLogger("hairpin.test"))  # type: ignore[operator]
    close()
    return stream.getvalue().splitlines()


@pytest.mark.usefixtures("root")
def test_a_line_carries_time_level_and_call() -> None:
    (line,) = written(6, lambda log: log.info("ended after %d s", 7, extra={"call_id": "abc@host"}))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO \[abc@host\] ended after 7 s", line)


@pytest.mark.usefixtures("root")
def test_text_from_the_network_cannot_forge_a_line() -> None:
    (line,) = written(6, lambda log: log.info("tag %s", "a\nERROR b\x1b[2J", extra={"call_id": "c\n2026"}))
    assert line.endswith("[c\\n2026] tag a\\nERROR b\\x1b[2J")


@pytest.mark.usefixtures("root")
def test_a_traceback_follows_its_line() -> None:
    def fail(log: logging.Logger) -> None:
        try:
            raise ValueError("broken \x07")
        except ValueError:
            log.exception("failed")

    first, *rest = written(3, fail)
    assert first.endswith("ERROR failed")
    assert rest[0] == "Traceback (most recent call last):"
    assert rest[-1] == "ValueError: broken \\x07"


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("level", "expected"),
    [(0, []), (2, []), (3, ["ERROR"]), (4, ["ERROR", "WARNING"]), (5, ["ERROR", "WARNING", "NOTICE"]),
     (6, ["ERROR", "WARNING", "NOTICE", "INFO"]), (7, ["ERROR", "WARNING", "NOTICE", "INFO", "DEBUG"])],
)  # fmt: skip
def test_levels_are_syslogs(level: int, expected: list[str]) -> None:
    def all_levels(log: logging.Logger) -> None:
        for number in (logging.ERROR, logging.WARNING, logs.NOTICE, logging.INFO, logging.DEBUG):
            log.log(number, "x%d", number)

    assert [line.split()[2] for line in written(level, all_levels)] == expected


def record(text: str, at: float, level: int = logging.WARNING, argument: int = 0) -> logging.LogRecord:
    made = logging.LogRecord("name", level, "", 0, text, (argument,), None)
    made.created = at
    return made


def test_repeats_are_counted_and_told() -> None:
    repeats = logs.Repeats(burst=2, period=10.0)
    assert [repeats.filter(record("port %d", 1.0 + i, argument=i)) for i in range(5)] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert repeats.filter(record("other %d", 3.0))
    late = record("port %d", 11.5, argument=9)
    assert repeats.filter(late)
    assert late.getMessage() == "port 9 (3 more like it before)"
    again = record("port %d", 22.0, argument=9)
    assert repeats.filter(again)
    assert again.getMessage() == "port 9"


def test_lines_about_calls_are_never_left_out() -> None:
    repeats = logs.Repeats(burst=1)
    assert all(repeats.filter(record("call %d", 1.0, logging.INFO)) for _ in range(20))


@pytest.mark.usefixtures("root")
def test_what_every_call_may_cause_again_is_counted_too() -> None:
    def repeat(log: logging.Logger) -> None:
        for _ in range(100):
            log.info("done, but: nothing is recorded", extra={"repeats": True})

    assert len(written(6, repeat)) == 5


def test_the_memory_of_repeats_is_bounded() -> None:
    repeats = logs.Repeats(room=10)
    for i in range(1000):
        repeats.filter(record(f"kind {i}: %d", 1.0))
    assert len(repeats._seen) <= 10


class Stuck(io.StringIO):
    """A stream whose reader has stopped, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        assert self.go.wait(30)
        return super().write(text)


@pytest.mark.usefixtures("root")
def test_a_stuck_log_loses_lines_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "QUEUE_LENGTH", 10)
    stream = Stuck()
    close = logs.setup(6, to_stderr=True, stream=stream)
    for i in range(1000):
        logging.getLogger("x").info("line %d", i)
    stream.go.set()
    close()
    lines = stream.getvalue().splitlines()
    lost = 1000 - (len(lines) - 1)
    assert lost >= 980
    assert lines[-1].endswith(f"WARNING {lost} log lines were lost because the log could not be written as fast")


@pytest.mark.usefixtures("root")
def test_a_log_that_is_gone_is_survived(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    close = logs.setup(6, to_stderr=True, stream=stream)
    stream.close()
    logging.getLogger("x").info("into nothing")
    close()
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("root")
def test_times_can_be_left_to_the_journal() -> None:
    stream = io.StringIO()
    close = logs.setup(6, to_stderr=True, stream=stream, times=False)
    logging.getLogger("x").info("a line")
    close()
    assert stream.getvalue() == "INFO a line\n"


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(("facility", "priority"), [("daemon", 29), ("local3", 157)])
def test_syslog_gets_level_name_and_no_time(
    facility: str, priority: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(place))
        syslog.settimeout(5)
        monkeypatch.setattr(logs, "SYSLOG_SOCKET", str(place))
        assert logs.syslog_wanted(False, io.StringIO(), str(place))
        close = logs.setup(6, to_stderr=False, stream=io.StringIO(), facility=facility)
        logging.getLogger("x").log(logs.NOTICE, "started")
        close()
        line = syslog.recv(1000).decode()
    assert re.fullmatch(rf"<{priority}>hairpin\[\d+\]: NOTICE started", line)


@pytest.mark.usefixtures("root")
def test_syslog_gets_lines_with_bytes_that_are_no_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(place))
        syslog.settimeout(5)
        monkeypatch.setattr(logs, "SYSLOG_SOCKET", str(place))
        close = logs.setup(6, to_stderr=False, stream=io.StringIO())
        logging.getLogger("x").info("ended", extra={"call_id": b"J\xf6rg".decode(errors="surrogateescape")})
        close()
        assert syslog.recv(1000).endswith(b"INFO [J\\udcf6rg] ended")


@pytest.mark.usefixtures("root")
def test_no_line_is_without_end() -> None:
    (line,) = written(6, lambda log: log.info("x" * 60_000, extra={"call_id": "y" * 60_000}))
    assert line.endswith("x...")
    assert "y...] " in line
    assert len(line) < 9_000


def test_syslog_is_for_daemons_only(tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    (tmp_path / "log").touch()
    assert not logs.syslog_wanted(True, io.StringIO(), str(tmp_path / "log"))
    assert not logs.syslog_wanted(False, Terminal(), str(tmp_path / "log"))
    assert not logs.syslog_wanted(False, io.StringIO(), str(tmp_path / "none"))
