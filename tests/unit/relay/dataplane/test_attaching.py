from __future__ import annotations

import pytest

from relay.dataplane.attaching import Absences


def test_nothing_is_said_of_what_is_there() -> None:
    absences = Absences()
    absences.see({"eth0", "eth1"}, {"lo", "eth0", "eth1"})
    absences.see({"eth0"}, {"lo", "eth0", "eth1"})
    absences.see_addresses([])
    assert absences.describe() == []


def test_an_interface_that_goes_and_comes_back_is_told(caplog: pytest.LogCaptureFixture) -> None:
    absences = Absences()
    absences.see({"eth0", "eth1"}, {"eth0", "eth1"})
    absences.see({"eth0"}, {"eth0"})
    assert absences.describe() == ["interface eth1 has gone"]
    absences.see({"eth0"}, {"eth0", "eth1"})
    assert absences.describe() == ["interface eth1 has gone"], "it is not attached to yet"
    absences.see({"eth0", "eth1"}, {"eth0", "eth1"})
    assert absences.describe() == ["interface eth1 was gone, and is attached to again"]
    absences.see({"eth0"}, {"eth0"})
    assert absences.describe() == ["interface eth1 has gone"]
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "interface eth1 has gone",
        "interface eth1 is back, and attached to again",
        "interface eth1 has gone",
    ]


def test_only_the_latest_are_remembered() -> None:
    absences = Absences()
    for number in range(100):
        absences.see({f"veth{number}"}, {f"veth{number}"})
    assert len(absences.describe()) == 16
    assert absences.describe()[-1] == "interface veth98 has gone"


def test_a_media_address_that_is_missing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    absences = Absences()
    absences.see_addresses(["10.0.0.1"])
    absences.see_addresses(["10.0.0.1"])
    assert absences.describe() == ["media address 10.0.0.1 is on no interface"]
    absences.see_addresses([])
    assert absences.describe() == []
    assert [record.getMessage() for record in caplog.records] == [
        "media address 10.0.0.1 is on no interface any more",
        "media address 10.0.0.1 is back",
    ]
