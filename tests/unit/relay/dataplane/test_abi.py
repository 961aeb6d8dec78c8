"""The generated layout: what the generator writes, and what the committed file promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from relay.dataplane import abi
from relay.dataplane.btf import BtfError, Enum, Field, Layout, Struct
from relay.dataplane.generate_abi import generate

COUNTERS = """/* a comment */
COUNTER(forwarded,	"packets forwarded")
DROP(ttl,		"TTL used up")
"""
COUNTER_ENUM = Enum("hp_counter", (("HP_COUNT_forwarded", 0), ("HP_COUNT_ttl", 1), ("HP_COUNTERS", 2)))
INNER = Struct("hp_inner", 4, (Field("port", ">u2", 0, 2, None), Field("zero", "u2", 2, 2, None)))
OUTER = Struct("hp_outer_most", 12, (Field("value", "u4", 0, 4, None), Field("both", "hp_inner", 4, 8, 2)))
LAYOUT = Layout((INNER, OUTER), (COUNTER_ENUM, Enum("hp_limit", (("HP_PORTS", 65536),))))


def generated(layout: Layout = LAYOUT, counters: str = COUNTERS) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(generate(layout, counters), "abi.py", "exec"), names)
    return names


def test_the_generated_module_says_what_the_layout_says() -> None:
    names = generated()
    assert names["PORTS"] == 65536
    assert names["DIGEST"] == LAYOUT.digest()
    assert names["OUTER_MOST"].itemsize == 12
    assert names["OUTER_MOST"].fields["both"][1] == 4
    assert names["INNER"]["port"] == np.dtype(">u2")


def test_counters_come_with_their_text_and_drop_reasons_apart() -> None:
    names = generated()
    assert names["COUNTERS"] == ("forwarded", "ttl")
    assert names["DROP_REASONS"] == ("ttl",)
    assert names["COUNTER_TEXTS"]["ttl"] == "TTL used up"


def test_counters_of_another_build_are_refused() -> None:
    with pytest.raises(BtfError, match=r"counters\.inc is not the one the object was built with"):
        generated(counters=COUNTERS.replace("ttl", "hops"))


def test_two_things_of_one_name_are_refused() -> None:
    twice = Layout((INNER, OUTER), (COUNTER_ENUM, Enum("hp_limit", (("HP_INNER", 1),))))
    with pytest.raises(BtfError, match=r"two things in ebpf/abi\.h are called hp_inner"):
        generated(twice)


RECORDS = {name: value for name, value in vars(abi).items() if isinstance(value, np.dtype)}


@pytest.mark.parametrize(("name", "size"), [("RULE", 64), ("COLD", 128), ("NEXTHOP", 32)])
def test_records_fit_their_cache_lines(name: str, size: int) -> None:
    assert RECORDS[name].itemsize == size


@pytest.mark.parametrize("name", ["CONTROL", "PEER", "EXPECTED"])
def test_words_are_stored_whole(name: str) -> None:
    assert RECORDS[name].itemsize == 8


@pytest.mark.parametrize("name", RECORDS)
def test_no_record_has_a_hole_and_every_field_is_aligned(name: str) -> None:
    position = 0
    for field, (dtype, offset, *_) in (RECORDS[name].fields or {}).items():
        element = dtype.subdtype[0] if dtype.subdtype else dtype
        assert offset == position, field
        assert element.fields or offset % element.itemsize == 0, field
        position += dtype.itemsize
    assert position == RECORDS[name].itemsize


def test_the_first_counter_is_no_drop_reason() -> None:
    assert abi.COUNTERS[0] not in abi.DROP_REASONS
