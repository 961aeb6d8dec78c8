"""The mapped memory of rules: where each word lies, and what it says of addresses (ebpf/abi.h has the theory).

The arrays may have been written by a former process and are changed by the program all the time; nothing of them is
kept here but the number of packets each port had when that was last asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from relay.dataplane import abi
from relay.dataplane.nexthops import Destination
from relay.dataplane.options import arriving_flags, clocks_of, leaving_flags
from relay.dataplane.tokens import NoTokens, Tokens
from relay.dataplane.words import be32, ip_text, reader, rule_index, rule_port, word, word_address, word_port
from relay.errors import DataplaneError
from relay.types import Endpoint, Rule

RULE: Final = abi.RULE.itemsize
COLD: Final = abi.COLD.itemsize
RULE_QUADS: Final = abi.RULE.itemsize // 8
RULE_SHORTS: Final = abi.RULE.itemsize // 2
COLD_QUADS: Final = abi.COLD.itemsize // 8
COLD_WORDS: Final = abi.COLD.itemsize // 4


def _place(dtype: np.dtype[np.void], field: str, unit: int) -> int:
    """Where a field lies in its record, in units of its own size."""
    assert dtype.fields is not None
    return int(dtype.fields[field][1]) // unit


CONTROL, SIGNALLED, LEARNED, EXPECTED, PACKETS, BYTES = (
    _place(abi.RULE, field, 8) for field in ("control", "signalled", "learned", "expected", "packets", "bytes")
)
NEXTHOP = _place(abi.RULE, "nexthop", 2)
TICK = _place(abi.RULE, "tick", 1)
SOURCE, CLOCK = _place(abi.COLD, "source", 8), _place(abi.COLD, "clock", 8)
PREFERRED = _place(abi.COLD, "preferred", 4)
SIGNALLED_SOURCE = reader(abi.COLD, "preferred", "source", "clock")
"""What user space says of a port's party in the cold half. What it packs has zeros elsewhere: a port's new life."""
assert SIGNALLED_SOURCE.size == COLD


@dataclass(slots=True, eq=False, init=False)
class Standing:
    """A rule in force: what the caller wants, and what was made of it."""

    index: int
    mirror: int
    rule: Rule
    generation: int
    """Of the party facing this port: its control word's, and that of the mirrored rule's destination."""
    wanted: Endpoint | None
    """Where packets are to go: what was signalled to the other side, or the source it was folded to."""
    refused: str | None
    """Why nothing is sent there."""
    target_generation: int
    """Of the signalled word; -1 before the first was written."""
    destination: Destination | None
    folded: Endpoint | None
    """The source that packets to this party are sent to instead of the signalled address."""
    told: tuple[Endpoint, bool] | None
    """What the listener heard last of this port's party."""

    def __init__(self, index: int, mirror: int, rule: Rule, generation: int, folded: Endpoint | None) -> None:
        # Written out: what dataclass makes is Python code where all else is compiled.
        self.index, self.mirror, self.rule, self.generation = index, mirror, rule, generation
        self.wanted = self.refused = self.destination = self.told = None
        self.target_generation = -1
        self.folded = folded


class Cells:
    """The rules of the local addresses in use. `addresses` has them by their index, "" where an index is nobody's."""

    def __init__(
        self,
        rules: npt.NDArray[np.void],
        cold: npt.NDArray[np.void],
        addresses: Sequence[str],
        tokens: Tokens | NoTokens,
    ) -> None:
        used = len(addresses) * abi.PORTS
        self.rules, self.cold = rules[:used], cold[:used]
        self._addresses = list(addresses)
        self._address = {ip: position for position, ip in enumerate(addresses) if ip}
        self._ip6 = [":" in ip for ip in addresses]
        self._arriving = [arriving_flags(ip) for ip in addresses]
        self._leaving = [leaving_flags(ip) for ip in addresses]
        self._hot = self.rules.view(np.uint8).data.cast("Q")
        self._hot_bytes = self._hot.cast("B")
        self._hot_shorts = self._hot_bytes.cast("H")
        self._cold = self.cold.view(np.uint8).data.cast("Q")
        self._cold_bytes = self._cold.cast("B")
        self._cold_words = self._cold_bytes.cast("I")
        self._tokens = tokens
        self._heard = self.rules["packets"].copy()
        self._heard_packets = self._heard.data.cast("B").cast("Q")

    def close(self) -> None:
        """Let go of the mapped memory."""
        self.rules, self.cold = self.rules[:0].copy(), self.cold[:0].copy()
        for view in (self._cold_words, self._cold_bytes, self._cold, self._hot_shorts, self._hot_bytes, self._hot):
            view.release()

    def index(self, local: Endpoint) -> int:
        """The place of a local port. Raises DataplaneError for an address this plane does not serve."""
        try:
            return rule_index(self._address[local.ip], local.port)
        except KeyError:
            raise DataplaneError(f"{local.ip} is not a media address of this relay") from None

    def local(self, index: int) -> Endpoint:
        """The local port that stands at a place."""
        address, port = rule_port(index)
        return Endpoint(self._addresses[address], port)

    def packets(self, index: int) -> int:
        """Packets admitted at a port."""
        return self._hot[index * RULE_QUADS + PACKETS]

    def control(self, index: int) -> int:
        """What a port carries and where its packets leave from."""
        return self._hot[index * RULE_QUADS + CONTROL]

    def signalled(self, index: int) -> int:
        """The word of the address a rule's packets go to by the signalling."""
        return self._hot[index * RULE_QUADS + SIGNALLED]

    def learned(self, index: int) -> int:
        """The word XDP keeps of the address a rule's packets really go to."""
        return self._hot[index * RULE_QUADS + LEARNED]

    def expected(self, index: int) -> int:
        """The word XDP keeps of the source a port accepts."""
        return self._hot[index * RULE_QUADS + EXPECTED]

    def nexthop(self, index: int, generation: int) -> int:
        """The next hop of the address that was signalled in a generation; 0: none."""
        return self._hot_shorts[index * RULE_SHORTS + NEXTHOP + (generation & 1)]

    def heard(self, ip: str) -> bytes:
        """Which ports of a local address took packets since this was last asked (relay.dataplane.Dataplane.heard)."""
        address = self._address.get(ip)
        if address is None:
            return b""
        part = slice(address * abi.PORTS, (address + 1) * abi.PORTS)
        packets = self.rules["packets"][part].copy()
        moved = packets != self._heard[part]
        self._heard[part] = packets
        # The odd ports of an address stand behind its even ones.
        return np.packbits(moved.reshape(2, -1).T, bitorder="little").tobytes() if moved.any() else b""

    def said(self, index: int) -> tuple[int, ...]:
        """What stands of a port's party as signalled: hp_cold.preferred, .source and .clock."""
        return SIGNALLED_SOURCE.unpack_from(self._cold_bytes, index * COLD)

    def wording(self, index: int, rule: Rule, generation: int) -> tuple[int, ...]:
        """The same as it is to be by a rule."""
        preferred, source = rule.preferred_source, rule.signalled_source
        # A party of the other address family is nobody whose packets could come in here.
        ip6 = self._ip6[index >> 16]
        first = second = 0
        if preferred and (":" in preferred) == ip6:
            first = self._number(preferred)
        if source is not None and (":" in source.ip) == ip6:
            second = word(self._number(source.ip), source.port, 0)
        return (first, second | generation << 48, *clocks_of(rule))

    def facing(self, index: int, found: int) -> Endpoint | None:
        """The endpoint in a word of the party that faces a port."""
        return self._endpoint(found, self._ip6[index >> 16])

    def says(self, found: int, index: int, endpoint: Endpoint | None) -> bool:
        """Whether a word of the party that faces a port holds this endpoint."""
        if endpoint is None or (":" in endpoint.ip) != self._ip6[index >> 16]:
            return False
        return found == word(self._number(endpoint.ip), endpoint.port, found >> 48)

    def _number(self, ip: str) -> int:
        """An address as words have it."""
        return self._tokens.number(ip) if ":" in ip else be32(ip)

    def _peer(self, endpoint: Endpoint | None, generation: int) -> int:
        return word(self._number(endpoint.ip), endpoint.port, generation) if endpoint else generation << 48

    def _endpoint(self, found: int, ip6: bool) -> Endpoint | None:
        address = word_address(found)
        if not address:
            return None
        return Endpoint(self._tokens.text(address) if ip6 else ip_text(address), word_port(found))

    def _remember(self, rule: Rule) -> None:
        """Have a token for every IPv6 address of a rule, before anything changes. Raises DataplaneError."""
        for endpoint in (rule.destination, rule.signalled_source, rule.known_source):
            if endpoint is not None and ":" in endpoint.ip:
                self._tokens.number(endpoint.ip)
        if rule.preferred_source is not None and ":" in rule.preferred_source:
            self._tokens.number(rule.preferred_source)
