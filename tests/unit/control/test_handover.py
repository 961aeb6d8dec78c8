"""Sockets that were handed over find their listeners, and what fits none is named."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from control.config import Config
from control.handover import Asked, Handed, HandoverError, asked, inherited, match
from control.ng.sockets import open_datagrams, open_stream
from relay.types import Endpoint

FREE = Endpoint("127.0.0.1", 0)


@pytest.fixture
def opened() -> Iterator[list[socket.socket]]:
    sockets: list[socket.socket] = []
    yield sockets
    for one in sockets:
        one.close()


def udp(opened: list[socket.socket], name: str = "", ip: str = "127.0.0.1") -> Handed:
    opened.append(open_datagrams(Endpoint(ip, 0)))
    return Handed(opened[-1], name, Endpoint(*opened[-1].getsockname()[:2]))


def tcp(opened: list[socket.socket], name: str = "") -> Handed:
    opened.append(open_stream(FREE))
    return Handed(opened[-1], name, Endpoint(*opened[-1].getsockname()[:2]))


def test_all_listeners_are_asked_for() -> None:
    one, two, three = (Endpoint("127.0.0.1", port) for port in (1, 2, 3))
    config = Config(listen_ng=(one, two), listen_tcp_ng=(one,), listen_https=(three,))
    assert asked(config) == [
        Asked("listen-ng", one), Asked("listen-ng", two), Asked("listen-tcp-ng", one), Asked("listen-https", three),
    ]  # fmt: skip


def test_sockets_are_matched_by_kind_and_address(opened: list[socket.socket]) -> None:
    first, second, stream = udp(opened), udp(opened, ip="::1"), tcp(opened)
    wanted = [
        Asked("listen-ng", second.endpoint),
        Asked("listen-ng", first.endpoint),
        Asked("listen-ng", Endpoint("127.0.0.2", 2223)),
        Asked("listen-tcp-ng", stream.endpoint),
    ]
    found = match([first, second, stream], wanted)
    assert found.found == {wanted[0]: second, wanted[1]: first, wanted[3]: stream}
    assert found.left == []


def test_a_name_says_which_option_a_socket_is_for(opened: list[socket.socket]) -> None:
    one, other = tcp(opened, "listen-http"), udp(opened, "listen-ng")
    wanted = [Asked("listen-tcp-ng", one.endpoint), Asked("listen-http", one.endpoint), Asked("listen-ng", FREE)]
    assert match([one, other], wanted).found == {wanted[1]: one, wanted[2]: other}


def test_what_a_relay_opened_itself_is_left_where_its_options_have_changed(opened: list[socket.socket]) -> None:
    one = udp(opened, "listen-ng")
    found = match([one], [Asked("listen-ng", Endpoint("127.0.0.9", 2223))])
    assert (found.found, found.left) == ({}, [one])


def test_a_socket_unit_with_another_address_is_an_error_in_words(opened: list[socket.socket]) -> None:
    one, other = udp(opened), tcp(opened)
    with pytest.raises(HandoverError) as error:
        match([one], [Asked("listen-ng", Endpoint("127.0.0.9", 2223))])
    said = f"udp {one.endpoint} was handed over, and no listener has that address: give --listen-ng={one.endpoint}, or"
    assert str(error.value) == f"{said} mend the socket unit"
    with pytest.raises(HandoverError, match=r"^tcp .* give --listen-tcp-ng=.* or --listen-http=.* or --listen-https="):
        match([other], [Asked("listen-ng", other.endpoint)])


@pytest.mark.parametrize(
    "environ", [{}, {"LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "x"}, {"LISTEN_PID": str(os.getpid())}]
)
def test_what_is_for_another_process_is_not_taken_and_not_passed_on(environ: dict[str, str]) -> None:
    assert inherited(environ, os.getpid()) == []
    assert environ == {}


@pytest.mark.parametrize("count", ["-1", "many", "257", "1_0"])
def test_a_count_that_is_none_is_refused(count: str) -> None:
    with pytest.raises(HandoverError, match=f"LISTEN_FDS={count} is no number of descriptors up to 256"):
        inherited({"LISTEN_FDS": count, "LISTEN_PID": str(os.getpid())}, os.getpid())


CODE = """
import os, sys
from control.handover import HandoverError, inherited
os.dup2(int(sys.argv[1]), 3)
if len(sys.argv) > 2:
    os.dup2(os.open("/dev/null", os.O_RDONLY), 4)
environ = {"LISTEN_FDS": str(len(sys.argv) - 1), "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "listen-ng:odd"}
try:
    for one in inherited(environ, os.getpid()):
        print(one, one.name, os.get_inheritable(one.socket.fileno()), environ)
except HandoverError as error:
    print(error)
"""


def handed(opened: list[socket.socket], *more: str) -> str:
    number = opened[0].fileno()
    run = subprocess.run(
        [sys.executable, "-c", CODE, str(number), *more], pass_fds=[number], capture_output=True, text=True, check=True
    )
    return run.stdout.strip()


def test_descriptors_from_3_on_are_taken(opened: list[socket.socket]) -> None:
    one = udp(opened)
    assert handed(opened) == f"udp {one.endpoint} listen-ng False {{}}"


def test_what_is_no_socket_is_named(opened: list[socket.socket]) -> None:
    udp(opened)
    assert handed(opened, "null") == "descriptor 4, handed over as odd: Socket operation on non-socket"
    opened.insert(0, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    assert handed(opened) == "descriptor 3, handed over as listen-ng, is no UDP or TCP socket"
