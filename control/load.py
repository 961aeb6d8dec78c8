"""When the host has enough to do: meters of load, CPU and bandwidth, and the words that keep new calls out.

The texts are the peer's, to the letter. Calls that stand are served whatever the meters say.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import psutil

__all__ = ["BANDWIDTH", "CPU", "LOAD", "Limits", "Meters", "cpu_times"]

CPU = "CPU usage limit exceeded"
LOAD = "Load limit exceeded"
BANDWIDTH = "Bandwidth limit exceeded"

WINDOW = 3
"""Looks that CPU and bandwidth are averaged over: the tick gives it seconds. A call's setup alone fills no window."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Above which new calls stay out; 0 for no limit."""

    load: float = 0.0
    """The 1-minute load average."""
    cpu: float = 0.0
    """Percent of the time of all the host's CPUs."""
    bandwidth: int = 0
    """Bytes of media per second that arrive, UDP payload."""


def cpu_times() -> tuple[float, float]:
    """Seconds all CPUs together were busy, and seconds there were, since the host's start."""
    times = psutil.cpu_times()._asdict()
    total = sum(spent for kind, spent in times.items() if not kind.startswith("guest"))  # user's and nice's hold those
    return total - times["idle"] - times.get("iowait", 0.0), total


class Meters:
    """Looks at the host at each `sample`, no more than the limits need. `octets` counts the media that arrived."""

    def __init__(
        self,
        limits: Limits,
        octets: Callable[[], int],
        load: Callable[[], tuple[float, float, float]] = os.getloadavg,
        cpu: Callable[[], tuple[float, float]] = cpu_times,
    ) -> None:
        self.limits = limits
        self.load = 0.0
        self.cpu = 0.0
        """Percent, over the last looks."""
        self.bandwidth = 0.0
        """Bytes per second, over the last looks."""
        self._octets = octets
        self._load = load
        self._cpu = cpu
        self._busy: deque[tuple[float, float]] = deque(maxlen=WINDOW + 1)
        self._arrived: deque[tuple[float, int]] = deque(maxlen=WINDOW + 1)

    def sample(self, now: float) -> None:
        """Look again; once a second."""
        if self.limits.load:
            self.load = self._load()[0]
        if self.limits.cpu:
            self._busy.append(self._cpu())
            (busy_before, before), (busy, total) = self._busy[0], self._busy[-1]
            self.cpu = 100 * (busy - busy_before) / (total - before) if total > before else 0.0
        if self.limits.bandwidth:
            self._arrived.append((now, self._octets()))
            (earlier, octets_before), (now, octets) = self._arrived[0], self._arrived[-1]
            self.bandwidth = (octets - octets_before) / (now - earlier) if now > earlier else 0.0

    def refuse(self) -> str | None:
        """Why no call may be added, None where one may."""
        limits = self.limits
        if limits.cpu and self.cpu > limits.cpu:
            return CPU
        if limits.load and self.load > limits.load:
            return LOAD
        if limits.bandwidth and self.bandwidth > limits.bandwidth:
            return BANDWIDTH
        return None

    def describe(self) -> list[str]:
        """What was measured beside its limit, for the operator."""
        limits, found = self.limits, []
        if limits.cpu:
            found.append(f"CPU {self.cpu:.0f} % of {limits.cpu:g} %")
        if limits.load:
            found.append(f"load {self.load:.2f} of {limits.load:g}")
        if limits.bandwidth:
            found.append(f"media {self.bandwidth:.0f} bytes/s of {limits.bandwidth}")
        reason = self.refuse()
        return found if reason is None else [*found, f"new calls are refused: {reason}"]
