"""What the real Kamailio sends to a relay: recorded by one that changes no body, and kept in recordings.json.

`python -m tests.interop.differential.recorder` (as root) records anew.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from control.ng import bencode
from relay.types import Endpoint
from tests.interop.differential.phones import CALLEES, CALLERS, scenario
from tests.lab import Host, Lab, LabError, Network, standard_network

Request = dict[str, Any]

HERE = Path(__file__).parent
RECORDINGS = HERE / "recordings.json"
NG_PORT = 2223
PATIENCE = 20.0
RATE = 10
"""Calls per second."""

EVERYWHERE = (
    "",
    "replace-origin replace-session-connection",
    "trust-address replace-origin replace-session-connection ICE=remove RTP/AVP",
    "direction=internal direction=external",
    "via-branch=auto",
)
"""Flags that are tried in everything that may happen to a call."""

CALLS_ALONE = (
    "replace-origin",
    "trust-address replace-origin",
    "ICE=remove",
    "ICE=default",
    "RTP/AVP replace-origin",
    "RTP/AVPF",
    "TOS=184",
    "internal external",
    "via-branch=1",
    "via-branch=2",
    "via-branch=extra",
    "via-branch=auto label=x",
    "label=caller",
    "delete-delay=0",
    "codec-strip-PCMU",
    "codec-strip-all codec-offer-PCMA codec-offer-telephone-event",
    "codec-except-PCMA codec-except-telephone-event codec-strip-all",
    "rtcp-mux-offer",
    "rtcp-mux-require",
    "rtcp-mux-demux",
    "rtcp-mux-accept",
    "rtcp-mux-reject",
    "media-address=192.0.2.77",
    "address-family=IP4",
    "strict-source port-latching",
    "asymmetric",
    "symmetric",
    "force",
    "full-rtcp-attribute",
    "no-rtcp-attribute",
    "original-sendrecv",
    "generate-mid",
    "SIP-source-address",
    "record-call=yes",
    "SDES-off",
    "foo=bar baz",
)
FLAGS = {
    "call": EVERYWHERE + CALLS_ALONE,
    "re-INVITE": (*EVERYWHERE, "port-latching", "codec-strip-PCMU", "replace-SDP-version", "RTP/AVPF"),
    "early media": (*EVERYWHERE, "rtcp-mux-demux"),
    "CANCEL": (*EVERYWHERE, "delete-delay=0", "via-branch=1"),
}
ATTRIBUTES = {"rtcp-mux-demux": "rtcp-mux", "rtcp-mux-accept": "rtcp-mux", "rtcp-mux-reject": "rtcp-mux"}
"""What a caller says beside a=sendrecv where these flags are asked for."""


class Recorder:
    """A relay that changes nothing and keeps all it was asked, by Call-ID. Use it as a context manager."""

    def __init__(self, host: Host, address: str) -> None:
        self.requests: dict[str, list[Request]] = {}
        self._socket = host.socket()
        self._socket.bind((address, NG_PORT))
        self._socket.settimeout(0.2)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        cookies: set[bytes] = set()
        while not self._done.is_set():
            try:
                datagram, source = self._socket.recvfrom(65535)
            except TimeoutError:
                continue
            cookie, _, body = datagram.partition(b" ")
            request: Request = bencode.decode(body)
            if "call-id" in request and cookie not in cookies:
                self.requests.setdefault(request["call-id"], []).append(request)
            cookies.add(cookie)
            self._socket.sendto(cookie + b" " + bencode.encode(_reply(request)), source)


def _reply(request: Mapping[str, Any]) -> dict[str, Any]:
    if request["command"] == "ping":
        return {"result": "pong"}
    return {"result": "ok", **({"sdp": request["sdp"]} if "sdp" in request else {})}


def record(network: Network, flags: Mapping[str, Sequence[str]]) -> dict[str, list[Request]]:
    """Place a call for each of the flags of each kind of call; what the relay was asked, by names of conversations."""
    found: dict[str, list[Request]] = {}
    with Recorder(network.relay, network.RELAY_ADDRESS) as recorder:
        kamailio = network.proxy.start(
            *("kamailio", "-DD", "-E", "-f", str(HERE / "kamailio.cfg"), "-Y", str(network.proxy.folder), "-m", "32"),
            *("-l", f"udp:{network.PROXY_ADDRESS}:5060"),
            *("-A", f'RELAY="udp:{Endpoint(network.RELAY_ADDRESS, NG_PORT)}"'),
        )
        until = time.monotonic() + PATIENCE
        while f"{network.PROXY_ADDRESS}:5060" not in network.proxy.run("ss", "-H", "-lun"):
            if kamailio.poll() is not None or time.monotonic() > until:
                raise LabError("Kamailio does not start with tests/interop/differential/kamailio.cfg")
            time.sleep(0.05)
        for kind, asked in flags.items():
            _place(network, kind, asked)
            for number, words in enumerate(asked, 1):
                call = recorder.requests[f"{kind.replace(' ', '-')}-{number}"]
                found[f"Kamailio, {kind}, {words or 'no flags'}"] = _plain(call)
        network.proxy.end(kamailio)
    return found


def _place(network: Network, kind: str, asked: Sequence[str]) -> None:
    """Let sipp place one call for each of the flags. Raises LabError where a call fails."""
    lines = [f"{words};{ATTRIBUTES.get(words, 'sendrecv')};\n" for words in asked]
    (network.caller.folder / "flags.csv").write_text("SEQUENTIAL\n" + "".join(lines))
    running = []
    for host, address, steps, more in (
        (network.callee, network.CALLEE_ADDRESS, CALLEES[kind], ()),
        (
            network.caller,
            network.CALLER_ADDRESS,
            CALLERS[kind],
            (
                *(f"{network.PROXY_ADDRESS}:5060", "-key", "callee", network.CALLEE_ADDRESS, "-inf", "flags.csv"),
                *("-cid_str", f"{kind.replace(' ', '-')}-%u", "-r", str(RATE), "-l", str(len(asked))),
            ),
        ),
    ):
        (host.folder / "scenario.xml").write_text(scenario(kind, steps))
        running.append(
            host.start(
                *("sipp", *more, "-sf", "scenario.xml", "-i", address, "-p", "5060", "-m", str(len(asked))),
                *("-nostdin", "-timeout", f"{PATIENCE:.0f}", "-timeout_error", "-trace_err", "-error_file", "errors"),
                cwd=host.folder,
            )
        )
    for host, process in zip((network.callee, network.caller), running, strict=True):
        process.wait(2 * PATIENCE)
        if process.returncode:
            errors = host.folder / "errors"
            said = errors.read_text()[:2000] if errors.exists() else "it wrote no errors"
            raise LabError(f"{kind}: sipp of the {host.name} ended with code {process.returncode}\n{said}")


def _plain(call: Sequence[Request]) -> list[Request]:
    """Requests without what is another one in each run: the Call-ID goes, branches are numbered."""
    branches: dict[str, str] = {}
    numbers = itertools.count(1)
    plain = []
    for request in call:
        kept = {key: value for key, value in request.items() if key != "call-id"}
        if "via-branch" in kept:
            branch = kept["via-branch"]
            if branch not in branches:
                branches[branch] = f"branch {next(numbers)}"
            kept["via-branch"] = branches[branch]
        plain.append(kept)
    return plain


def load() -> dict[str, list[Request]]:
    """The recordings, by names of conversations."""
    kept = json.loads(RECORDINGS.read_text())
    bodies = kept["bodies"]
    return {
        name: [{**one, **({"sdp": bodies[one["sdp"]]} if "sdp" in one else {})} for one in call]
        for name, call in kept["conversations"].items()
    }


def save(found: Mapping[str, Sequence[Request]]) -> None:
    """Keep recordings; each body is written once."""
    bodies: dict[str, int] = {}
    conversations = {
        name: [{**one, **({"sdp": bodies.setdefault(one["sdp"], len(bodies))} if "sdp" in one else {})} for one in call]
        for name, call in found.items()
    }
    lines = [f"  {json.dumps(name)}: [\n    {_lines(call)}\n  ]" for name, call in conversations.items()]
    RECORDINGS.write_text(
        f'{{"bodies": {json.dumps(list(bodies), indent=1)},\n"conversations": {{\n' + ",\n".join(lines) + "\n}}\n"
    )


def _lines(call: Sequence[Request]) -> str:
    return ",\n    ".join(map(json.dumps, call))


if __name__ == "__main__":
    with Lab() as lab:
        save(record(standard_network(lab), FLAGS))
