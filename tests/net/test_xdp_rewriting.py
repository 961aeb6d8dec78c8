"""A rule rewritten ten thousand times a second under traffic: no packet is lost, none goes to a mixed address."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

from tests.net.conftest import MEDIA_A, PARTY_A, PARTY_B, Table, mirrored, ready

PACKETS = 4000
PACKETS_PER_SECOND = 1000
REWRITES_PER_SECOND = 10_000
BATCH = 25
"""Rewrites between two looks at the sockets."""
SECOND_ADDRESS = "10.7.2.3"

SENDER = """
import socket, sys, time
packets, rate, source, port, to, to_port = sys.argv[1:]
channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
channel.bind((source, int(port)))
due = time.monotonic()
for number in range(int(packets)):
    time.sleep(max(0, due - time.monotonic()))
    due = max(due + 1 / int(rate), time.monotonic() - 0.1)
    head = bytes([0x80, 8]) + (number & 0xFFFF).to_bytes(2, "big") + bytes(4) + bytes([0, 0, 0, 9])
    channel.sendto(head + bytes(160), (to, int(to_port)))
"""
"""A process of its own, so that packets fall between any two stores of the writer. What it was kept from sending it
makes up for in part only: the port's rate guard would take all of it at once for a flood."""


def test_a_rule_rewritten_under_traffic_loses_and_mixes_nothing(table: Table) -> None:
    """B moves between two addresses that differ in IP address and port; sockets stand on all four combinations."""

    async def scenario() -> None:
        table.b.ip("address", "add", f"{SECOND_ADDRESS}/24", "dev", "eth0")
        a, _ = table.phones()
        a.close()
        one, other = table.phone(table.b, PARTY_B, 7001), table.phone(table.b, SECOND_ADDRESS, 7002)
        mixed = [table.phone(table.b, PARTY_B, 7002), table.phone(table.b, SECOND_ADDRESS, 7001)]
        versions = [mirrored(a.endpoint, destination) for destination in (one.endpoint, other.endpoint)]
        arrived = [0, 0]
        async with table.plane() as plane:
            for version in versions:
                plane.install(version)
                await ready(plane)
            arguments = map(str, (PACKETS, PACKETS_PER_SECOND, PARTY_A, a.endpoint.port, *MEDIA_A))
            sender = table.a.start(sys.executable, "-c", SENDER, *arguments, stderr=subprocess.PIPE)
            rewrites = 0
            began = time.monotonic()
            while sender.poll() is None:
                while rewrites < (time.monotonic() - began) * REWRITES_PER_SECOND:
                    for _ in range(BATCH):
                        plane.install(versions[rewrites & 1])
                        rewrites += 1
                    arrived[0] += len(one.received())
                    arrived[1] += len(other.received())
                await asyncio.sleep(0)
            rate = rewrites / (time.monotonic() - began)
            assert table.a.end(sender) == 0
            await asyncio.sleep(0.1)
            arrived[0] += len(one.received())
            arrived[1] += len(other.received())
            assert sum(arrived) == plane.packets(MEDIA_A) == PACKETS
            assert [phone.received() for phone in mixed] == [[], []]
            assert min(arrived) > PACKETS / 10
            assert rate >= 0.95 * REWRITES_PER_SECOND

    table.run(scenario)
