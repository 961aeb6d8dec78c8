"""What user space does about addresses that XDP learned: it tells the listener, and folds those that stay.

XDP answers a learned address by itself, at first by the way its packets came in. Once the window is closed on another
IP address than the signalled one, that takes its place in the rule that sends there, with a next hop of its own: from
then on packets touch one cache line again, and netlink keeps the way right. Events may be lost (their ring was full,
their rule's budget spent), so a sweep over the table finds what they would have said.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterable

import numpy as np

from relay.dataplane import abi
from relay.dataplane.ring import RingReader
from relay.dataplane.table import RuleTable, Standing
from relay.dataplane.words import window
from relay.errors import DataplaneError
from relay.types import Endpoint

_EVENT = struct.Struct("=IIQ")
_BATCH = 512

Told = Callable[[Endpoint, Endpoint, bool], None]
"""Local port, its party's source, and whether its window is closed."""


class Learning:
    """Reads the ring of events, and one local address's part of the table at each `sweep`."""

    def __init__(self, table: RuleTable, ring: RingReader, told: Told) -> None:
        self._table = table
        self._ring = ring
        self._told = told
        self._seen = table.rules["expected"].copy()
        self._turn = 0
        self.folds = 0
        table.taken_over = self.look

    def read(self) -> None:
        """Handle what the ring holds; called when its descriptor is readable."""
        for record in self._ring.read(_BATCH):
            _, index, _ = _EVENT.unpack_from(record)
            self._apply(index)

    def look(self, indexes: Iterable[int]) -> None:
        """Tell what stands at rules that were taken over: nobody has heard of it since the process before this one."""
        for index in indexes:
            if index in self._table.standing:
                self._apply(index)

    def sweep(self) -> None:
        """Find changes nobody told of in the ports of one local address; each call takes the next address."""
        addresses = len(self._seen) // abi.PORTS
        part = slice(self._turn * abi.PORTS, (self._turn + 1) * abi.PORTS)
        self._turn = (self._turn + 1) % addresses
        for index in np.flatnonzero(self._table.rules["expected"][part] != self._seen[part]):
            self._apply(part.start + int(index))

    def _apply(self, index: int) -> None:
        """Act on the word as it stands: an event may be older than what the table holds by now."""
        word = self._table.expected(index)
        self._seen[index] = word
        entry = self._table.standing.get(index)
        if entry is None:
            return
        generation, state = window(word)
        source = self._table.source(entry, word)
        if generation != entry.generation or state == abi.UNSEEN or source is None:
            return
        closed = state in (abi.WEAK, abi.CONFIRMED)
        if closed:
            self._fold(entry, source)
        news = source, closed
        if news != entry.told:
            entry.told = news
            self._told(entry.rule.local, *news)

    def _fold(self, entry: Standing, source: Endpoint) -> None:
        mirrored = self._table.standing.get(entry.mirror)
        if mirrored is None or mirrored.mirror != entry.index:
            return
        signalled = mirrored.wanted
        if signalled is not None and signalled.ip == source.ip:
            return  # the next hop is right already, and the learned word carries the port
        if self._table.screen(source, mirrored.rule.source.ip) is None:
            with contextlib.suppress(DataplaneError):  # without a token for it packets go on by the learned word
                self._table.fold(entry, source)
                self.folds += 1
