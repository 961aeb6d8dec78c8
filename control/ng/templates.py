"""Flags that the configuration has ready under a name, for requests that name them and for whole commands.

What holds of them for a request: that called `default`, that called like its command, and that which its key `template`
names, a later one over an earlier one, and over all of them what the request says itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from control.ng.flags import Options, parse_options

__all__ = ["Templates", "flawed"]

DEFAULT = "default"


class Templates:
    """Strings of flags by name, each like a request's `rtpp-flags`."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = dict(texts)
        self._commands = {_plain(name): text for name, text in texts.items() if name != DEFAULT}

    def options(self, body: Mapping[str, Any], controller: str) -> Options:
        """Read a request with what holds for it. A template that nobody wrote is warned of in the reply."""
        options = parse_options(body, controller)
        name = options.template
        if not self._texts and name is None:
            return options
        found = (
            self._texts.get(DEFAULT),
            self._commands.get(_plain(str(body.get("command")))),
            self._texts.get(name or ""),
        )
        if texts := [text for text in found if text]:
            options = parse_options(body, controller, texts)
        if name is not None and name not in self._texts:
            options.unserved += (f"there is no template {name[:50]} in the configuration",)
        return options


def _plain(command: str) -> str:
    return command.lower().replace("-", " ").replace("_", " ")


def flawed(texts: Mapping[str, str]) -> Iterator[str]:
    """A word on each template that says what is not known or not done here."""
    for name, text in texts.items():
        read = parse_options({"rtpp-flags": text})
        if read.ignored:
            yield f"template {name}: {read.ignored} of its flags are not known here and do nothing"
        yield from (f"template {name}: {words}" for words in read.unserved)
