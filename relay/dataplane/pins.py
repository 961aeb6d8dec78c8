"""Programs, tables and links kept in a BPF file system, so that they forward on while no relay runs.

One folder belongs to one instance of the relay. In it stand, each under its own name, all maps and programs, a link
for each interface (`native-3`: interface 3, native XDP), and last the map `identity`, which says in JSON what all this
is: the layout of the tables, a hash of the object file and the constants of the program, and the network namespace. A
BPF file system takes no files, so it is the one element of a map. A folder without it was not finished.
"""

from __future__ import annotations

import contextlib
import errno as errnos
import json
import os
import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Self

from relay.dataplane import abi
from relay.dataplane.libbpf import BpfError, Link, Map, Object, Program, XdpMode
from relay.dataplane.program import MAPS, PROGRAMS
from relay.errors import DataplaneError

__all__ = ["Identity", "Pins", "PinsForeign", "flush", "namespace_number", "stands"]

IDENTITY = "identity"
_IDENTITY_SIZE = 1024  # bytes
_FIRST = bytes(4)
_LINK = re.compile(r"(native|generic)-([1-9][0-9]{0,9})")
_NEXT = "-next"  # a pin that is about to take the place of another


class PinsForeign(DataplaneError):
    """What stands in the folder was made by a version of the relay whose tables are laid out otherwise."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What the pins of a folder are."""

    layout: str
    """Digest of the layout of all tables (relay.dataplane.abi.DIGEST)."""
    program: str
    """Hash of the object file that the programs came from."""
    settings: str
    """The constants of the programs, struct hp_settings, in hexadecimal digits."""
    hertz: int
    """Jiffies a second."""
    namespace: int
    """Number of the network namespace that the links belong to."""
    refused: str = ""
    """Why native XDP cannot be had, where it was tried in vain."""

    def packed(self) -> bytes:
        """As the map holds it."""
        return json.dumps(asdict(self)).encode().ljust(_IDENTITY_SIZE, b"\0")

    @classmethod
    def parse(cls, value: bytes) -> Identity:
        """What `packed` made. Raises ValueError for anything else."""
        try:
            said = json.loads(value.rstrip(b"\0"))
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        kinds = {field.name: str(field.type) for field in fields(cls)}
        if not isinstance(said, dict) or {name: type(each).__name__ for name, each in said.items()} != kinds:
            raise ValueError("it does not say what they are")
        made = cls(**said)
        bytes.fromhex(made.settings)
        if made.hertz < 1:
            raise ValueError("no kernel has such a tick rate")
        return made


class Pins:
    """The pins of a folder, in use: a source of maps and programs, as an object is, and of links."""

    def __init__(self, folder: Path, identity: Map, said: Identity) -> None:
        self.folder = folder
        self.said = said
        self._identity = identity
        self._maps: dict[str, Map] = {}
        self._programs: dict[str, Program] = {}

    @classmethod
    def make(cls, folder: Path, loaded: Object, said: Identity) -> Pins:
        """Pin what was loaded, in an empty folder. Raises DataplaneError."""
        _prepare(folder)
        identity = Map.create(IDENTITY, _IDENTITY_SIZE)
        try:
            identity.update(_FIRST, said.packed())
            for name in MAPS:
                loaded.map(name).pin(folder / name)
            for name in PROGRAMS:
                loaded.program(name).pin(folder / name)
            identity.pin(folder / IDENTITY)
        except BaseException:
            identity.close()
            flush(folder)
            raise
        return cls(folder, identity, said)

    @classmethod
    def find(cls, folder: Path) -> Pins | None:
        """What stands in a folder; what was not finished is removed. Raises PinsForeign, DataplaneError."""
        if not stands(folder):
            return None
        if not (folder / IDENTITY).exists():
            flush(folder)
            return None
        identity = Map.from_pin(folder / IDENTITY)
        try:
            return cls(folder, identity, _identified(folder, identity.lookup(_FIRST)))
        except BaseException:
            identity.close()
            raise

    def map(self, name: str) -> Map:
        """A map by name. Raises BpfError."""
        if name not in self._maps:
            found = self._maps[name] = Map.from_pin(self.folder / name)
            found.name = name
        return self._maps[name]

    def program(self, name: str) -> Program:
        """A program by name. Raises BpfError."""
        if name not in self._programs:
            self._programs[name] = Program.from_pin(self.folder / name)
        return self._programs[name]

    def links(self) -> dict[int, tuple[XdpMode, Link]]:
        """The standing links by interface; those whose interface has gone are removed. The caller closes them."""
        found: dict[int, tuple[XdpMode, Link]] = {}
        for name in _names(self.folder):
            if match := _LINK.fullmatch(name):
                link = Link.from_pin(self.folder / name)
                if link.ifindex() == int(match[2]):
                    found[int(match[2])] = XdpMode[match[1].upper()], link
                else:
                    link.detach()
        return found

    def keep(self, link: Link, ifindex: int, mode: XdpMode) -> None:
        """Pin a link. Raises BpfError."""
        path = self.folder / f"{mode.name.lower()}-{ifindex}"
        path.unlink(missing_ok=True)
        link.pin(path)

    def replace_programs(self, loaded: Object) -> list[Program]:
        """Let the programs of another object stand in the place of these, for those who ask for them from here on.

        Gives back the former ones, to be closed when nobody runs them any more.
        """
        for name in PROGRAMS:
            following = self.folder / f"{name}{_NEXT}"
            following.unlink(missing_ok=True)
            loaded.program(name).pin(following)
            following.rename(self.folder / name)
        before = list(self._programs.values())
        self._programs.clear()
        return before

    def refuse(self, reason: str) -> None:
        """Remember why native XDP cannot be had, "" where it was not tried in vain."""
        if reason != self.said.refused:
            self.say(replace(self.said, refused=reason[: _IDENTITY_SIZE // 4]))

    def say(self, said: Identity) -> None:
        """Store what the pins are from here on."""
        self._identity.update(_FIRST, said.packed())
        self.said = said

    def close(self) -> None:
        """Let go of all of it, which stands on; safe to call twice."""
        for program in self._programs.values():
            program.close()
        for map_ in (*self._maps.values(), self._identity):
            map_.close()
        self._maps.clear()
        self._programs.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def stands(folder: Path) -> bool:
    """Whether anything is pinned in a folder."""
    return bool(_names(folder))


def flush(folder: Path) -> bool:
    """Remove all that is pinned in a folder, and the folder: what forwarded by it ceases to. False if there is nothing.

    The relay that keeps it must not run. Raises DataplaneError where it cannot be removed.
    """
    if not folder.is_dir():
        return False
    _check_kind(folder)
    names = _names(folder)
    try:
        for name in sorted(names, key=lambda name: not _LINK.fullmatch(name)):
            _remove(folder / name)
        folder.rmdir()
    except OSError as error:
        raise DataplaneError(f"cannot remove the pins in {folder}: {error.strerror or error}") from error
    return bool(names)


def namespace_number() -> int:
    """The number of the network namespace this thread is in."""
    return os.stat("/proc/thread-self/ns/net").st_ino


def _remove(path: Path) -> None:
    """Unpin. A link is taken off its interface at once, not when the kernel comes to it."""
    if _LINK.fullmatch(path.name):
        with contextlib.suppress(BpfError):
            Link.from_pin(path).detach()
            return
    path.unlink(missing_ok=True)


def _identified(folder: Path, value: bytes | None) -> Identity:
    advice = "end the calls that stand in it with `hairpin flush`, or start the version that made it"
    try:
        said = Identity.parse(value or b"")
    except ValueError as error:
        raise PinsForeign(f"{folder} holds tables that this version cannot read ({error}): {advice}") from error
    if said.layout != abi.DIGEST:
        raise PinsForeign(
            f"{folder} holds tables of another layout ({said.layout}, this version has {abi.DIGEST}): {advice}"
        )
    return said


def _names(folder: Path) -> list[str]:
    """What stands in a folder; nothing where there is none. Raises DataplaneError."""
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataplaneError(f"cannot look into {folder}: {error.strerror}") from error


def _prepare(folder: Path) -> None:
    """Have an empty folder in a BPF file system. Raises DataplaneError that says what is missing and how to mend it."""
    ancestor = next(path for path in (folder, *folder.parents) if path.exists())
    _check_kind(ancestor)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        if error.errno not in (errnos.EACCES, errnos.EPERM, errnos.EROFS):
            raise DataplaneError(f"cannot make {folder}: {error.strerror}") from error
        raise DataplaneError(
            f"cannot make {folder}: {error.strerror}: as root, "
            f"`mkdir -p {folder.parent} && chown {os.geteuid()} {folder.parent}`"
        ) from error


def _check_kind(path: Path) -> None:
    number = path.stat().st_dev
    if f"{os.major(number)}:{os.minor(number)}" not in bpf_devices(Path("/proc/self/mountinfo").read_text()):
        raise DataplaneError(
            f"{path} is not in a BPF file system: `mount -t bpf bpf /sys/fs/bpf`, and name a folder in it by --pin-dir"
        )


def bpf_devices(mounts: str) -> set[str]:
    """Device numbers of the BPF file systems in a text like /proc/self/mountinfo (proc(5))."""
    lines = (line.partition(" - ") for line in mounts.splitlines())
    return {before.split()[2] for before, _, after in lines if after.startswith("bpf ")}
