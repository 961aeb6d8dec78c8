"""This node among its partners: joins the registry, what carries records, and who owns a call.

Outbound writes what the keeper recorded. This is the store's reader: each record is judged, and what is to stand here
waits in a queue that is worked off in slices, so that no command waits behind the calls of a partner.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from control.replication.inbound import Inbound, Restore
from control.replication.outbound import Outbound, Shelf
from control.replication.partners import Keyspace, Partner
from control.replication.record import Lease, Record, RecordError, decode, decode_lease, encode_lease
from control.replication.store import Store
from control.replication.takeover import Takeover, Terms, addresses
from control.replication.traffic import Address, Traffic
from relay.call import Call
from relay.errors import HairpinError
from relay.registry import Registry
from relay.types import Endpoint

__all__ = ["Replicator", "Terms"]

SLICE = 0.005
"""Seconds that arrived records may keep commands waiting."""
BEATS = 5
"""Leases written within the length of one."""
TELL = 2
"""Sweeps between two times that partners are told what was heard, unless much has changed."""
OWN_SHARE = 5
"""One's own keyspace is compared once for so many comparisons with partners."""
READY = 5.0
"""Seconds after a start for which calls may have to wait for the first comparisons."""

log = logging.getLogger(__name__)


class Replicator:
    """All methods are plain calls on the event loop's thread.

    `restore` makes calls of snapshots (control.keeper). `clock` gives monotonic seconds, `unix` Unix seconds, `later`
    has something called soon, after what else waits. `announced` and `healthy` are what this node says of itself; the
    failover sets them.
    """

    def __init__(
        self,
        registry: Registry,
        store: Store,
        keyspace: int,
        partners: Sequence[int],
        terms: Terms,
        restore: Restore,
        *,
        name: str,
        instance: str,
        clock: Callable[[], float],
        unix: Callable[[], float],
        later: Callable[[Callable[[], None]], object],
        shelf: Shelf | None = None,
    ) -> None:
        self.registry, self.keyspace, self.terms = registry, keyspace, terms
        self.announced: dict[str, str] = {}
        self.healthy = True
        self._store, self._name, self._instance = store, name, instance
        self._clock, self._unix, self._later = clock, unix, later
        now = self._started = clock()
        self.own = Keyspace(keyspace, now)
        self.partners = {one: Partner(one, now) for one in partners}
        homes = {one.address: one.home if one.home >= 0 else keyspace for one in registry.interfaces}
        self.traffic = Traffic(homes, terms.lease, terms.owner_gone, terms.sweep)
        self.takeover = Takeover(registry, self.own, self.partners, self.traffic, terms, self.announced)
        self.outbound = Outbound(registry, store, self.own, terms, clock, shelf)
        self.inbound = Inbound(
            registry, self.own, self.partners, self.outbound, terms, restore, clock, unix, self._fail, shelf
        )
        self.released: dict[str, tuple[int, float]] = {}
        """Addresses whose calls a partner is asked to take, and until when."""
        self._chores: deque[Iterator[None]] = deque()
        """Long looks at many calls, done in pieces."""
        self._working = False
        self._sequence = self._sweeps = 0
        self._next_sweep = self._next_lease = now
        self._next_look = now + terms.look
        self._compare_at = dict.fromkeys((*partners, keyspace), now + terms.compare)

    # -- what the keeper asks and tells

    def put(self, call_id: str, record: bytes, dead: bool) -> None:
        """Write a call of this node, or that one has ended."""
        self.outbound.put(call_id, record, dead)

    def over(self, call_id: str, incarnation: str) -> bool:
        """Whether a call is known to have ended, so that it is not to be restored from what was kept of it."""
        return incarnation in self.outbound.graves.of(call_id)

    def governs(self, head: Call) -> bool:
        """Whether silence may end a call here and now."""
        if head.deed.foreign:
            return False
        return not self.traffic.suspended or self.traffic.suspended.isdisjoint(addresses(head))

    def heard(self, local: Endpoint) -> float:
        """When a partner last heard packets at its copy of a port, 0.0 for never."""
        return self.traffic.heard(local)

    # -- what the failover and operators ask

    @property
    def leases(self) -> Mapping[int, Lease]:
        """Of the partners that live."""
        now, lease = self._clock(), self.terms.lease
        return {key: one.lease for key, one in self.partners.items() if one.lease is not None and one.lives(now, lease)}

    def in_sync(self, keyspace: int) -> bool:
        """Whether all calls of a keyspace are here, as far as can be known. It stands while Redis is away.

        Calls of its addresses may be anybody's by now: who was never compared may own them.
        """
        found = self._keyspace(keyspace)
        return found is not None and self._asked and found.doubt(self._clock()) is None

    @property
    def ready(self) -> bool:
        """Whether ports may be drawn for new calls: who holds calls on this node's ports was asked, or is away.

        A node that lost its memory would draw ports again that a partner's copy of a call still has.
        """
        return self._asked or self._clock() - self._started > READY

    @property
    def _asked(self) -> bool:
        return all(one.compared is not None for one in (self.own, *self.partners.values()))

    def serving(self, ip: str) -> bool:
        """Whether packets of an address come here, or where none come at all, whether it is this node's own."""
        address = self.traffic.addresses.get(ip)
        if address is None:
            return False
        elsewhere = max((one.busy.get(ip, 0) for one in self.leases.values()), default=0)
        if address.served or elsewhere:
            return address.mine >= elsewhere
        return address.home == self.keyspace

    def take(self, ip: str) -> int:
        """Take the ownership of all calls of an address; returns how many there are to take."""
        found = self.takeover.order(ip)
        self._wake()
        return found

    def release(self, ip: str) -> int:
        """Have a partner take the calls of an address; returns its keyspace. Raises HairpinError where none can."""
        address = self.traffic.addresses.get(ip)
        able = [one for one in self.leases.values() if one.healthy and ip in one.busy and one.synced.get(self.keyspace)]
        if address is None or not able:
            raise HairpinError(f"no partner lives that has {ip} and all calls of this node: nobody can take them")
        best = min(able, key=lambda one: (-one.busy[ip], one.keyspace != address.home, one.keyspace))
        self.released[ip] = best.keyspace, self._clock() + 3 * self.terms.lease
        self._next_lease = self._clock()
        return best.keyspace

    # -- time

    def tick(self, now: float) -> None:
        """Do what is due; to be called at least as often as the sweeps are."""
        if now >= self._next_sweep:
            self._next_sweep = now + self.terms.sweep
            self._sweep(now)
        if now >= self._next_lease:
            self._next_lease = now + self.terms.lease / BEATS
            self._say(now)
        if now >= self._next_look:
            self._next_look = now + self.terms.look
            self.outbound.graves.expire(now)
            self._chores.append(self._look(now))
        for keyspace in (self.own, *self.partners.values()):
            if keyspace.reachable and now >= self._compare_at[keyspace.keyspace]:
                self._compare(keyspace)
        if self._store.sequence < self._sequence:  # Redis came back with less than it had
            self._compare(self.own)
        self._sequence = self._store.sequence
        self._wake()

    def _sweep(self, now: float) -> None:
        self._sweeps += 1
        drawn: dict[str, int] = {}
        for interface in {id(one.pool): one for one in self.registry.interfaces}.values():
            drawn[interface.address] = drawn.get(interface.address, 0) + interface.pool.drawn
        for ip, address in self.traffic.addresses.items():
            bitmap = int.from_bytes(self.registry.plane.heard(ip), "little")
            address.sweep(bitmap, now)
            self.takeover.sweep(address, bitmap, now)
            self.traffic.judge(address, self.partners.values(), drawn.get(ip, 0), now)
            self._tell(address)

    def _tell(self, address: Address) -> None:
        if address.unsaid and (self._sweeps % TELL == 0 or address.changed):
            told = address.tell()
            bitmap = told.to_bytes((told.bit_length() + 7) // 8, "little")
            self._store.hear(address.ip, bitmap, self.terms.lease)

    def _say(self, now: float) -> None:
        """Write the lease."""
        self.released = {ip: (heir, until) for ip, (heir, until) in self.released.items() if now < until}
        lease = Lease(
            self.keyspace,
            self._name,
            self._instance,
            self._unix(),
            self._store.sequence,
            {one.keyspace: one.reachable and self.in_sync(one.keyspace) for one in self.partners.values()},
            dict(self.announced),
            {ip: address.mine for ip, address in self.traffic.addresses.items()},
            self.healthy,
            {ip: heir for ip, (heir, _) in self.released.items()},
        )
        self._store.lease(encode_lease(lease), self.terms.lease)

    def _compare(self, keyspace: Keyspace) -> None:
        now = self._clock()
        self._compare_at[keyspace.keyspace] = now + self.terms.compare * (OWN_SHARE if keyspace is self.own else 1)
        if keyspace.asked is None:
            keyspace.asked = now
        self._store.compare(keyspace.keyspace)

    def _look(self, now: float) -> Iterator[None]:
        """Give up calls of partners that nobody feeds, in pieces."""
        for call_id in self.takeover.look(now):
            if call_id is not None:
                self.inbound.forget(call_id, "its owner is gone")
            yield

    # -- what the store tells (control.replication.store.Reader)

    def reachable(self, keyspace: int, yes: bool) -> None:
        """News of a keyspace arrive from here on, or do not: what was missed is found by a comparison."""
        found = self._keyspace(keyspace)
        if found is not None:
            found.reach(yes, self._clock())
            if yes:
                self._compare(found)
            elif found is self.own:
                self.outbound.lost()

    def transacted(self, keyspace: int, count: int) -> None:
        """So many more transactions of a node were notified of."""
        if (partner := self.partners.get(keyspace)) is not None:
            partner.transacted(count)

    def read_lease(self, keyspace: int, lease: bytes | None) -> None:
        """What a node says of itself. Where nothing stands, its lease runs out by itself."""
        partner = self.partners.get(keyspace)
        if partner is None or lease is None:
            return
        try:
            said = decode_lease(lease)
        except RecordError as error:
            self._fail(partner, "", str(error))
            return
        before = partner.lease
        if before is not None and (before.instance, before.written) == (said.instance, said.written):
            return
        restarted = partner.life.note(said, self._clock(), self._unix())
        if partner.missed(said.sequence) or restarted:
            self._compare(partner)
        for ip, heir in said.released.items():
            if heir == self.keyspace and (before is None or before.released.get(ip) != heir):
                self.takeover.order(ip, keyspace)
        self._wake()

    def read_heard(self, keyspace: int, ip: str, bitmap: bytes) -> None:
        """Which ports of an address took packets at a partner."""
        if (partner := self.partners.get(keyspace)) is not None:
            self.traffic.listen(partner, ip, bitmap, self._clock())

    def read(self, keyspace: int, call_id: str, record: bytes | None) -> None:
        """What stands under a key. That nothing does says nothing."""
        found = self._keyspace(keyspace)
        if found is None or record is None:
            return
        try:
            said = decode(record)
            if said.call_id != call_id:
                raise RecordError("a record of another call than its key names")
            self.inbound.read(found, said)
        except RecordError as error:
            self._fail(found, call_id, str(error))
        self._wake()

    def compared(self, keyspace: int, call_ids: frozenset[str]) -> None:
        """All of a keyspace was told; all of it is here when what waits of it has been worked off."""
        if self._keyspace(keyspace) is not None:
            self.inbound.inbox.end(keyspace, call_ids)
            self._wake()

    def _keyspace(self, keyspace: int) -> Keyspace | None:
        return self.own if keyspace == self.keyspace else self.partners.get(keyspace)

    def _fail(self, keyspace: Keyspace, call_id: str, reason: str) -> None:
        if keyspace.fail(call_id, reason):
            what = f"call {call_id} is not held ready" if call_id else "the lease cannot be read"
            log.warning("keyspace %d: %s: %s", keyspace.keyspace, what, reason)

    # -- work in slices

    def _wake(self) -> None:
        waits = self.inbound.inbox or self.takeover or self.outbound.again or self._chores
        if waits and not self._working:
            self._working = True
            self._later(self._work)

    def _work(self) -> None:
        self._working = False
        end = self._clock() + SLICE
        try:
            while self._step() and self._clock() < end:
                pass
        finally:
            self._wake()

    def _step(self) -> bool:
        """Do one piece of work; returns whether there was any."""
        found = self.inbound.inbox.take()
        if found is not None:
            keyspace = self._keyspace(found[0])
            assert keyspace is not None
            if isinstance(found[1], Record):
                self.inbound.install(keyspace, found[1])
                if not self.released:  # of two that hand over to each other, calls would go to and fro
                    self.takeover.inherit(found[1].call_id)
            else:
                self._settle(keyspace, found[1])
            return True
        return self.takeover.work(self._clock()) or self.outbound.work() or self._do_chore()

    def _do_chore(self) -> bool:
        if not self._chores:
            return False
        try:
            next(self._chores[0])
        except StopIteration:
            self._chores.popleft()
        return True

    def _settle(self, keyspace: Keyspace, call_ids: frozenset[str]) -> None:
        """A comparison has been worked off."""
        keyspace.finish(call_ids, self._clock())
        if keyspace is self.own:
            self.outbound.compared()
            self._chores.append(self.outbound.missing(call_ids))
        if keyspace.keyspace in self.inbound.inbox.full:
            self.inbound.inbox.full.discard(keyspace.keyspace)
            self._compare(keyspace)

    # -- operators

    def status(self) -> dict[str, Any]:
        """What operators are told."""
        now = self._clock()
        calls: dict[int, int] = {}
        for head in self.registry:
            calls[head.deed.owner] = calls.get(head.deed.owner, 0) + 1
        return {
            "keyspace": self.keyspace,
            "written": self.own.reachable,
            "doubt": self.own.doubt(now),
            "calls": {str(owner): number for owner, number in sorted(calls.items())},
            "waiting": len(self.inbound.inbox) + len(self.takeover) + len(self.outbound.again),
            "addresses": {ip: self._status_of(address) for ip, address in self.traffic.addresses.items()},
            "partners": {str(one.keyspace): one.status(now, self.terms.lease) for one in self.partners.values()},
        }

    def _status_of(self, address: Address) -> dict[str, Any]:
        return {
            "home": address.home,
            "ports heard": address.mine,
            "timers": address.suspended or "run",
            "released to": self.released[address.ip][0] if address.ip in self.released else None,
        }
