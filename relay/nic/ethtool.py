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


def driver(interface: str) -> str:
    """The name of the driver behind an interface, "" where it has none to tell."""
    info = array.array("B", struct.pack("=I", _GET_DRIVER_INFO) + bytes(_DRIVER_INFO_SIZE - 4))
    request = struct.pack("16sP", interface.encode(), info.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        try:
            fcntl.ioctl(channel, _SIOCETHTOOL, request)
        except OSError:
            return ""
    return info.tobytes()[_DRIVER_NAME].split(b"\0", 1)[0].decode(errors="replace")
