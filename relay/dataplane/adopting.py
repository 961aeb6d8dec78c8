"""What a former process left in the tables: which ports forward, and what stands of a rule that is given again.

Rules come back one call at a time while all of them forward. A rule that says what stands is taken over without a
store, whether or not the one of its mirror was yet; where it says something else, that side gets a new generation like
any change. Nobody wrote down what the program has learned since: the words say it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from relay.dataplane import abi
from relay.dataplane.cells import RULE_SHORTS, Cells, Standing
from relay.dataplane.words import be16, rule_index, window
from relay.types import Rule

_LIVE: Final = abi.LIVE
_FIXED: Final = abi.FIXED
_GENERATION: Final = abi.GENERATION_MASK
_ENDPOINT: Final = (1 << 48) - 1
_ADDRESS: Final = (1 << 32) - 1

Indexes = npt.NDArray[np.intp]


def ports_in(rules: npt.NDArray[np.void], flag: int) -> Indexes:
    """The places whose control word has a flag; 10 ms for a million rules."""
    assert abi.RULE.fields is not None
    flags = rules.view(np.uint16).reshape(-1, RULE_SHORTS)[:, abi.RULE.fields["control"][1] // 2 + 1]
    return np.flatnonzero(flags & flag)


def addresses_in_use(rules: npt.NDArray[np.void]) -> set[int]:
    """Indexes of the local addresses that live rules stand at or send from."""
    live = ports_in(rules, _LIVE)
    leaving = rules["control"][live] >> 40 & 0xFF
    return _numbers(live >> 16) | _numbers(leaving.astype(np.intp))


def nexthops_in_use(rules: npt.NDArray[np.void]) -> set[int]:
    """The next hops that live rules send to."""
    live = ports_in(rules, _LIVE)
    parity = (rules["signalled"][live] >> 48 & 1).astype(np.intp)
    return _numbers(rules["nexthop"][live, parity].astype(np.intp)) - {0}


def _numbers(found: Indexes) -> set[int]:
    """The different ones of many small numbers."""
    return set(np.flatnonzero(np.bincount(found)).tolist())


def mirror_of(control: int) -> int:
    """The place of the port that packets leave from."""
    return rule_index(control >> 40 & 0xFF, be16(control >> 48))


def joins(control: int) -> bool:
    """Whether packets leave from the port below, to a party with RTP and RTCP on one."""
    return bool(control >> 16 & abi.JOINED)


def in_step(cells: Cells, index: int, mirror: int) -> bool:
    """Whether a live rule stands at `mirror` whose party is the one that the rule at `index` sends to."""
    control = cells.control(mirror)
    return bool(
        control >> 16 & _LIVE and mirror_of(control) == index and control & _GENERATION == cells.signalled(index) >> 48
    )


def as_it_stands(cells: Cells, index: int, rule: Rule) -> Standing:
    """The entry of a live rule by its words, without a next hop; what `rule` says otherwise is not in it."""
    control, signalled = cells.control(index), cells.signalled(index)
    mirror, generation = mirror_of(control), control & _GENERATION
    entry = Standing(index, mirror, rule, generation, None)
    if control >> 16 & _FIXED and in_step(cells, mirror, index):
        entry.folded = cells.facing(index, cells.signalled(mirror))
    entry.target_generation = signalled >> 48
    wanted = rule.destination
    entry.wanted = wanted if cells.says(signalled, mirror, wanted) else cells.facing(mirror, signalled)
    return entry


def same_party(cells: Cells, entry: Standing, said: int, source: int) -> bool:
    """Whether the party facing a port is the one a rule speaks of, by its source as it was `said` and as it is to be.

    The address it was signalled under stands in the cold half and, unless it was folded, at the mirror. A change that
    was cut short stands in one of the two.
    """
    if said != source:
        return False
    control = cells.control(entry.mirror)
    if not control >> 16 & _LIVE or mirror_of(control) != entry.index:
        return True
    sent = cells.signalled(entry.mirror)
    if sent >> 48 != entry.generation:
        return False
    return not (sent ^ source) & _ENDPOINT or entry.folded is not None or not sent & _ADDRESS or not source & _ADDRESS


def was_seen(cells: Cells, entry: Standing) -> bool:
    """Whether a packet of the party facing a port has come since its address last changed."""
    generation, state = window(cells.expected(entry.index))
    return generation == entry.generation and state != abi.UNSEEN
