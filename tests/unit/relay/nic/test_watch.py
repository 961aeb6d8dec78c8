"""Following the host, whose kernel the test plays."""

from __future__ import annotations

import asyncio
import errno
from ipaddress import IPv6Interface
from unittest.mock import Mock

import pytest

from relay.nic import watch
from relay.nic.links import Address, Change
from relay.nic.watch import ADDRESSES, LINKS, ROUTES, HostWatch


def watching(monkeypatch: pytest.MonkeyPatch) -> tuple[HostWatch, Mock, Mock]:
    """A watch, its loop and its follower."""
    for name in ("Rtnetlink", "Netdev", "Changes", "Subscription"):
        monkeypatch.setattr(watch, name, Mock())
    loop, follower = Mock(spec=asyncio.AbstractEventLoop, **{"time.return_value": 5.0}), Mock()
    return HostWatch(loop, follower), loop, follower


def test_an_address_is_news_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every router advertisement lets the kernel announce what it made of earlier ones again."""
    host, loop, follower = watching(monkeypatch)
    host.addresses = []
    address = Address(2, IPv6Interface("2001:db8::1/64"), None)
    host.kernel.addresses = Mock(return_value=[address])  # type: ignore[method-assign]
    host._changes.changes = Mock(return_value=Change(announced=(address,)))  # type: ignore[method-assign]
    for _ in range(3):
        host._read_changes()
        if loop.call_later.called:
            loop.call_later.call_args.args[1]()
            loop.call_later.reset_mock()
    follower.host_changed.assert_called_once_with({ADDRESSES})


def test_a_change_the_kernel_could_not_tell_of_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    host, loop, follower = watching(monkeypatch)
    links = host.kernel.links = Mock(side_effect=[OSError(errno.ENOBUFS, "no buffer space"), {}])  # type: ignore[method-assign]
    host.soon(LINKS, ROUTES)
    with pytest.raises(OSError, match="no buffer space"):
        loop.call_later.call_args.args[1]()
    follower.host_changed.assert_not_called()
    assert loop.call_later.call_count == 2
    loop.call_later.call_args.args[1]()
    follower.host_changed.assert_called_once_with({LINKS, ROUTES})
    assert links.call_count == 2
