"""The one table of options: command line, configuration file, manual and sample configuration are made from it.

Each field of `Config` that has an `option` is one: name (underscores for hyphens), default, reader and help stand in
one place; keeping calls, pairs and failover have files of their own (keeping, replication, failover). Names and short
forms are rtpengine's where it has the option.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from control.config.declare import SECONDS, Option, option
from control.config.failover import Failover
from control.config.interfaces import Interface, interface
from control.config.keeping import Keeping
from control.config.readers import (
    LOCAL_NETWORKS,
    Network,
    choice,
    decimal,
    each,
    listeners,
    network,
    switch,
    url,
    whole,
)
from control.config.replication import Replication
from relay.types import Endpoint


@dataclass(frozen=True)
class Config(Failover, Replication, Keeping):
    """Everything `hairpin run` can be told. Times are in seconds unless an option says otherwise."""

    interface: tuple[Interface, ...] = option(
        (),
        each(interface),
        "local address for media; the first one is used where the proxy names none. With a keyspace it is the address "
        "of that partner, whose calls are held ready here",
        "[NAME/]ADDRESS[!ADVERTISED][@KEYSPACE]",
        short="i",
        shown="the address of the default route",
        repeat=True,
    )
    listen_ng: tuple[Endpoint, ...] = option(
        (Endpoint("127.0.0.1", 2223),),
        listeners,
        "where the proxy's ng commands arrive, over UDP",
        "[IP:]PORT",
        short="n",
        shown="127.0.0.1:2223",
        repeat=True,
    )
    ng_allow: tuple[Network, ...] = option(
        LOCAL_NETWORKS,
        each(network),
        "who may command the relay over listeners that are not on loopback; others get no answer",
        "NET[,NET]",
        shown="private, link-local and loopback networks",
        repeat=True,
        live=True,
    )
    listen_tcp_ng: tuple[Endpoint, ...] = option(
        (),
        listeners,
        "where ng commands arrive over TCP",
        "[IP:]PORT",
        short="N",
        shown="none",
        repeat=True,
    )
    listen_http: tuple[Endpoint, ...] = option(
        (), listeners, "where ng commands arrive over HTTP and WebSocket", "[IP:]PORT", shown="none", repeat=True
    )
    listen_https: tuple[Endpoint, ...] = option(
        (), listeners, "the same over TLS", "[IP:]PORT", shown="none", repeat=True
    )
    https_cert: str = option(
        "", str, "certificate chain of listen-https, in PEM; SIGHUP reads it anew", "FILE", shown="none", live=True
    )
    https_key: str = option("", str, "its private key", "FILE", shown="in the file of https-cert", live=True)
    foreground: bool = option(
        False, switch, "accepted for rtpengine's users: hairpin always stays in the foreground", short="f"
    )
    log_level: int = option(
        6,
        whole(0, 7, "a syslog level"),
        "how much to log: 3 errors, 4 warnings, 5 notices, 6 calls, 7 all",
        "LEVEL",
        short="L",
        live=True,
    )
    log_stderr: bool = option(
        False,
        switch,
        "log to standard error instead of syslog; so it does on a terminal and without a syslog",
        short="E",
    )
    no_log_timestamps: bool = option(
        False, switch, "leave the time out of lines on standard error, where a journal adds its own"
    )
    log_facility: str = option(
        "daemon",
        choice("daemon", *(f"local{number}" for number in range(8))),
        "syslog's facility to log to",
        "daemon|local0|...|local7",
    )
    table: int = option(
        0,
        whole(-1, 63, "an instance number"),
        "instance number, for several relays in one network namespace, on interfaces of their own; -1 counts as 0",
        "N",
        short="t",
    )
    port_min: int = option(30000, whole(1, 65535, "a port"), "lowest port for media", "PORT", short="m")
    port_max: int = option(40000, whole(1, 65535, "a port"), "highest port for media", "PORT", short="M")
    tos: int = option(
        0,
        whole(-1, 255, "a TOS byte (-1 leaves each packet's own)"),
        "TOS byte written to media where the proxy sets none; 184 is EF, the two low bits are ignored",
        "TOS",
        short="T",
        live=True,
    )
    timeout: int = option(
        60,
        SECONDS,
        "end a call when none of its receiving streams had a packet for this long",
        "SECS",
        short="o",
        live=True,
    )
    silent_timeout: int = option(3600, SECONDS, "the same for calls on hold or muted", "SECS", short="s", live=True)
    offer_timeout: int = option(3600, SECONDS, "end a call that was never answered after this long", "SECS", live=True)
    final_timeout: int = option(0, SECONDS, "end any call after this long; 0 never does", "SECS", short="a", live=True)
    delete_delay: int = option(
        30, SECONDS, "keep a deleted call's ports forwarding for this long", "SECS", short="d", live=True
    )
    max_sessions: int = option(
        -1,
        whole(-1, None, "a number of calls (-1 for no limit)"),
        "refuse offers of new calls beyond this many",
        "N",
        shown="no limit",
        live=True,
    )
    max_load: float = option(
        0.0,
        decimal("a load average"),
        "refuse offers of new calls while the host's load of the last minute is above this",
        "LOAD",
        shown="no limit",
        live=True,
    )
    max_cpu: float = option(
        0.0,
        decimal("a percentage"),
        "refuse offers of new calls while the host's CPUs together are busier than this many percent",
        "PERCENT",
        shown="no limit",
        live=True,
    )
    max_bandwidth: int = option(
        0,
        whole(0, None, "bytes per second"),
        "refuse offers of new calls while more media than this arrives, in bytes per second",
        "BYTES",
        shown="no limit",
        live=True,
    )
    b2b_url: str | None = option(
        None,
        url,
        "whom to tell by XMLRPC of calls that ended by a timeout; %% in it stands for the proxy's address",
        "URL",
        short="b",
        shown="nobody",
        live=True,
    )
    xmlrpc_format: int = option(
        0,
        whole(0, 2, "a format"),
        "how to tell: 0 SEMS, di with each tag; 1 teardown with the Call-ID; 2 Kamailio, dlg.terminate_dlg",
        "N",
        short="x",
        live=True,
    )
    sip_source: bool = option(
        False, switch, "send media to where a party's signalling came from, whatever address its SDP names", live=True
    )
    endpoint_learning: str = option(
        "delayed",
        choice("delayed", "immediate", "off", "heuristic"),
        "how a port finds out where its party sends from, where the proxy does not say",
        "delayed|immediate|off|heuristic",
        live=True,
    )
    max_addresses: int = option(
        16,
        whole(1, 16, "a number of addresses"),
        "local addresses for media at most; the tables take 12 MB of memory for each in use",
        "N",
    )
    dataplane: str = option(
        "auto",
        choice("auto", "xdp", "xdp-generic", "userspace", "memory"),
        "what forwards media: auto takes the best that works, native XDP, generic XDP or userspace, which is a socket "
        "for each port; memory keeps rules and forwards nothing",
        "auto|xdp|xdp-generic|userspace|memory",
    )
    no_fallback: bool = option(
        False,
        switch,
        "where dataplane is auto, do not start if XDP cannot be had and only userspace would do",
        short="F",
    )
    attach: tuple[str, ...] = option(
        (),
        each(str),
        "network interfaces to attach XDP to",
        "IF[,IF]",
        shown="those media arrives on and leaves from",
        repeat=True,
    )
    port_rate: int = option(
        2000, whole(1, 1_000_000, "packets per second"), "packets per second one port takes; more are dropped", "N"
    )
    slow_rate: int = option(
        16,
        whole(1, 255, "packets per second"),
        "packets per second one port may send up to the daemon (unresolved neighbours, RTCP copies)",
        "N",
    )
    deny_peer: tuple[Network, ...] = option(
        (),
        each(network),
        "networks media is never forwarded to, besides the unsafe ones",
        "NET[,NET]",
        shown="none",
        repeat=True,
        live=True,
    )
    socket: str = option(
        "", str, "operators' socket", "PATH", shown="in /run/hairpin, or $XDG_RUNTIME_DIR/hairpin without root"
    )
    pidfile: str = option("", str, "write the process number here", "FILE", short="p", shown="none")

    templates: str = option(
        "templates",
        str,
        "section of the configuration file that holds templates of flags, one `NAME = FLAGS` a line",
        "SECTION",
        live=True,
    )
    flag_templates: Mapping[str, str] = field(default_factory=dict)
    """That section: what the ng key `template` names, and by the names `default` and of commands what holds without."""

    def with_ports(self, one: Interface) -> Interface:
        """An interface with its range of ports in full."""
        return one._replace(port_min=one.port_min or self.port_min, port_max=one.port_max or self.port_max)

    @property
    def instance(self) -> int:
        """The instance number: rtpengine's "no kernel table" is our first instance."""
        return max(self.table, 0)


def options() -> Iterator[tuple[str, Option, Any]]:
    """The table: (name as people write it, how it is given, default). What every relay has comes first."""
    fields = dataclasses.fields(Config)
    inherited = {item.name for group in Config.__bases__ for item in dataclasses.fields(group)}
    for item in sorted(fields, key=lambda item: item.name in inherited):
        if "option" in item.metadata:
            yield item.name.replace("_", "-"), item.metadata["option"], item.default
