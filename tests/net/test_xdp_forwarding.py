"""Packets through the XDP plane, between real sockets on veth whose offloads are as the system has them."""

from __future__ import annotations

import pytest

from relay.types import Path
from tests.net.conftest import MEDIA_A, MEDIA_B, Table, mirrored, rtp, wait_for


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_packets_turn_round_in_both_directions(table: Table, mode: str) -> None:
    async def scenario() -> None:
        a, b = table.phones()
        async with table.plane(mode=mode) as plane:
            plane.install(mirrored(a.endpoint, b.endpoint))
            await wait_for(
                lambda: plane.state(MEDIA_A).path is Path.NO_PACKET and plane.state(MEDIA_B).path is Path.NO_PACKET
            )
            for number in range(20):
                a.send(MEDIA_A, rtp(number))
                b.send(MEDIA_B, rtp(number + 100, ssrc=77))
            at_b, at_a = await b.expect(20), await a.expect(20)
            assert [payload for payload, _ in at_b] == [rtp(number) for number in range(20)]
            assert [payload for payload, _ in at_a] == [rtp(number + 100, ssrc=77) for number in range(20)]
            assert {source for _, source in at_b} == {MEDIA_B}
            assert {source for _, source in at_a} == {MEDIA_A}
            state = plane.state(MEDIA_A)
            assert (state.packets, state.bytes, state.ssrc) == (20, 20 * 172, 0x1234)
            assert (state.expected, state.received, state.lost, state.highest_sequence) == (20, 20, 0, 19)
            assert (state.path, state.observed_source, state.confirmed) == (Path.FAST, a.endpoint, True)
            assert plane.packets(MEDIA_B) == 20
            assert any(line.startswith(f"{mode} XDP on to-a (veth)") for line in plane.describe())
        assert table.attached() == []

    table.run(scenario)
