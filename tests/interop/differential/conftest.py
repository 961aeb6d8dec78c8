"""One laboratory with both relays for all comparisons."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.differential.relays import Rivals, two_relays


@pytest.fixture(scope="package")
def rivals() -> Iterator[Rivals]:
    with two_relays() as both:
        yield both
