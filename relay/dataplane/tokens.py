"""IPv6 addresses of parties by number, since a word of a rule has 32 bits for an address (ebpf/abi.h has the scheme).

The program draws tokens too, for sources it learns. So nobody counts who uses one: the words themselves say it. A look
at all rules finds the tokens that none holds; these leave the table of addresses, and are given back if another look,
a second later, still finds them in no word. In between the program has finished with every packet that found one.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from relay.dataplane import abi
from relay.dataplane.bpfmap import Map
from relay.errors import DataplaneError

__all__ = ["NO_TOKENS", "TokenCollector", "Tokens", "held_tokens"]

_SIZE = abi.IP6.itemsize
_TOKEN = struct.Struct("=I")
_BATCH = 256  # tokens looked at in one turn of the event loop, some 1 ms
_PAUSE_SECONDS = 0.005
_SECOND_LOOK = 1.0
_COLLECT_SECONDS = 5.0

Later = Callable[[float, Callable[[], None]], object]


class Tokens:
    """Numbers of addresses: finds them, draws them, gives them back.

    `peers` is the map in place; `table` finds the token of an address, `spare` has those nobody holds.
    """

    def __init__(self, peers: npt.NDArray[np.void], table: Map, spare: Map) -> None:
        self.size = len(peers)
        self._peers = peers.view(np.uint8).data.cast("B")
        self._table = table
        self._spare = spare
        self._known: dict[str, int] = {}
        self._asked: set[int] = set()

    def fill(self) -> None:
        """Put all tokens there are into the table of spare ones, unless a former process has; before the program runs.

        Which addresses have one is in the tables; where none is spare, all are taken.
        """
        if not self.turn() and not len(self.entered()):
            self._spare.push(_TOKEN.pack(token) for token in range(1, self.size))

    def number(self, ip: str) -> int:
        """The token of an address, drawn if it has none yet. Raises DataplaneError when all are taken."""
        known = self._known.get(ip)
        if known is None:
            known = self._find(socket.inet_pton(socket.AF_INET6, ip))
            if self.text(known) == ip:  # what is withdrawn is forgotten by this spelling
                self._known[ip] = known
        self._asked.add(known)
        return known

    def text(self, token: int) -> str:
        """The address of a token."""
        return socket.inet_ntop(socket.AF_INET6, self.octets(token))

    def octets(self, token: int) -> bytes:
        """The address of a token as it is on the wire."""
        return bytes(self._peers[token * _SIZE : (token + 1) * _SIZE])

    def entered(self) -> npt.NDArray[np.intp]:
        """The tokens an address was ever written for."""
        halves = np.frombuffer(self._peers, np.uint64).reshape(-1, 2)
        return np.flatnonzero(halves[:, 0] | halves[:, 1])

    def begin_look(self) -> None:
        """Remember from here on which tokens were asked for: they may be in words that have been looked at."""
        self._asked.clear()

    def stands(self, token: int) -> bool:
        """Whether the address written for a token is found under it."""
        return self._table.lookup(self.octets(token)) == _TOKEN.pack(token)

    def turn(self) -> int:
        """Take the first of the spare tokens to the end of their queue; 0 where there is none."""
        drawn = self._spare.pop()
        if drawn is None:
            return 0
        self._spare.push([drawn])
        return int(_TOKEN.unpack(drawn)[0])

    def withdraw(self, token: int) -> bool:
        """Take a token out of the table, so that nobody finds it any more.

        False if it does not stand there, or was asked for since the look began.
        """
        if token in self._asked:
            return False
        if not self.stands(token):
            return False
        self._table.delete(self.octets(token))
        self._known.pop(self.text(token), None)
        return True

    def restore(self, token: int) -> bool:
        """Let a token be found again; False where its address has got another one."""
        return self._table.add(self.octets(token), _TOKEN.pack(token))

    def give_back(self, token: int) -> None:
        """Let anybody draw a token that was withdrawn."""
        self._peers[token * _SIZE : (token + 1) * _SIZE] = bytes(_SIZE)
        self._spare.push([_TOKEN.pack(token)])

    def close(self) -> None:
        """Let go of the mapped memory; safe to call twice."""
        self._peers.release()

    def _find(self, octets: bytes) -> int:
        found = self._table.lookup(octets)
        if found is None:
            found = self._draw(octets)
        return int(_TOKEN.unpack(found)[0])

    def _draw(self, octets: bytes) -> bytes:
        drawn = self._spare.pop()
        if drawn is None:
            raise DataplaneError(f"no more than {self.size - 1} IPv6 addresses of parties can be remembered")
        token = int(_TOKEN.unpack(drawn)[0])
        self._peers[token * _SIZE : (token + 1) * _SIZE] = octets
        if self._table.add(octets, drawn):
            return drawn
        self.give_back(token)  # the program has met the address in this moment
        found = self._table.lookup(octets)
        assert found is not None
        return found


class NoTokens:
    """Of a relay without an IPv6 media address."""

    def number(self, ip: str) -> int:
        """Raises DataplaneError: this relay has no use for an IPv6 address."""
        raise DataplaneError(f"no media address of this relay is IPv6: {ip} cannot be reached")

    def text(self, token: int) -> str:
        """Nobody has a token."""
        return "::"


NO_TOKENS = NoTokens()


def held_tokens(
    rules: npt.NDArray[np.void], cold: npt.NDArray[np.void], facing_ip6: bool, size: int
) -> npt.NDArray[np.bool_]:
    """Which tokens the live rules of one local address hold; `facing_ip6`: it is an IPv6 address.

    Of the words only the first halves are read, which hold the token, or generation and flags: 2 ms for 65536 rules.
    """
    hot, rest = (table.view(np.uint32).reshape(len(table), -1) for table in (rules, cold))
    flags = hot[:, _half(abi.RULE, "control")] >> 16
    live = np.flatnonzero(flags & abi.LIVE)
    sending = live[(flags[live] & abi.TO_IP6) != 0]
    words = [hot[sending, _half(abi.RULE, name)] for name in ("signalled", "learned")]
    if facing_ip6:
        words.append(hot[live, _half(abi.RULE, "expected")])
        words += [rest[live, _half(abi.COLD, name)] for name in ("source", "preferred")]
    held = np.zeros(size, np.bool_)
    for tokens in words:
        held[tokens[tokens < size]] = True
    return held


def _half(dtype: np.dtype[np.void], field: str) -> int:
    """Where the first half of a word lies in its record, in units of 32 bits."""
    assert dtype.fields is not None
    return int(dtype.fields[field][1]) // 4


class TokenCollector:
    """Finds the tokens nobody holds and gives them back, in small steps.

    A former process may have ended between withdrawing tokens and giving them back. The first look finds those that are
    in no word and no table; they count as withdrawn unless they are among the spare.
    """

    def __init__(self, tokens: Tokens, held: Callable[[int], npt.NDArray[np.bool_]], parts: int, later: Later) -> None:
        """`held` looks at one local address's part of the table, of which there are `parts`."""
        self._tokens = tokens
        self._held = held
        self._parts = parts
        self._later = later
        self._withdrawn: set[int] = set()
        self._lost: set[int] | None = set()
        self._first_spare = 0
        self._open = True
        self.returned = 0

    def start(self) -> None:
        """Look every few seconds from now on."""
        self._after(_COLLECT_SECONDS, self._begin)

    def close(self) -> None:
        """Look no more; safe to call twice."""
        self._open = False

    def _after(self, seconds: float, step: Callable[[], None]) -> None:
        self._later(seconds, lambda: step() if self._open else None)

    def _begin(self) -> None:
        self._tokens.begin_look()
        self._look(0, np.zeros(self._tokens.size, np.bool_), self._withdraw)

    def _look(self, part: int, found: npt.NDArray[np.bool_], then: Callable[[list[int]], None]) -> None:
        """Look at one part after the other, then go on with the tokens that are in no word."""
        found |= self._held(part)
        if part + 1 < self._parts:
            self._after(_PAUSE_SECONDS, lambda: self._look(part + 1, found, then))
            return
        entered = self._tokens.entered()
        then(entered[~found[entered]].tolist())

    def _withdraw(self, unheld: list[int]) -> None:
        """First phase: nobody is to find these any more."""
        for token in unheld[:_BATCH]:
            if self._tokens.withdraw(token):
                self._withdrawn.add(token)
            elif self._lost is not None and not self._tokens.stands(token):
                self._lost.add(token)
        if unheld[_BATCH:]:
            self._after(_PAUSE_SECONDS, lambda: self._withdraw(unheld[_BATCH:]))
        elif self._lost:
            self._search(self._lost, self._tokens.size)
        else:
            self._look_again()

    def _search(self, lost: set[int], spare: int) -> None:
        """Go once through the spare tokens, of which there are at most so many, for those that seem lost."""
        for _ in range(min(_BATCH, spare)):
            token = self._tokens.turn()
            if token in (0, self._first_spare):
                spare = 0
                break
            self._first_spare = self._first_spare or token
            lost.discard(token)
        if spare > _BATCH:
            self._after(_PAUSE_SECONDS, lambda: self._search(lost, spare - _BATCH))
        else:
            self._withdrawn |= lost
            self._look_again()

    def _look_again(self) -> None:
        self._lost = None
        if self._withdrawn:
            look = np.zeros(self._tokens.size, np.bool_)
            self._after(_SECOND_LOOK, lambda: self._look(0, look, self._return))
        else:
            self.start()

    def _return(self, unheld: list[int]) -> None:
        """Second phase: what is still in no word is free, the rest can be found again."""
        free = self._withdrawn.intersection(unheld)
        for token in self._withdrawn - free:
            if self._tokens.restore(token):
                self._withdrawn.discard(token)
        self._give_back(sorted(free))

    def _give_back(self, free: Iterable[int]) -> None:
        batch = list(free)
        for token in batch[:_BATCH]:
            self._withdrawn.discard(token)
            self._tokens.give_back(token)
        self.returned += len(batch[:_BATCH])
        if batch[_BATCH:]:
            self._after(_PAUSE_SECONDS, lambda: self._give_back(batch[_BATCH:]))
        else:
            self.start()
