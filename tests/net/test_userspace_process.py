"""`hairpin run` as an ordinary user: calls through sockets, on loopback, and where XDP may not be loaded."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from relay.types import Endpoint
from tests.contract import RTCP, RTP
from tests.lab import Host, Lab, give_address
from tests.ng import Proxy, Refused, above, until
from tests.peers import HAIRPIN, answers

# The last one is only for the way to a checkout that lies in somebody's home.
CAPABILITIES = "-all,+dac_read_search"
NOBODY = ("setpriv", "--reuid=65534", "--clear-groups", f"--inh-caps={CAPABILITIES}",
          f"--ambient-caps={CAPABILITIES}", f"--bounding-set={CAPABILITIES}")  # fmt: skip
NG = Endpoint("127.0.0.1", 2223)
PATIENCE = 10.0

OpenPhone = Callable[[str, int], socket.socket]


class Relay:
    """An ordinary user's relay with its log in a file."""

    def __init__(self, host: Host, *options: str) -> None:
        self.host = host
        runtime = host.folder / "runtime"
        (runtime / "hairpin").mkdir(parents=True, exist_ok=True)
        (runtime / "hairpin").chmod(0o777)
        for folder in (host.folder.parent, host.folder, runtime):
            folder.chmod(0o755)
        self._as_nobody = ("env", f"XDG_RUNTIME_DIR={runtime}", *NOBODY, str(HAIRPIN))
        self.log = host.folder / f"hairpin-{time.monotonic_ns()}.log"
        with self.log.open("w") as log:
            command = (*self._as_nobody, "run", "--config-file=none", "--log-stderr", f"--listen-ng={NG}", *options)
            self.process = host.start(*command, stdout=log, stderr=log)

    def ready(self) -> Relay:
        assert answers(self.host, self.process, NG), self.said()
        until(lambda: "operators: " in self.said())
        return self

    def said(self) -> str:
        return self.log.read_text()

    def refused(self) -> str:
        assert self.process.wait(15) == 1, self.said()
        self.host.end(self.process)
        return self.said()

    def end(self) -> int:
        return self.host.end(self.process)

    def operators_see(self, *words: str) -> str:
        command = ("nsenter", f"--net={self.host.path}", *self._as_nobody, *words)
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture
def host(lab: Lab) -> Host:
    return lab.host(f"user{len(lab.hosts)}")


@pytest.fixture
def proxy(host: Host) -> Iterator[Proxy]:
    with Proxy(host, NG) as proxy:
        yield proxy


@pytest.fixture
def phone(host: Host) -> Iterator[OpenPhone]:
    opened: list[socket.socket] = []

    def open_phone(ip: str, port: int) -> socket.socket:
        made = host.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET)
        opened.append(made)
        made.bind((ip, port))
        made.settimeout(PATIENCE)
        return made

    yield open_phone
    for each in opened:
        each.close()


def body(ip: str, port: int) -> str:
    """An SDP with one line of audio."""
    family = "IP6" if ":" in ip else "IP4"
    head = ("v=0", f"o=- 1 1 IN {family} {ip}", "s=-", f"c=IN {family} {ip}", "t=0 0", f"m=audio {port} RTP/AVP 0")
    return "".join(f"{line}\r\n" for line in head)


def place_in(text: str) -> Endpoint:
    """Where an SDP wants the media of its one line."""
    ip = re.search(r"^c=IN IP[46] (\S+)", text, re.MULTILINE)
    port = re.search(r"^m=audio (\d+) ", text, re.MULTILINE)
    assert ip is not None, text
    assert port is not None, text
    return Endpoint(ip[1], int(port[1]))


def begin(proxy: Proxy, a: tuple[str, int], b: tuple[str, int]) -> tuple[Endpoint, Endpoint]:
    """A call between two places; gives back the relay's ports that A and B are to send to."""
    call = {"call_id": "call", "from_tag": "a"}
    for_b = place_in(proxy.ask("offer", **call, sdp=body(*a))["sdp"])
    for_a = place_in(proxy.ask("answer", **call, to_tag="b", sdp=body(*b))["sdp"])
    return for_a, for_b


def passes(sender: socket.socket, to: Endpoint, receiver: socket.socket, payload: bytes = RTP) -> Endpoint:
    """Send a packet through the relay; gives back which of its ports it comes from."""
    sender.sendto(payload, to)
    received, source = receiver.recvfrom(2048)
    assert received == payload
    return Endpoint(source[0], source[1])


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
def test_a_call_between_two_telephones_of_this_machine(host: Host, proxy: Proxy, phone: OpenPhone, ip: str) -> None:
    relay = Relay(host, f"--interface={ip}").ready()
    a, b = phone(ip, 4000), phone(ip, 5000)
    for_a, for_b = begin(proxy, (ip, 4000), (ip, 5000))
    assert for_a.ip == for_b.ip == ip
    assert passes(a, for_a, b) == for_b
    assert passes(b, for_b, a) == for_a
    assert "userspace socket" in relay.operators_see("show", "call")
    status = json.loads(relay.operators_see("status", "--json"))
    assert status["dataplane"][0] == "userspace"
    assert f"not XDP: it does not serve the loopback address {ip}" in status["dataplane"]
    assert status["counters"]["data plane"]["forwarded"] == 2
    proxy.ask("delete", call_id="call", from_tag="a", delete_delay=0)
    assert relay.end() == 0


def test_a_call_between_the_families(host: Host, proxy: Proxy, phone: OpenPhone) -> None:
    relay = Relay(host, "--interface=127.0.0.1", "--interface=::1").ready()
    a, b = phone("127.0.0.1", 4000), phone("::1", 5000)
    call = {"call_id": "call", "from_tag": "a"}
    for_b = place_in(proxy.ask("offer", **call, sdp=body("127.0.0.1", 4000), address_family="IP6")["sdp"])
    for_a = place_in(proxy.ask("answer", **call, to_tag="b", sdp=body("::1", 5000))["sdp"])
    assert (for_a.ip, for_b.ip) == ("127.0.0.1", "::1")
    assert passes(a, for_a, b) == for_b
    assert passes(b, for_b, a) == for_a
    assert relay.end() == 0


def test_a_telephone_behind_nat_and_rtcp(host: Host, proxy: Proxy, phone: OpenPhone) -> None:
    relay = Relay(host, "--interface=127.0.0.1", "--tos=184").ready()
    a, b, b_rtcp = phone("127.0.0.9", 61000), phone("127.0.0.1", 5000), phone("127.0.0.1", 5001)
    for_a, for_b = begin(proxy, ("10.0.0.7", 4000), ("127.0.0.1", 5000))
    b.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    a.sendto(RTP, for_a)
    _, ancillary, _, source = b.recvmsg(2048, 64)
    assert (Endpoint(*source), ancillary[0][2]) == (for_b, b"\xb8")
    assert passes(b, for_b, a) == for_a
    assert passes(a, above(for_a), b_rtcp, RTCP) == above(for_b)
    assert relay.end() == 0


def test_nobody_commands_the_relay_through_it(host: Host, proxy: Proxy) -> None:
    relay = Relay(host, "--interface=127.0.0.1").ready()
    begin(proxy, ("127.0.0.1", NG.port), ("127.0.0.1", 5000))
    assert "destination refused" in relay.operators_see("show", "call")
    assert relay.end() == 0


def test_without_privileges_sockets_are_taken_and_it_is_said_why(lab: Lab, host: Host) -> None:
    router = lab.host(f"router{len(lab.hosts)}")
    lab.cable(host, "eth0", router, "eth0")
    give_address(host, "10.98.5.1", "10.98.5.2")
    relay = Relay(host).ready()
    assert "WARNING XDP cannot be had, every packet goes through a socket: this user lacks CAP_NET_" in relay.said()
    assert "data plane: not XDP: this user lacks CAP_NET_" in relay.said()
    assert relay.end() == 0
    for plane in ("xdp", "xdp-generic"):
        refused = Relay(host, f"--dataplane={plane}").refused()
        assert "cannot start: this user lacks CAP_NET_" in refused
        assert "; or do without XDP: --dataplane=userspace" in refused
        assert "Traceback" not in refused


def test_a_port_that_another_program_takes_meanwhile_is_named_to_the_proxy(host: Host, proxy: Proxy) -> None:
    relay = Relay(host, "--interface=127.0.0.1", "--port-min=30000", "--port-max=30003").ready()
    with host.socket() as other:
        other.bind(("127.0.0.1", 30002))
        with pytest.raises(Refused, match=r"no socket at 127\.0\.0\.1:30002: another program holds it"):
            proxy.ask("offer", call_id="call", from_tag="a", sdp=body("127.0.0.1", 4000))
    proxy.ask("offer", call_id="another", from_tag="a", sdp=body("127.0.0.1", 4000))
    assert relay.end() == 0


def test_ports_of_ended_calls_are_found_free_again(host: Host, proxy: Proxy) -> None:
    """The relay's own sockets are not those of another program."""
    relay = Relay(host, "--interface=127.0.0.1", "--port-min=30000", "--port-max=30003").ready()
    for number in range(3):
        call = {"call_id": f"call {number}", "from_tag": "a"}
        proxy.ask("offer", **call, sdp=body("127.0.0.1", 4000))
        proxy.ask("delete", **call, delete_delay=0)
    assert relay.end() == 0
