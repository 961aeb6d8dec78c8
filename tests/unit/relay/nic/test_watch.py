"""Following the host, whose kernel the test plays."""

from __future__ import annotations

import asyncio
import errno
from unittest.mock import Mock

import pytest

from relay.nic import watch
from relay.nic.watch import LINKS, ROUTES, HostWatch


def test_a_change_the_kernel_could_not_tell_of_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Rtnetlink", "Netdev", "Changes", "Subscription"):
        monkeypatch.setattr(watch, name, Mock())
    loop, follower = Mock(spec=asyncio.AbstractEventLoop, **{"time.return_value": 5.0}), Mock()
    host = HostWatch(loop, follower)
    links = host.kernel.links = Mock(side_effect=[OSError(errno.ENOBUFS, "no buffer space"), {}])  # type: ignore[method-assign]
    host.soon(LINKS, ROUTES)
    with pytest.raises(OSError, match="no buffer space"):
        loop.call_later.call_args.args[1]()
    follower.host_changed.assert_not_called()
    assert loop.call_later.call_count == 2
    loop.call_later.call_args.args[1]()
    follower.host_changed.assert_called_once_with({LINKS, ROUTES})
    assert links.call_count == 2
