"""The contract between what decides about calls and what carries their records between nodes.

`Store` writes into this node's own keyspace and nowhere else. `Reader` is told what was found in the keyspaces of
others, and in its own when they are compared. All methods are plain calls on the event loop's thread that return at
once: whatever Redis does meanwhile, no reply to a proxy waits for it.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["Reader", "Store"]


class Store(Protocol):
    """Writes to this node's keyspace, coalesced by key: of several values that wait for one key the last is written."""

    def put(self, call_id: str, record: bytes, expires: float) -> None:
        """Write a call's record or tombstone soon, to be forgotten by Redis after `expires` seconds."""

    def lease(self, lease: bytes, expires: float) -> None:
        """Say that this node lives. It goes before all records that wait."""

    def hear(self, ip: str, bitmap: bytes, expires: float) -> None:
        """Say which ports of an address took packets here lately (relay.dataplane.Dataplane.heard)."""

    def compare(self, keyspace: int) -> None:
        """Read all of a keyspace, one's own included, soon."""

    @property
    def sequence(self) -> int:
        """The number of this node's last transaction that Redis has confirmed."""


class Reader(Protocol):
    """Is told what the keyspaces hold."""

    def read(self, keyspace: int, call_id: str, record: bytes | None) -> None:
        """What stands under a key after a notification or in a comparison; None: nothing, which deletes nothing."""

    def transacted(self, keyspace: int, count: int) -> None:
        """So many more transactions of a node were notified of (its sequence number was counted up in each).

        Told before what they wrote. A node's lease says how many there were: of the difference news were lost.
        """

    def read_lease(self, keyspace: int, lease: bytes | None) -> None:
        """A node's lease; None where there is none."""

    def read_heard(self, keyspace: int, ip: str, bitmap: bytes) -> None:
        """Which ports of an address took packets at another node."""

    def compared(self, keyspace: int, call_ids: frozenset[str]) -> None:
        """All of a keyspace has been read and told since `Store.compare`: these calls have a record there."""

    def reachable(self, keyspace: int, yes: bool) -> None:
        """Whether news of a keyspace arrive, or for one's own whether writes do, from here on."""
