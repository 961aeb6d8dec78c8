"""`hairpin list`, `show`, `terminate`, `drain`, `status` and more: an operator's words to the running relay.

Exit codes: 0 done, 1 not found or failed, 2 not understood, 3 no relay reachable.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from control.ops import place, render
from relay.errors import HairpinError

DONE, FAILED, USAGE, UNREACHABLE = 0, 1, 2, 3
PATIENCE = 15.0
"""Seconds to wait for the relay's next line."""
LOOK = 1.0
"""Seconds between two looks at a relay that drains."""

HELP = """\
hairpin relays media for SIP proxies that command it over the ng protocol.

  hairpin run [OPTIONS]      be the relay; `hairpin run --help` lists the options
  hairpin supervise ...      the same, started again whenever it ends; no command that comes meanwhile is lost
  hairpin check-config ...   what `run` would make of these options: errors, warnings, settings; starts nothing
  hairpin list               the calls that stand
  hairpin show CALL          one call: its legs, streams, where they are forwarded and how well
  hairpin terminate CALL     end a call now; its ports stop forwarding
  hairpin drain [--wait]     take no new calls, serve those that stand; --wait returns when none is left
  hairpin resume             take new calls again; a restart of the relay does so, too
  hairpin status             the relay: data plane, ports, counters, drops by reason
  hairpin rules              the ports in force
  hairpin version            the version
  hairpin help               this text

CALL is a Call-ID. The commands from list to rules take --json, --table=N (the relay's instance number) and
--socket=PATH, and speak to the relay of their own network namespace.
"""


class Unreachable(HairpinError):
    """No relay answers; the text says where it was looked for and what to do."""


class Failed(HairpinError):
    """The relay answered that it cannot."""


@dataclass(frozen=True, slots=True)
class Command:
    """One word of the operators': how its reply reads as text, and whether that is about one thing or many."""

    help: str
    text: Callable[[Any], str]
    single: bool = False
    takes_call: bool = False
    waits: bool = False
    """Takes --wait."""


def _terminated(item: Any) -> str:
    return f"terminated {render.clean(item['call_id'])}"


COMMANDS = {
    "list": Command("the calls that stand", render.calls),
    "show": Command("one call", render.call, single=True, takes_call=True),
    "terminate": Command("end a call now", _terminated, single=True, takes_call=True),
    "drain": Command("take no new calls until `hairpin resume` or a restart", render.drained, single=True, waits=True),
    "resume": Command("take new calls again", render.resumed, single=True),
    "status": Command("the relay itself", render.status, single=True),
    "rules": Command("the ports in force", render.rules),
}


def main(arguments: Sequence[str]) -> int:
    """Run one operators' command; returns the exit code."""
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        print(f"hairpin: there is no command {arguments[0]}; `hairpin help` lists them", file=sys.stderr)
        return USAGE
    try:
        given = _parser().parse_args(list(arguments))
    except SystemExit as stop:  # argparse has printed help or what it did not understand
        return int(stop.code or 0)
    try:
        return _run(given)
    except BrokenPipeError:  # `hairpin list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (Unreachable, place.PlaceError) as error:
        print(f"hairpin: {error}", file=sys.stderr)
        return UNREACHABLE
    except Failed as error:
        print(f"hairpin: {error}", file=sys.stderr)
        return FAILED


def _run(given: argparse.Namespace) -> int:
    command = COMMANDS[given.command]
    arguments = {"call": given.call} if command.takes_call else {}
    found: Any = list(ask(_where(given), given.command, arguments))
    if command.single:
        found = found[0]
    if command.waits and given.wait:
        found = _wait_for_the_last(_where(given), found)
    print(json.dumps(found, indent=2) if given.json else command.text(found), flush=True)
    return DONE


def _wait_for_the_last(path: Path, item: Any) -> Any:
    """Wait until a draining relay has no call left, not even in its delete delay. Raises Failed, Unreachable."""
    told = ""
    while any(item["calls"].values()):
        if told != (told := f"calls left: {sum(item['calls'].values())}"):
            print(f"hairpin: {told}", file=sys.stderr, flush=True)
        time.sleep(LOOK)
        (item,) = ask(path, "status", {})
        if not item["draining"]:
            raise Failed("the relay does not drain any more: it was told to resume, or started anew")
    return {"draining": True, "calls": item["calls"]}


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print JSON")
    shared.add_argument(
        "-t", "--table", type=int, default=0, metavar="N", help="the relay's instance number (default 0)"
    )
    shared.add_argument("--socket", metavar="PATH", help="the relay's operators' socket")
    parser = argparse.ArgumentParser(prog="hairpin", epilog="`hairpin help` says more; `hairpin run` is the relay.")
    words = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        word = words.add_parser(name, help=command.help, description=command.help, parents=[shared])
        if command.takes_call:
            word.add_argument("call", metavar="CALL", help="a Call-ID")
        if command.waits:
            word.add_argument("--wait", action="store_true", help="return when no call is left")
    return parser


def _where(given: argparse.Namespace) -> Path:
    if given.socket:
        return Path(given.socket)
    return place.socket_path(place.directory(os.environ, os.geteuid()), max(given.table, 0), place.namespace())


def ask(path: Path, command: str, arguments: dict[str, Any]) -> Iterator[Any]:
    """The items of the relay's reply; raises Unreachable, or Failed with the relay's own words."""
    with _connect(path) as connection:
        request = {"command": command, "arguments": arguments}
        try:
            connection.sendall(json.dumps(request).encode() + b"\n")
            for line in connection.makefile("rb"):
                reply = json.loads(line)
                if "error" in reply:
                    raise Failed(reply["error"])
                if "done" in reply:
                    return
                yield reply["item"]
        except (OSError, ValueError) as error:
            raise Unreachable(f"the relay at {path} stopped answering ({error}); see its log") from error
    raise Unreachable(f"the relay at {path} closed the connection before its answer was complete; see its log")


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(PATIENCE)
    try:
        connection.connect(str(path))
    except OSError as error:
        connection.close()
        raise Unreachable(_nobody(path, error)) from error
    return connection


def _nobody(path: Path, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"may not open {path}: run this as the user the relay runs as (sudo hairpin ...)"
    reason = f"no relay answers at {path} ({error.strerror or error})"
    standing = place.standing_instances(path.parent, place.namespace())
    if standing and not isinstance(error, ConnectionRefusedError):
        return f"{reason}; in this network namespace there is --table={', --table='.join(map(str, standing))}"
    return (
        f"{reason}. Is it running (`systemctl status hairpin`, `hairpin run`)? In another network namespace, "
        f"enter that first (`nsenter --net=/run/netns/NAME hairpin ...`); elsewhere, name its --socket=PATH"
    )
