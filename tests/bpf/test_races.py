"""Two processors at one rule: what must agree does, and nothing is counted twice or lost.

A packet that is dropped for want of a destination leaves the run as it came in, so the kernel itself can repeat it; it
is admitted, counted and learned from all the same.
"""

from __future__ import annotations

import itertools
import struct
import threading
from collections.abc import Callable, Iterator
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from relay.dataplane import abi, words
from relay.dataplane.libbpf import Object
from relay.types import Endpoint
from tests.bpf.compiler import compiled
from tests.bpf.switchboard import A6, PORT_A, PORT_A6, PORT_B, PORT_B6, A, B, Switchboard, datagram

KEY = struct.Struct("=I")
RUNS = 50_000
RACES = 800_000
ANSWERS = 2000
NO_LIMIT = 1 << 16
SOURCES = [Endpoint("192.0.2.201", 1111), Endpoint("192.0.2.202", 2222)]


@pytest.fixture(scope="module")
def loaded(built_object: Path) -> Iterator[Switchboard]:
    """A program without a rate guard."""
    board = Switchboard(built_object, rate=NO_LIMIT)
    yield board
    board.close()


def together(*jobs: Callable[[], object]) -> None:
    """Run the jobs at the same time; test runs give up Python's lock."""
    failures: list[BaseException] = []

    def guarded(job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def sender(board: Switchboard, source: Endpoint, runs: int = RUNS) -> Callable[[], object]:
    frame = bytes(datagram(source, PORT_A, b"eight by"))
    return lambda: board.run(frame, repeat=runs)


GENERATIONS = """
#include "abi.h"

#define PORT_A 30000
#define PORT_B 30002
#define ENDPOINT 0xffffffffffffULL
#define READ(x) (*(volatile __u64 *)&(x))

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, HP_PORTS);
	__type(key, __u32);
	__type(value, struct hp_rule);
} rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} relay SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} found SEC(".maps");

static void count(__u32 which)
{
	__u64 *value = bpf_map_lookup_elem(&found, &which);

	if (value)
		*value += 1;
}

struct look {
	struct hp_rule *a, *b;
	__u64 generation, mixed;
};

static long look_again(__u32 turn, struct look *l)
{
	__u64 expected = READ(l->a->expected), learned = READ(l->b->learned);

	l->mixed = expected >> 50 == l->generation && learned != ((expected & ENDPOINT) | l->generation << 48);
	return !l->mixed;
}

/* Look whether both words of the last generation name one source, begin the next, and let the packet in. */
SEC("xdp")
int next_generation(struct xdp_md *ctx)
{
	__u32 port_a = PORT_A, port_b = PORT_B;
	struct hp_rule *a = bpf_map_lookup_elem(&rules, &port_a), *b = bpf_map_lookup_elem(&rules, &port_b);
	struct look found = { .a = a, .b = b };
	__u64 generation;

	if (!a || !b)
		return XDP_ABORTED;
	found.generation = generation = a->control & HP_GENERATION_MASK;
	/* the other processor may be interrupted, or an emulated one stopped, between its two stores: give it time */
	bpf_loop(1 << 20, look_again, &found, 0);
	count(found.mixed);
	generation = generation % HP_GENERATION_MASK + 1;
	READ(b->signalled) = (b->signalled & ENDPOINT) | generation << 48;
	READ(a->control) = (a->control & ~0xffffULL) | generation;
	bpf_tail_call(ctx, &relay, 0);
	return XDP_ABORTED;
}
"""


def test_of_two_sources_that_race_one_is_both_expected_and_answered(board: Switchboard, tmp_path: Path) -> None:
    """A race in each of many generations, begun by one processor under the other's traffic."""
    board.call(abi.LEARN_IMMEDIATE, b=None)
    with Object.open(compiled(tmp_path, GENERATIONS)) as judge:
        judge.map("rules").resize(board.object.map("rules").max_entries)
        judge.map("rules").reuse(board.object.map("rules").fd)
        judge.load()
        judge.map("relay").update(bytes(4), struct.pack("=I", board.program.fd))
        board.run(datagram(SOURCES[0]))
        first = bytes(datagram(SOURCES[0]))
        together(
            lambda: judge.program("next_generation").test_run(first, repeat=RACES),
            sender(board, SOURCES[1], RACES),
        )
        agreed, mixed = (struct.unpack("=Q", judge.map("found").lookup(KEY.pack(key)) or b"")[0] for key in (0, 1))
    assert (agreed, mixed) == (RACES, 0)
    assert board.cold(PORT_A)["foreign"] > RUNS / 10, "the two hardly met"


INTERRUPTED = """
#include "maps.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} meanwhile SEC(".maps");

/* Another processor stores a word just before one with the same tag is stored here. */
static __always_inline __u64 interrupted(__u64 *word, __u64 read, __u64 next)
{
	__u32 zero = 0;
	__u64 *other = bpf_map_lookup_elem(&meanwhile, &zero);

	if (other && *other && *other >> 48 == next >> 48) {
		*word = *other;
		*other = 0;
	}
	return __sync_val_compare_and_swap(word, read, next);
}

#define __sync_val_compare_and_swap interrupted
#include "relay.bpf.c"
"""


@pytest.mark.parametrize("state", [abi.OPEN, abi.CONFIRMED])
@pytest.mark.parametrize("winner", SOURCES)
def test_who_stores_last_leaves_one_source_expected_and_answered(tmp_path: Path, winner: Endpoint, state: int) -> None:
    """A source's other packet wins for it, or a rival does, while the first is between its two stores."""
    mode = abi.LEARN_IMMEDIATE if state == abi.CONFIRMED else abi.LEARN_DELAYED
    board = Switchboard(compiled(tmp_path, INTERRUPTED, licence=""))
    try:
        board.call(mode, b=None)
        board.rule(PORT_B)["learned"] = words.peer(SOURCES[0], 1)  # a rival has stored the first of its two
        board.object.map("meanwhile").update(KEY.pack(0), struct.pack("=Q", words.peer(winner, 1 << 2 | state)))
        board.run(datagram(SOURCES[1]))
        assert board.standing(PORT_A) == (winner, state)
        assert board.learned(PORT_B) == winner
    finally:
        board.close()


OUTRUN = """
#include "maps.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hp_ip6);
} rival SEC(".maps");

/* Just after a token is taken here, another processor enters the same address under a token of its own. */
static __always_inline long outrun(void *queue, void *value)
{
	struct hp_ip6 *address, *peer;
	long result = bpf_map_pop_elem(queue, value);
	__u32 zero = 0, token = 0;

	address = bpf_map_lookup_elem(&rival, &zero);
	if (!address || bpf_map_pop_elem(queue, &token))
		return result;
	peer = bpf_map_lookup_elem(&peers, &token);
	if (peer)
		*peer = *address;
	bpf_map_update_elem(&tokens, address, &token, BPF_ANY);
	return result;
}

#define bpf_map_pop_elem outrun
#include "relay.bpf.c"
"""


def test_who_is_second_to_name_an_address_gives_its_token_back(tmp_path: Path) -> None:
    """Both processors have taken a token for one address: it stands under the first one's, and no token is lost."""
    source = Endpoint("2001:db8:bad::1", 1234)
    board = Switchboard(compiled(tmp_path, OUTRUN, licence=""))
    try:
        board.call(0, 0, A6, None, (PORT_A6, PORT_B6))
        board.object.map("rival").update(KEY.pack(0), IPv6Address(source.ip).packed)
        before = board.tokens_taken()
        spare = board.count_spare()
        board.run(datagram(source, PORT_A6))
        assert board.standing(PORT_A6) == (source, abi.OPEN)
        assert words.word_address(int(board.rule(PORT_A6)["expected"])) == board.token(source.ip)
        assert (board.tokens_taken(), board.count_spare()) == (before + 1, spare - 1)
    finally:
        board.close()


def test_no_packet_is_lost_from_the_counters(board: Switchboard) -> None:
    board.call(b=None)
    together(*(sender(board, A) for _ in range(2)))
    assert (board.rule(PORT_A)["packets"], board.rule(PORT_A)["bytes"]) == (2 * RUNS, 16 * RUNS)
    assert board.cold(PORT_A)["drops"] == board.counters()["no_destination"] == 2 * RUNS


def test_an_answer_goes_to_the_old_or_the_new_address_and_never_to_a_mix(board: Switchboard) -> None:
    moved = [Endpoint("198.51.100.1", 4001), Endpoint("203.0.113.9", 9004)]
    board.call(abi.LEARN_OFF)
    frame, seen = bytes(datagram(B, PORT_B)), set[Endpoint]()
    done = threading.Event()

    def change() -> None:
        for number in itertools.takewhile(lambda _: not done.is_set(), itertools.count()):
            board.rule(PORT_B)["signalled"] = words.peer(moved[number % 2], number % abi.GENERATION_MASK + 1)

    def answer() -> None:
        for _ in range(ANSWERS):
            packet = board.run(frame).packet
            seen.add(Endpoint(packet["IP"].dst, packet["UDP"].dport))
        done.set()

    together(change, answer)
    assert set(moved) <= seen <= {*moved, A}
