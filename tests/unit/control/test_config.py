"""The daemon's options: command line, configuration file, and what each refuses."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_network
from pathlib import Path

import pytest

from control.config import Config, ConfigError, Interface, examine, load, options, parser, read_file
from relay.types import Endpoint

NOWHERE = Path("/nonexistent/hairpin.conf")


def from_file(text: str) -> dict[str, object]:
    return read_file(text, "rtpengine", "test.conf")


def test_no_options_are_needed() -> None:
    config = load([], NOWHERE)
    assert config == Config()
    assert config.listen_ng == (Endpoint("127.0.0.1", 2223),)
    assert (config.port_min, config.port_max, config.tos, config.timeout, config.delete_delay) == (
        30000,
        40000,
        0,
        60,
        30,
    )
    assert ip_network("192.168.0.0/16") in config.ng_allow


def test_short_names_are_the_peers() -> None:
    given = (
        "-i 192.0.2.1 -n 192.0.2.1:22222 -f -E -L 7 -t 3 -m 20000 -M 21000 -T 184 "
        "-o 10 -s 20 -a 30 -d 0 -p /x --offer-timeout 40 --max-sessions 50"
    )
    config = load(given.split(" "), NOWHERE)
    assert config == dataclasses.replace(
        Config(),
        interface=(Interface("default", "192.0.2.1"),),
        listen_ng=(Endpoint("192.0.2.1", 22222),),
        foreground=True,
        log_stderr=True,
        log_level=7,
        table=3,
        port_min=20000,
        port_max=21000,
        tos=184,
        timeout=10,
        silent_timeout=20,
        final_timeout=30,
        delete_delay=0,
        pidfile="/x",
        offer_timeout=40,
        max_sessions=50,
    )


def test_repeated_and_listed_values_are_one_list() -> None:
    config = load(["--interface=in/10.0.0.1", "-i", "out/192.0.2.1;10.0.0.3", "--deny-peer=10.0.0.0/8,::1"], NOWHERE)
    assert config.interface == (
        Interface("in", "10.0.0.1"),
        Interface("out", "192.0.2.1"),
        Interface("default", "10.0.0.3"),
    )
    assert config.deny_peer == (ip_network("10.0.0.0/8"), ip_network("::1/128"))


def test_a_later_single_value_wins() -> None:
    assert load(["--timeout=1", "--timeout=2"], NOWHERE).timeout == 2


def test_an_interface_has_a_family_and_may_advertise_another_address() -> None:
    config = load(["-i", "in/2001:DB8::1!2001:db8::2;in/10.0.0.1!192.0.2.1;10.0.0.2!10.0.0.2"], NOWHERE)
    assert config.interface == (
        Interface("in", "2001:db8::1", "2001:db8::2"),
        Interface("in", "10.0.0.1", "192.0.2.1"),
        Interface("default", "10.0.0.2"),
    )


@pytest.mark.parametrize(("table", "instance"), [("-1", 0), ("0", 0), ("5", 5)])
def test_the_peers_no_kernel_table_is_the_first_instance(table: str, instance: int) -> None:
    assert load([f"--table={table}"], NOWHERE).instance == instance
    assert load(["-t", table], NOWHERE).instance == instance


@pytest.mark.parametrize(
    ("listener", "expected"),
    [
        ("localhost:2223", Endpoint("127.0.0.1", 2223)),
        ("[::1]:99", Endpoint("::1", 99)),
    ],
)
def test_listeners(listener: str, expected: Endpoint) -> None:
    assert load(["-n", listener], NOWHERE).listen_ng == (expected,)


def test_a_port_alone_listens_everywhere() -> None:
    every = [Endpoint("0.0.0.0", 2223)] + [Endpoint("::", 2223)] * Path("/proc/net/if_inet6").exists()
    assert load(["-n", "2223;127.0.0.1:5"], NOWHERE).listen_ng == (*every, Endpoint("127.0.0.1", 5))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--timeout=soon", "--timeout=soon: must be whole seconds, 0 or more"),
        ("--timeout=-1", "--timeout=-1: must be whole seconds, 0 or more"),
        ("--log-level=8", "--log-level=8: must be a syslog level from 0 to 7"),
        ("--tos=256", "--tos=256: must be a TOS byte (-1 leaves each packet's own) from -1 to 255"),
        ("--dataplane=dpdk", "--dataplane=dpdk: must be one of auto, xdp, xdp-generic, userspace, memory"),
        ("--listen-ng=p/q:2223", "--listen-ng=p/q:2223: 'p/q' is no name of a host"),
        ("--listen-ng=127.0.0.1:0", "--listen-ng=127.0.0.1:0: must be PORT, IP:PORT, [IPv6]:PORT or HOST:PORT, port 1"),
        ("--listen-ng=127.0.0.1:65536", "--listen-ng=127.0.0.1:65536: must be PORT, IP:PORT, [IPv6]:PORT or HOST:PORT"),
        ("--listen-ng=:2223", "--listen-ng=:2223: must be PORT, IP:PORT, [IPv6]:PORT or HOST:PORT"),
        ("--interface=10.0.0.1!::1", "--interface=10.0.0.1!::1: must advertise an address of the same family"),
        ("--interface=10.0.0.1!", "--interface=10.0.0.1!: '' is no IPv4 or IPv6 address"),
        ("--max-load=lots", "--max-load=lots: must be a load average, 0 or more"),
        ("--max-cpu=nan", "--max-cpu=nan: must be a percentage, 0 or more"),
        ("--b2b-url=proxy", "--b2b-url=proxy: must be a URL, http://HOST[:PORT]/PATH"),
        ("--b2b-url=http://proxy:99999/", "--b2b-url=http://proxy:99999/: must be a URL, http://HOST[:PORT]/PATH"),
        ("--listen-https=443", "listen-https needs a certificate: name its file with https-cert"),
        ("--interface=/10.0.0.1", "--interface=/10.0.0.1: has an empty name before the slash; write NAME/ADDRESS"),
        ("--interface=0.0.0.0", "--interface=0.0.0.0: must be one address of this host, which the SDP can name"),
        (
            "--deny-peer=10.0.0.1/8",
            "--deny-peer=10.0.0.1/8: must be networks such as 192.0.2.0/24: 10.0.0.1/8 has host bits set",
        ),
        ("--listen-ng=", "listen-ng is empty: no proxy could reach the relay; leave it out for 127.0.0.1:2223"),
        (
            "--port-max=30002",
            "port-min 30000 and port-max 30002 leave no room for one call, which takes 4 ports",
        ),
        ("--no-such=none", "there is no option --no-such; `hairpin run --help` lists them"),
        ("--recording-dr=x", "there is no option --recording-dr (did you mean recording-dir?); `hairpin run --help`"),
        ("--timeot=5", "there is no option --timeot (did you mean timeout?); `hairpin run --help` lists them"),
        ("word", "there is no option word; `hairpin run --help` lists them"),
        ("--timeout", "argument -o/--timeout: expected one argument"),
        ("--config-file=/nonexistent", "cannot read the configuration file /nonexistent: "),
    ],
)
def test_refusals_name_the_option_and_what_is_allowed(argument: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load([argument], NOWHERE)
    assert str(caught.value).startswith(message)


def test_more_addresses_than_the_table_has_room_for() -> None:
    room = "2 local addresses for media, but the tables have room for max-addresses = 1"
    with pytest.raises(ConfigError, match=room):
        load(["-i", "10.0.0.1", "-i", "10.0.0.2", "--max-addresses=1"], NOWHERE)


def test_the_file_is_the_peers_and_the_command_line_wins(tmp_path: Path) -> None:
    path = tmp_path / "hairpin.conf"
    path.write_text(
        "# comment\n; comment\n[other]\nnonsense here\n[rtpengine]\ninterface = in/10.0.0.1;out/192.0.2.1\n"
        "listen-ng = localhost:2223\ntimeout=70\n  tos =  184 \nforeground = true\nlog-stderr = false\n[last]\nx = y\n"
    )
    for config in (load(["--timeout=80"], path), load(["--config-file", str(path), "--timeout=80"], NOWHERE)):
        assert config == dataclasses.replace(
            Config(),
            interface=(Interface("in", "10.0.0.1"), Interface("out", "192.0.2.1")),
            timeout=80,
            tos=184,
            foreground=True,
        )
    assert load(["--config-file=none"], path) == Config()


def test_another_section(tmp_path: Path) -> None:
    path = tmp_path / "hairpin.conf"
    path.write_text("[rtpengine]\ntimeout = 1\n[rtpengine-2]\ntimeout = 2\n")
    assert load(["--config-section=rtpengine-2"], path).timeout == 2
    with pytest.raises(ConfigError, match=r"has no section \[three\]; name another with --config-section="):
        load(["--config-section=three"], path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[rtpengine]\ntimeot = 60",
            "test.conf line 2: there is no option timeot (did you mean timeout?); `man hairpin` lists them",
        ),
        ("[rtpengine]\n\ntos = loud", "test.conf line 3: tos = loud: must be a TOS byte"),
        ("[rtpengine]\njust words", "test.conf line 2: expected `option = value`, a [section] or a # comment"),
        ("[rtpengine]\ntos = \\q", "test.conf line 2: tos = \\q: has an unknown escape \\q; a backslash itself is"),
        ("[rtpengine]\nmax-load = much", "test.conf line 2: max-load = much: must be a load average, 0 or more"),
        (
            "[rtpengine]\n[interface-x]\naddress = 10.0.0.1\nport-mix = 5",
            "test.conf line 4: port-mix = 5: an interface has no port-mix; it has address, advertised, port-min, ",
        ),
        ("[rtpengine]\n[interface-x]\nport-min = 0", "test.conf line 3: port-min = 0: must be a port from 1 to 65535"),
        ("[rtpengine]\n[interface-x]\nport-min = 9", "test.conf section [interface-x]: needs either `address`, or"),
        ("[rtpengine]\ntemplates = mine", "test.conf line 2: templates = mine: there is no section [mine] in the file"),
        ("[rtpengine]\nforeground = maybe", "test.conf line 2: foreground = maybe: must be true or false"),
        ("timeout = 60", "test.conf has no section [rtpengine]"),
    ],
)
def test_the_file_is_refused_by_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_file(text)
    assert str(caught.value).startswith(message)


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        from_file("[rtpengine]\ntos = loud\nnum-threads = 4\ntimeot = 60\n")
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["test.conf line 2", "test.conf line 4"]
    assert str(caught.value) == "\n".join(caught.value.problems)
    assert len(caught.value.warnings) == 1


def test_of_a_key_the_last_value_counts_as_the_peer_has_it(tmp_path: Path) -> None:
    path = tmp_path / "hairpin.conf"
    path.write_text("[rtpengine]\ntimeout = 1\n[other]\n[rtpengine]\ntimeout = 184 # seconds\n")
    loaded = examine([], path)
    assert (loaded.config.timeout, loaded.source) == (184, f"the command line and {path}")
    assert loaded.origins == {"timeout": f"{path} line 5"}
    assert loaded.warnings == [
        f"{path} line 5: timeout is given twice: this one counts, not line 2",
        f"{path} line 5: timeout is 184: what stands behind it in the line does not count",
    ]


def test_a_list_on_two_lines_is_told_how_to_be_written(tmp_path: Path) -> None:
    path = tmp_path / "hairpin.conf"
    path.write_text("[rtpengine]\ninterface = 10.0.0.1\ninterface = 10.0.0.2\n")
    assert examine([], path).warnings == [
        f"{path} line 3: interface is given twice: this one counts, not line 2; all belong on one line, with ; between"
    ]


def test_options_of_the_peer_that_mean_nothing_are_one_warning_each(tmp_path: Path) -> None:
    path = tmp_path / "hairpin.conf"
    path.write_text("[rtpengine]\nredis-format = JSON\nreject-invalid-sdp = false\nno-fallback = true\n")
    loaded = examine(["--num-threads=4", "-c", "9900", "--split-logs", "--config-file", str(path)], NOWHERE)
    assert loaded.config == dataclasses.replace(Config(), no_fallback=True)
    assert [text.split(" means nothing here: ")[0] for text in loaded.warnings] == [
        f"{path} line 2: redis-format",
        "--num-threads",
        "--listen-cli",
        "--split-logs",
    ]


def test_templates_are_handed_on_as_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "hairpin.conf"
    path.write_text("[rtpengine]\n[templates]\noffer = ICE=remove\\sreplace=[origin, zero-address]\n[mine]\nx = y\n")
    assert load([], path).flag_templates == {"offer": "ICE=remove replace=[origin, zero-address]"}
    assert load(["--templates=mine"], path).flag_templates == {"x": "y"}


def test_interfaces_of_sections_stand_behind_those_of_the_list(tmp_path: Path) -> None:
    path = tmp_path / "hairpin.conf"
    path.write_text(
        "[rtpengine]\ninterface = in/10.0.0.1;other=in\n[interface-out]\naddress=192.0.2.1;2001:db8::1\n"
        "advertised = 203.0.113.1\nport-min = 20000\nport-max = 20099\nexclude-ports = 20010-20011;20000\n"
    )
    with pytest.raises(ConfigError, match=r"section \[interface-out\]: must advertise an address of the same family"):
        load([], path)
    path.write_text(path.read_text().replace(";2001:db8::1", ""))
    assert load([], path).interface == (
        Interface("in", "10.0.0.1"),
        Interface("other", "in", alias=True),
        Interface("out", "192.0.2.1", "203.0.113.1", 20000, 20099, (20000, 20010, 20011)),
    )
    assert load(["-i", "any"], path).interface == (Interface("default", "any"),)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "binary"
    path.write_bytes(b"\xff\xfe[rtpengine]")
    with pytest.raises(ConfigError, match="cannot read the configuration file"):
        load([], path)


def test_lines_before_the_first_section_are_told(tmp_path: Path) -> None:
    path = tmp_path / "headless.conf"
    path.write_text("# mine\nmax-sessions = 3\n[rtpengine]\n")
    with pytest.raises(ConfigError, match=r"headless\.conf line 2: max-sessions = 3: stands before the first section"):
        load([], path)


def test_ports_that_are_all_left_out_are_told(tmp_path: Path) -> None:
    path = tmp_path / "nothing-left.conf"
    path.write_text("[rtpengine]\n[interface-a]\naddress = 192.0.2.1\nexclude-ports = 30000-39997\n")
    with pytest.raises(ConfigError, match=r"^port-min 30000 and port-max 40000, without exclude-ports, leave no room"):
        load([], path)
    path.write_text(path.read_text().replace("39997", "39995"))
    load([], path)


def test_a_file_too_large_to_be_read_whole_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.conf"
    path.write_text("[rtpengine]\n" + "# filler\n" * 120_000 + "max-sessions = 3\n")
    with pytest.raises(ConfigError, match=r"large\.conf has more than 1048576 bytes"):
        load([f"--config-file={path}"])


def test_every_option_is_in_the_help() -> None:
    words = parser().format_help().split()
    assert all(f"--{name}" in words for name, _, _ in options())


WRITTEN = [(name, value) for name, _, value in options() if isinstance(value, int | float | str) and value != ""]


@pytest.mark.parametrize(("name", "default"), WRITTEN)
def test_a_default_can_be_written_in_the_file(name: str, default: object) -> None:
    assert from_file(f"[rtpengine]\n{name} = {default}\n") == {name.replace("-", "_"): default}
