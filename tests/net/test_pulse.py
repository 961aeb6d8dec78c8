"""Signs of life in the kernel: addresses that run out unless they are renewed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from control.failover.pulse import FOREVER, Pulse, PulseError
from tests.lab import Host, Lab, command

pytestmark = pytest.mark.net


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Lab() as lab:
        yield lab.host("relay")


@pytest.mark.parametrize("ip6", [False, True])
def test_a_beat_stands_for_its_lifetime_and_is_renewed(host: Host, ip6: bool) -> None:
    pulse = Pulse(3)

    def stands(number: int = 0) -> bool:
        return host.call(lambda: pulse.beats(number, ip6))

    assert not stands()
    host.call(lambda: pulse.beat(0, ip6, 1))
    host.call(lambda: pulse.beat(1, ip6, FOREVER))
    assert stands()
    began = time.monotonic()
    while time.monotonic() - began < 2:
        host.call(lambda: pulse.beat(0, ip6, 1))
        assert stands()
        time.sleep(0.2)
    until = time.monotonic() + 10
    while stands():
        assert time.monotonic() < until
        time.sleep(0.05)
    assert stands(1)
    host.call(pulse.stop)
    assert not stands(1)
    host.call(pulse.stop)
    assert "hairpin-beat" not in host.ip("link", "show")


def test_instances_and_numbers_have_places_of_their_own() -> None:
    places = {(number, ip6, one) for one in range(64) for number in range(64) for ip6 in (False, True)}
    assert len({Pulse(one).gateway(number, ip6) for number, ip6, one in places}) == len(places)
    with pytest.raises(PulseError):
        Pulse(0).gateway(64, False)


def test_without_the_privilege_the_kernel_says_so(host: Host) -> None:
    code = "from control.failover.pulse import Pulse; Pulse(0).beat(0, False, 1)"
    argv = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", ".venv/bin/python", "-c", code)
    said = command(
        "nsenter", f"--net={host.path}", "sh", "-c", f"{' '.join(argv[:3])} {argv[3]} -c '{code}' 2>&1; true"
    )
    assert "CAP_NET_ADMIN is needed" in said
