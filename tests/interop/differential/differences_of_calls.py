"""What the relays do differently with calls, and how they say it."""

from __future__ import annotations

import re

from tests.interop.differential.comparison import ABSENT, SOME, Difference
from tests.interop.differential.flags import NOT_DONE

_REPORTS = (
    Difference("rtpengine 10.5 has no created_ts, newer ones have", r"\d+ / created_ts", theirs=ABSENT),
    Difference(
        "rtpengine 10.5 says this of every callee, ICE or not",
        r"\d+ / tags / .* / flags / ICE controlling",
        ours=ABSENT,
    ),
    Difference(
        "rtpengine 10.5 calls a party's media initialized when it has answered, Hairpin when it has ports",
        r"\d+ / tags / .* / medias / \d+ / flags / initialized",
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
        where=".*(record-call=yes|(start|stop) recording|no such name|nonsense|query by another tag).*",
        ours=SOME,
        theirs=ABSENT,
    ),
)

_NOT_DONE = (
    *(
        Difference(
            "What needs media to be processed is not done here, and is warned of",
            r"1 / warning",
            where=f"not done, {re.escape(name)}",
            ours=SOME,
            theirs=ABSENT,
        )
        for name in NOT_DONE
    ),
    Difference(
        "rtpengine does what is asked for, Hairpin lets media pass",
        r"2 / warning|\d+ / (sdp|tags) / .*",
        where="not done, .*",
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
        where="re-INVITE, (the caller's port and back|rejected and back)|a refused re-INVITE",
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

_PARTIES = (
    Difference(
        "A third tag is another name of the second party (newer rtpengines); 10.5 makes a third party of it",
        r"\d+ / (sdp / media / 1 / port|tags / .*)",
        where="a third party .*",
    ),
    Difference(
        "Each branch has ports of its own on both sides, also where it replaces one that is being deleted",
        r"4 / sdp / media / 1 / port",
        where="in turn, with a delay",
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

CALLS = (*_REPORTS, *_WARNINGS, *_NOT_DONE, *_COMMANDS, *_PORTS, *_PARTIES, *_DELETES)
