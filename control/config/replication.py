"""Options of relay pairs: Redis, whose calls are held ready, and who may take over what.

A node is known by the number of the Redis database it writes, its keyspace. Names, forms and defaults are rtpengine's
where it has the option.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from control.config.declare import SECONDS, option
from control.config.readers import HOST_NAME, address, parts, switch, whole

__all__ = ["RedisPlace", "Replication", "Server", "Slice"]

EIGHTH = Fraction(1, 8)
MAX_KEYSPACE = 16383
_PLACE = re.compile(
    r"(?:(?P<password>.+)@)?(?P<host>\[[^\[\]]+\]|[^:\[\]@/]+):(?P<port>[0-9]{1,5})(?P<rest>.*)", re.DOTALL
)
_SHARE = re.compile(r"[1-9][0-9]{0,3}/[1-9][0-9]{0,3}|0?\.[0-9]{1,6}")
_number = whole(0, MAX_KEYSPACE, "the number of a Redis database,")
_port = whole(1, 65535, "a port")


class Server(NamedTuple):
    """Where a Redis or a Sentinel answers."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """One database of a Redis server. The password is shown to nobody."""

    server: Server
    database: int
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.server}/{self.database}"


class Slice(NamedTuple):
    """The share of each service address's ports that a node draws from when it has taken over the address's calls."""

    keyspace: int
    share: Fraction

    def __str__(self) -> str:
        return f"{self.keyspace}:{self.share}"


def _database(text: str) -> RedisPlace | None:
    found = _PLACE.fullmatch(text)
    if not text:
        return None
    if found is None or not found["rest"].startswith("/"):
        raise ValueError("must be [PASSWORD@]HOST:PORT/DATABASE")
    return RedisPlace(_server(found), _number(found["rest"][1:]), found["password"] or "")


def _sentinel(text: str) -> Server:
    found = _PLACE.fullmatch(text)
    if found is None or found["rest"] or found["password"]:
        raise ValueError("must be HOST:PORT[,HOST:PORT...]")
    return _server(found)


def _server(found: re.Match[str]) -> Server:
    host = found["host"].strip("[]")
    if not HOST_NAME.fullmatch(host) or ":" in host:
        host = address(host)
    return Server(host, _port(found["port"]))


def _sentinels(text: str) -> tuple[Server, ...]:
    return tuple(_sentinel(part) for part in parts(text))


def _keyspaces(text: str) -> tuple[int, ...]:
    """Each once, in the order given. -1, by which rtpengine subscribes to none for the time being, names none."""
    return tuple(dict.fromkeys(_number(part) for part in parts(text) if part != "-1"))


def _slices(text: str) -> tuple[Slice, ...]:
    found: dict[int, Slice] = {}
    for part in parts(text):
        keyspace, _, share = part.partition(":")
        if not _SHARE.fullmatch(share):
            raise ValueError("must be KEYSPACE:SHARE[,...], a share such as 1/8")
        if not 0 < Fraction(share) < 1:
            raise ValueError(f"a share of {share} must be more than nothing and less than all")
        one = Slice(_number(keyspace), Fraction(share))
        if found.setdefault(one.keyspace, one) is not one:
            raise ValueError(f"names keyspace {one.keyspace} twice")
    return tuple(found[keyspace] for keyspace in sorted(found))


@dataclass(frozen=True)
class Replication:
    """Calls shared with partners over Redis."""

    redis: RedisPlace | None = option(  # noqa: RUF009 - frozen
        None,
        _database,
        "share calls with partners over this Redis; the number of the database is this node's keyspace, no other node "
        "may write it. The password is better given in the environment, as HAIRPIN_REDIS_AUTH_PW",
        "[PASSWORD@]HOST:PORT/DB",
        short="r",
        shown="none: calls are held by this relay alone",
        secret=True,
    )
    redis_write: RedisPlace | None = option(  # noqa: RUF009 - frozen
        None,
        _database,
        "write here, to the master, whatever its role, and use `redis` to read (HAIRPIN_REDIS_WRITE_AUTH_PW)",
        "[PASSWORD@]HOST:PORT/DB",
        short="w",
        shown="what redis says",
        secret=True,
    )
    redis_subscribe: RedisPlace | None = option(  # noqa: RUF009 - frozen
        None,
        _database,
        "read the partners' calls here, best from a replica on this host (HAIRPIN_REDIS_SUBSCRIBE_AUTH_PW)",
        "[PASSWORD@]HOST:PORT/DB",
        shown="what redis says",
        secret=True,
    )
    redis_sentinel: tuple[Server, ...] = option(
        (),
        _sentinels,
        "ask these Sentinels where the master to write to is; redis and redis-write then tell database and password, "
        "and redis or redis-subscribe where to read (HAIRPIN_REDIS_SENTINEL_AUTH_PW)",
        "HOST:PORT[,...]",
        shown="none",
        repeat=True,
    )
    redis_sentinel_master: str = option("hairpin", str, "the name Sentinel knows the master by", "NAME")
    subscribe_keyspace: tuple[int, ...] = option(
        (),
        _keyspaces,
        "hold the calls of these nodes ready, named by the databases they write",
        "DB[;DB]",
        short="k",
        shown="none",
        repeat=True,
    )
    redis_expires: int = option(
        86400, whole(60, 1 << 31, "seconds"), "let Redis forget a call that was not written for this long", "SECS"
    )
    no_redis_required: bool = option(
        False, switch, "start also where Redis cannot be reached, and connect once it can be", short="q"
    )
    redis_connect_timeout: int = option(
        1000, whole(1, 60_000, "milliseconds"), "milliseconds a connection to Redis may take", "MSECS"
    )
    redis_cmd_timeout: int = option(
        1000,
        whole(0, 60_000, "milliseconds"),
        "milliseconds Redis may take to answer before the connection is given up; 0 is the default, there is no "
        "waiting without end",
        "MSECS",
    )
    redis_allowed_errors: int = option(
        -1,
        whole(-1, 1 << 31, "a number of errors (-1 for no limit)"),
        "after more errors than this in a row leave Redis alone for redis-disable-time",
        "N",
        shown="no limit",
    )
    redis_disable_time: int = option(10, whole(0, 3600, "seconds"), "seconds for which it is left alone", "SECS")
    node_name: str = option(
        "", str, "what this node is called in what partners and operators read", "NAME", shown="the host's name"
    )
    takeover_slices: tuple[Slice, ...] = option(
        (),
        _slices,
        "which share of a service address's ports each node draws from when it has taken over the address's calls, "
        "cut from the top of the range in this order; the same list on all nodes, and needed where they do not all "
        "subscribe to the same ones",
        "KEYSPACE:SHARE[,...]",
        shown="1/8 for each keyspace known here",
        repeat=True,
    )
    compare_interval: int = option(
        60, whole(1, 86400, "seconds"), "seconds between two comparisons of all calls with a partner's", "SECS"
    )
    node_lease: int = option(
        5, whole(1, 3600, "seconds"), "a partner that was not heard of for this many seconds is taken for dead", "SECS"
    )
    sweep_interval: int = option(
        1, whole(1, 60, "seconds"), "seconds between two looks at which addresses packets come to", "SECS"
    )
    owner_gone: int = option(
        7200, SECONDS, "end a partner's call that nobody feeds when the partner has been gone for this long", "SECS"
    )
    refresh_interval: int = option(
        300, whole(1, 86400, "seconds"), "write what was learned and counted of a standing call this often", "SECS"
    )
    tombstone_time: int = option(
        900,
        whole(60, 1 << 31, "seconds"),
        "keep word of an ended call for this long, for partners that cannot be told at once",
        "SECS",
    )

    @property
    def writes(self) -> RedisPlace | None:
        """Where this node's own database is, Sentinel aside."""
        return self.redis_write or self.redis

    @property
    def reads(self) -> RedisPlace | None:
        """Where the partners' databases are read."""
        return self.redis_subscribe or self.redis or self.redis_write

    @property
    def keyspace(self) -> int:
        """This node's number: the database it writes, 0 without Redis."""
        return self.writes.database if self.writes else 0

    @property
    def keyspaces(self) -> tuple[int, ...]:
        """All nodes known here, this one among them, in ascending order."""
        return tuple(sorted({self.keyspace, *self.subscribe_keyspace}))

    @property
    def slices(self) -> tuple[Slice, ...]:
        """Who draws from which share of an address's ports; nothing where there is no partner."""
        if not self.writes or not self.subscribe_keyspace:
            return self.takeover_slices
        return self.takeover_slices or tuple(Slice(one, EIGHTH) for one in self.keyspaces)


def check(given: Replication) -> Iterator[str]:
    """What is wrong between the options of replication."""
    if given.writes is None:
        for name in ("redis_subscribe", "redis_sentinel", "subscribe_keyspace", "takeover_slices"):
            if getattr(given, name):
                yield f"{name.replace('_', '-')} is given, but not redis, which says where this node's own calls go"
        return
    if given.keyspace in given.subscribe_keyspace:
        yield (
            f"subscribe-keyspace names {given.keyspace}, which is this node's own database: give each node a database "
            "of its own, and subscribe to those of the others"
        )
    if (taken := sum(one.share for one in given.slices)) >= 1:
        yield f"takeover-slices sum to {taken}: less than 1 must be left for who gives out an address's ports"
