"""The recordings that are compared are what Kamailio sends."""

from __future__ import annotations

import pytest

from tests.interop.differential.recorder import load, record
from tests.lab import Network


@pytest.mark.parametrize("flags", ["trust-address replace-origin replace-session-connection ICE=remove RTP/AVP"])
def test_kamailio_still_sends_what_was_recorded(network: Network, flags: str) -> None:
    sent = record(network, {"re-INVITE": [flags]})
    assert sent == {name: load()[name] for name in sent}
    assert len(sent) == 1
