"""Random configuration files, command lines and operators' requests: a clear error or a value, never anything else."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.config import Config, ConfigError, Interface, load, options, read_file
from control.config.interfaces import KEYS
from control.config.show import settings
from control.ops.operators import OperatorError, _request
from control.ops.text import clean

NAMES = [name for name, _, _ in options()]
VALUES = st.one_of(
    st.text(max_size=30),
    st.integers().map(str),
    st.ip_addresses().map(str),
    st.lists(st.ip_addresses().map(str), max_size=4).map(";".join),
    st.sampled_from(["true", "auto", "2223", "in/10.0.0.1", "[::1]:5", "10.0.0.0/8", "1.2.3.4!5.6.7.8", "-1", ""]),
)
KEYS_AND_NAMES = st.sampled_from([*NAMES, *KEYS, "num-threads", "redis"])
LINES = st.one_of(
    st.tuples(KEYS_AND_NAMES, VALUES).map(lambda pair: f"{pair[0]} = {pair[1]}"),
    st.text(max_size=40),
    st.sampled_from(
        ["[rtpengine]", "[other]", "[interface-x]", "[templates]", "# words", "; words", "=", "[", "]", "\\"]
    ),
)
MEDIA = st.ip_addresses(network="10.0.0.0/8").map(str)
TEXTS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs", "Cc"]), max_size=20)


def _interface(address: str, port: int) -> Interface:
    return Interface("default", address, "", port, 0, (port,) if port else ())


ARGUMENTS = st.one_of(st.tuples(st.sampled_from(NAMES), VALUES).map(lambda pair: f"--{pair[0]}={pair[1]}"), VALUES)
REQUESTS = st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode(errors="replace")))


@pytest.fixture(scope="module", autouse=True)
def _nobody_is_looked_up() -> Iterator[None]:
    """Random host names are no business of the network's."""

    def unknown(name: object, *more: object, **others: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, f"{name!r} is not known")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", unknown)
        yield


@given(st.lists(LINES, max_size=12))
def test_a_file_gives_options_or_names_its_line(lines: list[str]) -> None:
    said = "file line 0"
    try:
        Config(**read_file("\n".join(["[rtpengine]", *lines]), "rtpengine", "file"))
    except ConfigError as error:
        said = str(error)
    assert said.startswith(("file line ", "file section [interface-x]: "))


@given(st.lists(ARGUMENTS.filter(lambda argument: not argument.startswith("-h")), max_size=6))
def test_a_command_line_gives_a_config_or_an_error(arguments: list[str]) -> None:
    try:
        config = load(["--config-file=none", *arguments])
    except ConfigError:
        return
    assert 1 <= config.port_min < config.port_max <= 65535
    assert config.listen_ng


@given(
    st.builds(
        Config,
        interface=st.lists(st.builds(_interface, MEDIA, st.integers(0, 65535)), max_size=3),
        socket=TEXTS,
        pidfile=TEXTS,
        tos=st.integers(-1, 255),
        max_load=st.floats(0, 1e9),
        log_stderr=st.booleans(),
        deny_peer=st.lists(st.ip_addresses().map(ip_network), max_size=3).map(tuple),
    )
)
def test_settings_are_shown_as_a_file_that_says_the_same(config: Config) -> None:
    text = "\n".join(settings(config, {}))
    found = Config(**read_file(text, "rtpengine", "file"))
    assert sorted(found.interface) == sorted(config.interface)
    assert dataclasses.replace(found, interface=()) == dataclasses.replace(config, interface=())


@given(REQUESTS)
def test_an_operators_request_is_understood_or_refused(line: bytes) -> None:
    try:
        command, arguments = _request(line)
    except OperatorError:
        return
    assert isinstance(command, str)
    assert isinstance(arguments, dict)


@given(st.text())
def test_nothing_from_the_network_drives_a_terminal(text: str) -> None:
    assert clean(text).isprintable()
