"""Where a turned packet goes: the cached next hop, back the way it came, or up to user space."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether

from relay.dataplane import abi, words
from relay.types import Endpoint
from tests.bpf.switchboard import (
    A_MAC,
    HOP_MAC,
    HOP_OWN_MAC,
    OWN_MAC,
    PORT_A,
    PORT_B,
    SLOW_PACKETS,
    XDP_DROP,
    XDP_REDIRECT,
    A,
    B,
    Switchboard,
    datagram,
    leaving,
)

BEHIND_NAT = Endpoint("198.51.100.77", 61000)


def macs(data: bytes) -> tuple[str, str]:
    frame = Ether(data)
    return frame.dst, frame.src


@pytest.mark.parametrize(
    "trouble",
    ["no index", "not ready", "no device", "index beyond the table"],
)
def test_a_packet_without_next_hop_goes_up_rewritten(board: Switchboard, trouble: str) -> None:
    board.steady_call()
    match trouble:
        case "no index":
            board.rule(PORT_A)["nexthop"] = (0, 0)
        case "not ready":
            board.set_nexthop(state=abi.NEXTHOP_NONE)
        case "no device":
            board.set_nexthop(device=5)
        case _:
            board.rule(PORT_A)["nexthop"] = (abi.NEXTHOPS, abi.NEXTHOPS)
    assert board.run(datagram(payload=b"hello")).verdict == XDP_DROP
    (copy,) = board.copies()
    assert (copy.kind, copy.port, copy.ifindex) == (abi.COPY_UNRESOLVED, PORT_A, 1)
    assert copy.data == bytes(leaving(PORT_B, B, b"hello")[IP])
    assert board.counters() == {"slow_path": 1}
    assert board.cold(PORT_A)["drops"] == 0


def test_a_packet_as_long_as_the_mtu_leaves(board: Switchboard) -> None:
    board.steady_call()
    board.set_nexthop(mtu=20 + 8 + 5)
    assert board.run(datagram(payload=b"hello")).verdict == XDP_REDIRECT


@pytest.mark.parametrize("size", [0, 1, 228, 229, 2020])
def test_copies_of_every_size(board: Switchboard, size: int) -> None:
    board.steady_call()
    board.set_nexthop(state=abi.NEXTHOP_NONE)
    payload = bytes(index & 0xFF for index in range(size))
    board.run(datagram(payload=payload))
    assert [copy.data for copy in board.copies()] == [bytes(leaving(PORT_B, B, payload)[IP])]


def test_what_user_space_takes_of_one_rule_is_bounded(board: Switchboard) -> None:
    board.steady_call()
    board.set_nexthop(state=abi.NEXTHOP_NONE)
    for _ in range(SLOW_PACKETS + 3):
        board.run(datagram())
    assert len(board.copies()) == SLOW_PACKETS
    assert board.counters() == {"slow_path": SLOW_PACKETS, "no_next_hop": 3}
    board.run(datagram(B, PORT_B))
    assert len(board.copies()) == 1
    board.refill(PORT_A)
    board.run(datagram())
    assert len(board.copies()) == 1


def test_a_full_ring_is_counted_and_a_packet_that_cannot_go_up_is_a_drop(board: Switchboard) -> None:
    board.steady_call()
    board.set_nexthop(state=abi.NEXTHOP_NONE)
    packet = bytes(datagram(payload=bytes(1400)))
    sent = 0
    while "copies_full" not in board.counters():
        for _ in range(500):
            board.refill(PORT_A)
            board.run(packet)
        sent += 500
    counters = board.counters()
    assert counters["copies_full"] == counters["no_next_hop"] == sent - counters["slow_path"]
    assert len(board.copies()) == counters["slow_path"]


@pytest.mark.parametrize("generation", [1, 2])
def test_the_next_hop_of_a_generation_is_in_the_slot_of_its_parity(board: Switchboard, generation: int) -> None:
    board.steady_call()
    slots = [0, 0]
    slots[generation & 1] = 1
    board.rule(PORT_A)["signalled"] = words.peer(B, generation)
    board.rule(PORT_A)["nexthop"] = slots
    assert board.run(datagram()).verdict == XDP_REDIRECT
    board.rule(PORT_A)["nexthop"] = slots[::-1]
    assert board.run(datagram()).verdict == XDP_DROP


def test_a_next_hop_in_use_is_marked_so(board: Switchboard) -> None:
    board.steady_call()
    before = board.jiffies()
    board.run(datagram())
    used = int(board.object.map("nexthops").array(abi.NEXTHOP)["used"][1])
    assert before & 0xFFFFFFFF <= used <= board.jiffies() & 0xFFFFFFFF


def test_a_learned_port_of_the_signalled_address_uses_the_next_hop(board: Switchboard) -> None:
    board.call()
    board.run(datagram(Endpoint(A.ip, 4444)))
    assert board.run(datagram(B, PORT_B)).data == bytes(leaving(PORT_A, Endpoint(A.ip, 4444)))


def test_a_learned_address_is_answered_the_way_it_came(board: Switchboard) -> None:
    board.call()
    board.run(datagram(BEHIND_NAT))
    answer = board.run(datagram(B, PORT_B, b"answer"))
    assert answer.verdict == XDP_REDIRECT
    assert macs(answer.data) == (A_MAC, OWN_MAC)
    assert answer.data[14:] == bytes(leaving(PORT_A, BEHIND_NAT, b"answer"))[14:]
    assert board.cold(PORT_B)["via_ifindex"] == 1


def test_the_signalled_address_without_next_hop_is_answered_the_way_it_came(board: Switchboard) -> None:
    board.call()
    board.rule(PORT_B)["nexthop"] = (0, 0)
    board.run(datagram(A))
    assert macs(board.run(datagram(B, PORT_B)).data) == (A_MAC, OWN_MAC)
    board.rule(PORT_B)["nexthop"] = (1, 1)
    assert macs(board.run(datagram(B, PORT_B)).data) == (HOP_MAC, HOP_OWN_MAC)


def test_a_way_back_of_another_learned_word_is_not_used(board: Switchboard) -> None:
    board.call()
    board.run(datagram(BEHIND_NAT))
    board.cold(PORT_B)["via_learned"] += 1 << 32
    assert board.run(datagram(B, PORT_B)).verdict == XDP_DROP
    assert len(board.copies()) == 1


def test_no_way_back_is_learned_from_a_broadcast_frame(board: Switchboard) -> None:
    board.call()
    frame = datagram(BEHIND_NAT)
    frame.dst = "ff:ff:ff:ff:ff:ff"
    board.run(frame)
    assert board.cold(PORT_B)["via_ifindex"] == 0
    assert board.run(datagram(B, PORT_B)).verdict == XDP_DROP
