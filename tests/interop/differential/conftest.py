"""A laboratory with both relays, for each module of comparisons."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.differential.relays import Rivals, two_relays


@pytest.fixture(scope="module")
def rivals() -> Iterator[Rivals]:
    with two_relays() as both:
        yield both
