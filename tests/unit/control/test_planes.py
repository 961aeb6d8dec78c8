"""Which data plane is taken, what is said of it, and what is refused."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from control import planes
from control.config import load
from control.planes import Chosen, Hearing, choose
from relay.errors import DataplaneError
from relay.types import Endpoint
from tests.contract import Heard

LOCAL, PARTY = Endpoint("127.0.0.1", 30000), Endpoint("127.0.0.2", 4000)


def chosen(*options: str, address: str = "127.0.0.1") -> tuple[Chosen, list[str]]:
    """What `choose` takes, closed again, and how that describes itself."""

    async def briefly() -> tuple[Chosen, list[str]]:
        found = await choose(load([f"--interface={address}", "--config-file=none", *options]), (address,), Hearing())
        described = found.plane.describe()
        await found.plane.close()
        return found, described

    return asyncio.run(briefly())


@pytest.fixture
def no_xdp(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host where XDP cannot be had."""

    async def refuse(*_: object) -> Chosen:
        raise DataplaneError("this host lacks it")

    monkeypatch.setattr(planes, "_xdp", refuse)


@pytest.fixture
def any_xdp(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host where XDP would work, and must not be tried."""

    async def refuse(*_: object) -> Chosen:
        raise AssertionError("XDP was tried")

    monkeypatch.setattr(planes, "_xdp", refuse)


@pytest.mark.usefixtures("any_xdp")
def test_a_plane_that_is_asked_for_is_taken() -> None:
    memory, _ = chosen("--dataplane=memory")
    assert (memory.plane.name, list(memory.sockets()), memory.texts) == ("memory", [], {})
    sockets, described = chosen("--dataplane=userspace")
    assert sockets.plane.name == "userspace"
    assert described[1:] == ["not XDP: sockets were asked for"]
    assert {"rate", "source_mismatch", "send_failed"} <= set(sockets.texts)


@pytest.mark.usefixtures("any_xdp")
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_media_on_loopback_goes_through_sockets(address: str) -> None:
    found, described = chosen(address=address)
    assert found.plane.name == "userspace"
    assert described[1:] == [f"not XDP: it does not serve the loopback address {address}"]


@pytest.mark.usefixtures("any_xdp")
def test_one_loopback_address_keeps_the_others_from_xdp_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async def briefly() -> None:
        config = load(["--interface=192.0.2.1", "--interface=127.0.0.1", "--config-file=none"])
        await (await choose(config, ("192.0.2.1", "127.0.0.1"), Hearing())).plane.close()

    asyncio.run(briefly())
    assert [record.levelname for record in caplog.records if "loopback address 127.0.0.1" in record.message] == [
        "WARNING"
    ]


@pytest.mark.usefixtures("no_xdp")
@pytest.mark.parametrize("address", ["127.0.0.1", "192.0.2.1"])
def test_no_fallback_means_no_start_without_xdp(address: str) -> None:
    with pytest.raises(DataplaneError, match="this host lacks it"):
        chosen("--no-fallback", address=address)


@pytest.mark.usefixtures("no_xdp")
def test_without_xdp_sockets_are_taken_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    found, described = chosen(address="192.0.2.1")
    assert found.plane.name == "userspace"
    assert described[1:] == ["not XDP: this host lacks it"]
    assert [(record.levelno, record.message) for record in caplog.records if record.name == "hairpin"] == [
        (logging.WARNING, "XDP cannot be had, every packet goes through a socket: this host lacks it")
    ]


@pytest.mark.usefixtures("no_xdp")
@pytest.mark.parametrize("plane", ["xdp", "xdp-generic"])
def test_xdp_that_was_asked_for_is_had_or_refused(plane: str) -> None:
    with pytest.raises(DataplaneError, match=r"^this host lacks it; or do without XDP: --dataplane=userspace$"):
        chosen(f"--dataplane={plane}", address="192.0.2.1")


def test_news_reach_who_listens_later() -> None:
    hearing, heard = Hearing(), Heard()
    hearing.learned(LOCAL, PARTY, True)
    hearing.listener = heard
    hearing.learned(LOCAL, PARTY, True)
    hearing.rtcp(LOCAL, PARTY, b"report")
    assert (heard.sources, heard.reports) == ([(LOCAL, PARTY, True)], [(LOCAL, PARTY, b"report")])


@pytest.mark.usefixtures("no_xdp")
def test_beside_tables_that_forward_no_other_plane_is_started(tmp_path: Path) -> None:
    async def refused(*options: str) -> str:
        config = load(["--interface=192.0.2.1", "--config-file=none", *options])
        with pytest.raises(DataplaneError) as error:
            await choose(config, ("192.0.2.1",), Hearing(), tmp_path)
        return str(error.value)

    (tmp_path / "rules").touch()
    advice = "end those calls with `hairpin flush`"
    assert advice in asyncio.run(refused("--dataplane=userspace"))
    assert advice in asyncio.run(refused("--dataplane=memory"))
    said = asyncio.run(refused())
    assert said == f"this host lacks it; what stands in {tmp_path} forwards on, and `hairpin flush` ends it"


@pytest.mark.usefixtures("no_xdp")
def test_an_empty_place_for_pins_is_none(tmp_path: Path) -> None:
    async def briefly() -> str:
        config = load(["--interface=127.0.0.1", "--config-file=none", "--dataplane=memory"])
        found = await choose(config, ("127.0.0.1",), Hearing(), tmp_path)
        await found.close(True)
        return found.plane.name

    assert asyncio.run(briefly()) == "memory"
