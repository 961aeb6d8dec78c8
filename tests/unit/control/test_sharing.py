"""Options to the store's settings: which server is written and which is read, and where passwords come from."""

from __future__ import annotations

from pathlib import Path

from control.config import load
from control.replication.redis.link import Place
from control.replication.redis.side import Settings
from control.sharing import redis_settings, store

NOWHERE = Path("/nowhere/hairpin.conf")


def settings(*arguments: str, **environment: str) -> Settings:
    found = redis_settings(load(arguments, NOWHERE), environment)
    assert found is not None
    return found


def test_without_redis_there_is_no_store() -> None:
    assert store(load([], NOWHERE), {}) is None


def test_one_server_is_written_and_read_and_must_be_a_master() -> None:
    found = settings("-r", "secret@10.0.0.1:6379/1", "-k", "2;3")
    assert found == Settings(
        writes=Place("10.0.0.1", 6379, "secret"),
        reads=Place("10.0.0.1", 6379, "secret"),
        keyspace=1,
        partners=(2, 3),
    )
    assert (found.check_role, found.required) == (True, True)


def test_each_server_has_the_password_of_its_purpose() -> None:
    found = settings(
        *("-r", "h1:1/1", "-w", "h2:2/5", "--redis-subscribe=h3:3/0", "--redis-sentinel=h4:4"),
        RTPENGINE_REDIS_AUTH_PW="read",
        RTPENGINE_REDIS_WRITE_AUTH_PW="write",
        HAIRPIN_REDIS_SUBSCRIBE_AUTH_PW="subscribe",
        HAIRPIN_REDIS_SENTINEL_AUTH_PW="sentinel",
    )
    assert (found.writes, found.reads) == (Place("h2", 2, "write"), Place("h3", 3, "subscribe"))
    assert found.sentinels == (Place("h4", 4, "sentinel"),)
    assert (found.keyspace, found.check_role) == (5, False)


def test_an_options_password_comes_first_and_ours_before_the_peers() -> None:
    both = {"RTPENGINE_REDIS_AUTH_PW": "theirs", "HAIRPIN_REDIS_AUTH_PW": "ours"}
    assert settings("-r", "h1:1/1", **both).writes.password == "ours"
    assert settings("-r", "given@h1:1/1", **both).writes.password == "given"


def test_times_are_options_in_milliseconds_and_none_means_the_default() -> None:
    found = settings("-r", "h1:1/1", "--redis-cmd-timeout=0", "--redis-connect-timeout=250", "-q")
    assert (found.patience.connect, found.patience.command, found.required) == (0.25, 1.0, False)


def test_calls_that_stood_go_on_without_redis() -> None:
    config = load(["-r", "h1:1/1"], NOWHERE)
    made = [store(config, {}), store(config, {}, standing=1)]
    assert [one.settings.required for one in made if one] == [True, False]


def test_a_password_is_shown_nowhere() -> None:
    found = settings("-r", "secret@h1:1/1")
    assert "secret" not in f"{found} {found!r} {found.writes} {found.writes!r}"
