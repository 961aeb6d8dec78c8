"""What lies under the binding: libbpf's C functions, the kernel's answers about descriptors, and the errors.

ABI mode of cffi: the library of the distribution is opened at run time, nothing is compiled.
"""

from __future__ import annotations

import errno as errnos
import functools
import os
from pathlib import Path
from typing import Any

import cffi

from relay.errors import DataplaneError

__all__ = [
    "BpfError",
    "MapFull",
    "VerifierError",
    "check",
    "ffi",
    "first_warning",
    "info",
    "lib",
    "open_pin",
    "pin",
    "text",
]

_DECLARATIONS = """
struct bpf_test_run_opts {
    size_t sz; const void *data_in; void *data_out; uint32_t data_size_in; uint32_t data_size_out;
    const void *ctx_in; void *ctx_out; uint32_t ctx_size_in; uint32_t ctx_size_out;
    uint32_t retval; int repeat; uint32_t duration; uint32_t flags; uint32_t cpu; uint32_t batch_size;
};
struct bpf_link_create_opts {
    size_t sz; uint32_t flags; void *iter_info; uint32_t iter_info_len; uint32_t target_btf_id; uint64_t target[5];
};

typedef int (*libbpf_print_fn_t)(int level, const char *format, void *arguments);
libbpf_print_fn_t libbpf_set_print(libbpf_print_fn_t function);
int vsnprintf(char *text, size_t size, const char *format, void *arguments);

void *bpf_object__open_file(const char *path, const void *options);
int bpf_object__load(void *object);
void bpf_object__close(void *object);
void *bpf_object__btf(const void *object);
const void *btf__raw_data(const void *btf, uint32_t *size);
void *bpf_object__next_map(const void *object, const void *map);
void *bpf_object__find_map_by_name(const void *object, const char *name);
void *bpf_object__find_program_by_name(const void *object, const char *name);
void *bpf_object__next_program(const void *object, void *program);

const char *bpf_map__name(const void *map);
int bpf_map__fd(const void *map);
uint32_t bpf_map__key_size(const void *map);
uint32_t bpf_map__value_size(const void *map);
uint32_t bpf_map__max_entries(const void *map);
int bpf_map__set_max_entries(void *map, uint32_t entries);
int bpf_map__reuse_fd(void *map, int fd);
void *bpf_map__initial_value(void *map, size_t *size);
int bpf_map_update_elem(int fd, const void *key, const void *value, uint64_t flags);
int bpf_map_lookup_elem(int fd, const void *key, void *value);
int bpf_map_delete_elem(int fd, const void *key);
int bpf_map_lookup_and_delete_elem(int fd, const void *key, void *value);
int bpf_map_get_next_key(int fd, const void *key, void *next);
int bpf_map_update_batch(int fd, const void *keys, const void *values, uint32_t *count, const void *options);
int libbpf_num_possible_cpus(void);

const char *bpf_program__name(const void *program);
int bpf_program__fd(const void *program);
int bpf_program__set_autoload(void *program, bool autoload);
int bpf_program__set_log_buf(void *program, char *text, size_t size);
int bpf_prog_test_run_opts(int fd, struct bpf_test_run_opts *options);
int bpf_link_create(int program, int target, int type, const struct bpf_link_create_opts *options);
int bpf_link_update(int link, int program, const void *options);
int bpf_link_detach(int link);
int bpf_map_create(int type, const char *name, uint32_t key_size, uint32_t value_size, uint32_t entries,
                   const void *options);
int bpf_obj_pin(int fd, const char *path);
int bpf_obj_get(const char *path);
int bpf_obj_get_info_by_fd(int fd, void *info, uint32_t *size);
"""

ffi = cffi.FFI()
ffi.cdef(_DECLARATIONS)

_LIBBPF_ERRORS = 4000  # from here on they are libbpf's own, and its warning says more

_ADVICE = {
    errnos.EPERM: "run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON",
    errnos.EBUSY: "another program or link stands there already: see `bpftool net`",
    errnos.EOPNOTSUPP: "the driver does not support it",
    errnos.ENOMEM: "not enough memory, or a locked-memory limit in the way",
}


class BpfError(DataplaneError):
    """A BPF operation failed. `errno` is the kernel's, 0 where it gave none."""

    def __init__(self, what: str, errno: int = 0, detail: str = "") -> None:
        parts = [what]
        if 0 < errno < _LIBBPF_ERRORS:
            parts.append(f"{os.strerror(errno)} ({errnos.errorcode.get(errno, errno)})")
        parts += [part for part in (detail, _ADVICE.get(errno, "")) if part]
        super().__init__(": ".join(parts))
        self.errno = errno


class VerifierError(BpfError):
    """The kernel's verifier refused a program. `log` is all it said; the message carries the line that matters."""

    def __init__(self, program: str, errno: int, log: str) -> None:
        super().__init__(
            f"the kernel refused program {program}: {_summary(log)}; "
            "it needs Linux 6.1 or later; the full verifier log is in this error's `log`"
        )
        self.errno = errno
        self.log = log


class MapFull(BpfError):
    """A map has no room for another key."""


def _summary(log: str) -> str:
    """The line of a verifier log that says why; what follows it is statistics."""
    statistics = ("processed ", "verification time", "stack depth", "max_states")
    lines = [line.strip() for line in log.splitlines() if line.strip() and not line.startswith(statistics)]
    return lines[-1] if lines else "no reason given"


def check(result: int, what: str) -> int:
    """The result of a call of libbpf. Raises BpfError if it is a negative errno."""
    if result < 0:
        raise BpfError(what, -result)
    return result


def text(pointer: Any) -> str:
    """A C string."""
    string: Any = ffi.string(pointer)
    return str(string, errors="replace")


def info(fd: int, size: int, what: str) -> bytes:
    """struct bpf_map_info, bpf_link_info or bpf_prog_info of a descriptor, its first `size` bytes."""
    memory, length = ffi.new("char[]", size), ffi.new("uint32_t *", size)
    check(lib().bpf_obj_get_info_by_fd(fd, memory, length), f"ask the kernel about {what}")
    return bytes(ffi.buffer(memory))


def pin(fd: int, path: Path, what: str) -> None:
    """Keep what a descriptor stands for in bpffs, beyond the life of this process."""
    check(lib().bpf_obj_pin(fd, os.fsencode(path)), f"pin {what} at {path}")


def open_pin(path: Path) -> int:
    """A descriptor of what is pinned at `path`."""
    return check(lib().bpf_obj_get(os.fsencode(path)), f"open pin {path}")


_warnings: list[str] = []


@ffi.callback("int(int, const char *, void *)")
def _print(level: int, text_format: Any, arguments: Any) -> int:
    """Keeps libbpf's first warning for the error it precedes. A va_list is passed by address on x86-64 and arm64."""
    if level == 0 and not _warnings:
        line = ffi.new("char[]", 1024)
        _libc().vsnprintf(line, 1024, text_format, arguments)
        _warnings.append(text(line).strip())
    return 0


def first_warning() -> str:
    """What libbpf complained of first since the last call: what it says later is consequence."""
    warning = "".join(_warnings)
    _warnings.clear()
    return warning


@functools.cache
def _libc() -> Any:
    return ffi.dlopen(None)


@functools.cache
def lib() -> Any:
    """The library. Raises BpfError naming the package if it is not there."""
    try:
        library: Any = ffi.dlopen("libbpf.so.1")
    except OSError as error:
        raise BpfError(f"libbpf 1.x cannot be loaded ({error}): install the package libbpf1") from error
    library.libbpf_set_print(_print)
    return library
