"""The figures of bench.replication: what its samples come to, and how they are told."""

from __future__ import annotations

from bench.replication import _rows, percentiles


def test_percentiles_are_milliseconds() -> None:
    found = percentiles([number / 1000 for number in range(1, 101)])
    assert found == {"count": 100, "p50": 51.0, "p99": 100.0, "worst": 100.0}


def test_no_samples_are_told_as_none() -> None:
    figure = {"scene": "a partner starts empty", "calls": 7, "ready_s": 1.5, "first_answer_s": 0.5,
              "its_pings_ms": percentiles([]), "owner_pings_ms": percentiles([0.002])}  # fmt: skip
    rows = list(_rows(figure))
    assert ["7 calls, a partner starts empty: its replies meanwhile", "none", ""] in rows
    assert rows[-1][1] == "p50 2.0 ms, p99 2.0 ms, worst 2.0 ms"


def test_the_target_of_a_restart_depends_on_the_calls() -> None:
    def target(calls: int) -> str:
        figure = {"scene": "daemon killed", "calls": calls, "first_reply_s": 1, "restored_s": 1, "missing": 0,
                  "pings_ms": percentiles([])}  # fmt: skip
        return next(_rows(figure))[2]

    assert (target(500), target(25_000)) == ("1 s", "3 s")
