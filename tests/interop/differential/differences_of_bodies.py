"""What the relays write differently into bodies, and tell of them in reports."""

from __future__ import annotations

from tests.interop.differential.comparison import ABSENT, SOME, Difference

_SECURED = (
    Difference(
        "Hairpin passes secured media through, rtpengine is an end of it with keys of its own",
        r"\d+ / sdp / media / \d+ / lines / a=(crypto|fingerprint|tls-id).*",
    ),
    Difference(
        "Hairpin passes secured media through, and so whose part is which",
        r"\d+ / sdp / media / \d+ / lines / a=setup:.*",
    ),
)

_ICE = (
    Difference(
        "rtpengine offers candidates of all families, Hairpin the relay's one address: checks go end to end",
        r"\d+ / sdp / media / \d+ / candidates / \d (default6?|192.0.2.77)",
        ours=ABSENT,
        theirs=".* elsewhere .*",
    ),
    Difference(
        "media-address goes into no candidate of newer rtpengines, nor into Hairpin's",
        r"\d+ / sdp / media / \d+ / candidates / \d default",
        where=".*media-address",
        theirs=ABSENT,
    ),
    Difference(
        "The parties' ICE options pass, as checks go end to end; rtpengine says its own",
        r"\d+ / sdp / (media / \d+ / lines|session) / a=ice-options:.*",
    ),
    Difference(
        "rtpengine has no more candidates to come; end-of-candidates is its own, Hairpin passes the parties'",
        r"\d+ / sdp / media / \d+ / lines / a=end-of-candidates",
        where="browser.*",
        ours=ABSENT,
    ),
    Difference(
        "Only the parties speak ICE: rtpengine answers for a callee that has none",
        r"2 / sdp / media / \d+ / (lines / a=ice-(ufrag|pwd)|candidates / \d default6?)",
        where="ICE of the caller.*|IPv6 in ICE",
        ours=ABSENT,
    ),
    Difference(
        "Only the parties speak ICE: rtpengine leaves out what a callee answers that was not asked",
        r"2 / sdp / media / \d+ / (lines / a=ice-(ufrag|pwd)|candidates / \d default)",
        where="ICE of the callee.*",
        theirs=ABSENT,
    ),
)

_DIRECTIONS = (
    Difference(
        "Proxies send the same direction with the answer: Hairpin keeps what the offer said, rtpengine 10.5 lets the"
        " caller's side be the second name",
        r"\d+ / (sdp / media / \d+ / address|tags / (a|caller) / .* / (local port|family))",
        where=".*(direction|both directions|by (interface|name)|internal external).*",
    ),
    Difference(
        "The same of the family: Hairpin keeps the caller's, and warns",
        r"\d+ / (sdp / media / \d+ / address|tags / a / .* / (local port|family))",
        where=".*family.*",
        ours="default.*|IPv4",
        theirs="default6.*|IPv6",
    ),
    Difference(
        "Hairpin warns that a family cannot be had",
        r"2 / warning",
        where=".*family.*",
        ours=SOME,
        theirs=ABSENT,
    ),
)

_BODIES = (
    Difference(
        "A party is asked for one family: media of another one is warned of; rtpengine has both",
        r"\d+ / (sdp|tags / [ab]) / medias? / 2 / .*|1 / warning",
        where="body, c= of IPv6 in one section",
    ),
    Difference(
        "A rejected line has no streams: rtpengine goes on to show those without ports",
        r"\d+ / tags / .* / medias / \d+ / (streams / (RTP|RTCP)|flags / initialized)",
        ours=ABSENT,
        theirs=r"True|(?!.*'family').*",
    ),
    Difference(
        "There is no RTCP beside what is not RTP",
        r"\d+ / tags / .* / medias / \d+ / streams / RTCP",
        where=".*(fax|three media|protocol nobody knows|messages).*",
        ours=ABSENT,
    ),
    Difference(
        "MSRP goes past the relay: it has no streams here",
        r"\d+ / tags / .* / medias / \d+ / (streams / RTP|flags / initialized)",
        where="body, .*messages",
        ours=ABSENT,
    ),
    Difference(
        "A protocol that rtpengine does not know it leaves out",
        r"\d+ / tags / .* / medias / \d+ / protocol",
        theirs=ABSENT,
    ),
    Difference(
        "At 0.0.0.0 there is nobody: Hairpin tells the endpoint as unknown",
        r"\d+ / tags / .* / streams / (RTP|RTCP) / (endpoint|advertised endpoint|flags / filled)",
        where=".*(held by|answered with 0|hold by address|by the address).*",
        ours=f"unknown|{ABSENT}",
    ),
    Difference(
        "Directions in reports are those that both agreed to",
        r"\d+ / tags / .* / medias / \d+ / flags / (send|recv)",
        where=r"body, (sendonly and sendrecv|inactive and sendrecv|sendonly without .*|held by .*)",
        ours=ABSENT,
    ),
    Difference(
        "What a section says of its direction holds over the session (RFC 8866 section 6.7)",
        r"1 / sdp / media / \d+ / direction",
        where="body, direction of the session .*",
        ours="sendrecv",
    ),
    Difference(
        "rtcp-mux-only (RFC 8858) is written where there is no other port, and only there",
        r"1 / sdp / media / 1 / lines / a=rtcp-mux-only",
        ours=ABSENT,
    ),
    Difference("A t= line is required (RFC 8866 section 5)", r"\d+ / sdp / session / t=0 0", theirs=ABSENT),
    Difference("An s= line is required (RFC 8866 section 5)", r"\d+ / sdp / session / s=-", theirs=ABSENT),
    Difference(
        "rtpengine 10.5 cannot find the c= line behind attributes",
        r"1 / (error-reason|result|sdp)|3 / tags / b / .* / local port",
        where="body, attributes above c=",
    ),
    Difference(
        "rtpengine writes an empty rtpmap for a dynamic format that has none",
        r"\d+ / sdp / media / \d+ / by format / 99",
        ours=ABSENT,
        theirs=".*rtpmap /0.*",
    ),
    Difference(
        "An answer's formats pass as they come, also one that was not offered",
        r"2 / sdp / media / 1 / (formats|by format / \d+)",
        where="body, a format that was not offered",
    ),
    Difference(
        "RTCP goes where the party named it, though it is not muxed",
        r"3 / tags / a / medias / 1 / streams / RTCP / (endpoint|advertised endpoint)",
        where="body, a=rtcp of the same port",
        theirs="unknown",
    ),
    Difference(
        "There is no port above the highest one for RTCP",
        r"\d+ / tags / a / medias / 1 / streams / RTCP / .*",
        where="body, the highest port",
        theirs="True|.* 65536",
    ),
    Difference(
        "Hairpin cuts reports to one datagram, and warns",
        r"3 / warning|3 / tags / [ab] / medias / \d+ / streams / (RTP|RTCP)",
        where="body, 12 media",
        ours=f"{SOME}|{ABSENT}",
    ),
    Difference(
        "Secured media passes through: no keys here, so none to tell of",
        r"\d+ / tags / .* / (flags / (SDES|DTLS.*)|crypto suite)",
        ours=ABSENT,
    ),
    Difference(
        "Keys of the session pass where they are",
        r"\d+ / sdp / session / a=(setup:.*|fingerprint sent)",
        theirs=ABSENT,
    ),
)

_LINES = (
    Difference(
        "What was not offered is rejected in the answer (RFC 3264 section 6)",
        r"\d+ / (sdp|tags / [ab]) / medias? / 2 / .*",
        where="body, the answer has more lines",
    ),
    Difference(
        "bundle-only means a rejected line where BUNDLE is broken up; rtpengine 10.5 passes it on",
        r"1 / sdp / media / 2 / lines / a=bundle-only",
        ours=ABSENT,
    ),
    Difference(
        "Groups of any kind are left out by newer rtpengines and Hairpin",
        r"\d+ / sdp / session / a=group:LS a v",
        ours=ABSENT,
    ),
    Difference(
        "rtpengine writes protocols that it knows in its own letters",
        r"\d+ / (sdp / media|tags / [ab] / medias) / 1 / protocol",
        ours="UDPTL",
        theirs="udptl",
    ),
    Difference(
        "A rejected line has no attributes but its names in newer rtpengines and Hairpin",
        r"\d+ / sdp / media / \d+ / lines / a=T38.*",
        where=".*fax.*",
        ours=ABSENT,
    ),
)

BODIES = (*_SECURED, *_ICE, *_DIRECTIONS, *_BODIES, *_LINES)
