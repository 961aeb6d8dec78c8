"""What is wrong with the options, all of it at once."""

from __future__ import annotations

from collections.abc import Sequence

from relay.errors import HairpinError


class ConfigError(HairpinError):
    """Options that are unknown or have values that are not allowed.

    Each of `problems` names its place and what is allowed; `warnings` is what else there was to say.
    """

    def __init__(self, *problems: str, warnings: Sequence[str] = ()) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.warnings = tuple(warnings)
