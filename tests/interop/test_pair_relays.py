"""What befalls relays of several that hold each other's calls: dead, without Redis, forgetful, misinformed.

All agree afterwards; no call that lives is lost, none that ended stands anywhere, no port is given out twice.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.partners import LEASE, OPEN, Partners
from tests.stores import eventually

EXPIRES, TOMBSTONE = 86400, 900
"""Seconds for which Redis has records and tombstones, as relays have it where nobody says otherwise."""
AHEAD = 600
"""Seconds, more than any length of time that relays compare."""
CLOCK = f"""
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time)
{{
	long result = syscall(SYS_clock_gettime, clock, time);

	if (!result && clock == CLOCK_REALTIME)
		time->tv_sec += {AHEAD};
	return result;
}}
"""


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


def test_what_ended_while_a_relay_was_dead_stays_so(partners: Partners) -> None:
    """Its own journal and its keyspace both tell of it as alive."""
    one, two, three = partners.members
    for member in partners.members:
        for kind in ("stays", "ends", "ends at its next owner"):
            member.set_up(f"{kind} {member.number}")
    partners.settled({call_id: owner for call_id, (owner, *_) in one.calls().items()} | _own(partners))
    two.kill()
    for number, at in ((1, one), (2, three), (3, three)):
        at.hang_up(f"ends {number}")
        three.set_up(f"ends at its next owner {number}", 6000)
        one.hang_up(f"ends at its next owner {number}")
    two.begin()
    partners.settled({f"stays {number}": number for number in (1, 2, 3)})


def test_an_end_outlasts_the_record_of_a_dead_relay_that_had_taken_the_call_unheard(partners: Partners) -> None:
    one, _, three = partners.members
    for name in ("alone", "taken"):
        one.set_up(name)
    partners.settled({"alone": 1, "taken": 1})
    with partners.parted(one):
        three.set_up("taken", 6000)
        eventually(lambda: partners[2].calls()["taken"][0] == 3, "another heard of it")
        three.kill()
        for name in ("alone", "taken"):
            one.hang_up(name)
    eventually(lambda: _lasts(partners, 1, "taken") > EXPIRES, "a tombstone that stands for longer than any record")
    eventually(lambda: 0 < _lasts(partners, 1, "alone") <= TOMBSTONE, "the usual time where nobody else had the call")
    three.begin()
    partners.settled({})


def _lasts(partners: Partners, keyspace: int, call_id: str) -> int:
    """Seconds until Redis forgets what it has of a call."""
    return int(partners.master.ask("-n", str(keyspace), "TTL", f"call:{call_id}"))


def _own(partners: Partners) -> dict[str, int]:
    """The calls that relays have of their own."""
    return {
        call_id: one.number for one in partners.members for call_id in one.calls() if call_id.endswith(f"{one.number}")
    }


def test_relays_that_restart_without_redis_have_all_calls_and_tell_of_them_later(partners: Partners) -> None:
    for member in partners.members:
        member.set_up(f"stays {member.number}")
        member.set_up(f"ends {member.number}")
    before = _own(partners)
    partners.settled(before)
    rules = partners[1].rules()
    servers = [partners.master, *(member.replica for member in partners.members)]
    for server in servers:
        server.kill()
    for member in partners.members[:2]:
        member.kill()
        member.begin()
    for member in partners.members[:2]:
        eventually(lambda member=member: member.calls().keys() == before.keys(), "all calls from the journal")  # type: ignore[misc]
        assert member.rules() == rules
        member.set_up(f"begins {member.number}")
        member.hang_up(f"ends {member.number}")
    partners[2].set_up("stays 3", 6000)
    for server in servers:
        server.start(*OPEN)
    partners.settled(
        {"stays 1": 1, "stays 2": 2, "stays 3": 2, "ends 3": 3, "begins 1": 1, "begins 2": 2},
    )
    partners.prompt()


@pytest.mark.parametrize("damage", ["torn", "of an older version"])
def test_a_relay_without_its_journal_has_its_calls_from_redis(partners: Partners, damage: str) -> None:
    for member in partners.members:
        for number in range(4):
            member.set_up(f"{number} {damage} {member.number}")
    standing = _own(partners)
    partners.settled(standing)
    partners[1].kill()
    for segment in (partners[1].state / "0" / "journal").glob("calls-*"):
        _damage(segment, damage)
    partners[1].begin()
    eventually(partners[1].in_step, "it has asked for calls on its ports, and may draw others")
    partners[1].set_up(f"begins {damage} 1")
    partners.settled(standing | {f"begins {damage} 1": 1})


def _damage(segment: Path, how: str) -> None:
    data = segment.read_bytes()
    older = data.replace(b"hairpin journal, format 1", b"hairpin journal, format 0", 1)
    assert older != data
    segment.write_bytes(data[: len(data) // 3] if how == "torn" else older)


def test_records_that_cannot_be_read_cost_no_call(partners: Partners) -> None:
    one, two, three = partners.members
    for name in ("garbled", "newer", "expired", "sound"):
        one.set_up(name)
    standing = dict.fromkeys(("garbled", "newer", "expired", "sound"), 1)
    partners.settled(standing)
    for key, value in (
        ("garbled", "\x01\x02 no record"),
        ("newer", '[2,"newer",{"much":"more"}]'),
        ("of a newer relay", '[2,"of a newer relay",{"much":"more"}]'),
    ):
        partners.master.ask("-n", "1", "SET", f"call:{key}", value)
    partners.master.ask("-n", "1", "PEXPIRE", "call:expired", "1")
    reason = "a record of format 2: this relay reads format 1"
    for member in (two, three):
        eventually(lambda member=member: reason in str(member.status()["replication"]["partners"]["1"]), reason)  # type: ignore[misc]
        assert member.calls().keys() == standing.keys()
    partners.settled(standing)
    assert partners.master.ask("-n", "1", "GET", "call:of a newer relay").startswith("[2,"), "it is left to its relay"
    partners.master.ask("-n", "1", "DEL", "call:of a newer relay")


def test_calls_at_an_interface_that_a_relay_lacks_wait_until_it_has_it(partners: Partners) -> None:
    one, two, three = partners.members
    two.kill()
    two.begin(knows=(2, 3))
    one.set_up("elsewhere")
    three.set_up("known")
    eventually(lambda: "known" in two.calls() and "elsewhere" in three.calls(), "calls at the others")
    eventually(lambda: one.place.service in str(two.status()["replication"]["partners"]["1"]["not restored"]), "word")
    assert "elsewhere" not in two.calls()
    one.set_up("elsewhere", 6000)
    two.kill()
    two.begin()
    partners.settled({"elsewhere": 1, "known": 3})


def test_clocks_that_differ_turn_nothing_round(partners: Partners) -> None:
    """A relay whose clock is ahead has neither always the last word nor calls of another age."""
    one, two, _ = partners.members
    two.kill()
    two.begin(wrapper=("env", f"LD_PRELOAD={_clock(two.place.host.folder)}"))
    names = ("last word at 1", "last word at 2", "ends at 1", "ends at 2")
    for name in names:
        one.set_up(name)
    partners.settled(dict.fromkeys(names, 1))
    eventually(lambda: _behind(partners) == -AHEAD, "the difference is known")
    with partners.parted(*partners.members):
        for first, last in ((one, two), (two, one)):
            first.set_up(f"last word at {last.number}", 6000)
            first.set_up(f"ends at {last.number}", 6000)
        eventually(lambda: not one.status()["replication"]["partners"]["2"]["lives"], "the end of the lease")
        for last in (one, two):
            last.set_up(f"last word at {last.number}", 7000)
            last.hang_up(f"ends at {last.number}")
    partners.settled({"last word at 1": 1, "last word at 2": 2})
    assert {rule[2].rpartition(":")[2] for rule in one.rules().values()} == {"7000", "7001"}
    ages = [{row["call_id"]: row["age"] for row in member.operator("list")} for member in partners.members]
    for call_id, age in ages[0].items():
        assert all(abs(age - other[call_id]) < LEASE for other in ages)
    two.kill()
    two.begin()
    eventually(lambda: _behind(partners) == 0, "its clock was set right")


def _behind(partners: Partners) -> int:
    """Seconds that relay 2's clock is behind, as relay 1 knows."""
    behind: float = partners[1].status()["replication"]["partners"]["2"]["clock behind"]
    return round(behind)


def _clock(folder: Path) -> Path:
    """A library by which a program's clock is ahead."""
    source, library = folder / "clock.c", folder / "clock.so"
    source.write_text(CLOCK)
    subprocess.run(["clang", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return library


def test_calls_whose_owner_is_gone_for_good_are_given_up_and_come_back_with_it(partners: Partners) -> None:
    one, two, _ = partners.members
    two.kill()
    two.begin("--owner-gone=4")
    one.set_up("forsaken")
    two.set_up("own")
    partners.settled({"forsaken": 1, "own": 2})
    one.kill()
    eventually(lambda: two.calls().keys() == {"own"}, "its end at a relay that waits 4 s")
    assert "forsaken" in partners[3].calls()
    assert two.status()["counters"]["calls that left"] == {"its owner is gone": 1}
    one.begin()
    partners.settled({"forsaken": 1, "own": 2})
    two.kill()
