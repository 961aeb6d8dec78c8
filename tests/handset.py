"""A telephone that does one step at a time: sipp speaks its SIP as ordered.

Orders reach sipp as SIP messages with methods of their own, under the Call-ID they are for; what reaches the telephone
stands in sipp's log (tests/scenarios/handset.xml). So a test can look at the network between any two steps of a call.
"""

from __future__ import annotations

import itertools
import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from relay.types import Endpoint
from tests.lab import Host, LabError
from tests.peers import SIP_PORT

SCENARIO = Path(__file__).parent / "scenarios" / "handset.xml"
BUSY = "60000"
"""Milliseconds for which sipp may get no turn before it calls that an error."""
PATIENCE = 10.0
"""Seconds to wait for what must come."""

_ENTRY = re.compile(r"~(\w+) (\S+) (.*?)~\n", re.DOTALL)

_serial = itertools.count(1)


@dataclass(frozen=True)
class Entry:
    """What reached a telephone: a request's method or a reply's code, its call and its SDP."""

    what: str
    call_id: str
    sdp: str


class Handset:
    """One telephone, named after its host."""

    def __init__(self, host: Host, address: str, proxy: Endpoint) -> None:
        self.host = host
        self.name = host.name
        self.address = address
        self.proxy = proxy
        self.sip = Endpoint(address, SIP_PORT)
        self.log = host.folder / "handset.log"
        self.errors = host.folder / "handset.errors"
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._process = host.start(
            *("sipp", "-sf", str(SCENARIO), "-i", bracketed(address), "-p", str(SIP_PORT), "-rsa", str(proxy)),
            *("-key", "me", self.name, "-nd", "-nostdin", "-trace_logs", "-log_file", str(self.log)),
            *("-trace_err", "-error_file", str(self.errors)),
            *("-watchdog_minor_threshold", BUSY, "-watchdog_major_threshold", BUSY),
            cwd=host.folder,
        )
        until = time.monotonic() + PATIENCE
        while str(self.sip) not in host.run("ss", "-H", "-lun"):
            if self._process.poll() is not None or time.monotonic() > until:
                raise LabError(f"sipp does not start on {host.name}: {self.complaints()}")
            time.sleep(0.05)

    @property
    def uri(self) -> str:
        """Where the telephone is reached without a registrar."""
        return f"sip:{self.name}@{self.sip}"

    def complaints(self) -> str:
        """What sipp found wrong with the messages it saw; empty where nothing."""
        return self.errors.read_text() if self.errors.exists() else ""

    def entries(self) -> list[Entry]:
        """All that has reached the telephone."""
        text = self.log.read_bytes().decode() if self.log.exists() else ""
        return [Entry(*found.groups()) for found in _ENTRY.finditer(text)]

    def order(self, method: str, uri: str, call_id: str, sdp: str = "") -> None:
        """Have sipp do something; it neither confirms nor repeats."""
        head = (
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/UDP orders;branch=z9hG4bK-{next(_serial)}",
            "From: <sip:test@orders>;tag=orders",
            f"To: <{self.uri}>",
            f"Call-ID: {call_id}",
            f"CSeq: 1 {method}",
            "Content-Type: application/sdp",
            f"Content-Length: {len(sdp)}",
        )
        with self.host.socket(self._family) as sending:
            sending.sendto(("\r\n".join(head) + "\r\n\r\n" + sdp).encode(), self.sip)

    def login(self, uri: str) -> None:
        """Register to ring for a user of the proxy's."""
        call = Dialogue(self, f"login-{next(_serial)}@{self.name}")
        self.order("LOGIN", uri, call.call_id)
        call.expect("REGISTERED")

    def dial(self, uri: str, sdp: str) -> Dialogue:
        """Call somebody."""
        call = Dialogue(self, f"call-{next(_serial)}@{self.name}")
        self.order("DIAL", uri, call.call_id, sdp)
        return call

    def invited(self, call_id: str) -> tuple[Dialogue, str]:
        """Wait for the INVITE of a call; returns it and the SDP offered."""
        call = Dialogue(self, call_id)
        return call, call.expect("INVITE")


class Dialogue:
    """One call as one telephone has it."""

    def __init__(self, handset: Handset, call_id: str) -> None:
        self.handset = handset
        self.call_id = call_id
        self._read = 0

    def order(self, method: str, sdp: str = "") -> None:
        """RING, PROGRESS, ANSWER, DECLINE, OFFER, GIVEUP or HANGUP."""
        self.handset.order(method, self.handset.uri, self.call_id, sdp)

    def expect(self, what: str) -> str:
        """Wait for what must reach the telephone next in this call; returns its SDP. Raises LabError."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            entries = [entry for entry in self.handset.entries() if entry.call_id == self.call_id]
            if len(entries) > self._read:
                entry = entries[self._read]
                self._read += 1
                if entry.what != what:
                    raise LabError(f"{self.handset.name} waits for {what} and gets {entry.what}")
                return entry.sdp
            time.sleep(0.02)
        raise LabError(f"{self.handset.name} waits for {what} in vain\n{self.handset.complaints()}")


def bracketed(address: str) -> str:
    """An address as it stands in URIs."""
    return f"[{address}]" if ":" in address else address
