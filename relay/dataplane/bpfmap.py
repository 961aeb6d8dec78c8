"""One map of a BPF object: its elements by system calls, and in place where it can be mapped."""

from __future__ import annotations

import contextlib
import errno as errnos
import functools
import mmap
import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relay.dataplane.clibbpf import BpfError, MapFull, check, ffi, info, lib, open_pin, pin

__all__ = ["Map"]

_FULL = (-errnos.E2BIG, -errnos.ENOSPC)  # hash maps say the one, tries the other
_PER_CPU = (5, 6, 10)  # BPF_MAP_TYPE_PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH
_BPF_ANY = 0
_BPF_NOEXIST = 1
_ARRAY = 2  # BPF_MAP_TYPE_ARRAY


class Map:
    """One map of an object, or one opened from a pin. Keys and values are bytes."""

    def __init__(
        self, name: str, fd: int, key_size: int, value_size: int, max_entries: int, handle: Any = None
    ) -> None:
        self.name = name
        self.fd = fd
        self.key_size = key_size
        self.value_size = value_size
        self.max_entries = max_entries
        self._handle = handle
        self._mapping: mmap.mmap | None = None

    def resize(self, entries: int) -> None:
        """Set the number of elements; before the object is loaded."""
        check(lib().bpf_map__set_max_entries(self._handle, entries), f"size map {self.name} to {entries} entries")
        self.max_entries = entries

    def reuse(self, fd: int) -> None:
        """Stand on an existing map (its descriptor is duplicated) instead of making one; before the load."""
        check(lib().bpf_map__reuse_fd(self._handle, fd), f"reuse map {self.name}")

    def lookup(self, key: bytes) -> bytes | None:
        """The value of `key`, None if there is none. Of a per-CPU map: all CPUs' values, each padded to 8 bytes."""
        value = ffi.new("char[]", self._lookup_size)
        result = lib().bpf_map_lookup_elem(self.fd, self._key(key), value)
        if result == -errnos.ENOENT:
            return None
        check(result, f"look up in map {self.name}")
        return bytes(ffi.buffer(value))

    def update(self, key: bytes, value: bytes, flags: int = _BPF_ANY) -> None:
        """Store one element. Raises MapFull, BpfError."""
        if len(value) != self.value_size:
            raise BpfError(f"map {self.name} takes values of {self.value_size} bytes, not {len(value)}")
        result = lib().bpf_map_update_elem(self.fd, self._key(key), value, flags)
        if result in _FULL:
            raise MapFull(f"map {self.name} is full ({self.max_entries} entries)", -result)
        check(result, f"update map {self.name}")

    def add(self, key: bytes, value: bytes) -> bool:
        """Store an element unless there is one of this key: False then. Raises MapFull, BpfError."""
        try:
            self.update(key, value, _BPF_NOEXIST)
        except BpfError as error:
            if error.errno != errnos.EEXIST:
                raise
            return False
        return True

    def push(self, values: Iterable[bytes]) -> None:
        """Append to a queue. Raises BpfError where it is full."""
        update, fd, memory = lib().bpf_map_update_elem, self.fd, ffi.new("char[]", self.value_size)
        for value in values:
            ffi.memmove(memory, value, self.value_size)
            if result := update(fd, ffi.NULL, memory, _BPF_ANY):
                check(result, f"append to map {self.name}")

    def pop(self) -> bytes | None:
        """Take the first element out of a queue, None where it is empty."""
        value = ffi.new("char[]", self.value_size)
        result = lib().bpf_map_lookup_and_delete_elem(self.fd, ffi.NULL, value)
        if result == -errnos.ENOENT:
            return None
        check(result, f"take from map {self.name}")
        return bytes(ffi.buffer(value))

    def update_per_cpu(self, key: bytes, values: Sequence[bytes]) -> None:
        """Store one element of a per-CPU map: a value, padded to 8 bytes, for each possible CPU."""
        joined = b"".join(value.ljust(-(-self.value_size // 8) * 8, b"\0") for value in values)
        if len(joined) != self._lookup_size:
            raise BpfError(f"map {self.name} takes values for {_possible_cpus()} CPUs")
        check(lib().bpf_map_update_elem(self.fd, self._key(key), joined, _BPF_ANY), f"update map {self.name}")

    def update_batch(self, keys: bytes, values: bytes) -> None:
        """Store many elements in one system call: keys and values end to end."""
        total = len(keys) // self.key_size
        if len(keys) != total * self.key_size or len(values) != total * self.value_size:
            raise BpfError(f"map {self.name}: as many whole keys as values are needed")
        if total:
            count = ffi.new("uint32_t *", total)
            result = lib().bpf_map_update_batch(self.fd, keys, values, count, ffi.NULL)
            check(result, f"update {total} elements of map {self.name}, {count[0]} done")

    def delete(self, key: bytes) -> bool:
        """Remove `key`; False if it was not there."""
        result = lib().bpf_map_delete_elem(self.fd, self._key(key))
        if result == -errnos.ENOENT:
            return False
        check(result, f"delete from map {self.name}")
        return True

    def keys(self) -> list[bytes]:
        """All keys, as one walk through a map that may change meanwhile."""
        found: list[bytes] = []
        key, following = ffi.NULL, ffi.new("char[]", self.key_size)
        while len(found) <= self.max_entries:
            result = lib().bpf_map_get_next_key(self.fd, key, following)
            if result == -errnos.ENOENT:
                break
            check(result, f"walk map {self.name}")
            found.append(bytes(ffi.buffer(following)))
            key = ffi.new("char[]", found[-1])
        return found

    def array(self, dtype: np.dtype[Any]) -> np.ndarray[Any, np.dtype[Any]]:
        """The elements of an mmapable array map, in place: what is stored here the program sees, and the reverse.

        Aligned fields of up to 8 bytes are loaded and stored whole.
        """
        if dtype.itemsize != self.value_size:
            raise BpfError(f"map {self.name} holds values of {self.value_size} bytes, {dtype} has {dtype.itemsize}")
        if self._mapping is None:
            size = -(-self.max_entries * self.value_size // mmap.PAGESIZE) * mmap.PAGESIZE
            self._mapping = _map_memory(self.name, self.fd, size)
        return np.frombuffer(self._mapping, dtype, self.max_entries)

    def pin(self, path: Path) -> None:
        """Keep the map in bpffs at `path` beyond the life of this process."""
        pin(self.fd, path, f"map {self.name}")

    @classmethod
    def create(cls, name: str, value_size: int) -> Map:
        """An array map of one element that belongs to no object. The caller closes it."""
        fd = check(lib().bpf_map_create(_ARRAY, name.encode(), 4, value_size, 1, ffi.NULL), f"make map {name}")
        return cls(name, fd, 4, value_size, 1)

    @classmethod
    def from_pin(cls, path: Path) -> Map:
        """Open a pinned map. The caller closes it."""
        fd = open_pin(path)
        # struct bpf_map_info: type, id, key_size, value_size, max_entries, map_flags, name[16]
        _, _, key_size, value_size, entries, _, name = struct.unpack_from("=6I16s", info(fd, 80, f"map {path}"))
        return cls(name.rstrip(b"\0").decode(), fd, key_size, value_size, entries)

    def close(self) -> None:
        """Let go of the mapping (views stay valid as long as they live) and, of a map from a pin, of its descriptor."""
        if self._mapping is not None:
            with contextlib.suppress(BufferError):
                self._mapping.close()
            self._mapping = None
        if self._handle is None and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _key(self, key: bytes) -> bytes:
        if len(key) != self.key_size:
            raise BpfError(f"map {self.name} takes keys of {self.key_size} bytes, not {len(key)}")
        return key

    @functools.cached_property
    def _lookup_size(self) -> int:
        kind = struct.unpack_from("=I", info(self.fd, 80, f"map {self.name}"))[0]
        return -(-self.value_size // 8) * 8 * _possible_cpus() if kind in _PER_CPU else self.value_size


def _map_memory(name: str, fd: int, size: int) -> mmap.mmap:
    try:
        return mmap.mmap(fd, size)
    except OSError as error:
        raise BpfError(f"map the memory of map {name}", error.errno or 0) from error


@functools.cache
def _possible_cpus() -> int:
    return check(lib().libbpf_num_possible_cpus(), "count the possible CPUs")
