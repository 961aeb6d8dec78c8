"""What the speakers are told, in their own languages."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from control.failover.bird import Bird, protocol_name, roles_in, written
from control.failover.exabgp import attributes_text
from control.failover.pulse import Pulse
from control.failover.speaker import Attributes, Role, Route, SpeakerLost, Styles, draining, prefix

STYLES = Styles(
    Attributes(med=100, local_preference=200, communities=("65000:1", "65000:1:2")),
    Attributes(prepend=2, med=200, local_preference=100),
    65010,
    ("2001:db8::9",),
)


def test_attributes_in_the_words_of_exabgp() -> None:
    assert attributes_text("192.0.2.1", Role.PRIMARY, STYLES) == (
        "next-hop self med 100 local-preference 200 community [ 65000:1 ] large-community [ 65000:1:2 ]"
    )
    assert attributes_text("192.0.2.1", Role.BACKUP, STYLES) == (
        "next-hop self med 200 local-preference 100 as-path [ 65010 65010 65010 ]"
    )
    assert attributes_text("2001:db8::1", Role.BACKUP, STYLES._replace(asn=0)) == (
        "next-hop 2001:db8::9 med 200 local-preference 100"
    )


def test_a_draining_route_loses_against_a_backup_by_every_measure() -> None:
    going = draining(STYLES.primary, STYLES.backup)
    assert going.prepend > STYLES.backup.prepend
    assert going.local_preference == 0
    assert going.med is not None
    assert STYLES.backup.med is not None
    assert going.med > STYLES.backup.med
    assert going.communities == ("65000:1", "65000:1:2", "65535:0")
    assert draining(Attributes(med=2**32 - 1), Attributes()).med == 2**32 - 1
    assert "community [ 65000:1 65535:0 ]" in attributes_text("192.0.2.1", Role.DRAINING, STYLES)


def test_of_the_protocols_of_an_address_one_is_enabled() -> None:
    text = written(["192.0.2.1", "2001:db8::1"], {"192.0.2.1": Role.BACKUP}, STYLES, lambda ip: f"to-{ip}")
    parts = text.split("protocol static ")[1:]
    assert [part.split()[0] for part in parts if "disabled no" in part] == ["hairpin_backup_c0000201"]
    assert len(parts) == 6
    assert (
        "route 192.0.2.1/32 via to-192.0.2.1 "
        "{ bgp_med = 200; bgp_local_pref = 100; bgp_path.prepend(65010); bgp_path.prepend(65010); };"
    ) in parts[1]
    assert "bgp_large_community.add((65000, 1, 2));" in parts[0]
    assert "bgp_community.add((65535, 0));" in parts[2]
    assert parts[3].startswith(protocol_name("2001:db8::1", Role.PRIMARY))
    assert "\tipv6;" in parts[3]
    assert "bgp_next_hop = 2001:db8::9;" in parts[3]


@pytest.mark.parametrize("role", [Role.PRIMARY, Role.BACKUP, Role.DRAINING])
def test_the_file_says_what_is_announced_also_to_the_next_relay(role: Role) -> None:
    assert roles_in(written(["192.0.2.1"], {"192.0.2.1": role}, STYLES, str)) == {"192.0.2.1": role}


@pytest.mark.parametrize(
    "text",
    ["", "x", "# hairpin announces: [1]", '# hairpin announces: {"a": "b"}', "# hairpin announces: " + "[" * 9999],
)
def test_a_file_that_says_nothing_that_can_be_read_says_nothing(text: str) -> None:
    assert roles_in(text) == {}


def test_a_file_that_somebody_else_wrote_into_is_written_over(tmp_path: Path) -> None:
    class Still(Pulse):
        def beat(self, number: int, ip6: bool, lifetime: int) -> None:
            return None

    file = tmp_path / "hairpin.conf"
    file.write_bytes(b"# ge\xe4ndert\n")

    async def scene() -> None:
        bird = Bird(tmp_path / "no BIRD", file, ["192.0.2.1"], STYLES, 15, Still(0))
        assert await bird.start() == {}
        with pytest.raises(SpeakerLost, match="BIRD is not reached"):
            await bird.announce({"192.0.2.1": Route(Role.PRIMARY)})
        await bird.close()

    asyncio.run(scene())
    assert roles_in(file.read_text()) == {"192.0.2.1": Role.PRIMARY}


def test_the_route_to_one_address() -> None:
    assert (prefix("192.0.2.1"), prefix("2001:db8::1")) == ("192.0.2.1/32", "2001:db8::1/128")
