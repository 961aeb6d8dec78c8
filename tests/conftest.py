"""What all tiers share: each folder is a tier with its marker, and a test that cannot run says what is missing.

`--no-skips` (what `make test` uses) makes a skipped test a failed one, so that a machine that lacks something does not
look like a machine on which all is well.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.compiled import prefer_sources, stale
from tests.lab import Lab, Network, standard_network

TESTS = Path(__file__).parent
MARKED_TIERS = {"bpf", "net", "interop", "fuzz"}
ROOT_TIERS = {"bpf", "net", "interop"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a skipped test is a failed one")


def pytest_configure() -> None:
    """HAIRPIN_INTERPRETED in the environment: test the sources, where compiled modules stand beside them."""
    if os.environ.get("HAIRPIN_INTERPRETED"):
        prefer_sources()
    elif changed := [str(path) for path in stale()]:
        raise pytest.UsageError(f"compiled before the last change: {', '.join(changed)}; run `make compiled`")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the tier whose folder it stands in."""
    for item in items:
        if not item.path.is_relative_to(TESTS):
            continue
        tier = item.path.relative_to(TESTS).parts[0]
        if tier in MARKED_TIERS:
            item.add_marker(tier)
        if tier in ROOT_TIERS and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root: run `make " + tier + "`"))


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which --no-skips forbids: {report.longrepr}"


@pytest.fixture
def lab() -> Iterator[Lab]:
    """An empty laboratory."""
    with Lab() as laboratory:
        yield laboratory


@pytest.fixture
def network(lab: Lab) -> Network:
    """The standard network in that laboratory."""
    return standard_network(lab)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if item.config.getoption("--no-skips"):
        _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if collector.config.getoption("--no-skips"):
        _fail_if_skipped(report)
    return report
