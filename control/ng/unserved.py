"""What controllers can ask for and this relay does not do: the sentence that the reply's warning has for each.

Flags that would change nothing here are not among them: they are accepted in silence.
"""

from __future__ import annotations

__all__ = ["ICE", "KEYS", "SECURED", "WORDS"]

_TRANSCODING = "nothing is transcoded, media passes as it comes"
_KEYING = "keys, fingerprints and setup of secured media pass unchanged"
_RECORDING = "record-call: nothing is recorded"
_DTMF = "DTMF is neither made nor changed, it passes as it comes"
_CANDIDATES = "the sender's candidates are replaced by the relay's own, and checks go end to end"

ICE = {
    "force": f"ICE=force: no ICE is made for a party whose peer has none; {_CANDIDATES}",
    "optional": f"ICE=optional: no ICE is made for a party whose peer has none; {_CANDIDATES}",
    "force-relay": f"ICE=force-relay: {_CANDIDATES}",
    "lite-forward": f"ICE=lite-forward: {_CANDIDATES}",
    "lite-backward": f"ICE=lite-backward: {_CANDIDATES}",
    "lite-both": f"ICE=lite-both: {_CANDIDATES}",
}
"""By the word for ICE."""

_SHARED = {
    "always-transcode": f"always-transcode: {_TRANSCODING}",
    "allow-transcode": f"allow-transcode: {_TRANSCODING}",
    "allow-transcoding": f"allow-transcoding: {_TRANSCODING}",
    "force-transcode": f"force-transcode: {_TRANSCODING}",
    "transcode": f"transcode: {_TRANSCODING}",
    "asymmetric-codecs": f"asymmetric-codecs: {_TRANSCODING}",
    "audio-player": "audio-player: nothing is played",
    "block-dtmf": "block-DTMF in an offer or answer is not done: use the command block DTMF",
    "block-egress": "block-egress: nothing is held back but by the commands block media and silence media",
    "block-short": "block-short: packets pass whatever their length",
    "bundle": "bundle: BUNDLE is broken up, each medium has ports of its own",
    "delay-buffer": "delay-buffer: packets pass at once",
    "detect-dtmf": "detect-DTMF: DTMF passes unseen",
    "dtmf-log-dest": "dtmf-log-dest: DTMF passes unseen",
    "early-media": "early-media: nothing is played",
    "frequency": "frequency: no tones are made",
    "generate-rtcp": "generate-RTCP: RTCP passes between the parties, none is made",
    "inject-dtmf": f"inject-DTMF: {_DTMF}",
    "media-echo": "media-echo: media goes to the other party, not back",
    "mirror-rtcp": "mirror-RTCP: RTCP goes to the other party, not back",
    "mix": "mix: media is not mixed",
    "moh": "moh: no music is played on hold",
    "nat-wait": "NAT-wait: media is sent on before its receiver has sent any",
    "pierce-nat": "pierce-NAT: no packets are made, a NAT is opened by its party's own",
    "player": "player: nothing is played",
    "ptime-reverse": "ptime-reverse: packets pass as they come",
    "recording-announcement": "recording-announcement: nothing is recorded or played",
    "recording-vsc": _RECORDING,
    "record-call": _RECORDING,
    "repacketize": "repacketize: packets pass as they come",
    "siprec": "SIPREC: nothing is recorded",
    "t.38": "T.38: fax passes as it comes, there is no gateway",
    "t38": "T.38: fax passes as it comes, there is no gateway",
    "trickle-ice": f"trickle-ICE: {_CANDIDATES}",
    "volume": "volume: nothing is played",
}
WORDS = {
    **_SHARED,
    "webrtc": "WebRTC: SRTP and ICE are not made for a party whose peer has none, they pass end to end",
}
"""By the flag, in lower case and with hyphens."""

KEYS = {
    **_SHARED,
    "ice-lite": f"ICE-lite: {_CANDIDATES}",
    **{
        f"dtmf-{word}": f"DTMF-{word}: {_DTMF}"
        for word in ("delay", "security", "security-trigger", "security-trigger-end")
    },
    "drop-traffic": "drop-traffic: use the command block media",
    "extmap": "extmap: header extensions are taken out by strip-extmap or not at all",
    "osrtp": "OSRTP: no keys are offered beside plain RTP",
    "sdp-attr": "sdp-attr: attributes pass as they come",
    "sdp-media-remove": "sdp-media-remove: all media stays",
    "t.38-version": "T.38-version: fax passes as it comes, there is no gateway",
    "trigger": "trigger: DTMF passes unseen",
    "trigger-end": "trigger-end: DTMF passes unseen",
}
"""By the key of the dictionary."""

SECURED = {
    "dtls": f"DTLS: {_KEYING}",
    "dtls-reverse": f"DTLS-reverse: {_KEYING}",
    "dtls-fingerprint": f"DTLS-fingerprint: {_KEYING}",
    "sdes": f"SDES: {_KEYING}",
    "pad-crypto": f"pad-crypto: {_KEYING}",
    "recrypt": f"recrypt: {_KEYING}",
}
"""By key or flag, told only of calls whose media is secured."""
