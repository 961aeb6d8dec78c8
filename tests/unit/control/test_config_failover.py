"""Options of failover by BGP: how attributes are written, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from control.config import Config, ConfigError, examine
from control.config.failover import attributes
from control.config.show import settings
from control.failover.speaker import Attributes

NOWHERE = Path("/nonexistent/hairpin.conf")


def loaded(*arguments: str) -> Config:
    return examine(arguments, NOWHERE).config


def test_without_options_nobody_is_told_and_a_backup_loses() -> None:
    config = loaded()
    assert config.bgp == "none"
    assert (config.bgp_grace, config.hold_off, config.damping, config.health_grace) == (15, 30, 600, 3)
    assert config.bgp_primary == Attributes(med=100, local_preference=200)
    assert config.bgp_backup == Attributes(med=200, local_preference=100)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Attributes()),
        ("med=0", Attributes(med=0)),
        (
            "community=65000:1 prepend=3 local-preference=4294967295 community=4200000000:1:2",
            Attributes(3, None, 4294967295, ("65000:1", "4200000000:1:2")),
        ),
    ],
)
def test_attributes_read_back_as_they_are_shown(text: str, expected: Attributes) -> None:
    assert attributes(text) == expected
    assert attributes(str(expected)) == expected


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--bgp=quagga", "must be one of none, exabgp, bird"),
        ("--bgp-primary=med", "must be a MED from 0 to 4294967295"),
        (
            "--bgp-primary=weight=5",
            "'weight=5': must be prepend=N, med=N, local-preference=N, each once, and community",
        ),
        ("--bgp-primary=med=1 med=2", "'med=2': must be prepend=N, med=N, local-preference=N, each once"),
        ("--bgp-primary=med=-1", "must be a MED from 0 to 4294967295"),
        ("--bgp-backup=prepend=11", "must be a number of times from 0 to 10"),
        ("--bgp-backup=community=65536:1", "'65536:1': a community is N:N, each up to 65535, or a large one, N:N:N"),
        ("--bgp-backup=community=no-export", "a community is N:N"),
        ("--bgp-backup=community=1:2;shutdown", "a community is N:N"),
        ("--bgp-next-hop=192.0.2.1,192.0.2.2", "must be at most one IPv4 and one IPv6 address"),
        ("--bgp-next-hop=self", "'self' is no IPv4 or IPv6 address"),
        ("--bgp-grace=0", "must be whole seconds from 1 to 3600"),
        ("--bgp-backup=prepend=2", "bgp-backup prepend the own AS number: give it by bgp-as"),
        ("--bgp-socket=/run/x", "bgp-socket is given, but nobody is to announce anything: give bgp"),
    ],
)
def test_what_is_refused(argument: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(argument)
    assert message in str(refused.value)


def test_a_backup_must_differ() -> None:
    with pytest.raises(ConfigError, match="no router could tell a backup"):
        loaded("--bgp=bird", "--bgp-primary=med=1", "--bgp-backup=med=1")


def test_settings_are_shown_as_they_are_read() -> None:
    config = loaded("--bgp=exabgp", "--bgp-backup=prepend=2 med=7 community=1:2", "--bgp-as=65010")
    shown = list(settings(config, {}))
    assert "bgp-backup = prepend=2 med=7 community=1:2" in shown
    assert "bgp-primary = med=100 local-preference=200" in shown
