"""SIGHUP: what is taken over, what waits for a restart, and that a broken configuration changes nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any

import pytest

from control.config import Config, ConfigError, Interface, Loaded, options
from control.reload import Reloader, compare

OLD = Config(interface=(Interface("in", "192.0.2.1"),))
HERE = (Interface("in", "192.0.2.1", "", 30000, 40000),)


def new(**changes: Any) -> Config:
    return dataclasses.replace(OLD, **changes)


def test_nothing_changed() -> None:
    assert compare(OLD, new(), False) == (OLD, (), ())


def test_live_options_are_taken_and_others_wait() -> None:
    config = new(timeout=5, table=3, ng_allow=(ip_network("192.0.2.0/24"),), tos=184, listen_http=OLD.listen_ng)
    assert compare(OLD, config, False) == (
        new(timeout=5, ng_allow=config.ng_allow, tos=184),
        ("ng-allow", "tos", "timeout"),
        ("listen-http", "table"),
    )


def test_ports_are_live_where_they_grow() -> None:
    config = new(port_max=50000)
    assert compare(OLD, config, False) == (OLD, (), ("port-max",))
    assert compare(OLD, config, True) == (config, ("port-max",), ())


def test_templates_are_taken_with_their_text() -> None:
    config = new(flag_templates={"offer": "ICE=remove"})
    assert compare(OLD, config, False) == (config, ("templates",), ())


def test_options_that_hold_no_place_nor_resource_are_live() -> None:
    waits = {name for name, given, _ in options() if not given.live}
    assert waits == {
        *("interface", "port-min", "port-max", "attach", "max-addresses", "dataplane", "no-fallback", "table"),
        *("listen-ng", "listen-tcp-ng", "listen-http", "listen-https"),
        *("socket", "pidfile", "foreground", "log-stderr", "no-log-timestamps", "log-facility"),
        *("port-rate", "slow-rate", "state-dir", "pin-dir", "orphan-limit"),
        *("redis", "redis-write", "redis-subscribe", "redis-sentinel", "redis-sentinel-master", "redis-expires"),
        *("subscribe-keyspace", "no-redis-required", "redis-connect-timeout", "redis-cmd-timeout"),
        *("redis-allowed-errors", "redis-disable-time", "node-name", "takeover-slices", "compare-interval"),
        *("node-lease", "sweep-interval", "owner-gone", "refresh-interval", "tombstone-time"),
        *("bgp", "bgp-socket", "bgp-include", "bgp-announce", "bgp-as", "bgp-primary", "bgp-backup"),
        *("bgp-next-hop", "bgp-grace"),
    }


class Relay:
    """A daemon's part in a reload: what is written in its file, and what it took over."""

    def __init__(self, grows: bool = True) -> None:
        self.written: Loaded | Exception = Loaded(OLD, "file")
        self.taken: list[tuple[Config, Sequence[Interface]]] = []
        self.places: Sequence[Interface] | Exception = HERE
        self.now = 100.0
        self.reads = 0
        self.grows = grows
        self.reloader = Reloader(
            Loaded(OLD, "file", warnings=["old"]),
            self.read,
            self.place,
            lambda _: self.grows,
            self.take,
            lambda: self.now,
        )

    def read(self) -> Loaded:
        self.reads += 1
        if isinstance(self.written, Exception):
            raise self.written
        return self.written

    def place(self, config: Config) -> Sequence[Interface]:
        if isinstance(self.places, Exception):
            raise self.places
        return self.places

    def take(self, config: Config, grown: Sequence[Interface]) -> None:
        self.taken.append((config, grown))

    async def hup(self, times: int = 1) -> None:
        for _ in range(times):
            running = self.reloader.ask()
        await running


def test_a_changed_file_is_taken_over_and_said(caplog: pytest.LogCaptureFixture) -> None:
    relay = Relay()
    relay.written = Loaded(new(timeout=5, table=2), "file", warnings=["old", "fresh"])
    with caplog.at_level(logging.INFO):
        asyncio.run(relay.hup())
    relay.now += 7
    assert relay.taken == [(new(timeout=5), ())]
    assert caplog.messages == ["fresh", "reloaded from file, in force: timeout", "needs a restart: table"]
    assert relay.reloader.view() == {"pending": ["table"], "seconds_ago": 7.0, "problems": []}
    relay.written = Loaded(new(timeout=5), "file")
    asyncio.run(relay.hup())
    assert relay.reloader.view()["pending"] == []


def test_a_broken_file_changes_nothing_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    relay = Relay()
    relay.written = ConfigError("file line 2: no", "file line 3: no")
    with caplog.at_level(logging.INFO):
        asyncio.run(relay.hup())
    assert relay.taken == []
    assert caplog.messages == [
        "not reloaded, nothing changes: file line 2: no",
        "not reloaded, nothing changes: file line 3: no",
    ]
    assert relay.reloader.view() == {
        "pending": [],
        "seconds_ago": 0.0,
        "problems": ["file line 2: no", "file line 3: no"],
    }


def test_ports_grow_and_other_places_wait() -> None:
    relay = Relay()
    relay.written = Loaded(new(port_max=50000, attach=("eth1",)), "file")
    asyncio.run(relay.hup())
    assert relay.taken == [(new(port_max=50000), HERE)]
    assert relay.reloader.pending == ("attach",)
    relay.grows = False
    relay.written = Loaded(new(port_max=45000), "file")
    asyncio.run(relay.hup())
    assert relay.taken[1:] == [(new(port_max=50000), ())]
    assert relay.reloader.pending == ("port-max",)


def test_addresses_this_host_has_not_refuse_the_whole_reload() -> None:
    relay = Relay()
    relay.written = Loaded(new(timeout=5, interface=(Interface("in", "192.0.2.9"),)), "file")
    relay.places = ConfigError("--interface=192.0.2.9 is no address of this host")
    asyncio.run(relay.hup())
    assert relay.taken == []
    assert relay.reloader.view()["problems"] == ["--interface=192.0.2.9 is no address of this host"]


def test_asked_many_times_it_reads_once_more_at_most() -> None:
    relay = Relay()
    asyncio.run(relay.hup(times=10))
    assert 1 <= relay.reads <= 2


def test_a_fault_leaves_the_next_reload_possible(caplog: pytest.LogCaptureFixture) -> None:
    relay = Relay()
    relay.written = RuntimeError("broken")
    asyncio.run(relay.hup())
    assert relay.reloader.view()["problems"] == ["a fault of its own, see the log"]
    assert "the reload failed" in caplog.text
    relay.written = Loaded(new(timeout=5), "file")
    asyncio.run(relay.hup())
    assert relay.taken == [(new(timeout=5), ())]
