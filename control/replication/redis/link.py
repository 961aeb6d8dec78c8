"""One connection to a Redis server: opened, asked and closed within time limits, and its faults in words.

redis-py's own retries are off, they would block for seconds; whoever has a fault of a connection closes it and opens
another. Every exchange has a time limit, since a server that hangs keeps its connections open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    BusyLoadingError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from relay.errors import HairpinError

__all__ = ["EVENTS", "Command", "Link", "Patience", "Place", "RedisFault", "check_role", "data_set", "ensure_events"]

Command = Sequence[bytes | str | int]

EVENTS = "K$gx"
"""What notify-keyspace-events must have: keyspace events of strings (SET), of generic commands (DEL) and of expiry."""
_ALL_EVENTS = "g$lshzxetd"
"""What the flag A stands for."""
SILENCE = 3
"""Seconds after which a replica counts as cut off whose master says nothing."""
MAX_TOLD = 200
"""Characters of a server's own words that are told on."""
NO_PORT = "Cannot assign requested address"
"""What the kernel says where all ports that it gives to connections are taken or reserved."""


class RedisFault(HairpinError):
    """What keeps a Redis server from being used; the text goes on from its address."""


class Place(NamedTuple):
    """A Redis server."""

    host: str
    port: int
    password: str = ""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"Place({self})"


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that are waited at most."""

    connect: float = 1.0
    command: float = 1.0


class Link:
    """A connection to one place. It is opened once; after a fault it is of no more use than to be closed."""

    def __init__(self, place: Place, database: int, patience: Patience) -> None:
        self.place = place
        self._patience = patience
        self._connection = Connection(
            host=place.host,
            port=place.port,
            db=database,
            password=place.password or None,
            client_name="hairpin",
            socket_timeout=None,
            socket_connect_timeout=patience.connect,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )

    async def open(self) -> None:
        """Connect, with password and database. Raises RedisFault."""
        try:
            async with asyncio.timeout(self._patience.connect):
                await self._connection.connect()  # type: ignore[no-untyped-call]  # as redis-py has it
        except TimeoutError:
            raise RedisFault(f"does not answer within {self._patience.connect * 1000:.0f} ms") from None
        except (RedisError, OSError) as error:
            raise RedisFault(explain(error)) from None

    async def ask(self, *commands: Command) -> list[Any]:
        """Send commands in one go and give their replies, errors among them. Raises RedisFault without replies."""
        try:
            async with asyncio.timeout(self._patience.command):
                await self._connection.send_packed_command(self._connection.pack_commands(commands), check_health=False)
                return [await self._reply() for _ in commands]
        except TimeoutError:
            raise RedisFault(f"does not answer within {self._patience.command * 1000:.0f} ms") from None
        except (RedisError, OSError) as error:
            raise RedisFault(explain(error)) from None

    async def ask_one(self, *command: bytes | str | int) -> Any:
        """One command's reply. Raises RedisFault also where the reply is an error."""
        (reply,) = await self.ask(command)
        if isinstance(reply, RedisError):
            raise RedisFault(explain(reply))
        return reply

    async def hear(self) -> Any:
        """The next message, however long it takes. Raises RedisFault."""
        try:
            return await self._connection.read_response()
        except (RedisError, OSError) as error:
            raise RedisFault(explain(error)) from None

    async def close(self) -> None:
        try:
            await self._connection.disconnect(nowait=True)
        except (RedisError, OSError):
            return

    async def _reply(self) -> Any:
        try:
            return await self._connection.read_response()
        except BusyLoadingError:
            raise  # a connection error to redis-py, which has closed it
        except ResponseError as error:
            return error


def explain(error: Exception) -> str:
    """What an error means to an operator."""
    text = " ".join(str(error).split())[:MAX_TOLD]
    for kind, words in _KINDS:
        if isinstance(error, kind):
            return words.format(text)
    if isinstance(error, ResponseError):
        return next((words for start, words in _ANSWERS if text.startswith(start)), f"answers: {text}")
    if NO_PORT in text:
        return "cannot be reached: the media ports leave no port of net.ipv4.ip_local_port_range to connect from"
    return f"cannot be reached: {text or type(error).__name__}"


_KINDS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (BusyLoadingError, "is loading its data (LOADING)"),
    (MasterDownError, "is a replica that has lost its master (MASTERDOWN)"),
    (ReadOnlyError, "is a replica and takes no writes (READONLY): name the master with redis-write or redis-sentinel"),
    (OutOfMemoryError, "has used up its memory and takes no writes (OOM): raise maxmemory in its redis.conf"),
    (
        (AuthenticationError, AuthenticationWrongNumberOfArgsError, NoPermissionError),
        "refuses us ({}): check the password, in the environment HAIRPIN_REDIS_AUTH_PW and its like",
    ),
)
_ANSWERS = (
    ("MISCONF", "cannot save to its disk and takes no writes (MISCONF): make room, or set its "
    "stop-writes-on-bgsave-error to no"),
    ("NOREPLICAS", "misses its replicas and takes no writes (NOREPLICAS): see its min-replicas-to-write"),
    ("DB index is out of range", "has too few databases for this keyspace: raise `databases` in its redis.conf"),
)  # fmt: skip


async def check_role(link: Link) -> None:
    """Raises RedisFault where the server is no master."""
    if _replication(await link.ask_one("INFO", "replication")).get("role") != "master":
        raise RedisFault("is a replica: name the master with redis-write or redis-sentinel")


async def data_set(link: Link) -> str:
    """Which history of data a server has: another one may have come in place of all it had, and it notifies of nothing.

    Raises RedisFault where it has no news to tell: a replica that has lost its master, or does not hear of it, though
    this node writes there every second. Else all partners would look dead.
    """
    said = _replication(await link.ask_one("INFO", "replication"))
    if said.get("role") == "slave":
        master = f"{said.get('master_host', '?')}:{said.get('master_port', '?')}"[:MAX_TOLD]
        if said.get("master_link_status") != "up":
            raise RedisFault(f"is a replica that has lost its master at {master}")
        if (silent := said.get("master_last_io_seconds_ago", "0")).isdigit() and int(silent) >= SILENCE:
            raise RedisFault(f"is a replica that has heard nothing of its master at {master} for {SILENCE} s or more")
    return said.get("master_replid", "")


def _replication(info: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value for name, _, value in pairs}


async def ensure_events(link: Link) -> str | None:
    """Have the server notify of what changes in keyspaces, and keep what it notifies of besides.

    Returns what is to be told where nobody may look or set it; raises RedisFault where it is known to be missing.
    """
    line = f"put the line `notify-keyspace-events {EVENTS}` into its redis.conf"
    (reply,) = await link.ask(("CONFIG", "GET", "notify-keyspace-events"))
    if isinstance(reply, RedisError) or len(reply) < 2:
        return f"does not let us see whether it notifies of changes: {line}, if it does not have it"
    flags = reply[1].decode(errors="replace")
    if not (missing := set(EVENTS) - set(flags.replace("A", _ALL_EVENTS))):
        return None
    (reply,) = await link.ask(("CONFIG", "SET", "notify-keyspace-events", flags + "".join(sorted(missing))))
    if isinstance(reply, RedisError):
        raise RedisFault(f"does not notify of changes, and does not let us set it: {line}")
    return None
