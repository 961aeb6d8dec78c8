"""Reads the layout of C structures out of BTF, the kernel's type format, as written by clang -g for BPF.

Only what an interface between C and Python may use is understood: integers, fixed arrays, structures without bit fields
and without implicit holes, enumerations. Anything else raises `BtfError`, so that no layout is misread in silence.
Format: Documentation/bpf/btf.rst in the kernel's tree.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from relay.errors import DataplaneError

__all__ = ["BtfError", "Enum", "Field", "Layout", "Struct", "read_layout", "read_variables"]

_MAGIC = 0xEB9F
_INT, _ARRAY, _STRUCT, _UNION, _ENUM, _TYPEDEF, _VOLATILE, _CONST, _FUNC_PROTO = 1, 3, 4, 5, 6, 8, 9, 10, 13
_VAR, _DATASEC, _DECL_TAG, _ENUM64 = 14, 15, 17, 19
_TAIL = {_INT: 4, _ARRAY: 12, _VAR: 4, _DECL_TAG: 4}
_TAIL_PER_ENTRY = {_STRUCT: 12, _UNION: 12, _ENUM: 8, _FUNC_PROTO: 8, _DATASEC: 12, _ENUM64: 12}
_INT_SIGNED = 1 << 24


class BtfError(DataplaneError):
    """The object's type information is missing, damaged, or describes a layout that Python must not share."""


class Field(NamedTuple):
    """One member; `kind` is a NumPy code ('u4' unsigned, 'i4' signed, '>u2' network order) or a structure's name."""

    name: str
    kind: str
    offset: int
    size: int
    length: int | None
    """Elements of an array, None for a single value."""


class Struct(NamedTuple):
    """A structure without holes; sizes and offsets in bytes."""

    name: str
    size: int
    fields: tuple[Field, ...]


class Enum(NamedTuple):
    """An enumeration and its members in order."""

    name: str
    members: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """All structures and enumerations of one prefix; a structure stands after those it contains."""

    structs: tuple[Struct, ...]
    enums: tuple[Enum, ...]

    def digest(self) -> str:
        """A fingerprint: equal means that every offset, size, type and constant is."""
        return hashlib.sha256(repr((self.structs, self.enums)).encode()).hexdigest()[:16]


def read_layout(raw: bytes, prefix: str) -> Layout:
    """The structures and enumerations of the BTF section `raw` whose names begin with `prefix`."""
    reader = _Reader(raw)
    wanted = sorted((entry for entry in reader.types if entry.name.startswith(prefix)), key=lambda entry: entry.name)
    structs = {entry.name: reader.struct(entry) for entry in wanted if entry.kind == _STRUCT}
    enums = tuple(reader.enum(entry) for entry in wanted if entry.kind == _ENUM)
    return Layout(tuple(_contained_first(structs)), enums)


def read_variables(raw: bytes, section: str) -> dict[str, tuple[int, int]]:
    """(offset, size) in bytes of each variable of a data section such as ".rodata", by name."""
    reader = _Reader(raw)
    for entry in reader.types:
        if entry.kind == _DATASEC and entry.name == section:
            tail = raw[entry.tail : entry.tail + 12 * entry.entries]
            return {reader.types[kind].name: (offset, size) for kind, offset, size in struct.iter_unpack("=III", tail)}
    return {}


def _contained_first(structs: dict[str, Struct]) -> Iterator[Struct]:
    done: set[str] = set()

    def visit(name: str) -> Iterator[Struct]:
        if name in done or name not in structs:
            return
        done.add(name)
        for field in structs[name].fields:
            yield from visit(field.kind)
        yield structs[name]

    for name in structs:
        yield from visit(name)


class _Type(NamedTuple):
    name: str
    kind: int
    entries: int
    bit_fields: bool
    size: int
    """In bytes, or the identity of the type referred to: BTF keeps both in one place."""
    tail: int
    """Offset of what follows the entry's common head."""


class _Reader:
    """The types of one BTF section, by identity."""

    def __init__(self, raw: bytes) -> None:
        if len(raw) < 24 or struct.unpack_from("=H", raw)[0] != _MAGIC:
            raise BtfError("the BPF object carries no type information of this machine's byte order: run `make build`")
        self._raw = raw
        head, type_offset, type_size, string_offset, _ = struct.unpack_from("=IIIII", raw, 4)
        self._strings = head + string_offset
        self.types = [_Type("void", 0, 0, False, 0, 0)]
        try:
            self.types += self._entries(head + type_offset, type_size)
        except (struct.error, ValueError) as error:
            raise BtfError(f"the BPF object's type information is damaged ({error}): run `make build`") from error

    def _entries(self, position: int, size: int) -> Iterator[_Type]:
        end = position + size
        while position < end:
            name, info, extent = struct.unpack_from("=III", self._raw, position)
            kind, entries = info >> 24 & 0x1F, info & 0xFFFF
            yield _Type(self._string(name), kind, entries, bool(info >> 31), extent, position + 12)
            position += 12 + _TAIL.get(kind, 0) + _TAIL_PER_ENTRY.get(kind, 0) * entries

    def _string(self, offset: int) -> str:
        start = self._strings + offset
        return self._raw[start : self._raw.index(b"\0", start)].decode()

    def enum(self, entry: _Type) -> Enum:
        members = struct.iter_unpack("=Ii", self._raw[entry.tail : entry.tail + 8 * entry.entries])
        return Enum(entry.name, tuple((self._string(name), value) for name, value in members))

    def struct(self, entry: _Type) -> Struct:
        if entry.bit_fields:
            raise BtfError(f"struct {entry.name} has bit fields, which Python cannot address")
        members = struct.iter_unpack("=III", self._raw[entry.tail : entry.tail + 12 * entry.entries])
        fields = tuple(self._field(self._string(name), kind, bits) for name, kind, bits in members)
        _refuse_holes(entry.name, fields, entry.size)
        if entry.size % max(self._alignments(entry), default=1):
            raise BtfError(f"struct {entry.name} is packed: name its padding")
        return Struct(entry.name, entry.size, fields)

    def _field(self, name: str, identity: int, bits: int) -> Field:
        code, size, alignment, count = self._describe(name, identity)
        if bits % 8 or bits // 8 % alignment:
            raise BtfError(f"member {name} is not aligned: packed structures are refused")
        return Field(name, code, bits // 8, size * (1 if count is None else count), count)

    def _describe(self, name: str, identity: int) -> tuple[str, int, int, int | None]:
        """Kind, size of one element, alignment and number of elements of a member's type."""
        entry = self.types[identity]
        if entry.kind == _ARRAY:
            element, _, count = struct.unpack_from("=III", self._raw, entry.tail)
            code, size, alignment, inner = self._describe(name, element)
            if inner is not None:
                raise BtfError(f"member {name} is an array of arrays")
            return code, size, alignment, count
        if entry.kind in (_TYPEDEF, _VOLATILE, _CONST):
            code, size, alignment, inner = self._describe(name, entry.size)
            return (f">{code}" if entry.name.startswith("__be") else code), size, alignment, inner
        if entry.kind == _INT:
            signed = struct.unpack_from("=I", self._raw, entry.tail)[0] & _INT_SIGNED
            return f"{'i' if signed else 'u'}{entry.size}", entry.size, entry.size, None
        if entry.kind == _STRUCT:
            return entry.name, entry.size, max(self._alignments(entry)), None
        raise BtfError(f"member {name} is neither an integer nor an array nor a structure")

    def _alignments(self, entry: _Type) -> Iterator[int]:
        for index in range(entry.entries):
            name, identity, _ = struct.unpack_from("=III", self._raw, entry.tail + 12 * index)
            yield self._describe(self._string(name), identity)[2]


def _refuse_holes(name: str, fields: tuple[Field, ...], size: int) -> None:
    position = 0
    for field in fields:
        if field.offset != position:
            raise BtfError(f"struct {name} has a hole before {field.name}: name it")
        position += field.size
    if position != size:
        raise BtfError(f"struct {name} has a hole at its end: name it")
