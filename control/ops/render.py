"""The relay's answers as text for people: aligned tables that fit a terminal and a ticket."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from control.ops import routes
from control.ops.text import Row, clean, duration, table

_DSCP_NAMES = {0: "CS0", 8: "CS1", 10: "AF11", 18: "AF21", 24: "CS3", 26: "AF31", 34: "AF41", 40: "CS5", 46: "EF"}
_NG_TEXTS = {
    "repeats": "answered again, from memory",
    "malformed": "no ng message",
    "strangers": "from addresses that may not command the relay: not answered",
    "failures": "requests the relay failed at: see its log",
    "oversize": "replies too large for a datagram",
    "unsent_full": "replies not sent for a full socket",
    "unsent_error": "replies the kernel refused to send",
    "receive_drops": "lost because the relay did not read in time",
    "flooded": "lost of those who sent more than could be answered",
    "remembered": "replies kept for repeats now",
    "remembered_too_many": "replies forgotten early, for want of room",
    "made_room": "idle connections closed for others beyond the limit",
    "crowded": "connections refused beyond the limit",
    "broken": "connections closed for bytes that are no message",
    "slow": "clients dropped that neither sent nor read in time",
    "idle": "connections closed after an hour of silence",
    "unfit": "HTTP requests answered 400, 404 or 413",
    "foreign": "requests of other origins' web pages, refused",
    "refused": "answered with an error",
    "failed": "not answered",
    "lost": "not sent, for too many were waiting",
    "ignored_keys": "keys and flags of requests that mean nothing here",
}
_TREATMENTS = {
    "block": "its media is blocked by command",
    "silence": "its media is silenced by command",
    "block events": "its DTMF is blocked by command",
}
_MUX = {"off": "", "offered": ", rtcp-mux offered", "on": ", rtcp-mux"}
_STREAM_HEADS = ("PART", "LOCAL", "PEER (SDP)", "PEER (SEEN)", "DSCP", "PACKETS", "LOST", "JITTER", "DROPS", "PATH")


def dscp(tos: int | None) -> str:
    """The marking of forwarded packets, from the whole TOS byte."""
    if tos is None:
        return "kept"
    point = tos >> 2
    return f"{point} {_DSCP_NAMES[point]}" if point in _DSCP_NAMES else str(point)


def loss(stream: Mapping[str, Any]) -> str:
    """Lost packets with their share of those expected; `-` where the stream carries no RTP."""
    lost, expected = stream["lost"], stream["expected"]
    return f"{lost} ({100 * lost / expected:.1f}%)" if expected else "-"


def calls(items: Sequence[Mapping[str, Any]]) -> str:
    """`hairpin list`."""
    if not items:
        return "no calls"
    rows = [
        (c["call_id"], _state(c), duration(c["age"]), c["streams"], c["packets"], c["lost"], ", ".join(c["paths"]))
        for c in items
    ]
    return table(("CALL", "STATE", "AGE", "STREAMS", "PACKETS", "LOST", "PATH"), rows)


def _state(item: Mapping[str, Any]) -> str:
    words = [item["state"]]
    if item["branches"] > 1:
        words.append(f"{item['branches']} branches")
    if item.get("owner") is not None:
        words.append(f"of keyspace {item['owner']}")
    return ", ".join(words)


def call(item: Mapping[str, Any]) -> str:
    """`hairpin show`: the call, then each leg's media with one line per stream."""
    head = f"call {clean(item['call_id'])}: {_state(item)}, {duration(item['age'])} old"
    return "\n".join([head, *(line for leg in item["legs"] for line in _leg(leg, item["branches"] > 1))])


def _leg(leg: Mapping[str, Any], in_branch: bool) -> Iterable[str]:
    facts = [f"leg {clean(leg['tag'])} at {clean(leg['interface'])}"]
    if leg["other_tags"]:
        facts.append(f"also {', '.join(map(clean, leg['other_tags']))}")
    if leg["label"]:
        facts.append(f"label {clean(leg['label'])}")
    if in_branch:
        facts.append(f"branch {clean(leg['branch'])} ({leg['branch_state']})")
    if leg["treatment"] != "pass":
        facts.append(_TREATMENTS[leg["treatment"]])
    yield "\n" + "; ".join(facts)
    for media in leg["media"]:
        mux = _MUX[media["rtcp_mux"]]
        yield f"  media {media['index']}: {clean(media['kind'])}, {clean(media['protocol'])}, {media['direction']}{mux}"
        if not media["streams"]:
            yield "    no ports: rejected or not negotiated yet"
            continue
        rows = table(_STREAM_HEADS, map(_stream, media["streams"]))
        yield from (f"    {line}" for line in rows.splitlines())
        yield from (f"    {note}" for stream in media["streams"] for note in _notes(stream))


def _stream(s: Mapping[str, Any]) -> Row:
    jitter = None if s["jitter_ms"] is None else f"{s['jitter_ms']:.1f} ms"
    seen = None if s["observed"] is None else s["observed"] + ("" if s["confirmed"] else " (learning)")
    path = s["path"] if not s["refusal"] else f"{s['path']}: {s['refusal']}"
    return (
        s["part"],
        s["local"],
        s["signalled"],
        seen,
        dscp(s["tos"]),
        s["packets"],
        loss(s),
        jitter,
        s["drops"],
        path,
    )


def _notes(s: Mapping[str, Any]) -> Iterable[str]:
    if s["drops"]:
        yield f"{s['part']} {s['local']}: {s['drops']} dropped, last: {clean(s['last_drop_text'])}"
    if s["foreign"]:
        yield f"{s['part']} {s['local']}: {s['foreign']} packets from another source than the learned one"
    if s["duplicates"] or s["reordered"]:
        yield f"{s['part']} {s['local']}: {s['duplicates']} duplicates, {s['reordered']} reordered"


def rules(items: Sequence[Mapping[str, Any]]) -> str:
    """`hairpin rules`."""
    if not items:
        return "no rules in force"
    rows = [(r["local"], r["leaves_from"], r["destination"], dscp(r["tos"]), r["packets"], r["drops"], _rule_path(r),
             r["call_id"]) for r in items]  # fmt: skip
    return table(("LOCAL", "LEAVES FROM", "TO", "DSCP", "PACKETS", "DROPS", "PATH", "CALL"), rows)


def _rule_path(rule: Mapping[str, Any]) -> str:
    marks = [rule["treatment"]] if rule["treatment"] != "pass" else []
    return ", ".join([rule["path"], *marks, *(["RTCP by the port above"] if rule["split"] else [])])


def status(item: Mapping[str, Any]) -> str:
    """`hairpin status`."""
    age = duration(item["uptime"]) + (f", since {item['since']}" if "since" in item else "")
    facts = [("data plane", line) for line in item["dataplane"]]
    facts.append(("calls", _numbers(item["calls"])))
    if item["draining"]:
        facts.append(("draining", "new calls are refused until `hairpin resume`"))
    facts += [("kept", fact) for fact in item.get("kept", ())]
    facts += [("limit", limit) for limit in item.get("limits", ())]
    facts += [("interface", _interface(one)) for one in item["interfaces"]]
    facts.append(("ports", item["ports"]))
    facts += [("reload", fact) for fact in _reload(item["reload"])]
    facts += [("ng", f"{one['address']}, open to {one['open_to']}") for one in item["listeners"]]
    lines = [f"hairpin {item['version']}, instance {item['instance']}, pid {item['pid']}, up {age}"]
    lines += [f"{name:10} {clean(fact)}" for name, fact in facts]
    for part in (list(routes.addresses(item["failover"])) if "failover" in item else [], *_told(item)):
        lines += ["", *part] if part else []
    for title, counters in item["counters"].items():
        if any(counters.values()):
            texts = _NG_TEXTS if title.startswith(("ng ", "timeouts ")) else item["texts"]
            lines += ["", title, *_counters(counters, texts)]
    return "\n".join(lines)


def _told(item: Mapping[str, Any]) -> Iterator[list[str]]:
    """What the parts that keep calls tell of themselves."""
    for name in ("replication", "redis", "keeper", "journal"):
        if name in item:
            yield list(routes.tree(name, item[name]))


def drained(item: Mapping[str, Any]) -> str:
    """`hairpin drain`."""
    moved = (
        f"; packets come elsewhere, drained: {', '.join(map(clean, item['drained']))}" if item.get("drained") else ""
    )
    return f"draining, new calls are refused: {_numbers(item['calls'])}{moved}"


def resumed(item: Mapping[str, Any]) -> str:
    """`hairpin resume`."""
    return f"new calls are taken: {_numbers(item['calls'])}"


def _numbers(calls: Mapping[str, int]) -> str:
    ready = f"; {calls['ready']} of partners held ready" if calls.get("ready") else ""
    return f"{calls['standing']} standing, {calls['deleted']} in their delete delay{ready}"


def _reload(item: Mapping[str, Any]) -> Iterator[str]:
    if "seconds_ago" in item:
        failed = f" failed: {'; '.join(item['problems'])}" if item["problems"] else ""
        yield f"{duration(item['seconds_ago'])} ago{failed}"
    if item["pending"]:
        yield f"a restart is needed for {', '.join(item['pending'])}"


def _interface(item: Mapping[str, Any]) -> str:
    return f"{item['name']} {item['address']}: {item['ports_used']} ports used, {item['ports_free']} free"


def _counters(counters: Mapping[str, int], texts: Mapping[str, str]) -> list[str]:
    rows = [(name, value, texts.get(name, "")) for name, value in counters.items() if value]
    names, values = (max(len(str(row[i])) for row in rows) for i in (0, 1))
    return [f"  {clean(name):{names}}  {value:{values}}  {text}".rstrip() for name, value, text in rows]
