"""Reading layouts out of BTF, from sections written by hand, and what is refused."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import pytest

from relay.dataplane.btf import BtfError, Enum, Field, Struct, read_layout, read_variables

INT, POINTER, ARRAY, STRUCT, ENUM, TYPEDEF, VOLATILE, CONST, VAR, DATASEC = 1, 2, 3, 4, 6, 8, 9, 10, 14, 15


@dataclass
class Section:
    """A BTF section in the making; each method gives back the identity of what it added."""

    types: list[bytes] = field(default_factory=list)
    strings: bytes = b"\0"

    def text(self, value: str) -> int:
        offset = len(self.strings)
        self.strings += value.encode() + b"\0"
        return offset

    def add(
        self, kind: int, name: str, size: int, tail: bytes = b"", entries: int = 0, bit_fields: bool = False
    ) -> int:
        info = kind << 24 | entries | bit_fields << 31
        self.types.append(struct.pack("=III", self.text(name) if name else 0, info, size) + tail)
        return len(self.types)

    def integer(self, name: str, size: int, signed: bool = False) -> int:
        return self.add(INT, name, size, struct.pack("=I", signed << 24 | size * 8))

    def array(self, element: int, count: int) -> int:
        return self.add(ARRAY, "", 0, struct.pack("=III", element, element, count))

    def structure(self, name: str, size: int, *members: tuple[str, int, int], bit_fields: bool = False) -> int:
        """Members as (name, type, offset in bits)."""
        tail = b"".join(struct.pack("=III", self.text(member), kind, bits) for member, kind, bits in members)
        return self.add(STRUCT, name, size, tail, len(members), bit_fields)

    def raw(self) -> bytes:
        types = b"".join(self.types)
        head = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(self.strings))
        return head + types + self.strings


def test_a_structure_is_read_member_by_member() -> None:
    section = Section()
    byte, half, word = section.integer("unsigned char", 1), section.integer("u16", 2), section.integer("int", 4, True)
    network = section.add(TYPEDEF, "__be16", half)
    section.structure(
        "hp_thing", 12, ("kind", byte, 0), ("zero", byte, 8), ("port", network, 16), ("delta", word, 32),
        ("mac", section.array(half, 2), 64),
    )  # fmt: skip
    (thing,) = read_layout(section.raw(), "hp_").structs
    assert thing == Struct(
        "hp_thing",
        12,
        (
            Field("kind", "u1", 0, 1, None),
            Field("zero", "u1", 1, 1, None),
            Field("port", ">u2", 2, 2, None),
            Field("delta", "i4", 4, 4, None),
            Field("mac", "u2", 8, 4, 2),
        ),
    )


def test_typedefs_and_qualifiers_are_seen_through() -> None:
    section = Section()
    word = section.integer("unsigned int", 4)
    deep = section.add(TYPEDEF, "__u32", section.add(CONST, "", section.add(VOLATILE, "", word)))
    section.structure("hp_thing", 4, ("value", deep, 0))
    assert read_layout(section.raw(), "hp_").structs[0].fields == (Field("value", "u4", 0, 4, None),)


def test_a_structure_stands_after_those_it_contains() -> None:
    section = Section()
    word = section.integer("unsigned int", 4)
    inner = section.structure("hp_z_inner", 4, ("value", word, 0))
    section.structure("hp_a_outer", 8, ("both", section.array(inner, 2), 0))
    outer = read_layout(section.raw(), "hp_").structs[1]
    assert [entry.name for entry in read_layout(section.raw(), "hp_").structs] == ["hp_z_inner", "hp_a_outer"]
    assert outer.fields == (Field("both", "hp_z_inner", 0, 8, 2),)


def test_enumerations_and_variables_are_read() -> None:
    section = Section()
    word = section.integer("unsigned int", 4)
    members = struct.pack("=IiIi", section.text("HP_ONE"), 1, section.text("HP_LESS"), -1)
    section.add(ENUM, "hp_number", 4, members, 2)
    variable = section.add(VAR, "settings", word, struct.pack("=I", 1))
    section.add(DATASEC, ".rodata", 8, struct.pack("=III", variable, 4, 4), 1)
    assert read_layout(section.raw(), "hp_").enums == (Enum("hp_number", (("HP_ONE", 1), ("HP_LESS", -1))),)
    assert read_variables(section.raw(), ".rodata") == {"settings": (4, 4)}
    assert read_variables(section.raw(), ".data") == {}


def test_other_prefixes_are_none_of_our_business() -> None:
    section = Section()
    section.structure("xdp_md", 8, ("hole", section.integer("int", 4), 32))
    assert read_layout(section.raw(), "hp_").structs == ()


def refusal(section: Section) -> str:
    with pytest.raises(BtfError) as caught:
        read_layout(section.raw(), "hp_")
    return str(caught.value)


def test_a_hole_is_refused() -> None:
    section = Section()
    byte, word = section.integer("u8", 1), section.integer("u32", 4)
    section.structure("hp_thing", 8, ("kind", byte, 0), ("value", word, 32))
    assert refusal(section) == "struct hp_thing has a hole before value: name it"


def test_a_hole_at_the_end_is_refused() -> None:
    section = Section()
    byte, word = section.integer("u8", 1), section.integer("u32", 4)
    section.structure("hp_thing", 8, ("value", word, 0), ("kind", byte, 32))
    assert refusal(section) == "struct hp_thing has a hole at its end: name it"


def test_a_packed_structure_is_refused() -> None:
    section = Section()
    byte, word = section.integer("u8", 1), section.integer("u32", 4)
    section.structure("hp_thing", 5, ("kind", byte, 0), ("value", word, 8))
    assert refusal(section) == "member value is not aligned: packed structures are refused"


def test_a_packed_structure_with_aligned_members_is_refused() -> None:
    section = Section()
    byte, word = section.integer("u8", 1), section.integer("u32", 4)
    section.structure("hp_thing", 5, ("value", word, 0), ("kind", byte, 32))
    assert refusal(section) == "struct hp_thing is packed: name its padding"


def test_bit_fields_are_refused() -> None:
    section = Section()
    section.structure("hp_thing", 4, ("flag", section.integer("u32", 4), 0), bit_fields=True)
    assert refusal(section) == "struct hp_thing has bit fields, which Python cannot address"


def test_a_pointer_is_refused() -> None:
    section = Section()
    pointer = section.add(POINTER, "", section.integer("u32", 4))
    section.structure("hp_thing", 8, ("next", pointer, 0))
    assert refusal(section) == "member next is neither an integer nor an array nor a structure"


def test_an_array_of_arrays_is_refused() -> None:
    section = Section()
    inner = section.array(section.integer("u32", 4), 2)
    section.structure("hp_thing", 16, ("grid", section.array(inner, 2), 0))
    assert refusal(section) == "member grid is an array of arrays"


@pytest.mark.parametrize("raw", [b"", b"\x9f\xeb", b"\xeb\x9f" + bytes(30), bytes(64)])
def test_what_is_no_btf_is_refused(raw: bytes) -> None:
    with pytest.raises(BtfError, match="make build"):
        read_layout(raw, "hp_")


def test_a_section_cut_short_is_refused() -> None:
    section = Section()
    section.structure("hp_thing", 4, ("value", section.integer("u32", 4), 0))
    raw = section.raw()
    for length in range(24, len(raw) - 1):
        with pytest.raises(BtfError, match="make build"):
            read_layout(raw[:length], "hp_")


def test_the_digest_tells_every_difference() -> None:
    def layout(*, name: str = "a", kind: str = "u32", value: int = 1) -> str:
        section = Section()
        section.structure("hp_thing", 4, (name, section.integer(kind, 4, kind == "int"), 0))
        section.add(ENUM, "hp_number", 4, struct.pack("=Ii", section.text("HP_ONE"), value), 1)
        return read_layout(section.raw(), "hp_").digest()

    assert layout() == layout()
    assert len({layout(), layout(name="b"), layout(kind="int"), layout(value=2)}) == 4
