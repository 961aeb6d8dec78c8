"""Who keeps calls beyond this process and this host, as the registry sees it: the journal and the partners.

The registry tells what became of a call and asks what only the keeper can know. All calls come from the event loop's
thread and return at once.
"""

from __future__ import annotations

from typing import Protocol

from relay.call import Call
from relay.types import Endpoint

__all__ = ["Keeper", "Nobody"]


class Keeper(Protocol):
    """Calls are named by their oldest branch, which stands for all under the Call-ID."""

    def changed(self, head: Call) -> None:
        """A command changed a call, and the data plane has it: once for each command, before its reply is made."""

    def noticed(self, head: Call) -> None:
        """Packets or timers told something of a call that is worth keeping, and not urgent: a learned source."""

    def ended(self, head: Call, reason: str) -> None:
        """A call that was `changed` or restored ends here, while its ports still count."""

    def fetch(self, call_id: str) -> bool:
        """Asked for a Call-ID the registry has no call of: restore it if it waits to be; whether it stands by now."""

    def dismiss(self, call_id: str) -> None:
        """A command ends a call that does not stand: if it waits to be restored, it is not to come back."""

    def governs(self, head: Call) -> bool:
        """Whether silence may end a call here and now: its address is served here and all who might hear it tell."""

    def heard(self, local: Endpoint) -> float:
        """When a partner last said that packets came to its own copy of a port, in the registry's time; 0.0: never."""


class Nobody:
    """Calls end with this process."""

    def changed(self, head: Call) -> None:
        return None

    def noticed(self, head: Call) -> None:
        return None

    def ended(self, head: Call, reason: str) -> None:
        return None

    def fetch(self, call_id: str) -> bool:
        return False

    def dismiss(self, call_id: str) -> None:
        return None

    def governs(self, head: Call) -> bool:
        return True

    def heard(self, local: Endpoint) -> float:
        return 0.0
