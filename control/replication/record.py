"""Records: a call as it stands in Redis and in the journal, and the lease by which a node says that it lives. Pure.

A record is one line of JSON about it, and behind the line's end the call itself as relay.snapshot writes it, which
nothing here looks into. Times are Unix seconds of the node that wrote them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import NamedTuple

import orjson

from relay.errors import HairpinError

__all__ = ["Lease", "Record", "RecordError", "decode", "decode_lease", "encode", "encode_lease"]

FORMAT = 1
MAX_RECORD = 1 << 20
"""Bytes of a record that is read."""
MAX_LEASE = 1 << 16
MAX_ENDED = 8
"""Earlier calls of a Call-ID that a record names."""


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
    ended: tuple[str, ...] = ()
    """Incarnations that this Call-ID had before, and that have ended: the tombstones this record is written over."""
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
    released: Mapping[str, int] = field(default_factory=dict)
    """Service addresses whose calls this node hands over, and the keyspace of the node that is to take them."""


def encode(record: Record) -> bytes:
    """The bytes of a record."""
    return orjson.dumps([FORMAT, _wire(record.call_id), *record[1:-1]]) + b"\n" + record.body


def decode(data: bytes) -> Record:
    """The record in some bytes. Raises RecordError."""
    if len(data) > MAX_RECORD:
        raise RecordError(f"{len(data)} bytes are too many for a record")
    line, _, body = data.partition(b"\n")
    try:
        version, *fields = orjson.loads(line)
        if version != FORMAT:
            raise RecordError(f"a record of format {str(version)[:20]}: this relay reads format {FORMAT}")
        text, incarnation, term, owner, number, dead, written, *more = fields
        call_id = _unwire(text)
    except (ValueError, TypeError, AttributeError) as error:
        raise RecordError(f"no record: {error}") from None
    if not all(type(one) is int and 0 <= one < 1 << 53 for one in (term, owner, number)) or type(dead) is not bool:
        raise RecordError("no record: term, owner, version and dead are not what they should be")
    ended = more[0] if more else []
    if not isinstance(ended, list) or len(ended) > MAX_ENDED:
        raise RecordError("no record: the calls before it are no short list")
    if not all(isinstance(one, str) and one for one in (call_id, incarnation, *ended)):
        raise RecordError("no record: it names no call")
    return Record(call_id, incarnation, term, owner, number, dead, _time(written), tuple(ended), body)


def encode_lease(lease: Lease) -> bytes:
    """The bytes of a lease."""
    return orjson.dumps(lease, option=orjson.OPT_NON_STR_KEYS)


def decode_lease(data: bytes) -> Lease:
    """The lease in some bytes; what a newer version says besides is left out. Raises RecordError."""
    if len(data) > MAX_LEASE:
        raise RecordError(f"{len(data)} bytes are too many for a lease")
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
            released={str(ip): int(keyspace) for ip, keyspace in said.get("released", {}).items()},
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordError(f"no lease: {error}") from None


def _wire(call_id: str) -> str:
    """A Call-ID in text that JSON can hold: proxies send any bytes, which stand as surrogates here."""
    return call_id if call_id.isascii() else call_id.encode("utf-8", "surrogatepass").decode("latin-1")


def _unwire(text: str) -> str:
    return text if text.isascii() else text.encode("latin-1").decode("utf-8", "surrogatepass")


def _time(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not isfinite(value):
        raise RecordError("its time is no number")
    return float(value)
