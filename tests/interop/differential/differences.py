"""All that the two relays may tell differently, with the reason for each.

An entry names points (comparison.Point) by patterns that must match as a whole: the conversation's name, the way to the
point, and what each relay tells. One that matches no point of any conversation fails the test, as a point does that no
entry matches.
"""

from __future__ import annotations

from tests.interop.differential.comparison import ABSENT, Difference

__all__ = ["DIFFERENCES"]

SOME = "some"

_REPORTS = (
    Difference("rtpengine 10.5 has no created_ts, newer ones have", r"\d+ / created_ts", theirs=ABSENT),
    Difference(
        "rtpengine 10.5 says this of every callee, ICE or not",
        r"\d+ / tags / .* / flags / ICE controlling",
        ours=ABSENT,
    ),
    Difference(
        "rtpengine 10.5 calls a party's media initialized when it has answered, Hairpin when it has ports",
        r"\d+ / tags / untagged .* / medias / \d+ / flags / initialized",
        ours="True",
    ),
    Difference(
        "One port for both is one stream of Hairpin's; rtpengine shows a second one without use",
        r"\d+ / tags / .* / streams / RTCP",
        ours=ABSENT,
        theirs=".*'fallback RTCP': True.*",
    ),
    Difference(
        "rtpengine tells where RTCP would go if it were not muxed",
        r"\d+ / tags / .* / streams / RTCP / flags / fallback RTCP",
        ours=ABSENT,
    ),
)

_WARNINGS = (
    Difference(
        "What is not done here is told in a warning, rtpengine does it or ignores it",
        r"\d+ / warning",
        where=".*(record-call|early-media|(start|stop) recording|no such name|nonsense|query by another tag).*",
        ours=SOME,
        theirs=ABSENT,
    ),
)

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
    Difference(
        "ICE=optional: rtpengine adds itself to the candidates, or makes ICE where there is none",
        r"\d+ / sdp / media / \d+ / (lines / a=ice-(ufrag|pwd)|candidates / \d .*)",
        where=".*ICE optional",
    ),
    Difference(
        "ICE=optional keeps the BUNDLE group in rtpengine 10.5; newer ones break it up",
        r"\d+ / sdp / session / a=group:BUNDLE 0",
        where=".*ICE optional",
        ours=ABSENT,
    ),
)

_DIRECTIONS = (
    Difference(
        "Proxies send the same direction with the answer: Hairpin keeps what the offer said, rtpengine 10.5 lets the"
        " caller's side be the second name",
        r"\d+ / (sdp / media / \d+ / address|tags / (a|caller) / .* / (local port|family))",
        where=".*(direction|both directions|by interface|internal external).*",
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
        "A line that was not answered has its ports still",
        r"3 / tags / b / medias / 2 / flags / initialized",
        where="body, the answer has fewer lines",
        theirs=ABSENT,
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

_REPORT = "SSRC|created|created_us|last signal|tags|totals"
_COMMANDS = (
    Difference(
        "Without received-from there is only the SDP's address: Hairpin takes it, rtpengine gives up",
        r"\d+ / (error-reason|result|sdp)",
        where="(plain|rich), flag SIP-source-address",
        ours=r"-|ok|\{.*",
    ),
    Difference(
        "reuse-codecs lets rtpengine 10.5 answer with feedback of the offer",
        r"2 / sdp / media / 2 / by format / 96 / rtcp-fb nack",
        where="rich, flag reuse-codecs",
        ours=ABSENT,
    ),
    Difference(
        "An answer has the profile of its offer (RFC 3264 section 6), whatever is asked for with it",
        r"\d+ / (sdp / media|tags / (a|caller) / medias) / \d / protocol",
        where=".*(transport|shorthand|RTP/AVPF).*",
        ours="RTP/AVP",
        theirs="RTP/AVPF",
    ),
    Difference(
        "No line is left without a codec: Hairpin keeps all, and warns",
        r"\d+ / (warning|sdp / media / \d / (formats|by format / \d+))",
        where=".*codec strip.*",
        ours=f"{SOME}|8 101|96 97|.*rtpmap (VP8|PCMA).*",
    ),
    Difference(
        "An answer's formats pass as they come, also one that was not offered",
        r"2 / sdp / media / 1 / (formats|by format / 101)",
        where="offer alone, codec strip all, offer PCMA",
    ),
    Difference(
        "Nobody of IPv4 can be sent to from a port of IPv6",
        r"3 / tags / b / .* / flags / filled",
        where="rtpp-flags, a family",
        ours=ABSENT,
    ),
    Difference(
        "Commands that rtpengine 10.5 does not know, newer ones do",
        r"\d+ / (error-reason|result|warning)",
        where="pause recording: .*|block media: hyphen",
    ),
    Difference(
        "Nothing is forwarded to a recorder here, and that is an error",
        r"\d+ / (error-reason|result)",
        where="(start|stop) forwarding: .*",
        ours="error|This relay sends no copies.*",
    ),
    Difference(
        "An unknown call is told of in the same words by all commands",
        r"1 / error-reason",
        ours="Unknown call-id",
        theirs="Unknown call-ID",
    ),
    Difference(
        "Who is not in the call is named",
        r"3 / error-reason",
        where="block media: by .*",
        ours="No party of the call has the (address 192.0.2.99|label none)",
    ),
    Difference(
        "A command that is no word is unknown, rather than absent",
        r"1 / error-reason",
        where="refused, a command that is a number",
    ),
    Difference(
        "An empty tag is no tag: rtpengine takes it for one",
        r"1 / (error-reason|result|sdp)",
        where="refused, offer with an empty tag",
    ),
    Difference(
        "An answer of tags that the call does not know belongs to no offer",
        r"2 / (error-reason|result|sdp)",
        where="refused, an answer by a stranger",
    ),
    Difference(
        "A body without media is an error in answers too",
        r"2 / (error-reason|result|sdp)",
        where="refused, an answer that is garbage",
    ),
    Difference(
        "rtpengine finds no codec in common for a party that answers itself",
        r"2 / sdp / media / 1 / (formats|by format / \d)",
        where="refused, the caller answers itself",
    ),
)

_PORTS = (
    Difference(
        "A replaced pair of ports is given back: rtpengine knows the ports again that belonged to an endpoint",
        r"\d+ / (sdp / media / 1 / port|tags / [ab] / .* / local port)",
        where="re-INVITE, (the caller's port and back|rejected and back)",
    ),
    Difference(
        "An answer moves nobody: the offerer's ports stay where they are, rtpengine moves them with the answerer's",
        r"\d+ / (sdp / media / 1 / port|tags / a / .* / local port)",
        where="re-INVITE, (the callee's (port|address)|both ports)|provisional on another port",
        ours=r".*port 1",
        theirs=r".*port 2",
    ),
    Difference(
        "Who is on hold receives nothing and moves nobody; rtpengine 10.5 looks at the side that goes on sending",
        r"\d+ / (sdp / media / 1 / port|tags / b / .* / local port)",
        where="re-INVITE, hold on another port",
        ours=r".*port 1",
        theirs=r".*port 2",
    ),
    Difference(
        "Without branches, another answer is of the same party (newer rtpengines); 10.5 makes another party of it",
        r"3 / sdp / media / 1 / port",
        where="two answers.*",
        ours=r".*port 1",
        theirs=r".*port 2",
    ),
)

_DELETES = (
    Difference(
        "In forks rtpengine 10.5 lets the caller hear all branches and be heard by the last one; Hairpin tells of both"
        " ends of each branch",
        r"\d+ / tags / .* / (subscribers|subscriptions) / .*",
        where=".*branch.*",
    ),
    Difference(
        "rtpengine tells nothing of a call that is deleted without a tag",
        rf"\d+ / ({_REPORT})",
        where="delete .*without tags",
        theirs=ABSENT,
    ),
    Difference(
        "The from-tag decides in newer rtpengines, unless the flag to-tag is set; in 10.5 the to-tag",
        rf"\d+ / ({_REPORT}|warning|error-reason|result|tags / .*)",
        where="delete .*(by another to-tag|unanswered by both tags reversed)",
    ),
    Difference(
        "rtpengine 10.5 tells no parties where a to-tag is given before there was an answer",
        r"2 / tags / (a|untagged 1)",
        where="delete unanswered (by both tags|with the flag to-tag)",
        theirs=ABSENT,
    ),
    Difference(
        "rtpengine 10.5 does not know the flag fast, newer ones do",
        rf"3 / ({_REPORT})",
        where="delete without a body",
        ours=ABSENT,
    ),
)

DIFFERENCES = (
    *_REPORTS,
    *_WARNINGS,
    *_SECURED,
    *_ICE,
    *_DIRECTIONS,
    *_BODIES,
    *_LINES,
    *_COMMANDS,
    *_PORTS,
    *_DELETES,
)
