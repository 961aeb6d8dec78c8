"""Ports others hold, and the kernel's list of reserved ones."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.nic.portreserve import PortReservation, parse, render
from relay.nic.sockets import busy_udp_ports


@given(st.sets(st.integers(1, 65535), max_size=300))
def test_a_list_comes_back_from_its_text(ports: set[int]) -> None:
    assert parse(render(ports)) == ports


@pytest.mark.parametrize(
    ("text", "ports"), [("", set()), ("\n", set()), ("5060\n", {5060}), ("1-3,7", {1, 2, 3, 7}), ("8,9", {8, 9})]
)
def test_the_kernels_text_is_understood(text: str, ports: set[int]) -> None:
    assert parse(text) == ports


def test_a_list_is_as_short_as_can_be() -> None:
    assert render({1, 2, 3, 5, 7, 8}) == "1-3,5,7-8"


@pytest.fixture
def setting(tmp_path: Path) -> Path:
    file = tmp_path / "ip_local_reserved_ports"
    file.write_text("5060,30002\n")
    return file


def test_what_was_taken_is_given_back_and_no_more(setting: Path) -> None:
    reservation = PortReservation(30000, 30005, setting)
    reservation.take()
    assert setting.read_text() == "5060,30000-30005\n"
    reservation.give_back()
    assert parse(setting.read_text()) == {5060, 30002}
    reservation.give_back()
    assert parse(setting.read_text()) == {5060, 30002}


def test_what_others_wrote_meanwhile_stays(setting: Path) -> None:
    reservation = PortReservation(30000, 30005, setting)
    reservation.take()
    setting.write_text("30000-30005,40000")
    reservation.give_back()
    assert parse(setting.read_text()) == {30002, 40000}


def test_what_another_relay_took_out_is_taken_again(setting: Path) -> None:
    first, second = PortReservation(30000, 30005, setting), PortReservation(30000, 30005, setting)
    first.take()
    second.take()
    first.give_back()
    second.take()
    assert parse(setting.read_text()) == {5060, *range(30000, 30006)}
    assert parse(second.added) == {30000, 30001, 30003, 30004, 30005}
    second.give_back()
    assert parse(setting.read_text()) == {5060, 30002}


def test_ports_bound_on_an_address_or_on_all_are_busy() -> None:
    sockets = []
    for family, address in (
        (socket.AF_INET, "127.0.0.1"),
        (socket.AF_INET, "0.0.0.0"),
        (socket.AF_INET6, "::"),
        (socket.AF_INET, "127.0.0.2"),
    ):
        sockets.append(socket.socket(family, socket.SOCK_DGRAM))
        sockets[-1].bind((address, 0))
    own, every, both, elsewhere = (found.getsockname()[1] for found in sockets)
    busy = busy_udp_ports("127.0.0.1")
    assert {own, every, both} <= busy
    assert elsewhere not in busy
    for opened in sockets:
        opened.close()
    assert not {own, every, both} & busy_udp_ports("127.0.0.1")


def test_ports_bound_on_an_ipv6_address_or_on_all_are_busy() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as own:
        own.bind(("::1", 0))
        assert own.getsockname()[1] in busy_udp_ports("::1")
        assert own.getsockname()[1] not in busy_udp_ports("::2")
