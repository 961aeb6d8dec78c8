"""systemd as the first process of a host of the laboratory, with unit files of the test's own and nothing else.

It has its own processes, mounts, control groups and name of the host; files are this machine's. Units are looked for in
one folder alone, so that none of those that set a machine up is started, and what systemd would set in the kernel for
the whole machine is read-only to it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from tests.lab import Host, LabError, command
from tests.peers import ROOT

PATIENCE = 30.0
"""Seconds a job may take."""
TARGETS = ("sysinit", "basic", "shutdown", "umount", "multi-user", "network-online")
"""What units refer to without naming it; here all of them are empty."""
IN_SIGHT = f"""\
[Service]
ProtectHome=tmpfs
BindReadOnlyPaths={ROOT}
"""
"""For a unit that runs what lies in this checkout: it may be in somebody's home, or in /tmp."""
BOOT = """\
set -e
echo $$ >{group}/cgroup.procs
exec unshare --pid --fork --kill-child --mount --ipc --uts --cgroup --propagation=private sh -e -c '
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount --bind /proc/sys/net /proc/sys/net
mount -o remount,bind,rw /proc/sys/net
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmpfs /run
{mounts}
export container=lab SYSTEMD_UNIT_PATH={folder}/units
exec /lib/systemd/systemd --system --unit=multi-user.target --log-target=console --show-status=0
'
"""


class Systemd:
    """A host's own systemd. `units` are their text by name, `users` are made known. Use it as a context manager.

    Files of the folders `own` are the host's own to change, and /etc/systemd/system with them. `also` is shell that
    mounts more.
    """

    def __init__(
        self,
        host: Host,
        units: dict[str, str],
        users: tuple[str, ...] = (),
        own: tuple[str, ...] = (),
        also: str = "",
    ) -> None:
        self.host = host
        self.folder = host.folder / "systemd"
        self.log = self.folder / "console.log"
        self._group = _control_groups() / f"{host.namespace}"
        self._write(units, users)
        self._group.mkdir()
        mounts = [self._overlay(one) for one in own]
        if own:
            mounts.append(f"mount --bind {self.folder}/units /etc/systemd/system")
        if users:
            mounts.append(f"mount --bind {self.folder}/passwd /etc/passwd")
        boot = BOOT.format(group=self._group, folder=self.folder, mounts="\n".join((*mounts, also)))
        with self.log.open("w") as log:
            self._process = host.start("sh", "-c", boot, stdout=log, stderr=log)
        try:
            self._pid = self._first_process()
            self._wait_for_it()
        except BaseException:
            self.close()
            raise

    def _write(self, units: dict[str, str], users: tuple[str, ...]) -> None:
        folder = self.folder / "units"
        folder.mkdir(parents=True)
        for target in TARGETS:
            (folder / f"{target}.target").write_text("[Unit]\nDefaultDependencies=no\nAllowIsolate=yes\n")
        for name, text in units.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        known = [f"{user}:x:{64_900 + number}:65534::/:/bin/false\n" for number, user in enumerate(users)]
        (self.folder / "passwd").write_text(Path("/etc/passwd").read_text() + "".join(known))
        for part in (self.folder, *self.folder.parents[:2]):
            part.chmod(0o755)

    def _overlay(self, folder: str) -> str:
        """What mounts a folder of the host's own over one of this machine's, with all that is in that."""
        layers = [self.folder / kind / folder.strip("/") for kind in ("changed", "work")]
        for layer in layers:
            layer.mkdir(parents=True)
        changed, work = layers
        return f"mount -t overlay overlay -o lowerdir={folder},upperdir={changed},workdir={work} {folder}"

    def _first_process(self) -> int:
        """The number of what is process 1 in there, by this machine's count."""
        until = time.monotonic() + PATIENCE
        while self._process.poll() is None and time.monotonic() < until:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            if children and Path(f"/proc/{children[0]}/comm").read_text() == "systemd\n":
                return int(children[0])
            time.sleep(0.05)
        raise LabError(f"systemd does not start:\n{self.log.read_text()}")

    def _wait_for_it(self) -> None:
        until = time.monotonic() + PATIENCE
        while self.run("systemctl", "is-active", "multi-user.target").stdout != "active\n":
            if time.monotonic() > until:
                raise LabError(f"systemd does not come up:\n{self.log.read_text()}")
            time.sleep(0.05)

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a program in there, to its end."""
        enter = ("nsenter", "--all", f"--target={self._pid}")
        return subprocess.run((*enter, *argv), capture_output=True, text=True, check=False, timeout=2 * PATIENCE)

    def systemctl(self, *words: str) -> str:
        """Raises LabError where it fails."""
        done = self.run("systemctl", *words)
        if done.returncode:
            raise LabError(f"systemctl {' '.join(words)}: {done.stdout}{done.stderr}\n{self.log.read_text()}")
        return done.stdout

    def shows(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.systemctl("show", "--value", f"--property={name}", unit).strip()

    def close(self) -> None:
        """Kill all of it."""
        self.host.end(self._process, signal.SIGKILL)
        until = time.monotonic() + PATIENCE
        while self._group.exists() and time.monotonic() < until:
            for folder, _, _ in os.walk(self._group, topdown=False):
                with contextlib.suppress(OSError):  # its processes are still going
                    Path(folder).rmdir()
            time.sleep(0.05)

    def __enter__(self) -> Systemd:
        return self

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        if error:
            error.add_note(f"systemd's last words:\n{self.log.read_text()[-3000:]}")
        self.close()


def _control_groups() -> Path:
    """Where the one hierarchy of control groups is mounted (cgroups(7), version 2)."""
    lines = command("findmnt", "--noheadings", "--types=cgroup2", "--output=TARGET").split()
    if not lines:
        raise LabError("no control groups of version 2 are mounted: `mount -t cgroup2 cgroup2 /sys/fs/cgroup`")
    return Path(lines[0])
