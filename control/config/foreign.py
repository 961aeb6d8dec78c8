"""rtpengine's options that mean nothing here: accepted, so that a file that runs rtpengine runs Hairpin.

Each is answered by one line of warning at the start that says why it means nothing and what is done instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Foreign(NamedTuple):
    """One of rtpengine's options, and why it means nothing here."""

    name: str
    why: str
    switch: bool = False
    short: str | None = None


class _Group(NamedTuple):
    why: str
    valued: str = ""
    switches: str = ""


_GROUPS = (
    _Group(
        "one event loop serves all commands, and the kernel forwards media on the cores it arrives at",
        "num-threads num-media-threads media-num-threads http-threads redis-num-threads thread-stack scheduling "
        "priority idle-scheduling idle-priority socket-cpu-affinity max-recv-iters",
        "poller-per-thread io-uring",
    ),
    _Group(
        "media is taken before any firewall sees it, so no rule is needed or made",
        "iptables-chain nftables-chain nftables-base-chain nftables-family",
        "nftables-append nftables-start nftables-stop nftables-status xtables",
    ),
    _Group("a call takes its ports on one address of each party's interface in any case", "", "save-interface-ports:S"),
    _Group(
        "only the ng protocol is spoken: point the proxy at listen-ng with its rtpengine module",
        "listen-tcp:l listen-udp:u",
    ),
    _Group("operators use the commands `hairpin list`, `show`, `status` and others, on this host", "listen-cli:c"),
    _Group(
        "calls stand in Redis in a form of Hairpin's own, which partners of the same kind read; where redis is given, "
        "all relays of a pair are Hairpin",
        "redis-format",
    ),
    _Group(
        "a command, or media of an address whose owner has gone, makes a partner's call this node's own in any case",
        "",
        "active-switchover",
    ),
    _Group(
        "no reply waits for Redis, and what has ended is kept there for tombstone-time",
        "redis-delete-async-interval",
        "redis-delete-async:y",
    ),
    _Group("the name of a Redis server is looked up at each connection", "", "redis-resolve-on-reconnect"),
    _Group(
        "no call is recorded",
        "recording-dir recording-method recording-format vsc-start-rec vsc-stop-rec vsc-start-stop-rec vsc-pause-rec "
        "vsc-pause-resume-rec vsc-start-pause-resume-rec",
    ),
    _Group("loss, jitter and duplicates of all streams are measured in any case", "", "measure-rtp"),
    _Group(
        "no codec is converted and no media is made or changed: it passes as it comes",
        "dtx-delay max-dtx dtx-buffer dtx-lag dtx-shift dtx-cn-params amr-dtx silence-detect cn-payload jitter-buffer "
        "mysql-host mysql-port mysql-user mysql-pass mysql-query audio-player audio-buffer-length audio-buffer-delay "
        "kernel-player kernel-player-media moh-max-duration moh-max-repeats moh-attr-name rtcp-interval",
        "codecs jb-clock-drift player-cache moh-prevent-double-hold",
    ),
    _Group(
        "DTMF passes as it comes and is not watched",
        "log-facility-dtmf dtmf-log-dest dtmf-digit-delay",
        "dtmf-log-ng-tcp dtmf-no-suppress",
    ),
    _Group(
        "SRTP and DTLS pass from party to party, keys and all, and are not ended here",
        "dtls-rsa-key-size dtls-cert-cipher dtls-mtu dtls-ciphers dtls-signature",
        "dtls-passive log-srtp-keys debug-srtp",
    ),
    _Group(
        "figures are shown by `hairpin status` and by the ng command `statistics`, and sent to nobody",
        "graphite:g graphite-interval:G graphite-prefix graphite-timeout homer homer-protocol homer-id mos "
        "log-facility-rtcp mqtt-host mqtt-port mqtt-id mqtt-keepalive mqtt-user mqtt-pass mqtt-cafile mqtt-capath "
        "mqtt-certfile mqtt-keyfile mqtt-publish-qos mqtt-publish-topic mqtt-publish-interval mqtt-publish-scope",
        "homer-enable-ng homer-disable-rtcp-stats",
    ),
    _Group(
        "the log has one level, log-level, one form and one place; each call ends with one line in it",
        "log-facility-cdr log-format log-mark-prefix log-mark-suffix max-log-line-length log-level-core "
        "log-level-spandsp log-level-ffmpeg log-level-transcoding log-level-codec log-level-rtcp log-level-ice "
        "log-level-crypto log-level-srtp log-level-internals log-level-http log-level-control log-level-dtx",
        "split-logs",
    ),
    _Group("replies to the proxy go out as any other packet of this host", "control-tos control-pmtu"),
    _Group("SDP that cannot be read is always refused, and odd lines of it pass", "", "reject-invalid-sdp"),
    _Group("the relay gives its own name", "software-id"),
    _Group("the Janus protocol is not spoken", "janus-secret"),
)


def _made() -> Iterator[Foreign]:
    for group in _GROUPS:
        for words, switch in ((group.valued, False), (group.switches, True)):
            for word in words.split():
                name, _, short = word.partition(":")
                yield Foreign(name, group.why, switch, short or None)


FOREIGN = {one.name: one for one in _made()}
"""All of them by name."""
