"""Where a relay and its operators meet: one socket per instance number and network namespace.

The file's name carries both, so that relays in several namespaces of one host never meet, and `hairpin list` finds the
relay of the namespace it runs in. A lock beside it tells a live relay from the remains of a dead one.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from relay.errors import HairpinError

ROOT_DIRECTORY = Path("/run/hairpin")
NOTE_BYTES = 65536


class PlaceError(HairpinError):
    """There is no place for the operators' socket; the text says what to do."""


class InstanceTaken(PlaceError):
    """Another relay of this instance number runs in this network namespace."""

    def __init__(self, instance: int, pid: str) -> None:
        super().__init__(
            f"hairpin instance {instance} already runs in this network namespace (pid {pid}); "
            f"stop it, or take another number with --table=N"
        )


def directory(environ: Mapping[str, str], uid: int) -> Path:
    """The folder of sockets: /run/hairpin for root, else in the user's runtime directory. Raises PlaceError."""
    if uid == 0:
        return ROOT_DIRECTORY
    runtime = environ.get("XDG_RUNTIME_DIR")
    if not runtime:
        raise PlaceError("XDG_RUNTIME_DIR is not set: name the operators' socket with --socket=PATH, or run as root")
    return Path(runtime) / "hairpin"


def namespace() -> int:
    """The inode of this process's network namespace, which is its name."""
    return os.stat("/proc/self/ns/net").st_ino


def socket_path(folder: Path, instance: int, netns: int) -> Path:
    return folder / f"hairpin-{instance}-{netns}.sock"


def standing_instances(folder: Path, netns: int) -> list[int]:
    """Instance numbers whose sockets lie in `folder` for this namespace."""
    names = [path.stem.split("-") for path in folder.glob(f"hairpin-*-{netns}.sock")]
    return sorted(int(parts[1]) for parts in names if len(parts) == 3 and parts[1].isdecimal())


class Claim:
    """The right to be this instance in this namespace, held as long as the process lives or until `release`."""

    def __init__(self, path: Path, instance: int) -> None:
        """Takes the lock file at `path`; raises InstanceTaken, or PlaceError where it cannot be made."""
        self._path = path
        try:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._file = self._lock(instance)
        except OSError as error:
            raise PlaceError(f"cannot make {path}: {error.strerror}; choose a place with --socket=PATH") from error
        self.left_behind = os.pread(self._file, NOTE_BYTES, 0).decode("ascii", "replace").partition("\n")[2].strip()
        """What a relay that was killed, or left what it had in force, had noted; "" after an orderly end."""
        self.note(self.left_behind)

    def note(self, text: str) -> None:
        """Leave a line for the next relay of this instance, should this one be killed."""
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n{text}\n".encode(), 0)

    def _lock(self, instance: int) -> int:
        while True:
            opened = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_file(opened, self._path):  # else its last holder has just removed it
                    return opened
            except BlockingIOError:
                pid = os.read(opened, 32).decode("ascii", "replace").partition("\n")[0]
                os.close(opened)
                raise InstanceTaken(instance, pid or "unknown") from None
            os.close(opened)

    def release(self, keep: bool = False) -> None:
        """Let another relay have the number; safe to call twice. With `keep` it is told what was noted last."""
        if self._file >= 0:
            if not keep:
                self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = -1


def _is_file(opened: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(opened), os.stat(path))
    except FileNotFoundError:
        return False


def clear_socket(path: Path) -> None:
    """Remove what a dead relay left at `path`; anything that is no socket stays and raises PlaceError."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise PlaceError(f"{path} exists and is not a socket: remove it or choose another with --socket=PATH")
    path.unlink()
