"""Options of replication: how a Redis server is written, what a password is kept from, and what the checks find."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from control.config import Config, ConfigError, examine, load
from control.config.replication import RedisPlace, Server, Slice
from control.config.show import settings

NOWHERE = Path("/nowhere/hairpin.conf")


def read(*arguments: str) -> Config:
    return load(arguments, NOWHERE)


def refused(*arguments: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(*arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("10.0.0.1:6379/5", RedisPlace(Server("10.0.0.1", 6379), 5)),
        ("redis-1.example:6380/0", RedisPlace(Server("redis-1.example", 6380), 0)),
        ("[2001:DB8::1]:6379/12", RedisPlace(Server("2001:db8::1", 6379), 12)),
        ("p@ss:w/rd@10.0.0.1:6379/5", RedisPlace(Server("10.0.0.1", 6379), 5, "p@ss:w/rd")),
    ],
)
def test_a_database_is_written_as_the_peer_writes_it(text: str, place: RedisPlace) -> None:
    assert read("-r", text).redis == place


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("10.0.0.1:6379", "must be [PASSWORD@]HOST:PORT/DATABASE"),
        ("10.0.0.1/5", "must be [PASSWORD@]HOST:PORT/DATABASE"),
        ("2001:db8::1:6379/5", "must be [PASSWORD@]HOST:PORT/DATABASE"),
        ("10.0.0.1:0/5", "must be a port from 1 to 65535"),
        ("10.0.0.1:6379/five", "must be the number of a Redis database, from 0 to 16383"),
        ("[::1%lo]:6379/5", "must be one address"),
        ("10.0.0.300:6379/5", "is no IPv4 or IPv6 address"),
        ("@10.0.0.1:6379/5", "must be [PASSWORD@]HOST:PORT/DATABASE"),
    ],
)
def test_what_is_no_database_is_refused_in_words(text: str, problem: str) -> None:
    assert problem in refused(f"--redis={text}")


def test_a_password_is_repeated_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "hairpin.conf"
    file.write_text("[rtpengine]\nredis = topsecret@10.0.0.1:6379/x\nredis-write = topsecret@10.0.0.1:6379\n")
    with pytest.raises(ConfigError) as caught:
        load([], file)
    assert "line 2: redis = 10.0.0.1:6379/x: must be" in str(caught.value)
    assert "topsecret" not in str(caught.value)
    assert "topsecret" not in refused("--redis=topsecret@10.0.0.1:6379/x")
    config = read("--redis=topsecret@10.0.0.1:6379/1")
    assert config.redis is not None
    assert config.redis.password == "topsecret"
    assert "topsecret" not in "\n".join([*settings(config, {}), repr(config), str(config.redis)])


def test_the_node_is_known_by_the_database_it_writes() -> None:
    assert (read().keyspace, read().keyspaces, read().slices) == (0, (0,), ())
    config = read("-r", "127.0.0.1:6379/7", "-w", "10.0.0.9:6379/2", "-k", "3", "-k", "1;3", "-k", "-1")
    assert (config.keyspace, config.subscribe_keyspace, config.keyspaces) == (2, (3, 1), (1, 2, 3))
    assert config.writes == RedisPlace(Server("10.0.0.9", 6379), 2)
    assert config.reads == RedisPlace(Server("127.0.0.1", 6379), 7)
    assert read("-w", "10.0.0.9:6379/2").reads == RedisPlace(Server("10.0.0.9", 6379), 2)
    assert read("-r", "10.0.0.9:6379/2", "--redis-subscribe=10.0.0.8:6379/0").reads == RedisPlace(
        Server("10.0.0.8", 6379), 0
    )


def test_slices_are_eighths_of_each_node_unless_given() -> None:
    eighth = Fraction(1, 8)
    assert read("-r", "h1:6379/1", "-k", "2").slices == (Slice(1, eighth), Slice(2, eighth))
    given = read("-r", "h1:6379/1", "-k", "2", "--takeover-slices=2:1/4,1:0.125").slices
    assert given == (Slice(1, eighth), Slice(2, Fraction(1, 4)))
    assert [str(one) for one in given] == ["1:1/8", "2:1/4"]
    assert read("-r", "h1:6379/1").slices == ()


def test_one_list_of_slices_does_for_nodes_that_do_not_know_each_other() -> None:
    """A spare stands in for two relays: by what each knows of, it would draw what their homes draw, too."""
    spare, first = ("-r", "h1:6379/9", "-k", "1;2"), ("-r", "h1:6379/1", "-k", "9")
    listed = "--takeover-slices=1:1/8,2:1/8,9:1/8"
    assert read(*spare).slices != read(*first).slices
    assert read(*spare, listed).slices == read(*first, listed).slices


def test_settings_are_shown_as_a_file_that_says_the_same(tmp_path: Path) -> None:
    config = read(
        *("-r", "[::1]:6379/1", "-k", "2", "--takeover-slices=1:1/4,2:1/8", "--redis-sentinel=h1:26379,[::1]:26379")
    )
    file = tmp_path / "hairpin.conf"
    file.write_text("\n".join(settings(config, {})))
    assert load([], file) == config


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("-k", "2"), "subscribe-keyspace is given, but not redis"),
        (("--redis-subscribe=h1:6379/1",), "redis-subscribe is given, but not redis"),
        (("--redis-sentinel=h1:26379",), "redis-sentinel is given, but not redis"),
        (("--takeover-slices=1:1/8",), "takeover-slices is given, but not redis"),
        (("-r", "h1:6379/1", "-k", "2;1"), "subscribe-keyspace names 1, which is this node's own database"),
        (("-r", "h1:6379/1", "-k", "2", "--takeover-slices=1:1/2,2:1/2"), "takeover-slices sum to 1: less than 1"),
        (("-r", "h1:6379/1", "-k", "2;3;4;5;6;7;8"), "takeover-slices sum to 1: less than 1"),
        (("--takeover-slices=1:9/8",), "a share of 9/8 must be more than nothing and less than all"),
        (("--takeover-slices=1",), "must be KEYSPACE:SHARE[,...], a share such as 1/8"),
        (("--takeover-slices=1:1/8,1:1/4",), "names keyspace 1 twice"),
        (("-k", "two"), "must be the number of a Redis database"),
        (("--redis-sentinel=h1",), "must be HOST:PORT[,HOST:PORT...]"),
    ],
)
def test_what_does_not_fit_together_is_said(arguments: tuple[str, ...], problem: str) -> None:
    assert problem in refused(*arguments)


def test_options_of_the_peers_redis_that_mean_nothing_say_why(tmp_path: Path) -> None:
    file = tmp_path / "hairpin.conf"
    file.write_text("[rtpengine]\nredis = 10.0.0.1:6379/1\nactive-switchover = true\nredis-format = bencode\n")
    warnings = examine([], file).warnings
    assert ["active-switchover" in warnings[0], "redis-format" in warnings[1], len(warnings)] == [True, True, 2]
