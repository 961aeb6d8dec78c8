"""Errors of Redis and of the network in an operator's words."""

from __future__ import annotations

import pytest
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

from control.replication.redis.link import MAX_TOLD, Place, explain


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BusyLoadingError("Redis is loading the dataset in memory"), "is loading its data"),
        (ReadOnlyError("You can't write against a read only replica."), "is a replica and takes no writes"),
        (MasterDownError("Link with MASTER is down"), "is a replica that has lost its master"),
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "raise maxmemory"),
        (AuthenticationError("Authentication required."), "refuses us (Authentication required.)"),
        (NoPermissionError("User default has no permissions"), "refuses us (User default has no permissions)"),
        (ResponseError("MISCONF Redis is configured to save RDB snapshots"), "cannot save to its disk"),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), "misses its replicas"),
        (ResponseError("DB index is out of range"), "raise `databases` in its redis.conf"),
        (ResponseError("something\nelse"), "answers: something else"),
        (ConnectionError("Connection closed by server."), "cannot be reached: Connection closed by server."),
        (ConnectionRefusedError(111, "Connection refused"), "cannot be reached: [Errno 111] Connection refused"),
        (ConnectionError("Error 99 connecting to 127.0.0.1:6379. Cannot assign requested address."), "leave no port"),
        (OSError(), "cannot be reached: OSError"),
    ],
)
def test_an_error_says_what_it_means(error: Exception, words: str) -> None:
    assert words in explain(error)


def test_a_servers_words_are_told_within_bounds() -> None:
    assert len(explain(ResponseError("x" * 100_000))) < MAX_TOLD + 20


def test_a_place_is_shown_as_it_is_written_and_without_its_password() -> None:
    assert [str(Place("h1", 1, "secret")), repr(Place("::1", 2, "secret"))] == ["h1:1", "Place([::1]:2)"]
