"""Tags on the wire: taken off or passed over on arrival, put on by the next hop, kept on the way back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet

from relay.dataplane import abi
from relay.types import Endpoint
from tests.bpf.switchboard import (
    A6,
    A_MAC,
    B6,
    OWN_MAC,
    PORT_A,
    PORT_A6,
    PORT_B,
    PORT_B6,
    XDP_DROP,
    XDP_PASS,
    XDP_REDIRECT,
    A,
    B,
    Switchboard,
    datagram,
    leaving,
    rtcp,
    rtp,
)
from tests.bpf.test_bridging import as_ip4
from tests.bpf.test_forward import folded_pseudo_header

NAT, NAT6 = Endpoint("198.51.100.77", 61000), Endpoint("2001:db8:bad::1", 61000)
TAGS: dict[str, list[Packet]] = {
    "untagged": [],
    "802.1Q": [Dot1Q(vlan=7, prio=5)],
    "802.1ad": [Dot1AD(vlan=7)],
    "802.1Q in 802.1ad": [Dot1AD(vlan=100), Dot1Q(vlan=7)],
    "802.1Q twice": [Dot1Q(vlan=100), Dot1Q(vlan=7)],
}
LEGS = {
    "IPv4": ((A, PORT_A), (B, PORT_B)),
    "IPv6": ((A6, PORT_A6), (B6, PORT_B6)),
    "IPv4 to IPv6": ((A, PORT_A), (B6, PORT_B6)),
    "IPv6 to IPv4": ((A6, PORT_A6), (B, PORT_B)),
}
Side = tuple[Endpoint, Endpoint]


def tagged(frame: Packet, tags: Sequence[Packet]) -> Packet:
    """The frame with tags behind its Ethernet header, the outermost first."""
    result = Ether(src=frame.src, dst=frame.dst)
    for tag in tags:
        result = result / tag.copy()
    return result / frame.payload


@pytest.mark.parametrize(("near", "far"), LEGS.values(), ids=LEGS)
@pytest.mark.parametrize("leaves_by", [0, 7, 0xE000 | 4094])
@pytest.mark.parametrize("name", TAGS)
def test_a_frame_leaves_with_the_tag_of_its_next_hop(
    board: Switchboard, near: Side, far: Side, leaves_by: int, name: str
) -> None:
    board.steady_call(0, 0, near[0], far[0], (near[1], far[1]))
    board.set_nexthop(vlan=leaves_by)
    run = board.run(tagged(datagram(near[0], near[1], b"payload"), TAGS[name]))
    tags = [Dot1Q(vlan=leaves_by & 0xFFF, prio=leaves_by >> 13)] if leaves_by else []
    sent = tagged(leaving(far[1], far[0], b"payload"), tags)
    if IPv6 in datagram(near[0], near[1]) and IP in sent:
        sent[IP].id = run.packet[IP].id
    assert (run.verdict, run.data) == (XDP_REDIRECT, bytes(sent))


@pytest.mark.parametrize("checksum", ["full", "unfinished"])
def test_the_checksum_is_found_behind_tags(board: Switchboard, checksum: str) -> None:
    board.steady_call()
    arriving = datagram(payload=b"checksum")
    if checksum == "unfinished":
        arriving[UDP].chksum = folded_pseudo_header(arriving)
    run = board.run(tagged(arriving, TAGS["802.1Q in 802.1ad"]))
    assert run.data == bytes(leaving(PORT_B, B, b"checksum"))


@pytest.mark.parametrize("name", TAGS)
def test_copies_begin_with_the_ip_header(board: Switchboard, name: str) -> None:
    board.steady_call(abi.RTP | abi.RTCP)
    frame = datagram(payload=rtcp())
    board.run(tagged(frame, TAGS[name]))
    board.set_nexthop(state=abi.NEXTHOP_NONE)
    board.run(tagged(frame, TAGS[name]))
    arrived, again, unresolved = board.copies()
    assert arrived.data == again.data == bytes(frame[IP])
    assert unresolved.data == bytes(leaving(PORT_B, B, rtcp())[IP])


@pytest.mark.parametrize("name", TAGS)
def test_rtp_behind_tags_is_followed(board: Switchboard, name: str) -> None:
    board.steady_call(abi.RTP)
    for sequence in (1, 2, 5):
        board.run(tagged(datagram(payload=rtp(sequence)), TAGS[name]))
    assert (board.rule(PORT_A)["sequence"], board.cold(PORT_A)["base_sequence"]) == (
        abi.FIRST_CYCLE + 5,
        abi.FIRST_CYCLE + 1,
    )


@pytest.mark.parametrize(("near", "far"), LEGS.values(), ids=LEGS)
@pytest.mark.parametrize("name", ["untagged", "802.1Q"])
def test_the_way_back_has_the_tag_of_the_frames_that_came(board: Switchboard, near: Side, far: Side, name: str) -> None:
    board.call(0, 0, near[0], far[0], (near[1], far[1]))
    party = NAT6 if ":" in near[0].ip else NAT
    board.run(tagged(datagram(party, near[1]), TAGS[name]))
    run = board.run(datagram(far[0], far[1], b"answer"))
    if ":" in far[0].ip and ":" not in near[0].ip:
        sent: Packet = Ether(as_ip4(run, near[1], party, b"answer"))
    else:
        sent = leaving(near[1], party, b"answer")
    sent.src, sent.dst = OWN_MAC, A_MAC
    assert (run.verdict, run.data) == (XDP_REDIRECT, bytes(tagged(sent, TAGS[name])))


def test_the_way_back_of_an_untagged_frame_is_without_the_tag_of_one_before(board: Switchboard) -> None:
    board.call()
    board.run(tagged(datagram(NAT), TAGS["802.1Q"]))
    assert int(board.cold(PORT_B)["via_vlan"]) == 5 << 13 | 7
    board.run(datagram(Endpoint(NAT.ip, 9)))
    assert int(board.cold(PORT_B)["via_vlan"]) == 0


@pytest.mark.parametrize("name", ["802.1ad", "802.1Q in 802.1ad", "802.1Q twice"])
def test_no_way_back_is_learned_from_tags_we_do_not_put_on(board: Switchboard, name: str) -> None:
    board.call()
    board.run(tagged(datagram(NAT), TAGS[name]))
    assert board.learned(PORT_B) == NAT
    assert board.run(datagram(B, PORT_B)).verdict == XDP_DROP
    assert len(board.copies()) == 1


def test_a_tag_is_not_part_of_the_size_that_counts(board: Switchboard) -> None:
    board.steady_call()
    board.set_nexthop(mtu=28 + 7, vlan=7)
    assert board.run(tagged(datagram(payload=b"payload"), TAGS["802.1Q twice"])).verdict == XDP_REDIRECT


def test_fragments_behind_tags_pass_and_are_counted(board: Switchboard) -> None:
    board.steady_call()
    frame = datagram(payload=bytes(64))
    frame[IP].flags = "MF"
    arriving = bytes(tagged(frame, TAGS["802.1Q"]))
    run = board.run(arriving)
    assert (run.verdict, run.data) == (XDP_PASS, arriving)
    assert board.counters() == {"fragments": 1}
