"""The meters that keep new calls out."""

from __future__ import annotations

import time

from control.load import BANDWIDTH, CPU, LOAD, WINDOW, Limits, Meters, cpu_times


class Host:
    """What the meters look at."""

    def __init__(self) -> None:
        self.octets = 1 << 40
        self.load = 0.5
        self.busy = 1000.0
        self.total = 4000.0
        self.looks = 0
        self.now = 100.0

    def meters(self, **limits: float) -> Meters:
        return Meters(Limits(**limits), self._octets, self._load, self._cpu)  # type: ignore[arg-type]

    def _octets(self) -> int:
        self.looks += 1
        return self.octets

    def _load(self) -> tuple[float, float, float]:
        self.looks += 1
        return self.load, 99.0, 99.0

    def _cpu(self) -> tuple[float, float]:
        self.looks += 1
        return self.busy, self.total

    def second(self, meters: Meters, busy: float = 0.0, octets: int = 0) -> str | None:
        """A second of two CPUs passes, and the meters look."""
        self.now += 1
        self.total += 2
        self.busy += busy
        self.octets += octets
        meters.sample(self.now)
        return meters.refuse()


def test_without_limits_nothing_is_looked_at() -> None:
    host = Host()
    meters = host.meters()
    assert host.second(meters, 2.0, 1 << 40) is None
    assert host.looks == 0


def test_load() -> None:
    host = Host()
    meters = host.meters(load=1.5)
    assert host.second(meters) is None
    host.load = 1.5
    assert host.second(meters) is None
    host.load = 1.51
    assert host.second(meters) == LOAD == "Load limit exceeded"
    host.load = 1.0
    assert host.second(meters) is None


def test_cpu_of_the_last_seconds() -> None:
    host = Host()
    meters = host.meters(cpu=80)
    assert host.second(meters, 2.0) is None, "one look tells nothing of the time before it"
    assert host.second(meters, 2.0) == CPU == "CPU usage limit exceeded"
    for _ in range(WINDOW):
        host.second(meters, 1.0)
    assert (meters.cpu, meters.refuse()) == (50.0, None)
    assert host.second(meters, 2.0) is None, "a short burst is none of the last seconds"
    host.second(meters, 2.0)
    assert host.second(meters, 2.0) == CPU


def test_bandwidth_of_the_last_seconds() -> None:
    host = Host()
    meters = host.meters(bandwidth=1_000_000)
    assert host.second(meters, octets=1 << 30) is None, "what arrived before the first look is not counted"
    assert host.second(meters, octets=1_000_000) is None
    assert host.second(meters, octets=1_000_100) == BANDWIDTH == "Bandwidth limit exceeded"
    for _ in range(WINDOW):
        host.second(meters)
    assert (meters.bandwidth, meters.refuse()) == (0.0, None)


def test_a_look_at_the_same_time_divides_by_nothing() -> None:
    host = Host()
    meters = host.meters(bandwidth=1, cpu=1)
    for _ in range(2):
        meters.sample(5.0)
    assert meters.refuse() is None


def test_limits_can_change() -> None:
    host = Host()
    meters = host.meters(load=0.1)
    assert host.second(meters) == LOAD
    meters.limits = Limits()
    assert host.second(meters) is None
    meters.limits = Limits(bandwidth=1)
    assert host.second(meters, octets=100) is None
    assert host.second(meters, octets=100) == BANDWIDTH


def test_the_hosts_own_cpus_are_counted() -> None:
    busy, total = cpu_times()
    assert 0 < busy < total
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        pass
    busy_later, total_later = cpu_times()
    assert busy + 0.1 < busy_later
    assert total + 0.2 < total_later
    assert busy_later - busy <= total_later - total
