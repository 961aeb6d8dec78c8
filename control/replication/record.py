"""Records: a call as it stands in Redis and in the journal, and the lease by which a node says that it lives. Pure.

A record is one line of JSON about it, and behind the line's end the call itself as relay.snapshot writes it, which
nothing here looks into. Times are Unix seconds of the node that wrote them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from relay.errors import HairpinError

__all__ = ["Lease", "Record", "RecordError", "decode", "decode_lease", "encode", "encode_lease"]

FORMAT = 1
MAX_RECORD = 1 << 20
"""Bytes of a record that is read."""


class RecordError(HairpinError):
    """Bytes that are no record, or one of a newer version; the text says which."""


class Record(NamedTuple):
    """One call as one node wrote it."""

    call_id: str
    incarnation: str
    term: int
    owner: int
    version: int
    dead: bool = False
    """A tombstone: the call has ended, and no older record brings it back."""
    written: float = 0.0
    body: bytes = b""
    """The snapshot; empty in a tombstone."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What a node says of itself every second, with an expiry."""

    keyspace: int
    name: str
    instance: str
    """Of the daemon: a new one at each start."""
    written: float
    sequence: int
    """Of the node's last transaction."""
    synced: Mapping[int, bool] = field(default_factory=dict)
    """Whether this node has all calls of another keyspace, as far as it can know."""
    announced: Mapping[str, str] = field(default_factory=dict)
    """What it announces of each service address: primary, backup or none."""
    busy: Mapping[str, int] = field(default_factory=dict)
    """Ports of each service address that packets came to in the last sweep."""
    healthy: bool = True


def encode(record: Record) -> bytes:
    """The bytes of a record."""
    head = [FORMAT, record.call_id, record.incarnation, record.term, record.owner, record.version, record.dead]
    return orjson.dumps([*head, record.written]) + b"\n" + record.body


def decode(data: bytes) -> Record:
    """The record in some bytes. Raises RecordError."""
    line, _, body = data.partition(b"\n")
    if len(data) > MAX_RECORD:
        raise RecordError(f"{len(data)} bytes are too many for a record")
    try:
        version, *fields = orjson.loads(line)
        if version != FORMAT:
            raise RecordError(f"a record of format {version}: this relay reads format {FORMAT}")
        record = Record(*fields, body=body)
    except (ValueError, TypeError) as error:
        raise RecordError(f"no record: {error}") from None
    numbers = (record.term, record.owner, record.version)
    if not all(type(one) is int and 0 <= one < 1 << 53 for one in numbers) or not isinstance(record.dead, bool):
        raise RecordError("no record: term, owner, version and dead are not what they should be")
    if not isinstance(record.call_id, str) or not isinstance(record.incarnation, str):
        raise RecordError("no record: it names no call")
    return record._replace(written=_time(record.written))


def encode_lease(lease: Lease) -> bytes:
    """The bytes of a lease."""
    return orjson.dumps(lease, option=orjson.OPT_NON_STR_KEYS)


def decode_lease(data: bytes) -> Lease:
    """The lease in some bytes; what a newer version says besides is left out. Raises RecordError."""
    try:
        said = orjson.loads(data)
        return Lease(
            keyspace=int(said["keyspace"]),
            name=str(said["name"]),
            instance=str(said["instance"]),
            written=_time(said["written"]),
            sequence=int(said["sequence"]),
            synced={int(keyspace): bool(yes) for keyspace, yes in said["synced"].items()},
            announced={str(ip): str(what) for ip, what in said["announced"].items()},
            busy={str(ip): int(ports) for ip, ports in said["busy"].items()},
            healthy=bool(said["healthy"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordError(f"no lease: {error}") from None


def _time(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise RecordError("no record: its time is no number")
    return float(value)
