"""Keeping the host's own sockets off the relay's ports: net.ipv4.ip_local_reserved_ports.

The kernel hands no port of that list to a socket that asks for any port; one that binds a port by number still gets it.
The list belongs to the whole network namespace, so the relay adds its range, remembers what it really added, and takes
exactly that out again: whatever others wrote meanwhile stays.
"""

from __future__ import annotations

from pathlib import Path

SETTING = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")


def parse(text: str) -> set[int]:
    """The ports of a list like `1000-1999,5060`. Raises ValueError."""
    ports: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        ports.update(range(int(first), int(last or first) + 1))
    return ports


def render(ports: set[int]) -> str:
    """The shortest list of these ports."""
    parts: list[str] = []
    ordered = sorted(ports)
    start = 0
    for position, port in enumerate(ordered):
        if position + 1 == len(ordered) or ordered[position + 1] != port + 1:
            first = ordered[start]
            parts.append(str(first) if first == port else f"{first}-{port}")
            start = position + 1
    return ",".join(parts)


class PortReservation:
    """One range of ports in the kernel's list, from `take` to `give_back`."""

    def __init__(self, first: int, last: int, setting: Path = SETTING) -> None:
        self._wanted = set(range(first, last + 1))
        self._setting = setting
        self._added: set[int] = set()
        self._left = ""
        """The setting that has all it should: while it stands so there is nothing to do, which takes no time to see."""
        self.added = ""
        """What `give_back` will take out of the list."""

    def take(self, left_behind: str = "") -> None:
        """Add the range to the list. Raises OSError where the list cannot be written, ValueError where it is not read.

        `left_behind`: what a relay that was killed had `added`. It counts as nobody's and is taken out of the list.
        """
        text = self._setting.read_text()
        if text == self._left and not left_behind:
            return
        found = parse(text)
        standing = found - parse(left_behind)
        added = self._wanted - standing
        if standing | added != found:
            self._setting.write_text(render(standing | added) + "\n")
        self._added |= added
        self._left = text if standing | added == found else ""
        self.added = render(self._added)

    def give_back(self) -> None:
        """Take out of the list what `take` put in; safe to call twice."""
        if self._added:
            self._setting.write_text(render(parse(self._setting.read_text()) - self._added) + "\n")
            self._added, self._left, self.added = set(), "", ""
