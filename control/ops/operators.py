"""The operators' socket: JSON lines over a Unix stream socket that only the relay's own user can open.

A request is one line `{"command": NAME, "arguments": {...}}`. The reply is one line `{"item": ...}` for each thing
found and a last one, `{"done": true}` or `{"error": TEXT}`. Several requests may follow one another. Long replies are
written in slices, and a client that does not read or write is dropped, so that no operator holds up the calls.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from control.ops.place import PlaceError, clear_socket
from relay.errors import HairpinError

log = logging.getLogger(__name__)

Arguments = Mapping[str, Any]
Handler = Callable[[Arguments], Iterable[Any]]
"""Called with the request's arguments, and in `operator` who asks."""

REQUEST_BYTES = 64 * 1024
CLIENTS = 16
PATIENCE = 10.0
"""Seconds a client may take to send a request or to read what is buffered for it."""
SLICE = 20
"""Items made between two looks at the rest of the relay's work."""


class OperatorError(HairpinError):
    """A command that cannot be done; the text is what the operator reads."""


class OperatorSocket:
    """Serves `handlers` by command name. A handler yields JSON values, or raises OperatorError."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._path: Path | None = None

    async def start(self, path: Path) -> None:
        """Listen at `path`, in place of what a dead relay left there. Raises PlaceError."""
        listening = _listen(path)
        self._path = path
        self._server = await asyncio.start_unix_server(self._serve, sock=listening, limit=REQUEST_BYTES)

    async def close(self) -> None:
        """Remove the socket and drop its clients; safe to call twice."""
        if self._server is None or self._path is None:
            return
        self._server.close()
        self._server = None
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            if len(self._clients) > CLIENTS:
                _write(writer, {"error": f"{CLIENTS} operators' connections are open already: close some"})
            else:
                await self._converse(reader, writer)
        except (TimeoutError, ConnectionError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._clients.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                line = await asyncio.wait_for(reader.readline(), PATIENCE)
            except ValueError:
                _write(writer, {"error": f"a request is one line of at most {REQUEST_BYTES} bytes"})
                return
            if not line:
                return
            await self._answer(line, writer)

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            command, arguments = _request(line)
            if command not in self._handlers:
                raise OperatorError(f"the relay does not know the command {command!r}: is it of another version?")
            arguments = {**arguments, "operator": _who(writer)}
            for number, item in enumerate(self._handlers[command](arguments), 1):
                _write(writer, {"item": item})
                if number % SLICE == 0:
                    await _breathe(writer)
            _write(writer, {"done": True})
        except HairpinError as error:
            _write(writer, {"error": str(error)})
        except (ConnectionError, TimeoutError):
            raise
        except Exception:
            log.exception("the operators' command %r failed: report this with the lines below", line[:200])
            _write(writer, {"error": "the relay failed at this command: see its log"})
        await _breathe(writer)


def _listen(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _refuse_live(path)
        clear_socket(path)
        _bind_for_owner(listening, path)
        listening.listen(CLIENTS)
    except OSError as error:
        listening.close()
        reason = error.strerror or error
        raise PlaceError(f"cannot listen at {path}: {reason}; choose a place with --socket=PATH") from error
    except PlaceError:
        listening.close()
        raise
    return listening


def _bind_for_owner(listening: socket.socket, path: Path) -> None:
    before = os.umask(0o177)
    try:
        listening.bind(str(path))
    finally:
        os.umask(before)


def _refuse_live(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return
    raise PlaceError(f"another process listens at {path}: stop it or choose a place with --socket=PATH")


def _request(line: bytes) -> tuple[str, Arguments]:
    try:
        request = json.loads(line)
        command, arguments = request["command"], request.get("arguments", {})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise OperatorError('a request is {"command": NAME, "arguments": {...}} on one line') from None
    if not isinstance(command, str) or not isinstance(arguments, dict):
        raise OperatorError("command must be a string and arguments an object")
    return command, arguments


def _write(writer: asyncio.StreamWriter, value: Mapping[str, Any]) -> None:
    writer.write(json.dumps(value, separators=(",", ":")).encode() + b"\n")


async def _breathe(writer: asyncio.StreamWriter) -> None:
    await asyncio.wait_for(writer.drain(), PATIENCE)
    await asyncio.sleep(0)


def _who(writer: asyncio.StreamWriter) -> str:
    peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, uid, _ = struct.unpack("3i", peer)
    return f"uid {uid} pid {pid}"
