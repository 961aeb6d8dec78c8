"""All ways the ng protocol comes in: joins UDP, TCP and the web to one service, each loaded where it is asked for."""

from __future__ import annotations

import logging
import os
import socket
import ssl
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from ipaddress import ip_address
from typing import TYPE_CHECKING

from control.config import LOCAL_NETWORKS, Config
from control.handover import KINDS, Asked, Handed, asked, match
from control.ng.server import NgServer
from control.ng.service import Service
from control.ng.sockets import open_datagrams, open_stream
from control.ng.stream import NgStreams
from control.supervisor import SUPERVISED
from relay.errors import HairpinError
from relay.types import Endpoint

if TYPE_CHECKING:
    from control.ng.web import NgWeb

__all__ = ["Transports"]

log = logging.getLogger("hairpin")

OPEN = {socket.SOCK_DGRAM: open_datagrams, socket.SOCK_STREAM: open_stream}


class Transports:
    """The listeners of one relay, and what they say of themselves."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.datagrams = NgServer(service)
        self.streams = NgStreams(service)
        self.web: NgWeb | None = None
        self.sockets: list[tuple[str, socket.socket]] = []
        """What is listened on and no socket unit holds, by the options' names."""
        self.stale: list[str] = []
        """Options that sockets were handed over for which are no listeners any more."""
        self._tls: ssl.SSLContext | None = None

    async def start(
        self, config: Config, stack: AsyncExitStack, addresses: Collection[str] = (), handed: Sequence[Handed] = ()
    ) -> None:
        """Listen wherever the options say, each with its release on the stack. Raises HairpinError.

        `addresses`: what this host is reached by from elsewhere. `handed`: sockets to listen on that stood before.
        """
        wanted = asked(config)
        matched = match(handed, wanted)
        for one in matched.left:
            _let_go(one)
        stack.callback(self.datagrams.close)
        stack.callback(self.streams.close)
        if config.listen_http or config.listen_https:
            await self._prepare_web(config, stack, {*addresses, os.uname().nodename.lower()} - {"localhost"})
        for want in wanted:
            await self._listen(want, matched.found.get(want))
        self.stale = [one.name for one in matched.left]

    async def _prepare_web(self, config: Config, stack: AsyncExitStack, names: Collection[str]) -> None:
        from control.ng.web import NgWeb, tls

        self.web = NgWeb(self.service, names)
        stack.push_async_callback(self.web.close)
        if config.listen_https:
            self._tls = tls(config.https_cert, config.https_key)

    async def _listen(self, want: Asked, given: Handed | None) -> None:
        endpoint = want.endpoint
        try:
            taken = given.socket if given is not None else OPEN[KINDS[want.option]](endpoint)
        except OSError as error:
            raise HairpinError(f"{error.strerror}; choose another with --{want.option}=[IP:]PORT") from error
        if want.option == "listen-ng":
            await self.datagrams.start(endpoint, taken)
        elif want.option == "listen-tcp-ng":
            await self.streams.start(endpoint, taken)
        elif self.web is not None:
            await self.web.start(endpoint, self._tls if want.option == "listen-https" else None, taken)
        if given is None or given.name:
            self.sockets.append((want.option, taken))

    def renew(self, config: Config) -> None:
        """Show the certificate that is in the files by now to new connections. Raises HairpinError, with no change."""
        if self._tls is not None:
            from control.ng.web import tls

            tls(config.https_cert, config.https_key)
            self._tls.load_cert_chain(config.https_cert, config.https_key or None)

    def listeners(self, config: Config, media: Sequence[str]) -> list[dict[str, str]]:
        """Where ng is spoken, to whom, and how Kamailio names it, where it can; `media`: addresses of this host."""
        allowed = ", ".join(map(str, config.ng_allow)) or "nobody"
        if config.ng_allow == LOCAL_NETWORKS:
            allowed = "private and local networks"
        found = [("", f"udp{'6' if ':' in one.ip else ''}:", one) for one in self.datagrams.endpoints]
        found += [("tcp ", "", one) for one in self.streams.endpoints]
        if self.web is not None:
            kinds = {"http": "ws://", "https": "wss://"}
            found += [(f"{scheme}://", kinds[scheme], one) for scheme, one in self.web.endpoints]
        return [
            {
                "address": f"{scheme}{endpoint}",
                "open_to": "this host" if ip_address(endpoint.ip).is_loopback else allowed,
                "kamailio": f"{kamailio}{reached}" if kamailio and (reached := _reached(endpoint, media)) else "",
            }
            for scheme, kamailio, endpoint in found
        ]

    def counters(self) -> dict[str, dict[str, int]]:
        """What became of messages and connections."""
        counters = {
            "ng messages": {**self.service.statistics(), **self.datagrams.statistics()},
            "ng over TCP": self.streams.statistics(),
        }
        if self.web is not None:
            counters["ng over HTTP"] = self.web.statistics()
        return counters


def _let_go(one: Handed) -> None:
    if SUPERVISED in os.environ:
        log.warning("%s is no listener any more, and swallows what is sent there until `hairpin supervise`, "
                    "which holds it, is started anew", one)  # fmt: skip
    else:
        log.info("%s is no listener any more, its socket is closed", one)
    one.socket.close()


def _reached(endpoint: Endpoint, media: Sequence[str]) -> Endpoint | None:
    """A listener as a proxy would name it; None where no address is known for one that listens on all."""
    listens = ip_address(endpoint.ip)
    if not listens.is_unspecified:
        return endpoint
    return next((Endpoint(ip, endpoint.port) for ip in media if ip_address(ip).version == listens.version), None)
