"""`hairpin list`, `show`, `terminate`, `drain`, `status` and more: an operator's words to the running relay.

Exit codes: 0 done, 1 not found or failed, 2 not understood, 3 no relay reachable.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from control.ops import place, render, routes, waiting
from control.ops.asking import Failed, Unreachable, ask
from control.ops.text import clean

DONE, FAILED, USAGE, UNREACHABLE = 0, 1, 2, 3
PATIENCE = 10.0
"""Seconds for which is told what becomes of an order."""

HELP = """\
hairpin relays media for SIP proxies that command it over the ng protocol.

  hairpin run [OPTIONS]      be the relay; `hairpin run --help` lists the options
  hairpin supervise ...      the same, started again whenever it ends; no command that comes meanwhile is lost
  hairpin check-config ...   what `run` would make of these options: errors, warnings, settings; starts nothing
  hairpin flush [--force]    end what a dead relay left in force; takes the options of `run`
  hairpin list               the calls that stand
  hairpin show CALL          one call: its legs, streams, where they are forwarded and how well
  hairpin terminate CALL     end a call now; its ports stop forwarding
  hairpin drain [--wait]     take no new calls, serve those that stand; --wait returns when none is left
                             or no packets come here any more
  hairpin resume             take new calls again: the end of a drain
  hairpin withdraw [ADDRESS] have its packets go to a partner; without ADDRESS, those of all addresses
  hairpin announce [ADDRESS] announce it again, at once
  hairpin active [ADDRESS]   take the ownership of its calls
  hairpin standby [ADDRESS]  have a partner take the ownership of its calls
  hairpin status             the relay: data plane, ports, addresses, partners, counters, drops by reason
  hairpin rules              the ports in force
  hairpin version            the version
  hairpin help               this text

CALL is a Call-ID. What would leave an address unserved is refused without --force. The commands from list to rules
take --json, --table=N (the relay's instance number) and --socket=PATH, and speak to the relay of their own network
namespace.
"""


@dataclass(frozen=True, slots=True)
class Command:
    """One word of the operators': how its reply reads as text, and whether that is about one thing or many."""

    help: str
    text: Callable[[Any], str]
    single: bool = False
    takes_call: bool = False
    waits: bool = False
    """Takes --wait."""
    takes_address: bool = False
    """One address, or all where none is named."""
    moves: bool = False
    """Takes --force, and tells what becomes of the order."""


def _terminated(item: Any) -> str:
    return f"terminated {clean(item['call_id'])}"


COMMANDS = {
    "list": Command("the calls that stand", render.calls),
    "show": Command("one call", render.call, single=True, takes_call=True),
    "terminate": Command("end a call now", _terminated, single=True, takes_call=True),
    "drain": Command("take no new calls until `hairpin resume`", render.drained, single=True, waits=True),
    "resume": Command("take new calls again", render.resumed, single=True),
    "withdraw": Command("withdraw an address", routes.ordered, single=True, takes_address=True, moves=True),
    "announce": Command("announce an address again", routes.ordered, single=True, takes_address=True, moves=True),
    "active": Command("own an address's calls", routes.active, takes_address=True),
    "standby": Command("have a partner own an address's calls", routes.standby, takes_address=True),
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
    path = _where(given)
    found: Any = list(ask(path, given.command, _arguments(command, given)))
    if command.single:
        found = found[0]
    if command.waits and given.wait:
        found = waiting.for_the_drain(path, found)
    if command.moves:
        say = _to_stderr if given.json else print
        found = waiting.for_the_addresses(path, found, given.command == "withdraw", given.patience, say)
    print(json.dumps(found, indent=2) if given.json else command.text(found), flush=True)
    return DONE


def _arguments(command: Command, given: argparse.Namespace) -> dict[str, Any]:
    """What the relay is told."""
    arguments: dict[str, Any] = {"call": given.call} if command.takes_call else {}
    if command.takes_address and given.address is not None:
        arguments["address"] = given.address
    if command.moves and given.force:
        arguments["force"] = True
    return arguments


def _to_stderr(line: str) -> None:
    print(f"hairpin: {line}", file=sys.stderr, flush=True)


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
        if command.takes_address:
            word.add_argument("address", nargs="?", type=_address, metavar="ADDRESS", help="one address (default: all)")
        if command.moves:
            word.add_argument("--force", action="store_true", help="even if that leaves an address unserved")
            word.add_argument(
                *("--patience", "-p"),
                type=float,
                default=PATIENCE,
                metavar="SECS",
                help=f"tell what becomes of it for so long (default {PATIENCE:.0f})",
            )
    return parser


def _address(text: str) -> str:
    """An address as the relay names it. Raises ValueError."""
    return str(ip_address(text))


def _where(given: argparse.Namespace) -> Path:
    if given.socket:
        return Path(given.socket)
    return place.socket_path(place.directory(os.environ, os.geteuid()), max(given.table, 0), place.namespace())
