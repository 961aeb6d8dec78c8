"""Addresses and ports of loopback for this process alone: test runs beside each other share the host's loopback."""

from __future__ import annotations

import os

_PORTS = 200


def own_ip(host: int) -> str:
    """One of this process's 254 addresses in 127.0.0.0/8."""
    return f"127.{64 + (os.getpid() >> 8) % 128}.{os.getpid() & 255}.{host}"


def own_port(number: int) -> int:
    """One of its 200 ports, for ::1, which is one address for all. Below those the kernel gives out by itself."""
    return 10000 + os.getpid() % 100 * _PORTS + number
