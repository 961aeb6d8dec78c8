"""Bodies as real senders write them, from softphones to browsers."""

from __future__ import annotations


def body(text: str, eol: str = "\r\n") -> str:
    """The lines of an indented block as an SDP body."""
    return "".join(line.strip(" ") + eol for line in text.strip("\n").split("\n") if line.strip())


SIPP = body(
    """
    v=0
    o=user1 53655765 2353687637 IN IP4 10.1.0.2
    s=-
    c=IN IP4 10.1.0.2
    t=0 0
    m=audio 6000 RTP/AVP 0
    a=rtpmap:0 PCMU/8000
    """
)

BARE = body(
    """
    v=0
    o=- 1 1 IN IP4 10.1.0.2
    s=
    t=0 0
    m=audio 6000 RTP/AVP 8 0 101
    c=IN IP4 10.1.0.2
    """
)
"""No attribute at all, an empty name, a c= line in the section only."""

ASTERISK = body(
    """
    v=0
    o=- 1547043519 3 IN IP4 192.0.2.10
    s=Asterisk
    c=IN IP4 192.0.2.10
    t=0 0
    m=audio 14822 RTP/AVP 9 8 0 101
    a=rtpmap:9 G722/8000
    a=rtpmap:8 PCMA/8000
    a=rtpmap:0 PCMU/8000
    a=rtpmap:101 telephone-event/8000
    a=fmtp:101 0-16
    a=ptime:20
    a=maxptime:150
    a=sendrecv
    """
)

PHONE = body(
    """
    v=0
    o=Desk Phone 20518 20518 IN IP4 10.20.30.40
    s=SIP Call
    i=A desk phone
    e=desk@example.com
    c=IN IP4 10.20.30.40
    b=AS:128
    t=0 0
    a=sendonly
    m=audio 2222/1 RTP/AVP 9 0 8 18 127
    i=Voice
    b=TIAS:64000
    a=rtpmap:9 G722/8000
    a=rtpmap:0 PCMU/8000
    a=rtpmap:8 PCMA/8000
    a=rtpmap:18 G729/8000
    a=fmtp:18 annexb=no
    a=rtpmap:127 telephone-event/8000
    a=fmtp:127 0-15
    a=rtcp:2300 IN IP4 10.20.30.41
    a=rtcp-xr:voip-metrics
    """
)

FAX = body(
    """
    v=0
    o=gw 7 8 IN IP4 10.0.0.7
    s=fax
    c=IN IP4 10.0.0.7
    t=0 0
    m=audio 0 RTP/AVP 0 8
    m=image 5004 udptl t38
    a=T38FaxVersion:0
    a=T38MaxBitRate:14400
    a=T38FaxRateManagement:transferredTCF
    """
)

VIDEO = body(
    """
    v=0
    o=room 1 1 IN IP6 2001:db8::5
    s=-
    c=IN IP6 2001:DB8:0:0::5
    b=AS:1024
    t=0 0
    m=audio 7000 RTP/AVP 96 9
    a=rtpmap:96 opus/48000/2
    a=fmtp:96 useinbandfec=1
    a=label:11
    m=video 7002 RTP/AVPF 97 34
    a=rtpmap:97 H264/90000
    a=fmtp:97 profile-level-id=42e01f;packetization-mode=1
    a=rtcp-fb:97 nack pli
    a=rtcp-fb:* ccm fir
    a=content:main
    a=recvonly
    m=message 2855 TCP/MSRP *
    a=accept-types:text/plain
    a=path:msrp://room.example.com:2855/s;tcp
    """
)

BROWSER = body(
    """
    v=0
    o=- 4611731400430051336 2 IN IP4 127.0.0.1
    s=-
    t=0 0
    a=group:BUNDLE 0 1
    a=group:LS 0 1
    a=extmap-allow-mixed
    a=msid-semantic: WMS stream
    a=ice-lite
    m=audio 54609 UDP/TLS/RTP/SAVPF 111 63 0 13 110
    c=IN IP4 203.0.113.5
    a=rtcp:9 IN IP4 0.0.0.0
    a=candidate:2 1 udp 2122260223 192.168.1.4 54609 typ host generation 0 network-id 1
    a=candidate:1 1 udp 1686052607 203.0.113.5 54609 typ srflx raddr 192.168.1.4 rport 54609
    a=ice-ufrag:EsAw
    a=ice-pwd:bP+XJMM09aR8AiX1jdukzR6Y
    a=ice-options:trickle
    a=fingerprint:sha-1 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB
    a=setup:actpass
    a=mid:0
    a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
    a=sendrecv
    a=msid:stream track
    a=rtcp-mux
    a=rtcp-mux-only
    a=rtcp-rsize
    a=rtpmap:111 opus/48000/2
    a=rtcp-fb:111 transport-cc
    a=fmtp:111 minptime=10;useinbandfec=1
    a=rtpmap:63 red/48000/2
    a=fmtp:63 111/111
    a=rtpmap:0 PCMU/8000
    a=rtpmap:13 CN/8000
    a=rtpmap:110 telephone-event/48000
    a=ssrc:3570614608 cname:4TOk42mSjXCkVIa6
    a=end-of-candidates
    m=video 0 UDP/TLS/RTP/SAVPF 96
    c=IN IP4 0.0.0.0
    a=bundle-only
    a=mid:1
    a=rtpmap:96 VP8/90000
    """
)

ALL = {
    "sipp": SIPP,
    "bare": BARE,
    "asterisk": ASTERISK,
    "phone": PHONE,
    "fax": FAX,
    "video": VIDEO,
    "browser": BROWSER,
}
