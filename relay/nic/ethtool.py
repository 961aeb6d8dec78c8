"""What an interface's driver says of itself (SIOCETHTOOL)."""

from __future__ import annotations

import array
import fcntl
import socket
import struct

_SIOCETHTOOL = 0x8946
_GET_DRIVER_INFO = 0x3
_DRIVER_INFO_SIZE = 196
_DRIVER_NAME = slice(4, 36)
_STATISTICS_COUNT = slice(180, 184)
_GET_STRINGS = 0x1B
_GET_STATISTICS = 0x1D
_STATISTICS_NAMES = 1
_NAME_SIZE = 32
_GET_FLAGS = 0x25
_FLAG_RX_VLAN = 1 << 8


def driver(interface: str) -> str:
    """The name of the driver behind an interface, "" where it has none to tell."""
    try:
        info = _ask(interface, struct.pack("=I", _GET_DRIVER_INFO).ljust(_DRIVER_INFO_SIZE, b"\0"))
    except OSError:
        return ""
    return _text(info[_DRIVER_NAME])


def strips_vlan_tags(interface: str) -> bool:
    """Whether the card takes VLAN tags out of what it receives (its feature rx-vlan-hw-parse): XDP sees none then."""
    try:
        flags = _ask(interface, struct.pack("=2I", _GET_FLAGS, 0))
    except OSError:
        return False
    return bool(struct.unpack("=2I", flags)[1] & _FLAG_RX_VLAN)


def statistics(interface: str) -> dict[str, int]:
    """The counters its driver keeps, by the names it gives them. Raises OSError where it keeps none."""
    info = _ask(interface, struct.pack("=I", _GET_DRIVER_INFO).ljust(_DRIVER_INFO_SIZE, b"\0"))
    (count,) = struct.unpack("=I", info[_STATISTICS_COUNT])
    strings = struct.pack("=3I", _GET_STRINGS, _STATISTICS_NAMES, count)
    names = _ask(interface, strings + bytes(count * _NAME_SIZE))[len(strings) :]
    request = struct.pack("=2I", _GET_STATISTICS, count)
    values = struct.unpack(f"={count}Q", _ask(interface, request + bytes(count * 8))[len(request) :])
    return {_text(names[place * _NAME_SIZE :][:_NAME_SIZE]): value for place, value in enumerate(values)}


def _ask(interface: str, command: bytes) -> bytes:
    """The command as the kernel has filled it in."""
    memory = array.array("B", command)
    request = struct.pack("16sP", interface.encode(), memory.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        fcntl.ioctl(channel, _SIOCETHTOOL, request)
    return memory.tobytes()


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode(errors="replace")
