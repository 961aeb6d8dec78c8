"""BIRD's control socket: commands in, replies out.

A reply is lines `NNNN-text`, which go on, and a last one `NNNN text`; a line that begins with a space belongs to the
one before it. Codes from 8000 on are errors.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import NamedTuple

from relay.errors import HairpinError

__all__ = ["BirdError", "BirdSocket", "Line"]

MAX_LINES = 4096
PATIENCE = 2.0
"""Seconds for BIRD to answer one command."""
_CODED = re.compile(r"([0-9]{4})([- ])(.*)")


class BirdError(HairpinError):
    """BIRD has refused a command; the text is BIRD's own."""


class Line(NamedTuple):
    """One line of a reply."""

    code: int
    text: str


class BirdSocket:
    """One conversation with BIRD. Raises OSError or TimeoutError where it is lost."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def reach(cls, path: Path) -> BirdSocket:
        """Connect, and take BIRD's greeting."""
        made = cls(*await asyncio.wait_for(asyncio.open_unix_connection(str(path)), PATIENCE))
        try:
            await made._reply()
        except BaseException:
            made.close()
            raise
        return made

    async def ask(self, command: str) -> list[Line]:
        """Give a command. Raises BirdError with what BIRD has against it."""
        self._writer.write(command.encode() + b"\n")
        await self._writer.drain()
        lines = await self._reply()
        if wrong := [line.text for line in lines if line.code >= 8000]:
            raise BirdError(f"BIRD refuses `{command}`: {'; '.join(wrong)}")
        return lines

    def close(self) -> None:
        """Hang up."""
        self._writer.close()

    async def _reply(self) -> list[Line]:
        return await asyncio.wait_for(self._lines(), PATIENCE)

    async def _lines(self) -> list[Line]:
        lines: list[Line] = []
        while len(lines) < MAX_LINES:
            try:
                raw = await self._reader.readline()
            except ValueError as error:  # longer than a line of BIRD's ever is
                raise ConnectionError(f"what answers is no BIRD: {error}") from error
            if not raw:
                raise ConnectionError("BIRD has closed its control socket")
            text = raw.decode("utf-8", "replace").rstrip("\n")
            coded = _CODED.fullmatch(text)
            if coded:
                lines.append(Line(int(coded[1]), coded[3]))
            elif lines:
                lines.append(Line(lines[-1].code, text.strip()))
            if coded and coded[2] == " ":
                return lines
        raise ConnectionError(f"BIRD answers with more than {MAX_LINES} lines")
