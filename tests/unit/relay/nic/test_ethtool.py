from __future__ import annotations

import struct

import pytest

from relay.nic import ethtool


@pytest.mark.parametrize(("flags", "stripped"), [(0, False), (1 << 8, True), (1 << 7, False), (1 << 8 | 1 << 15, True)])
def test_a_card_says_whether_it_strips_tags(monkeypatch: pytest.MonkeyPatch, flags: int, stripped: bool) -> None:
    def answered(interface: str, command: bytes) -> bytes:
        assert (interface, command) == ("eth0", struct.pack("=2I", 0x25, 0))
        return struct.pack("=2I", 0x25, flags)

    monkeypatch.setattr(ethtool, "_ask", answered)
    assert ethtool.strips_vlan_tags("eth0") is stripped


def test_a_device_that_is_not_there_strips_nothing_and_has_no_driver() -> None:
    assert not ethtool.strips_vlan_tags("none-such")
    assert ethtool.driver("none-such") == ""
    assert not ethtool.strips_vlan_tags("lo")
