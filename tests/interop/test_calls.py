"""Calls through a real Kamailio, looked at after each step: media must get where the SDP says, and nowhere else."""

from __future__ import annotations

import pytest

from tests.interop.stage import Stage
from tests.line import talk


@pytest.mark.parametrize("plane", ["xdp", "userspace"])
def test_a_call_is_forwarded_both_ways_until_it_ends(stage: Stage, plane: str) -> None:
    stage.kamailio(stage.relay(f"--dataplane={plane}").ng)
    call = stage.call(stage.caller, stage.callee)
    talk(call.one, call.other)
    call.hang_up()
