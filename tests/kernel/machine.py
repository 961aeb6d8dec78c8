"""A machine in software that boots a kernel of Debian's over the files of this host, and runs one command in them.

The kernel comes from a Debian package, which is downloaded and unpacked but not installed. The host's files are shared
read-only (virtio 9p) and overlaid with memory, so that the machine has every program this host has and changes nothing
here. It has no network.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.lab import LabError, command

PACKAGES = ("qemu-system-x86", "busybox-static", "cpio", "kmod")
BOOT_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
INIT = Path(__file__).with_name("init.sh")
EXIT_LINE = re.compile(r"floor: exit code (\d+)\s*")
MEGABYTES = 2048
CPUS = 2


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel package: the image, the folder of its modules, and the release as `uname -r` says it."""

    image: Path
    modules: Path

    @property
    def release(self) -> str:
        return self.modules.name


def install_packages() -> None:
    """Install what is missing to build and run the machine. Raises LabError."""
    asked = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\\n", *PACKAGES]
    installed = re.findall(r"^installed (\S+)$", command(*asked, check=False), re.MULTILINE)
    if missing := [package for package in PACKAGES if package not in installed]:
        print("Installing Debian packages:", *missing, flush=True)
        command("apt-get", "update", "-qq", timeout=300)
        command("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing, timeout=900)


def newest_package(series: str) -> str:
    """The name of Debian's newest ordinary kernel package of a series, e.g. 6.1. Raises LabError where it has none."""
    pattern = rf"linux-image-{re.escape(series)}\.[0-9][0-9+.a-z-]*-amd64"
    names = command("apt-cache", "--names-only", "search", f"^{pattern}$").split("\n")
    packages = [name.split()[0] for name in names if name and not re.search("-(cloud|rt)-amd64 ", name)]
    if not packages:
        raise LabError(f"Debian's archive has no kernel package of series {series}: run `apt-get update`")
    return max(packages, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def fetch(package: str, folder: Path) -> Kernel:
    """The kernel of a package, unpacked below `folder`; quick where it is there already. Raises LabError."""
    home = folder / package
    if not home.exists():
        with tempfile.TemporaryDirectory(prefix="unpack-", dir=folder) as unpacked:
            print(f"Downloading {package}", flush=True)
            download = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", package]
            subprocess.run(download, cwd=unpacked, check=True, timeout=900)
            (archive,) = Path(unpacked).glob("*.deb")
            command("dpkg-deb", "--extract", str(archive), f"{unpacked}/root", timeout=300)
            (modules,) = Path(unpacked, "root/lib/modules").iterdir()
            command("depmod", "--basedir", f"{unpacked}/root", modules.name, timeout=120)
            Path(unpacked, "root").rename(home)
    (image,) = home.glob("boot/vmlinuz-*")
    (modules,) = home.glob("lib/modules/*")
    return Kernel(image, modules)


def needed_modules(modules: Path) -> list[str]:
    """Files of the modules that the machine boots with and of all these depend on, relative to the folder."""
    needed: set[str] = set()
    for line in (modules / "modules.dep").read_text().splitlines():
        file, _, others = line.partition(":")
        if Path(file).name.split(".")[0].replace("-", "_") in BOOT_MODULES:
            needed |= {file, *others.split()}
    return sorted(needed)


def build_initramfs(kernel: Kernel, settings: dict[str, str], folder: Path) -> Path:
    """The files the machine boots from: busybox, modules to reach the host's files with, init.sh and its settings."""
    root = folder / "initramfs"
    modules = root / "lib/modules" / kernel.release
    for file in [*needed_modules(kernel.modules), "modules.dep"]:
        (modules / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(kernel.modules / file, modules / file)
    (root / "bin").mkdir()
    shutil.copy(shutil.which("busybox") or "busybox", root / "bin/busybox")
    command(str(root / "bin/busybox"), "--install", "-s", str(root / "bin"))
    for link in (root / "bin").iterdir():
        if link.is_symlink():
            link.unlink()
            link.symlink_to("busybox")
    shutil.copy(INIT, root / "init")
    (root / "init").chmod(0o755)
    (root / "settings").write_text("".join(f"{name}={shlex.quote(text)}\n" for name, text in settings.items()))
    archive = folder / "initramfs.cpio"
    pack = f"find . | cpio --create --format=newc --quiet >{shlex.quote(str(archive))}"
    subprocess.run(["sh", "-c", pack], cwd=root, check=True)
    return archive


def boot(kernel: Kernel, initramfs: Path, accelerator: str) -> list[str]:
    """The command line of the machine. Its console is standard output."""
    return [
        *("qemu-system-x86_64", "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"),
        *("-machine", f"q35,accel={accelerator}", "-cpu", "max"),
        *("-smp", str(CPUS), "-m", str(MEGABYTES), "-nic", "none"),
        *("-kernel", str(kernel.image), "-initrd", str(initramfs)),
        *("-append", "console=ttyS0 quiet panic=-1 rdinit=/init"),
        *("-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"),
        *("-device", "virtio-9p-pci,fsdev=host,mount_tag=host"),
    ]


def run(kernel: Kernel, house: Path, inside: str, accelerator: str, seconds: float) -> int:
    """Run a shell command in the checkout `house` under a kernel; what it prints comes out here.

    Returns its exit code. Raises LabError where the machine ended without one or took longer than `seconds`.
    """
    with tempfile.TemporaryDirectory(prefix="hairpin-floor-") as scratch:
        settings = {"house": str(house), "modules": str(kernel.modules), "command": inside}
        argv = boot(kernel, build_initramfs(kernel, settings, Path(scratch)), accelerator)
        return follow(["timeout", "--foreground", "--kill-after=5", str(seconds), *argv])


def follow(argv: list[str]) -> int:
    """Show what the machine prints until it is off, and return the exit code it told of. Raises LabError."""
    code: int | None = None
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace"
    ) as machine:
        assert machine.stdout
        try:
            for line in machine.stdout:
                if told := EXIT_LINE.fullmatch(line):
                    code = int(told[1])
                else:
                    print(line, end="", flush=True)
        finally:
            machine.terminate()
    if code is None:
        raise LabError(f"the machine ended without a result (exit code {machine.returncode}; 124 is out of time)")
    return code
