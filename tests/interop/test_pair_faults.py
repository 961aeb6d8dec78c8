"""What befalls Redis, the network and relays while calls begin, change, move and end: all agree afterwards.

No call that lives is lost, none that ended stands anywhere, no port is given out twice, and no reply waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import pytest

from tests.lab import Lab
from tests.partners import LEASE, OPEN, Member, Partners


@pytest.fixture(scope="module")
def bare() -> Iterator[Partners]:
    with Lab() as lab:
        partners = Partners(lab)
        yield partners
        partners.close()


@pytest.fixture
def partners(bare: Partners) -> Iterator[Partners]:
    with bare.scene():
        yield bare


# -- Redis, and the way to it


@contextmanager
def news_lost(partners: Partners) -> Iterator[None]:
    """One is cut off and finds its server mute; another's server falls mute without a word."""
    partners[2].replica.set("notify-keyspace-events", "")
    partners[3].replica.set("notify-keyspace-events", "")
    partners[3].replica.cut_subscribers()
    yield


@contextmanager
def flushed(partners: Partners) -> Iterator[None]:
    partners.master.ask("-n", "1", "FLUSHDB")
    yield
    partners.master.ask("-n", "2", "FLUSHDB")


@contextmanager
def restarted_empty(partners: Partners) -> Iterator[None]:
    partners.master.kill()
    yield
    partners.master.start(*OPEN)


@contextmanager
def hanging(partners: Partners) -> Iterator[None]:
    partners.master.freeze()
    try:
        yield
        time.sleep(LEASE)
    finally:
        partners.master.thaw()


@contextmanager
def readers_hang(partners: Partners) -> Iterator[None]:
    for number in (1, 2):
        partners[number].replica.freeze()
    try:
        yield
        time.sleep(LEASE)
    finally:
        for number in (1, 2):
            partners[number].replica.thaw()


@contextmanager
def full(partners: Partners) -> Iterator[None]:
    partners.master.set("maxmemory", "1mb")
    try:
        yield
        time.sleep(LEASE)
    finally:
        partners.master.set("maxmemory", "0")


@contextmanager
def read_only(partners: Partners) -> Iterator[None]:
    """Another server is promoted, and the master made its replica."""
    other = partners[3].replica
    other.promote()
    partners.master.follow(other)
    try:
        yield
    finally:
        partners.master.promote()
        other.follow(partners.master)


@contextmanager
def loading_old_data(partners: Partners) -> Iterator[None]:
    """The master comes back slowly, with all as it was before."""
    partners.master.ask("-n", "5", "DEBUG", "POPULATE", "1500")
    partners.master.ask("SAVE")
    partners.master.kill()
    yield
    slow = ("--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024", "--save", "3600", "1")
    partners.master.start(*OPEN, *slow)
    partners.master.ask("-n", "5", "FLUSHDB")
    (partners.master.folder / "dump.rdb").unlink(missing_ok=True)


@contextmanager
def parted(partners: Partners) -> Iterator[None]:
    """Each relay is alone for longer than a lease, and all of Redis expires meanwhile."""
    with partners.parted(*partners.members):
        yield
        expire = "for _, k in ipairs(redis.call('KEYS', '*')) do redis.call('PEXPIRE', k, 1) end"
        for keyspace in (1, 2, 3):
            partners.master.ask("-n", str(keyspace), "EVAL", expire, "0")
        time.sleep(LEASE)


Fault = Callable[[Partners], AbstractContextManager[None]]
FAULTS: list[Fault] = [
    news_lost,
    flushed,
    restarted_empty,
    hanging,
    readers_hang,
    full,
    read_only,
    loading_old_data,
    parted,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_all_agree_after_what_befalls_redis(partners: Partners, fault: Fault) -> None:
    """Each relay begins, changes and ends calls of its own, and changes and ends some of its partner's."""
    calls = {member.number: Calls(fault.__name__, member, partners.next(member)) for member in partners.members}
    for one in calls.values():
        one.begin()
    partners.settled({call_id: number for number, one in calls.items() for call_id in one.names()})
    with fault(partners):
        for one in calls.values():
            one.go_on()
        time.sleep(2)  # what is said a second later, and as long as a lease may take to be read, counts as later
        for one in calls.values():
            one.go_on_later()
    partners.settled({call_id: owner for one in calls.values() for call_id, owner in one.expected().items()})
    last = {rule[2].rpartition(":")[2] for rule in partners[1].rules().values() if "at both" in rule[0]}
    assert last == {"7000", "7001"}
    partners.prompt()


@dataclass
class Calls:
    """What happens to calls of a relay during a fault, some of it at another relay."""

    fault: str
    home: Member
    other: Member

    def __call__(self, kind: str) -> str:
        return f"{kind} {self.home.number} {self.fault}"

    def names(self) -> list[str]:
        kinds = ("stays", "changes", "ends", "moves", "ends elsewhere", "changes at both", "ends at one")
        return [self(kind) for kind in kinds]

    def begin(self) -> None:
        for name in self.names():
            self.home.set_up(name)

    def go_on(self) -> None:
        self.home.set_up(self("begins"))
        self.home.set_up(self("changes"), 6000)
        self.home.hang_up(self("ends"))
        self.home.set_up(self("is short"))
        self.home.hang_up(self("is short"))
        self.other.set_up(self("moves"), 6000)
        self.other.hang_up(self("ends elsewhere"))
        self.other.set_up(self("changes at both"), 6000)
        self.other.set_up(self("ends at one"), 6000)

    def go_on_later(self) -> None:
        self.home.set_up(self("changes at both"), 7000)
        self.home.hang_up(self("ends at one"))

    def expected(self) -> dict[str, int]:
        """Owners of what stands afterwards."""
        own = ("stays", "changes", "begins", "changes at both")
        return {self(kind): self.home.number for kind in own} | {self("moves"): self.other.number}
