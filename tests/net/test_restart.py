"""A relay that dies, or is replaced, while media flows and proxies command it: nobody notices."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from control.ng import bencode
from relay.types import Endpoint
from tests.calls import sdp
from tests.daemon import Daemon, hairpin
from tests.lab import Lab, Network, command, standard_network
from tests.media import Agent
from tests.ng import Proxy, until
from tests.peers import HAIRPIN
from tests.supervised import Supervised, bpf_folder
from tests.talks import Talks

EF = 184
PLANES = ("xdp", "userspace")


@dataclass
class Scene:
    """The standard network, and a place for pins."""

    lab: Lab
    network: Network
    pins: Path

    def supervised(self, *options: str, plane: str = "xdp") -> Supervised:
        for old in self.network.relay.folder.glob("state*"):
            command("rm", "-r", str(old))
        if self.pinned():
            pins = (f"--pin-dir={self.pins}", "--config-file=none")
            self.network.relay.run(str(HAIRPIN), "flush", "--force", *pins)
        address = self.network.RELAY_ADDRESS
        return Supervised(self.network.relay, address, self.pins, f"--dataplane={plane}", *options)

    def proxy(self, relay: Supervised) -> Proxy:
        return Proxy(self.network.proxy, relay.ng)

    def attached(self) -> bool:
        return "xdp" in self.network.relay.ip("link", "show", "eth0")

    def pinned(self) -> list[Path]:
        return [Path(folder) / name for folder, _, names in os.walk(self.pins) for name in names]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab() as lab, bpf_folder(lab.folder / "bpf") as pins:
        yield Scene(lab, standard_network(lab), pins)


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as made:
        yield made


def request(cookie: str, word: str, **keys: Any) -> bytes:
    body = {"command": word, **{key.replace("_", "-"): value for key, value in keys.items()}}
    return cookie.encode() + b" " + bencode.encode(body)


def offer(cookie: str, call_id: str) -> bytes:
    return request(cookie, "offer", call_id=call_id, from_tag="a", sdp=sdp(Endpoint("10.99.1.2", 4000)))


@dataclass
class Asking:
    """Sends requests without waiting, and takes replies as they come."""

    socket: socket.socket

    def send(self, *requests: bytes) -> None:
        for one in requests:
            self.socket.send(one)

    def replies(self, count: int) -> list[bytes]:
        return [self.socket.recv(65535) for _ in range(count)]

    def ask(self, one: bytes) -> dict[str, Any]:
        self.send(one)
        found: dict[str, Any] = bencode.decode(self.socket.recv(65535).partition(b" ")[2])
        return found


@pytest.fixture
def asking(scene: Scene) -> Iterator[Asking]:
    with scene.network.proxy.socket() as opened:
        opened.settimeout(15)
        opened.connect((scene.network.RELAY_ADDRESS, 2223))
        yield Asking(opened)


# -- the daemon dies


def test_a_killed_daemon_costs_no_packet_no_command_and_no_call(scene: Scene, agent: Agent, asking: Asking) -> None:
    with scene.supervised("--tos=184") as relay, scene.proxy(relay) as proxy:
        talk = Talks(scene.network, agent, proxy).call("nated", nated=True)
        talk.begin(150)
        until(lambda: talk.heard() > (25, 25))
        asking.send(*(offer(f"before{i}", f"call-{i}") for i in range(3)))
        asking.replies(3)
        relay.kill()
        killed = time.monotonic()
        asking.send(request("0", "query", call_id="nated"), *(offer(str(i), f"new-{i}") for i in range(1, 9)))
        replies = asking.replies(9)
        print(f"answered {time.monotonic() - killed:.2f} s after the kill")
        assert [one.split(b" ")[0] for one in replies] == [str(i).encode() for i in range(9)]
        assert all(bencode.decode(one.partition(b" ")[2])["result"] == "ok" for one in replies)
        relay.restored(1)
        assert relay.call_ids() == ["call-0", "call-1", "call-2", "nated", *(f"new-{i}" for i in range(1, 9))]
        until(lambda: talk.caller.rtp_sent == talk.callee.rtp_sent == 150)
        time.sleep(0.1)
        assert talk.lost()[0] == 0
        assert talk.lost()[1] <= 25, "only what came before the caller's first packet had nowhere to go"
        assert set(talk.callee.tos) == {EF}
        streams = {one["local"]: one for one in streams_of(relay, "nated")}
        caller = streams[str(talk.call.for_caller)]
        assert (caller["observed"], caller["confirmed"], caller["tos"]) == (str(talk.caller.local), True, EF)
        assert caller["packets"] == 150, "what was counted before counts"
        ports = [rule["local"] for rule in relay.operator("rules")]
        assert len(ports) == len(set(ports)) == 12 * 4
    assert scene.pinned() == []
    assert not scene.attached()


def streams_of(relay: Supervised, call_id: str) -> list[dict[str, Any]]:
    legs = relay.operator("show", call=call_id)[0]["legs"]
    return [stream for leg in legs for media in leg["media"] for stream in media["streams"]]


def test_sockets_come_back_with_what_was_learned(scene: Scene, agent: Agent) -> None:
    """The userspace plane forwards nothing while no relay runs, and at once when one does."""
    with scene.supervised("--tos=184", plane="userspace") as relay, scene.proxy(relay) as proxy:
        talk = Talks(scene.network, agent, proxy).call("nated", nated=True)
        talk.begin(300)
        until(lambda: talk.heard() > (25, 25))
        relay.kill()
        relay.restored(1)
        before = talk.heard()
        until(lambda: min(talk.heard()) > max(before) + 25)
        assert set(talk.callee.tos) == {EF}
        assert {one["observed"] for one in streams_of(relay, "nated") if one["packets"]} >= {str(talk.caller.local)}


def test_offers_that_are_repeated_over_deaths_make_each_call_once(scene: Scene, asking: Asking) -> None:
    """A proxy repeats what is not answered in time, as Kamailio does: every reply is the first one's."""
    with scene.supervised() as relay:
        persistent = Persistent(asking.socket)
        for number in range(300):
            persistent.ask(f"k{number}", offer(f"k{number}", f"call-{number}"))
            if number in (100, 200):
                relay.kill()
            persistent.listen(0.02)
        until(lambda: persistent.listen(0.05) == 300, 20)
        assert all(b"6:result2:ok" in reply for reply in persistent.replies.values())
        assert persistent.unlike == 0
        until(lambda: len(relay.call_ids()) == 300, 20)
        ports = [rule["local"] for rule in relay.operator("rules")]
        assert len(ports) == len(set(ports)) == 300 * 4


@dataclass
class Persistent:
    """Sends each request again every half second until it is answered."""

    socket: socket.socket
    waiting: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    replies: dict[str, bytes] = field(default_factory=dict)
    unlike: int = 0
    """Replies to a repeat that were not the first one's."""

    def ask(self, cookie: str, one: bytes) -> None:
        self.socket.send(one)
        self.waiting[cookie] = one, time.monotonic() + 0.5

    def listen(self, seconds: float) -> int:
        """Take replies for a while; returns how many requests are answered."""
        until = time.monotonic() + seconds
        while select.select([self.socket], [], [], max(until - time.monotonic(), 0))[0]:
            reply = self.socket.recv(65535)
            cookie = reply.partition(b" ")[0].decode()
            self.waiting.pop(cookie, None)
            self.unlike += self.replies.setdefault(cookie, reply) != reply
        for cookie, (one, due) in list(self.waiting.items()):
            if time.monotonic() > due:
                self.ask(cookie, one)
        return len(self.replies)


@pytest.mark.parametrize("plane", PLANES)
def test_a_repeat_after_the_death_gets_the_first_reply(scene: Scene, asking: Asking, plane: str) -> None:
    with scene.supervised(plane=plane) as relay:
        first = offer("cookie", "once")
        asking.send(first)
        (reply,) = asking.replies(1)
        relay.kill()
        asking.send(first)
        assert asking.replies(1) == [reply]
        assert relay.operator("status")[0]["counters"]["ng messages"]["repeats"] == 1
        assert relay.call_ids() == ["once"]


def test_timers_go_on(scene: Scene, asking: Asking) -> None:
    with scene.supervised("--final-timeout=4", plane="memory") as relay:
        begun = time.monotonic()
        assert asking.ask(offer("1", "old"))["result"] == "ok"
        assert asking.ask(offer("2", "deleted"))["result"] == "ok"
        assert asking.ask(request("3", "delete", call_id="deleted", from_tag="a", delete_delay=3))["result"] == "ok"
        time.sleep(1.5)
        relay.kill()
        relay.restored(1)
        assert relay.operator("status")[0]["calls"]["deleted"] == 1
        assert all(call["age"] > 1.5 for call in relay.operator("list"))
        relay.says("[deleted] ended after ")
        assert time.monotonic() - begun > 3
        relay.says("[old] ended after ")


def test_ports_of_standing_calls_are_never_drawn_again(scene: Scene, asking: Asking) -> None:
    with scene.supervised("--port-min=30000", "--port-max=30015") as relay:
        for number in range(3):
            assert asking.ask(offer(str(number), f"call-{number}"))["result"] == "ok"
        with relay.away():
            asking.send(offer("a", "fits"), offer("b", "one-too-many"))
        results = [bencode.decode(one.partition(b" ")[2]) for one in asking.replies(2)]
        assert results[0]["result"] == "ok"
        assert results[1] == {"result": "error", "error-reason": "Ran out of ports"}
        relay.restored(1)
        ports = [rule["local"] for rule in relay.operator("rules")]
        assert len(ports) == len(set(ports)) == 16
        relay.operator("terminate", call="call-1")


def test_both_tables_are_brought_in_step(scene: Scene, agent: Agent) -> None:
    """Rules without a call go, and calls without rules get them."""
    with scene.supervised() as relay, scene.proxy(relay) as proxy:
        talks = Talks(scene.network, agent, proxy)
        stripped, forgotten = talks.call("stripped"), talks.call("forgotten")
        with relay.away():
            journal_without(relay, "forgotten")
            without_rules(scene, stripped.call.for_caller, stripped.call.for_callee)
        relay.restored(1)
        assert relay.call_ids() == ["stripped"]
        until(lambda: len(relay.operator("rules")) == 4)
        assert "4 ports had no call" in relay.says("had no call")
        stripped.begin(25)
        until(lambda: stripped.caller.rtp_sent == stripped.callee.rtp_sent == 25)
        until(lambda: stripped.lost() == (0, 0))
        forgotten.begin(5)
        until(lambda: forgotten.caller.rtp_sent + forgotten.caller.refused == 5)
        time.sleep(0.1)
        assert forgotten.heard() == (0, 0)


def journal_without(relay: Supervised, call_id: str) -> None:
    """Write into the journal of a dead relay that a call has ended."""
    from control.journal.format import Kind, frame, key

    (segment,) = sorted((relay.state / "0" / "journal").glob("calls-*"))[-1:]
    with segment.open("ab") as file:
        file.write(frame(Kind.GONE, key(call_id)))


def without_rules(scene: Scene, *locals_: Endpoint) -> None:
    """Take ports out of force in the pinned table, behind the relay's back."""
    from relay.dataplane import abi
    from relay.dataplane.libbpf import Map

    (path,) = [path for path in scene.pinned() if path.name == "rules"]
    rules = Map.from_pin(path)
    try:
        table = rules.array(abi.RULE)
        for local in locals_:
            table["control"][table_index(local.port)] = 0
        del table
    finally:
        rules.close()


def table_index(port: int) -> int:
    """Where the rule of a port of the only address stands: behind those of the other parity (ebpf/find.h)."""
    return (port & 1) << 15 | port >> 1


def test_connections_wait_as_datagrams_do(scene: Scene) -> None:
    """TCP and HTTP: who connects while no relay runs is accepted by the next one."""
    address = scene.network.RELAY_ADDRESS
    tcp, http = (address, 2224), (address, 2225)
    with scene.supervised(f"--listen-tcp-ng={address}:2224", f"--listen-http={address}:2225", plane="memory") as relay:
        body = bencode.encode({"command": "ping"})
        head = f"POST /ng-plain HTTP/1.0\r\nContent-Type: application/x-rtpengine-ng\r\nContent-Length: {len(body)}\r\n"
        with relay.away():
            by_tcp, by_http = (connected(scene, place) for place in (tcp, http))
            by_tcp.sendall(request("1", "ping"))
            by_http.sendall(head.encode() + b"\r\n" + body)
        assert by_tcp.recv(100) == b"1 d6:result4:ponge"
        assert b"d6:result4:ponge" in by_http.makefile("rb").read()
        by_tcp.close()
        by_http.close()


def connected(scene: Scene, place: tuple[str, int]) -> socket.socket:
    opened = scene.network.proxy.socket(kind=socket.SOCK_STREAM)
    opened.settimeout(15)
    opened.connect(place)
    return opened


# -- it is told to end


def test_an_upgrade_loses_nothing(scene: Scene, agent: Agent, asking: Asking) -> None:
    with scene.supervised() as relay, scene.proxy(relay) as proxy:
        talk = Talks(scene.network, agent, proxy).call("kept")
        before = relay.pid()
        talk.begin(100)
        until(lambda: min(talk.heard()) > 20)
        relay.process.send_signal(signal.SIGUSR2)
        asking.send(*(offer(str(i), f"new-{i}") for i in range(5)))
        assert [one.split(b" ")[0] for one in asking.replies(5)] == [b"0", b"1", b"2", b"3", b"4"]
        relay.says("the relay has ended in order, next one")
        assert relay.pid() != before
        until(lambda: talk.caller.rtp_sent == talk.callee.rtp_sent == 100)
        time.sleep(0.1)
        assert talk.lost() == (0, 0)
        relay.restored(1)
        assert "kept" in relay.call_ids()


@pytest.mark.parametrize("plane", PLANES)
def test_an_end_keeps_or_flushes(scene: Scene, agent: Agent, plane: str) -> None:
    with scene.supervised("--on-exit=keep", plane=plane) as relay, scene.proxy(relay) as proxy:
        talk = Talks(scene.network, agent, proxy).call("kept")
        options = [option for option in relay.options if not option.startswith("--on-exit")]
        assert "stop the relay" in relay.hairpin("flush", *options) or "already runs" in relay.hairpin(
            "flush", *options
        )
        assert relay.stop() == 0
        assert "1 calls standing, which are kept" in relay.says("stopped, all calls are kept for the next relay")
        if plane == "xdp":
            assert scene.attached()
            talk.begin(25)
            until(lambda: talk.caller.rtp_sent == talk.callee.rtp_sent == 25)
            until(lambda: talk.lost() == (0, 0))
        refused = relay.hairpin("flush", *options)
        assert "1 calls in " in refused
        assert "say --force if they are to" in refused
        next_one = Daemon(scene.network.relay, f"--dataplane={plane}", *options).ready(relay.ng)
        assert "kept" in hairpin(scene.network.relay, "list", f"--socket={relay.socket}").stdout
        assert next_one.end() == 0
        assert "stopping on SIGTERM with 1 calls standing, which end" in next_one.said()
        assert (scene.attached(), scene.pinned()) == (False, [])
        assert "nothing was left of instance 0" in relay.hairpin("flush", *options)


def test_flush_ends_what_a_dead_relay_left(scene: Scene, agent: Agent) -> None:
    with scene.supervised("--on-exit=keep") as relay, scene.proxy(relay) as proxy:
        talk = Talks(scene.network, agent, proxy).call("left")
        relay.stop()
        said = relay.hairpin("flush", "--force", *relay.options)
        assert said.startswith("removed 1 calls in ")
        assert (scene.attached(), scene.pinned()) == (False, [])
        talk.begin(5)
        until(lambda: talk.caller.rtp_sent + talk.caller.refused == 5)
        time.sleep(0.1)
        assert talk.heard() == (0, 0)
        reserved = scene.network.relay.call(Path("/proc/sys/net/ipv4/ip_local_reserved_ports").read_text)
        assert reserved.strip() == ""


def test_listeners_that_change_are_the_supervisor_s_to_open(scene: Scene) -> None:
    file = scene.network.relay.folder / "changed.conf"
    file.write_text("[rtpengine]\n")
    with scene.supervised(f"--config-file={file}", plane="memory") as relay:
        file.write_text(f"[rtpengine]\nlisten-tcp-ng = {relay.ng.ip}:2224\n")
        relay.process.send_signal(signal.SIGHUP)
        relay.says("needs a restart, of `hairpin supervise` for listeners: listen-tcp-ng")


def test_without_a_state_directory_no_upgrade_is_begun(scene: Scene) -> None:
    address = scene.network.RELAY_ADDRESS
    daemon = Daemon(scene.network.relay, "--dataplane=memory", f"--interface={address}").ready()
    daemon.process.send_signal(signal.SIGUSR2)
    daemon.says("SIGUSR2 is not followed: without --state-dir all calls would end")
    assert daemon.end() == 0


# -- what is found is not what it should be


def test_a_journal_that_is_torn_or_another_s_is_read_as_far_as_it_goes(scene: Scene, asking: Asking) -> None:
    with scene.supervised(plane="memory") as relay:
        assert asking.ask(offer("1", "sound"))["result"] == "ok"
        folder = relay.state / "0" / "journal"
        with relay.away():
            for segment in folder.glob("calls-*"):
                with segment.open("ab") as file:
                    file.write(os.urandom(3000))
            (folder / "calls-99999999").write_bytes(b"somebody's own")
        assert asking.ask(offer("2", "next"))["result"] == "ok"
        assert relay.call_ids() == ["next", "sound"]
        relay.says("WARNING journal: ")


def test_a_full_journal_is_said_and_calls_go_on(scene: Scene, asking: Asking) -> None:
    small = scene.lab.folder / "small"
    small.mkdir()
    command("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small))
    try:
        with scene.supervised(f"--state-dir={small}", plane="memory") as relay:
            assert asking.ask(offer("1", "kept"))["result"] == "ok"
            filler = small / "filler"
            filler.write_bytes(bytes(shutil.disk_usage(small).free))
            for number in range(10):
                assert asking.ask(offer(f"c{number}", f"late-{number}"))["result"] == "ok"
            relay.says("No space left on device")
            filler.unlink()
            until(lambda: not json.dumps(relay.operator("status")).count("No space left"), 10)
            relay.kill()
            relay.restored(1)
            assert relay.call_ids() == ["kept", *(f"late-{number}" for number in range(10))]
    finally:
        command("umount", "--lazy", str(small))


def test_pins_that_are_not_whole_stop_the_start_in_words(scene: Scene, agent: Agent) -> None:
    with scene.supervised("--on-exit=keep") as relay, scene.proxy(relay) as proxy:
        talk = Talks(scene.network, agent, proxy).call("forwards")
        relay.stop()
        (rules,) = [path for path in scene.pinned() if path.name == "rules"]
        rules.rename(rules.with_name("elsewhere"))
        said = Daemon(scene.network.relay, *relay.options, "--dataplane=auto").refused()
        assert str(rules) in said
        assert "hairpin flush" in said
        talk.begin(10)
        until(lambda: talk.caller.rtp_sent == talk.callee.rtp_sent == 10)
        until(lambda: talk.lost() == (0, 0))
        sockets = Daemon(scene.network.relay, *relay.options, "--dataplane=userspace").refused()
        assert "forward for a relay before this one" in sockets
        relay.hairpin("flush", "--force", *relay.options)
        assert scene.pinned() == []


def test_a_call_whose_interface_is_missing_waits_for_it(scene: Scene, asking: Asking) -> None:
    host, other = scene.network.relay, "10.99.0.33"
    host.ip("address", "add", f"{other}/24", "dev", "eth0")
    both = (f"--interface=other/{other}", "--on-exit=keep")
    with scene.supervised(*both) as relay:
        options = [option for option in relay.options if "=other/" not in option]
        body = sdp(Endpoint("10.99.1.2", 4000))
        there = request("1", "offer", call_id="there", from_tag="a", sdp=body, direction=["other", "other"])
        assert asking.ask(there)["result"] == "ok"
        assert asking.ask(offer("2", "here"))["result"] == "ok"
        relay.stop()
    one = Daemon(host, "--dataplane=xdp", *options).ready(relay.ng)
    one.says("call there is not restored: ")
    assert [call["call_id"] for call in listed(relay)] == ["here"]
    one.end()
    again = Daemon(host, "--dataplane=xdp", *options, f"--interface=other/{other}").ready(relay.ng)
    again.says("2 calls are restored")
    assert sorted(call["call_id"] for call in listed(relay)) == ["here", "there"]
    relay.hairpin("terminate", "there", f"--socket={relay.socket}")
    again.end(signal.SIGKILL)
    host.ip("address", "del", f"{other}/24", "dev", "eth0")
    relay.hairpin("flush", "--force", *options)


def listed(relay: Supervised) -> list[dict[str, Any]]:
    return relay.operator("list")


# -- how long it takes


def test_many_calls_stand_behind_the_first_answer(scene: Scene, asking: Asking) -> None:
    calls = 500
    with scene.supervised() as relay:
        for number in range(0, calls, 50):
            asking.send(*(offer(f"c{number + i}", f"call-{number + i}") for i in range(50)))
            asking.replies(50)
        pid = relay.pid()
        asking.send(request("warm", "ping"))
        asking.replies(1)
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        answered = asking.ask(request("first", "query", call_id="call-499"))
        took = time.monotonic() - killed
        relay.restored(1)
        print(f"{calls} calls: the first reply came {took:.2f} s after the kill")
        print(relay.says(" calls are restored, ").splitlines()[-1])
        assert answered["result"] == "ok"
        assert took < 5
        assert len(relay.call_ids()) == calls
