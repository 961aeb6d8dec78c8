"""The unit file under a real systemd: a restart keeps calls, media and commands, a stop ends them all."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from relay.types import Endpoint
from tests.calls import sdp
from tests.lab import Lab, Network, standard_network
from tests.media import Agent
from tests.ng import Proxy, until
from tests.peers import HAIRPIN, ROOT
from tests.systemd import IN_SIGHT, Systemd
from tests.talks import Talks

UNIT = "hairpin.service"


def unit(address: str) -> str:
    """The unit as it is installed, but for the place of the command and the address of its host here."""
    text = (ROOT / "deploy" / "systemd" / UNIT).read_text()
    options = f"run --config-file=none --log-stderr --interface={address} --listen-ng={address}:2223"
    return text.replace("/usr/bin/hairpin run", f"{HAIRPIN} {options}").replace("/usr/bin/hairpin", str(HAIRPIN))


@pytest.fixture
def network() -> Iterator[Network]:
    with Lab() as lab:
        yield standard_network(lab)


@pytest.fixture
def systemd(network: Network) -> Iterator[Systemd]:
    host = network.relay
    log = host.folder / "relay.log"
    drop_in = f"{IN_SIGHT}StandardOutput=append:{log}\nStandardError=append:{log}\n"
    if interpreted := os.environ.get("HAIRPIN_INTERPRETED"):
        drop_in += f"Environment=HAIRPIN_INTERPRETED={interpreted}\n"
    units = {UNIT: unit(network.RELAY_ADDRESS), f"{UNIT}.d/lab.conf": drop_in}
    with Systemd(host, units, users=("hairpin",)) as systemd:
        yield systemd


def calls(systemd: Systemd) -> list[str]:
    listed: list[dict[str, Any]] = json.loads(systemd.run(str(HAIRPIN), "list", "--json").stdout)
    return sorted(call["call_id"] for call in listed)


def test_a_restart_keeps_and_a_stop_ends(network: Network, systemd: Systemd) -> None:
    relay = Endpoint(network.RELAY_ADDRESS, 2223)
    systemd.systemctl("start", UNIT)
    assert systemd.shows(UNIT, "NFileDescriptorStore") == "1"
    with Agent() as agent, Proxy(network.proxy, relay) as proxy:
        talk = Talks(network, agent, proxy).call("kept")
        talk.begin(250)
        until(lambda: min(talk.heard()) > 10)
        first = systemd.shows(UNIT, "MainPID")

        restarting = threading.Thread(target=systemd.systemctl, args=("restart", UNIT))
        restarting.start()
        until(lambda: systemd.shows(UNIT, "ActiveState") != "active", 20)
        keys = {"call_id": "meanwhile", "from_tag": "a", "sdp": sdp(Endpoint("10.99.1.2", 9000))}
        assert proxy.ask("offer", **keys)["result"] == "ok"
        restarting.join()
        second = systemd.shows(UNIT, "MainPID")
        assert second != first
        assert calls(systemd) == ["kept", "meanwhile"]

        systemd.systemctl("kill", "--signal=KILL", UNIT)
        assert proxy.ask("query", call_id="kept")["result"] == "ok"
        assert systemd.shows(UNIT, "MainPID") not in (first, second)
        assert calls(systemd) == ["kept", "meanwhile"]
        until(lambda: talk.caller.rtp_sent == talk.callee.rtp_sent == 250, 20)
        until(lambda: talk.lost() == (0, 0))

    systemd.systemctl("stop", UNIT)
    assert systemd.shows(UNIT, "Result") == "success"
    assert systemd.run("find", "/run/hairpin", "/sys/fs/bpf/hairpin", "-type", "f").stdout == ""
    assert "xdp" not in network.relay.ip("link", "show", "eth0")
    assert "2223" not in network.relay.run("ss", "-H", "-lun")
    log = (network.relay.folder / "relay.log").read_text()
    assert re.search("stopping on SIGUSR2 with [12] calls standing, which are kept", log)
    assert "stopping on SIGTERM with 2 calls standing, which end" in log
    systemd.systemctl("start", UNIT)
    assert calls(systemd) == []


def test_another_listener_takes_the_place_of_one_that_is_held(network: Network, systemd: Systemd) -> None:
    systemd.systemctl("start", UNIT)
    path = systemd.folder / "units" / UNIT
    path.write_text(path.read_text().replace(":2223", ":2230"))
    systemd.systemctl("daemon-reload")
    systemd.systemctl("restart", UNIT)
    with Proxy(network.proxy, Endpoint(network.RELAY_ADDRESS, 2230)) as proxy:
        assert proxy.ask("ping")["result"] == "pong"
    assert "2223" not in network.relay.run("ss", "-H", "-lun")
    assert systemd.shows(UNIT, "NFileDescriptorStore") == "1"


def test_the_sockets_of_a_socket_unit_are_taken(network: Network, systemd: Systemd) -> None:
    relay = Endpoint(network.RELAY_ADDRESS, 2223)
    (systemd.folder / "units" / "hairpin.socket").write_text(f"[Socket]\nListenDatagram={relay}\n")
    systemd.systemctl("daemon-reload")
    systemd.systemctl("start", "hairpin.socket")
    with Proxy(network.proxy, relay) as proxy:
        assert proxy.ask("ping")["result"] == "pong", "which has started the relay"
        first = systemd.shows(UNIT, "MainPID")
        assert systemd.shows(UNIT, "NFileDescriptorStore") == "0"
        systemd.systemctl("restart", UNIT)
        assert proxy.ask("ping")["result"] == "pong"
        assert systemd.shows(UNIT, "MainPID") != first
    assert "WARNING" not in (network.relay.folder / "relay.log").read_text()


def test_options_that_are_not_understood_are_not_tried_again(network: Network, systemd: Systemd) -> None:
    path = systemd.folder / "units" / UNIT
    path.write_text(path.read_text().replace("--log-stderr", "--log-stderr --tos=loud"))
    systemd.systemctl("daemon-reload")
    assert systemd.run("systemctl", "start", UNIT).returncode
    assert systemd.shows(UNIT, "ActiveState") == "failed"
    assert systemd.shows(UNIT, "NRestarts") == "0"
    assert "hairpin: --tos=loud: " in (network.relay.folder / "relay.log").read_text()
