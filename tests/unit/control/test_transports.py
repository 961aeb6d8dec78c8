"""The listeners of one relay: a certificate that was renewed on disk is shown without a restart."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from control.config import Config
from control.ng.service import Service
from control.ng.web import TlsError
from control.transports import Transports
from relay.types import Endpoint


def certify(folder: Path, name: str) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-out", str(folder / "cert.pem"), "-keyout", str(folder / "key.pem")]
    subprocess.run([*command, "-subj", f"/CN={name}", *files], check=True, capture_output=True)


async def shown(endpoint: Endpoint) -> bytes:
    """The name in the certificate that a listener shows."""
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(*endpoint, ssl=anyone)
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return found


def test_a_renewed_certificate_is_shown_and_a_broken_one_is_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        certify(tmp_path, "first")
        config = Config(
            listen_ng=(),
            listen_https=(Endpoint("127.0.0.1", 0),),
            https_cert=str(tmp_path / "cert.pem"),
            https_key=str(tmp_path / "key.pem"),
        )
        async with AsyncExitStack() as stack:
            transports = Transports(Service(lambda body, source, now, room=0: {}, (), lambda: 0.0))
            await transports.start(config, stack)
            assert transports.web is not None
            endpoint = transports.web.endpoints[0][1]
            assert b"first" in await shown(endpoint)
            certify(tmp_path, "second")
            transports.renew(config)
            assert b"second" in await shown(endpoint)
            (tmp_path / "cert.pem").write_text("junk")
            with pytest.raises(TlsError, match=r"cert\.pem"):
                transports.renew(config)
            assert b"second" in await shown(endpoint)

    asyncio.run(scenario())


def test_without_tls_there_is_nothing_to_renew() -> None:
    transports = Transports(Service(lambda body, source, now, room=0: {}, (), lambda: 0.0))
    transports.renew(Config())
    assert transports.web is None


@pytest.mark.parametrize(
    ("media", "named"),
    [
        (["192.0.2.1", "192.0.2.2", "2001:db8::1"], ["udp:192.0.2.1:{}", "udp6:[2001:db8::1]:{}"]),
        (["192.0.2.1"], ["udp:192.0.2.1:{}", ""]),
        (["2001:db8::1"], ["", "udp6:[2001:db8::1]:{}"]),
    ],
)
def test_kamailio_is_told_an_address_and_never_all_of_them(media: list[str], named: list[str]) -> None:
    async def scenario() -> None:
        config = Config(listen_ng=(Endpoint("0.0.0.0", 0), Endpoint("::", 0)))
        async with AsyncExitStack() as stack:
            transports = Transports(Service(lambda body, source, now, room=0: {}, (), lambda: 0.0))
            await transports.start(config, stack)
            ports = [endpoint.port for endpoint in transports.datagrams.endpoints]
            told = [one["kamailio"] for one in transports.listeners(config, media)]
            assert told == [text.format(port) for text, port in zip(named, ports, strict=True)]

    asyncio.run(scenario())
