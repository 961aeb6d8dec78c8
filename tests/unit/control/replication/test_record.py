"""Records and leases to bytes and back; whatever else the bytes hold is named."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.replication.record import (
    MAX_LEASE,
    MAX_RECORD,
    Lease,
    Record,
    RecordError,
    decode,
    decode_lease,
    encode,
    encode_lease,
)

RECORD = Record("c1", "0001", 1, 2, 3, False, 1.5, ("0000",), b"[1]\n[2]")
LEASE = Lease(1, "a", "x", 1.5, 7, {2: True}, {"192.0.2.1": "primary"}, {"192.0.2.1": 9}, False, {"192.0.2.1": 2})


@given(st.text(st.characters(), min_size=1), st.binary())
def test_a_record_survives_whatever_its_call_id(call_id: str, body: bytes) -> None:
    record = RECORD._replace(call_id=call_id, body=body)
    assert decode(encode(record)) == record


def test_a_call_id_that_came_as_no_utf_8_survives() -> None:
    record = RECORD._replace(call_id="a\udcff\ud800")
    assert decode(encode(record)) == record


def test_a_lease_survives() -> None:
    assert decode_lease(encode_lease(LEASE)) == LEASE


def test_a_lease_of_a_later_version_is_read() -> None:
    assert decode_lease(encode_lease(LEASE)[:-1] + b',"more":1}') == LEASE


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no record"),
        (b"{}", "no record"),
        (b"[" * 5000, "no record"),
        (b'[7,"c"]', "a record of format 7: this relay reads format 1"),
        (b'[1,"c","i",1,2]', "no record"),
        (b'[1,7,"i",1,1,1,false,1]', "no record"),
        (b'[1,"","i",1,1,1,false,1]', "it names no call"),
        (b'[1,"c","i",1.5,1,1,false,1]', "term, owner, version and dead"),
        (b'[1,"c","i",true,1,1,false,1]', "term, owner, version and dead"),
        (b'[1,"c","i",-1,1,1,false,1]', "term, owner, version and dead"),
        (b'[1,"c","i",1,1,1,0,1]', "term, owner, version and dead"),
        (b'[1,"c","i",1,1,1,false,"1"]', "its time is no number"),
        (b'[1,"c","i",1,1,1,false,1,7]', "no short list"),
        (b'[1,"c","i",1,1,1,false,1,["a","a","a","a","a","a","a","a","a"]]', "no short list"),
        (b"x" * (MAX_RECORD + 1), "too many for a record"),
    ],
)
def test_what_is_no_record(data: bytes, reason: str) -> None:
    with pytest.raises(RecordError, match=reason):
        decode(data)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"7", b"x" * (MAX_LEASE + 1), b'{"keyspace":"a"}'])
def test_what_is_no_lease(data: bytes) -> None:
    with pytest.raises(RecordError):
        decode_lease(data)


@given(st.binary(max_size=60), st.integers(0, 60))
def test_nothing_but_a_record_error_comes_of_spoilt_bytes(noise: bytes, place: int) -> None:
    for read, good in ((decode, encode(RECORD)), (decode_lease, encode_lease(LEASE))):
        with suppress(RecordError):
            read(good[:place] + noise + good[place + len(noise) :])
