"""Relays that hold each other's calls ready: real daemons over real Redis servers.

The network is tests.pair's. Each relay has a replica of Redis on its own host and writes to the master on `store`.
Unless told otherwise their data plane keeps rules and forwards nothing: what is looked at is whether all tell the same.
"""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from control.ops.asking import ask
from relay.types import Endpoint
from tests.calls import sdp
from tests.daemon import Daemon
from tests.lab import Lab, LabError
from tests.ng import CALLEE, CALLER, Proxy
from tests.pair import PairNetwork, RelayHost, pair_network
from tests.peers import NG_PORT
from tests.stores import RedisServer, eventually

__all__ = ["LEASE", "Member", "Partners", "Standing"]

OPEN = ("--protected-mode", "no", "--enable-debug-command", "yes")
LEASE = 2
PROMPT = 0.05
"""Seconds within which a proxy has its reply, whatever Redis does."""
LOADED = 0.4
"""Seconds that a reply may take where other programs have the machine's cores: less than any time limit of Redis' here,
which a reply that waited for Redis would take."""
SPEEDS = (
    f"--node-lease={LEASE}",
    "--compare-interval=2",
    "--refresh-interval=4",
    "--redis-cmd-timeout=500",
    "--redis-connect-timeout=500",
)

Standing = dict[str, tuple[int, ...]]
"""Owner, branches and streams by Call-ID."""


class Member:
    """One of the relays."""

    def __init__(self, network: PairNetwork, place: RelayHost, master: RedisServer, options: tuple[str, ...]) -> None:
        self.network, self.place, self.options = network, place, options
        self.number = place.number
        self.ng = Endpoint(place.address, NG_PORT)
        self.replica = RedisServer(place.host, place.address, replica_of=master, options=OPEN)
        self.state = place.host.folder / "state"
        self.daemon: Daemon | None = None
        self.waits: list[float] = []
        """Seconds that replies took."""
        self._master = master
        self.proxy = Proxy(network.proxy, self.ng)

    def begin(self, *more: str, wrapper: tuple[str, ...] = (), knows: tuple[int, ...] = (1, 2, 3)) -> None:
        """Start its daemon, which has the service addresses of those it `knows`."""
        places = self.network.relays
        homes = [f"{one.service}@{one.number}" for one in places if one.number in knows and one is not self.place]
        self.daemon = Daemon(
            self.place.host,
            f"--interface={';'.join((self.place.service, *homes))}",
            f"--listen-ng={self.ng}",
            "--ng-allow=10.98.0.0/16",
            f"--redis={self.place.address}:6379/{self.number}",
            f"--redis-write={self._master.address}:6379/{self.number}",
            f"--subscribe-keyspace={';'.join(str(one.number) for one in places if one is not self.place)}",
            f"--node-name=relay{self.number}",
            f"--state-dir={self.state}",
            f"--socket={self.place.host.folder}/operators.sock",
            "--delete-delay=0",
            *SPEEDS,
            *self.options,
            *more,
            wrapper=wrapper,
        ).ready(self.ng)

    def kill(self) -> None:
        assert self.daemon is not None
        self.daemon.end(signal.SIGKILL)
        self.daemon = None

    def close(self) -> None:
        if self.daemon is not None:
            self.kill()
        self.proxy.__exit__(None, None, None)

    def operator(self, word: str) -> list[dict[str, Any]]:
        """What `hairpin WORD --json` prints."""
        return list(ask(self.place.host.folder / "operators.sock", word, {}))

    def status(self) -> dict[str, Any]:
        return self.operator("status")[0]

    def in_step(self) -> bool:
        """Whether its writes arrive, and it has all calls of all partners."""
        told = self.status()["replication"]
        all_here = all(one["news arrive"] and one["doubt"] is None for one in told["partners"].values())
        return bool(told["written"] and told["doubt"] is None and not told["waiting"] and all_here)

    # -- calls

    def ask(self, command: str, call_id: str, **keys: Any) -> dict[str, Any]:
        """A proxy's command, whose reply is timed."""
        began = time.monotonic()
        reply = self.proxy.ask(command, call_id=call_id, from_tag=CALLER, **keys)
        self.waits.append(time.monotonic() - began)
        return reply

    def set_up(self, call_id: str, port: int = 4000) -> None:
        """An offer and its answer, with the caller at a port."""
        self.ask("offer", call_id, sdp=sdp(Endpoint("198.51.100.1", port)))
        self.ask("answer", call_id, to_tag=CALLEE, sdp=sdp(Endpoint("198.51.100.2", port)))

    def hang_up(self, call_id: str) -> None:
        self.ask("delete", call_id)

    def calls(self) -> Standing:
        """The calls it has."""
        rows = self.operator("list")
        return {row["call_id"]: (row["owner"] or self.number, row["branches"], row["streams"]) for row in rows}

    def rules(self) -> dict[str, tuple[Any, ...]]:
        """The ports it has in force, each one call's and drawn from its pool."""
        rows = self.operator("rules")
        found = {row["local"]: (row["call_id"], row["leaves_from"], row["destination"]) for row in rows}
        assert len(found) == len(rows), f"a port is in force twice at relay{self.number}"
        return found

    def ports(self) -> int:
        """How many its pools count as drawn."""
        return sum(int(one["ports_used"]) for one in self.status()["interfaces"])


class Partners:
    """All of them, for one scene after the other; `options` are every relay's."""

    def __init__(self, lab: Lab, relays: int = 3, options: tuple[str, ...] = ("--dataplane=memory",)) -> None:
        self.network = pair_network(lab, relays)
        self.master = RedisServer(self.network.store, self.network.STORE_ADDRESS, options=OPEN)
        self.members = [Member(self.network, place, self.master, options) for place in self.network.relays]

    def __getitem__(self, number: int) -> Member:
        return self.members[number - 1]

    def next(self, member: Member) -> Member:
        return self[member.number % len(self.members) + 1]

    def living(self) -> list[Member]:
        return [one for one in self.members if one.daemon is not None]

    @contextmanager
    def scene(self) -> Iterator[None]:
        """All are at rest at first; where it goes wrong, nothing of it is left to the next one."""
        self.at_rest()
        try:
            yield
        except BaseException:
            self.strike()
            raise

    def at_rest(self) -> None:
        """All run with nothing to do, and every one has its partners' calls."""
        for member in self.members:
            if member.daemon is None:
                member.begin()
        for member in self.members:
            for call_id, (owner, *_) in member.calls().items():
                if owner == member.number:
                    member.hang_up(call_id)
        self.settled({})
        for member in self.members:
            member.waits.clear()

    def strike(self) -> None:
        """Kill all relays, and leave nothing of what they had."""
        for member in self.living():
            member.kill()
        for member in self.members:
            shutil.rmtree(member.state, ignore_errors=True)
        self.master.flush()

    def settled(self, calls: dict[str, int], patience: float = 12.0) -> None:
        """Wait until all who live have just these calls, of these owners, with the same ports in force.

        No other ports are drawn, and Redis has no other calls alive. Raises LabError with what differs.
        """
        differs = "nothing looked at"

        def agree() -> bool:
            nonlocal differs
            differs = self._differs(calls)
            return not differs

        try:
            eventually(agree, "agreement", patience)
        except LabError as error:
            logs = "".join(f"\n-- relay{one.number}\n{one.daemon.said()[-600:]}" for one in self.living() if one.daemon)
            raise LabError(f"{error}: {differs}{logs}") from None

    def _differs(self, calls: dict[str, int]) -> str:
        for member in self.living():
            if not member.in_step():
                return f"relay{member.number} is not in step: {member.status()['replication']}"
        found = [(one.number, one.calls(), one.rules(), one.ports()) for one in self.living()]
        number, first, rules, _ = found[0]
        for other, standing, others, ports in found:
            owners = {call_id: owner for call_id, (owner, *_) in standing.items()}
            if owners != calls:
                return f"relay{other} has {owners}, not {calls}"
            if standing != first:
                return f"relay{other} has {standing}, relay{number} {first}"
            if others != rules:
                return f"rules at relay{other}: {set(others.items()) ^ set(rules.items())}"
            if ports != len(others):
                return f"{ports} ports are drawn at relay{other}, {len(others)} in force"
        return self._stored(calls)

    def _stored(self, calls: dict[str, int]) -> str:
        alive = [(call_id, one.number) for one in self.members for call_id in self._alive(one.number)]
        missing = set(calls.items()) - set(alive)
        zombies = {call_id for call_id, _ in alive} - calls.keys()
        return f"in Redis are missing {missing}, and stand {zombies}" if missing or zombies else ""

    def _alive(self, keyspace: int) -> Iterator[str]:
        """Calls of which a keyspace has a record that is no tombstone."""
        first_lines = (
            "local r = {} for _, key in ipairs(redis.call('KEYS', 'call:*')) do "
            "r[#r + 1] = string.match(redis.call('GET', key), '^[^\\n]*') end return r"
        )
        for line in self.master.ask("-n", str(keyspace), "EVAL", first_lines, "0").splitlines():
            if line.startswith("[1,"):
                _, call_id, _, _, _, _, dead, *_ = json.loads(line)
                if not dead:
                    yield call_id

    def prompt(self) -> None:
        """Assert that no reply came late."""
        waits = sorted(wait for member in self.members for wait in member.waits)
        assert waits[len(waits) // 2] <= PROMPT, f"replies took {waits}"
        assert waits[-1] <= LOADED, f"a reply took {waits[-1]:.3f} s"

    # -- what befalls the network

    @contextmanager
    def parted(self, *members: Member) -> Iterator[None]:
        """Let nothing pass between these and the master."""
        for member in members:
            both = " ".join(
                f"add chain inet parted {hook} {{ type filter hook {hook} priority 0; }};"
                f"add rule inet parted {hook} ip {side} {self.master.address} drop;"
                for hook, side in (("input", "saddr"), ("output", "daddr"))
            )
            member.place.host.run("nft", f"add table inet parted; {both}")
        try:
            yield
        finally:
            for member in members:
                member.place.host.run("nft", "delete table inet parted")

    def close(self) -> None:
        for member in self.members:
            member.close()
