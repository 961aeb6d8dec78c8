"""The ng protocol over HTTP, HTTPS and WebSocket, on one kind of listener.

    POST /ng         application/x-rtpengine-ng, `<cookie> SP <dictionary>` both ways
    POST /ng-plain   application/x-rtpengine-ng or application/json, the dictionary alone
    WebSocket        sub-protocol ng.rtpengine.com as /ng, ng-plain.rtpengine.com as /ng-plain, whatever the path

The listener commands a relay, so no web page may reach it through its visitor's browser: what carries an Origin
(RFC 6454) is refused unless that names this host by its address, or by a name that is known to be its own. That the
request's own Host says the same would not do, since whoever owns a page may have its name resolve to this host (DNS
rebinding). Ports are not compared: Kamailio's client library sends the host it connects to for an Origin, without port.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Collection
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import WSMsgType, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from control.ng.framing import MAX_MESSAGE
from control.ng.service import Service
from control.ng.sockets import open_stream, prepare
from control.ng.stream import keep_alive
from relay.errors import HairpinError
from relay.types import Endpoint

__all__ = ["NgWeb", "TlsError", "tls"]

log = logging.getLogger(__name__)
muted = logging.getLogger(f"{__name__}.aiohttp")
"""What aiohttp says: a traceback for each bit of garbage a client sends. What fails in here is logged in here."""
muted.setLevel(logging.CRITICAL + 1)

MAX_CONNECTIONS = 1024
BATCH = 64
"""WebSocket messages answered before others have their turn."""
PATIENCE = 10.0
"""Seconds a client may take for a TLS handshake, to send a request's body, or to read a reply."""
IDLE = 60.0
"""Seconds between two requests, and for a request's head."""
HEARTBEAT = 30.0
"""Seconds of silence on a WebSocket after which the client is pinged; it is dropped if it says nothing to that."""
GOODBYE = 1.0
"""Seconds clients get to end what is under way when the relay stops."""

NG, JSON = "application/x-rtpengine-ng", "application/json"
PATHS = {"/ng": (NG,), "/ng-plain": (NG, JSON)}
PROTOCOLS = ("ng.rtpengine.com", "ng-plain.rtpengine.com")
NOTHING_ELSE = (
    "Here is the ng protocol, over a WebSocket or by POST with a Content-Type: "
    f"/ng takes {NG}, /ng-plain takes {NG} or {JSON}.\n"
)


class TlsError(HairpinError):
    """The certificate or its key cannot be used; the text names the file and what is wrong with it."""


@dataclass(slots=True)
class Counters:
    """What became of connections and requests."""

    posts: int = 0
    websockets: int = 0
    """Opened."""
    crowded: int = 0
    """Connections refused beyond the limit."""
    unfit: int = 0
    """Answered 400, 404 or 413."""
    foreign: int = 0
    """Answered 403: a web page of another origin sent them."""
    slow: int = 0
    """Clients that took too long to send or to read."""


class NgWeb:
    """Brings `service` the requests of any number of HTTP and HTTPS addresses."""

    def __init__(self, service: Service, names: Collection[str] = ()) -> None:
        """`names`: of this host, and addresses that others reach it by, beside those it has."""
        self.service = service
        self.counters = Counters()
        self._names = frozenset(names)
        self._listeners: list[tuple[str, Endpoint, asyncio.Server, _Server]] = []
        self._sockets: set[web.WebSocketResponse] = set()

    @property
    def endpoints(self) -> list[tuple[str, Endpoint]]:
        """Scheme and address of each listener, with the port the kernel chose where it was asked for port 0."""
        return [(scheme, endpoint) for scheme, endpoint, _, _ in self._listeners]

    @property
    def connections(self) -> int:
        """How many are open."""
        return sum(len(server.connections) for _, _, _, server in self._listeners)

    def statistics(self) -> dict[str, int]:
        """The counters, and how many connections are open."""
        return {"open": self.connections, **asdict(self.counters)}

    async def start(
        self, asked: Endpoint, context: ssl.SSLContext | None = None, given: socket.socket | None = None
    ) -> None:
        """Listen on one more address, over TLS with a context, by the socket `given` if there is one.

        Raises OSError that names the address.
        """
        if given is not None:
            prepare(given, asked)
        listening = given or open_stream(asked)
        endpoint = Endpoint(asked.ip, listening.getsockname()[1])
        server = _Server(self, ip_address(asked.ip).is_loopback)
        patience = PATIENCE if context else None
        accepting = await asyncio.get_running_loop().create_server(
            server.handler, sock=listening, ssl=context, ssl_handshake_timeout=patience
        )
        scheme = "https" if context else "http"
        self._listeners.append((scheme, endpoint, accepting, server))
        log.info("ng: listening on %s://%s, %s", scheme, endpoint, self.service.open_to(endpoint))

    async def close(self) -> None:
        """Stop listening and close all connections; safe to call twice."""
        listeners, self._listeners = self._listeners, []
        for _, _, accepting, _ in listeners:
            accepting.close()
        await asyncio.gather(*(one.close(code=1001) for one in list(self._sockets)), return_exceptions=True)
        for scheme, endpoint, _, server in listeners:
            await server.shutdown(GOODBYE)
            log.info("ng: closed %s://%s", scheme, endpoint)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One HTTP request; a WebSocket is one as long as it is open."""
        peer = request.transport and request.transport.get_extra_info("peername")
        if not peer:
            raise ConnectionResetError("gone before its request was looked at")
        source = Endpoint(peer[0], peer[1])
        try:
            return await self._serve(request, source)
        except ConnectionError:
            raise
        except Exception:
            self.service.counters.failures += 1
            self.service.complain("failure", "ng: HTTP request from %s failed", source, exc_info=True)
            raise

    async def _serve(self, request: web.BaseRequest, source: Endpoint) -> web.StreamResponse:
        if self._foreign(request):
            self.counters.foreign += 1
            origin = request.headers.get("Origin")
            self.service.complain(
                "foreign",
                "ng: %s asks for a page of %r, refused: a proxy is to name the relay by address",
                source,
                origin,
            )
            return web.Response(status=403, text="Pages of other origins may not command the relay.\n")
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._upgrade(request, source)
        if request.method == "POST" and request.content_type in PATHS.get(request.path, ()):
            return await self._post(request, source)
        return self._unfit(404, NOTHING_ELSE)

    def _foreign(self, request: web.BaseRequest) -> bool:
        """Whether a browser sends this for a page that did not come from this host."""
        origin = request.headers.get("Origin")
        if origin is None or request.transport is None:
            return False
        local = ip_address(request.transport.get_extra_info("sockname")[0])
        try:
            host = urlsplit(origin).hostname or ""
            if host in self._names or (host == "localhost" and local.is_loopback):
                return False
            return ip_address(host) != local
        except ValueError:
            return True

    def _unfit(self, status: int, text: str) -> web.Response:
        self.counters.unfit += 1
        return web.Response(status=status, text=text)

    async def _post(self, request: web.BaseRequest, source: Endpoint) -> web.StreamResponse:
        try:
            async with asyncio.timeout(PATIENCE):
                body = await request.read()
        except TimeoutError:
            self._too_slow(source, request)
            raise ConnectionResetError("too slow") from None
        except web.HTTPRequestEntityTooLarge:
            return self._unfit(413, f"A message has at most {MAX_MESSAGE} bytes.\n")
        self.counters.posts += 1
        replies = await self._answer(body, request.path == "/ng", source)
        if not replies:
            return self._unfit(400, "No cookie in message\n")
        response = web.Response(body=replies[0], content_type=request.content_type)
        await self._in_time(self._write(request, response), source, request)
        return response

    async def _write(self, request: web.BaseRequest, response: web.Response) -> None:
        await response.prepare(request)
        await response.write_eof()

    async def _upgrade(self, request: web.BaseRequest, source: Endpoint) -> web.StreamResponse:
        wanted = [word.strip() for word in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        protocol = next((one for one in wanted if one in PROTOCOLS), None)
        if protocol is None:
            return self._unfit(400, f"Sec-WebSocket-Protocol must name one of {', '.join(PROTOCOLS)}.\n")
        opened = web.WebSocketResponse(
            timeout=GOODBYE, protocols=(protocol,), heartbeat=HEARTBEAT, compress=False, max_msg_size=MAX_MESSAGE
        )
        await opened.prepare(request)
        self.counters.websockets += 1
        self._sockets.add(opened)
        try:
            await self._converse(opened, protocol == PROTOCOLS[0], source, request)
        finally:
            self._sockets.discard(opened)
        return opened

    async def _converse(
        self, opened: web.WebSocketResponse, cookies: bool, source: Endpoint, request: web.BaseRequest
    ) -> None:
        """Answer each message by one of its kind."""
        count = 0
        async for message in opened:
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return
            text = message.type is WSMsgType.TEXT
            for reply in await self._answer(message.data.encode() if text else message.data, cookies, source):
                sending = opened.send_str(reply.decode()) if text and _is_text(reply) else opened.send_bytes(reply)
                await self._in_time(sending, source, request)
            count += 1
            if count % BATCH == 0:
                await asyncio.sleep(0)

    async def _answer(self, body: bytes, cookies: bool, source: Endpoint) -> list[bytes]:
        """The replies to one message, once they may leave."""
        service, now = self.service, self.service.clock()
        if cookies:
            replies = service.answer(body, source, now, stream=True)
        else:
            replies = [service.answer_plain(body, source, now)]
        passed = asyncio.Event()
        service.gate.after(passed.set)
        await passed.wait()
        service.counters.replies += len(replies)
        return replies

    async def _in_time(self, sending: Awaitable[None], source: Endpoint, request: web.BaseRequest) -> None:
        """Send, and be rid of a client that does not read."""
        try:
            async with asyncio.timeout(PATIENCE):
                await sending
        except TimeoutError:
            self._too_slow(source, request)
            raise ConnectionResetError("does not read") from None

    def _too_slow(self, source: Endpoint, request: web.BaseRequest) -> None:
        self.counters.slow += 1
        self.service.complain("slow", "ng: the HTTP connection of %s is closed: it neither sends nor reads", source)
        if request.transport is not None:
            request.transport.abort()


class _Server(web.Server):
    """What aiohttp makes of one listener's connections, without those that are not wanted."""

    def __init__(self, owner: NgWeb, trusted: bool) -> None:
        super().__init__(owner.handle, request_factory=self._bounded)
        self._owner = owner
        self._trusted = trusted

    def handler(self) -> web.RequestHandler:
        """What speaks HTTP on one connection."""
        return _Handler(
            self,
            loop=self._loop,
            access_log=None,  # type: ignore[arg-type] # this is how aiohttp is told to write none
            keepalive_timeout=IDLE,
            tcp_keepalive=False,
            auto_decompress=False,
            logger=muted,
        )

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """One more connection; strangers and those beyond the limit are not heard."""
        super().connection_made(handler, transport)
        service, peer = self._owner.service, transport.get_extra_info("peername")
        if peer is None:
            transport.abort()
        elif not self._trusted and not service.allowed(peer[0]):
            service.stranger(Endpoint(peer[0], peer[1]))
            transport.abort()
        elif self._owner.connections > MAX_CONNECTIONS:
            self._owner.counters.crowded += 1
            service.complain("web", "ng: %d HTTP connections are open, one of %s is refused", MAX_CONNECTIONS, peer[0])
            transport.abort()
        else:
            keep_alive(transport)

    def _bounded(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        """A request whose body is no longer than a message."""
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop, client_max_size=MAX_MESSAGE)


class _Handler(web.RequestHandler):
    """A connection that may be over before its task first runs, which aiohttp does not expect."""

    __slots__ = ()

    async def start(self) -> None:
        """Serve its requests."""
        if self.transport is not None:
            await super().start()


def tls(certificate: str, key: str) -> ssl.SSLContext:
    """What a TLS listener shows; an empty `key` is in the certificate's file. Raises TlsError."""
    if not certificate:
        raise TlsError("--listen-https needs a certificate: --https-cert=FILE")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    named = f"--https-cert={certificate}" + (f" with --https-key={key}" if key else "")
    try:
        context.load_cert_chain(certificate, key or None, _no_password)
    except ssl.SSLError as error:
        mismatch = error.reason == "KEY_VALUES_MISMATCH"
        reason = "the key is of another certificate" if mismatch else "no certificate chain and private key in PEM"
        raise TlsError(f"{named}: {reason}") from error
    except OSError as error:
        raise TlsError(f"{named}: cannot read it: {error.strerror}") from error
    return context


def _no_password() -> str:
    raise TlsError("the key of --listen-https is encrypted: store it without a password, for its owner only to read")


def _is_text(reply: bytes) -> bool:
    try:
        reply.decode()
    except UnicodeDecodeError:
        return False
    return True
