"""`hairpin run` as a process: how it starts, refuses, meets its operators, and what it leaves behind."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.ops import place
from relay.types import Endpoint
from tests.daemon import NG, Daemon, hairpin, memory, offer
from tests.lab import Host, Lab, give_address
from tests.peers import pings

RESERVED = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture
def host(lab: Lab, request: pytest.FixtureRequest) -> Host:
    """A host with one neighbour, which is its default route."""
    number = len(lab.hosts)
    made, router = lab.host(f"relay{number}"), lab.host(f"router{number}")
    lab.cable(made, "eth0", router, "eth0", napi=True)
    give_address(made, "10.99.5.1", "10.99.5.2")
    router.ip("address", "add", "10.99.5.2/24", "dev", "eth0")
    return made


def standing_files(host: Host) -> list[Path]:
    netns = host.call(lambda: Path("/proc/thread-self/ns/net").stat().st_ino)
    return sorted(place.ROOT_DIRECTORY.glob(f"hairpin-*-{netns}.*"))


def wait_until_detached(host: Host) -> None:
    """The kernel lets go of a dead process's program in its own time."""
    until = time.monotonic() + 5
    while "xdp" in host.ip("link", "show", "eth0"):
        assert time.monotonic() < until
        time.sleep(0.05)


def reserved(host: Host) -> str:
    return host.call(RESERVED.read_text).strip()


def test_what_is_shown_behind_nat_is_said_at_the_start(host: Host) -> None:
    daemon = memory(host, "--interface=out/10.99.5.1!192.0.2.1").ready()
    assert "media: out 10.99.5.1, shown as 192.0.2.1, ports 30000-40000" in daemon.says("operators: ")


def test_no_options_make_a_relay_that_says_what_it_chose(host: Host) -> None:
    daemon = Daemon(host).ready()
    said = daemon.says("operators: hairpin status, at ")
    assert "media: default 10.99.5.1, ports 30000-40000" in said
    assert "ports: reserved from the host" in said
    assert "XDP on eth0 (veth)" in said
    assert "ng: listening on 127.0.0.1:2223, from this host" in said
    assert 'modparam("rtpengine", "rtpengine_sock", "udp:127.0.0.1:2223")' in said
    assert "c=IN IP4 10.99.5.1" in offer(host, "one")["sdp"]
    assert "30000-40000" in reserved(host)
    assert daemon.end() == 0
    assert reserved(host) == ""
    assert "xdp" not in host.ip("link", "show", "eth0")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_an_orderly_end_leaves_nothing(host: Host, how: signal.Signals) -> None:
    pidfile = host.folder / "pid"
    daemon = memory(host, f"--pidfile={pidfile}").ready()
    assert len(standing_files(host)) == 2
    assert pidfile.read_text() == f"{daemon.process.pid}\n"
    offer(host, "standing")
    assert daemon.end(how) == 0
    assert standing_files(host) == []
    assert not pidfile.exists()
    assert not pings(host, NG)
    assert f"stopping on {how.name} with 1 calls standing" in daemon.said()
    assert re.search(r"\[standing\] ended after \d s, the relay stopped: ", daemon.said())
    assert "ERROR" not in daemon.said()
    assert "Traceback" not in daemon.said()


def test_sighup_does_not_end_calls(host: Host) -> None:
    daemon = memory(host).ready()
    offer(host, "kept")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.says("reloaded from the command line alone, in force: nothing that was not before")
    assert [call["call_id"] for call in json.loads(hairpin(host, "list", "--json").stdout)] == ["kept"]
    assert daemon.end() == 0


def test_what_a_killed_relay_leaves_is_no_obstacle(host: Host) -> None:
    daemon = memory(host).ready()
    daemon.end(signal.SIGKILL)
    assert len(standing_files(host)) == 2
    assert hairpin(host, "list").returncode == 3
    daemon = memory(host).ready()
    assert hairpin(host, "list").returncode == 0
    assert daemon.end() == 0
    assert standing_files(host) == []


def test_what_a_killed_relay_reserved_is_given_back(host: Host) -> None:
    host.sysctl("ipv4/ip_local_reserved_ports", "30005,50000")
    Daemon(host, "--port-min=30000", "--port-max=30009").ready().end(signal.SIGKILL)
    wait_until_detached(host)
    assert reserved(host) == "30000-30009,50000"
    daemon = Daemon(host, "--port-min=40000", "--port-max=40009").ready()
    assert reserved(host) == "30005,40000-40009,50000"
    assert daemon.end() == 0
    assert reserved(host) == "30005,50000"
    host.sysctl("ipv4/ip_local_reserved_ports", "")


def test_ng_over_ipv6(host: Host) -> None:
    daemon = memory(host, "--listen-ng=[::1]:2223")
    assert '"udp6:[::1]:2223"' in daemon.says("operators: ")
    with host.socket(socket.AF_INET6) as asking:
        asking.settimeout(5)
        asking.sendto(b"1 d7:command4:pinge", ("::1", 2223))
        assert asking.recv(100) == b"1 d6:result4:ponge"
    assert daemon.end() == 0


def test_one_relay_per_number_and_namespace(host: Host) -> None:
    first = memory(host).ready()
    second = memory(host, "--table=-1", "--listen-ng=127.0.0.1:2224").refused()
    assert f"hairpin instance 0 already runs in this network namespace (pid {first.process.pid})" in second
    assert "take another number with --table=N" in second
    other = memory(host, "--table=1", "--listen-ng=127.0.0.1:2224").ready(Endpoint("127.0.0.1", 2224))
    offer(host, "of-instance-1", Endpoint("127.0.0.1", 2224))
    assert hairpin(host, "list").stdout == "no calls\n"
    assert "of-instance-1" in hairpin(host, "list", "--table=1").stdout
    assert other.end() == 0
    assert "there is --table=0" in hairpin(host, "list", "--table=1").stderr
    assert first.end() == 0


def test_relays_in_two_namespaces_never_meet(lab: Lab, host: Host) -> None:
    elsewhere = lab.host(f"elsewhere{len(lab.hosts)}")
    daemon = memory(host).ready()
    nobody = hairpin(elsewhere, "list")
    assert nobody.returncode == 3
    assert "no relay answers at /run/hairpin/hairpin-0-" in nobody.stderr
    other = memory(elsewhere, "--interface=127.0.0.1").ready()
    offer(host, "here")
    assert hairpin(elsewhere, "list").stdout == "no calls\n"
    assert "here" in hairpin(host, "list").stdout
    assert (daemon.end(), other.end()) == (0, 0)


def test_operators_see_and_end_a_call(host: Host) -> None:
    daemon = memory(host, "--tos=184").ready()
    offer(host, "one@host")
    shown = hairpin(host, "show", "one@host").stdout
    assert "leg a" in shown
    assert "46 EF" in shown
    assert len(hairpin(host, "rules").stdout.splitlines()) == 5
    assert hairpin(host, "terminate", "one@host").stdout == "terminated one@host\n"
    missing = hairpin(host, "show", "one@host")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "no call has the Call-ID 'one@host': see `hairpin list`" in missing.stderr
    said = daemon.says("terminated by the operator: 0 packets, 0 lost, 0 dropped")
    assert re.search(r"\[one@host\] ended after \d s, terminated by the operator: ", said)
    status = json.loads(hairpin(host, "status", "--json").stdout)
    assert status["calls"] == {"standing": 0, "deleted": 0, "ready": 0}
    assert status["interfaces"][0]["ports_used"] == 0
    assert status["counters"]["ng requests from 127.0.0.1"]["offer"] == 1
    assert daemon.end() == 0


def test_strangers_get_no_answer(lab: Lab, host: Host) -> None:
    router = lab.hosts[-1]
    ng = Endpoint("10.99.5.1", 2223)
    closed = memory(host, f"--listen-ng={ng}", "--ng-allow=10.99.5.1").ready(ng)
    assert not pings(router, ng)
    closed.says("ng: listening on 10.99.5.1:2223, from 10.99.5.1/32")
    status = json.loads(hairpin(host, "status", "--json").stdout)
    assert status["counters"]["ng messages"]["strangers"] == 1
    assert closed.end() == 0
    by_default = memory(host, "--listen-ng=2223").ready(ng)
    assert pings(router, ng)
    said = by_default.says('"udp:10.99.5.1:2223"')
    assert "ng: listening on 0.0.0.0:2223, from " in said
    assert "10.0.0.0/8" in said
    assert by_default.end() == 0


def test_ports_of_others_are_left_alone(host: Host) -> None:
    with host.socket() as other:
        other.bind(("0.0.0.0", 30001))
        daemon = memory(host, "--port-min=30000", "--port-max=30005").ready()
        assert offer(host, "fits")["result"] == "ok"
        assert offer(host, "one-too-many") == {"result": "error", "error-reason": "Ran out of ports"}
        daemon.says("WARNING [one-too-many] offer refused: Ran out of ports; widen --port-min and --port-max")
        assert daemon.end() == 0


def test_names_of_one_address_share_its_ports(host: Host) -> None:
    names = ("--interface=in/10.99.5.1", "--interface=out/10.99.5.1", "--port-min=30000", "--port-max=30007")
    daemon = memory(host, *names).ready()
    ports = [re.findall(r"audio (\d+)", offer(host, f"call-{i}", direction=["in", "out"])["sdp"])[0] for i in range(2)]
    rules = json.loads(hairpin(host, "rules", "--json").stdout)
    assert len({rule["local"] for rule in rules}) == 8
    assert len(set(ports)) == 2
    assert offer(host, "third")["error-reason"] == "Ran out of ports"
    assert daemon.end() == 0


def test_refusals_say_what_is_missing(lab: Lab, host: Host) -> None:
    alone = lab.host(f"alone{len(lab.hosts)}")
    assert "no default route" in memory(alone).refused()
    no_way = "no network interface leads to the media addresses: name one with --attach=IF"
    assert (
        "cannot serve the loopback address 127.0.0.1"
        in Daemon(alone, "--dataplane=xdp", "--interface=127.0.0.1").refused()
    )
    alone.ip("address", "add", "10.99.6.1/32", "dev", "lo")
    assert no_way in Daemon(alone, "--dataplane=xdp", "--interface=10.99.6.1").refused()
    strange = memory(host, "-i", "10.1.1.1").refused()
    assert "--interface=10.1.1.1 is no address of this host, which has 10.99.5.1" in strange
    assert "stopped" not in strange
    assert "--attach=eth7 is no network interface here; there are eth0, lo" in memory(host, "--attach=eth7").refused()
    with host.socket() as other:
        other.bind(NG)
        taken = memory(host).refused()
    assert "cannot listen for ng on 127.0.0.1:2223: Address already in use; choose another with" in taken
    assert standing_files(host) == []


def test_without_privileges_the_missing_capability_is_named(host: Host) -> None:
    wrapper = ("setpriv", "--bounding-set=-bpf,-sys_admin,-perfmon", "--inh-caps=-bpf,-sys_admin,-perfmon")
    refused = Daemon(host, "--dataplane=xdp", wrapper=wrapper).refused()
    assert "cannot start: root lacks CAP_PERFMON, CAP_BPF" in refused
    assert "Traceback" not in refused
    assert standing_files(host) == []


def test_systemd_is_told_and_another_place_for_the_socket(host: Host) -> None:
    moved = host.folder / "moved" / "operators.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(host.folder / "notify"))
        systemd.settimeout(10)
        wrapper = ("env", f"NOTIFY_SOCKET={host.folder}/notify")
        daemon = Daemon(host, "--dataplane=memory", f"--socket={moved}", wrapper=wrapper)
        assert systemd.recv(100) == b"READY=1"
        assert hairpin(host, "list").returncode == 3
        assert hairpin(host, "list", f"--socket={moved}").returncode == 0
        assert "instance 0 already runs" in memory(host, f"--socket={host.folder}/other.sock").refused()
        assert daemon.end() == 0
        assert systemd.recv(100) == b"STOPPING=1"
    assert not moved.exists()


def test_the_capabilities_of_the_unit_file_are_enough(host: Host) -> None:
    # The last one is only for the way to a checkout that lies in somebody's home.
    keep = "net_admin,+net_raw,+bpf,+perfmon,+dac_read_search"
    wrapper = ("setpriv", "--reuid=65534", "--clear-groups", f"--inh-caps=-all,+{keep}", f"--ambient-caps=-all,+{keep}",
               f"--bounding-set=-all,+{keep}")  # fmt: skip
    runtime = host.folder / "runtime"
    (runtime / "hairpin").mkdir(parents=True)
    (runtime / "hairpin").chmod(0o777)
    for folder in (host.folder.parent, host.folder, runtime):
        folder.chmod(0o755)
    daemon = Daemon(host, wrapper=("env", f"XDG_RUNTIME_DIR={runtime}", *wrapper)).ready()
    said = daemon.says("operators: ")
    assert "XDP on eth0 (veth)" in said
    assert "ports: reserved from the host" in said
    assert offer(host, "unprivileged")["result"] == "ok"
    assert daemon.end() == 0
    assert reserved(host) == ""
