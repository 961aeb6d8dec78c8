"""What of the daemon can be seen without a network: what it refuses before it takes anything, and its parts' sizes."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from control import assembly, daemon
from control.__main__ import main as hairpin
from control.config import Config


@pytest.mark.parametrize("option", ["--tos=loud", "--no-such-option", "--config-file=/nonexistent"])
def test_options_that_are_not_understood_are_exit_code_2(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert hairpin(["run", option]) == 2
    said = capsys.readouterr().err
    assert said.startswith("hairpin: ")
    assert option.split("=")[0] in said or option.split("=")[1] in said


def test_the_options_are_listed_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        hairpin(["run", "--help"])
    assert stop.value.code == 0
    assert "--listen-ng" in capsys.readouterr().out


def test_settings_are_the_options() -> None:
    settings = assembly._settings(Config(timeout=1, silent_timeout=2, offer_timeout=3, final_timeout=4, tos=-1), ())
    found = (settings.timeout, settings.silent_timeout, settings.offer_timeout, settings.final_timeout, settings.tos)
    assert found == (1, 2, 3, 4, -1)


def test_cycles_are_found_while_young_though_the_collector_does_not_run_by_itself() -> None:
    class Knot:
        def __init__(self) -> None:
            self.itself = self

    async def tie() -> bool:
        daemon._collect(asyncio.get_running_loop())
        left = weakref.ref(Knot())
        for _ in range(200):
            if left() is None:
                return True
            await asyncio.sleep(0.02)
        return False

    gc.disable()
    try:
        assert asyncio.run(tie())
    finally:
        gc.enable()
