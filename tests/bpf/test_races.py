"""Two processors at one rule: what must agree does, and nothing is counted twice or lost."""

from __future__ import annotations

import threading
from collections.abc import Callable

from relay.dataplane import abi, words
from relay.types import Endpoint
from tests.bpf.switchboard import PORT_A, PORT_B, XDP_REDIRECT, A, B, Switchboard, datagram

ROUNDS = 3000
SOURCES = [Endpoint("192.0.2.201", 1111), Endpoint("192.0.2.202", 2222)]


def together(*jobs: Callable[[], None]) -> None:
    """Run the jobs at the same time; test runs give up Python's lock."""
    failures: list[BaseException] = []

    def guarded(job: Callable[[], None]) -> None:
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


def sender(board: Switchboard, source: Endpoint, verdicts: list[int], local: Endpoint = PORT_A) -> Callable[[], None]:
    frame = bytes(datagram(source, local))

    def run() -> None:
        for _ in range(ROUNDS):
            board.rule(local)["tick"] ^= 1  # no rate guard here
            verdicts.append(board.run(frame).verdict)

    return run


def test_two_sources_that_take_over_from_each_other_leave_both_words_on_one(board: Switchboard) -> None:
    for _ in range(5):
        board.clear()
        board.call(abi.HANDOVER | abi.LEARN_IMMEDIATE)
        verdicts: list[int] = []
        together(*(sender(board, source, verdicts) for source in SOURCES))
        assert set(verdicts) == {XDP_REDIRECT}
        standing, state = board.standing(PORT_A)
        assert (standing, state) == (board.learned(PORT_B), abi.CONFIRMED)
        assert board.rule(PORT_A)["packets"] == 2 * ROUNDS


def test_an_answer_goes_to_the_old_or_the_new_address_and_never_to_a_mix(board: Switchboard) -> None:
    moved = [Endpoint("198.51.100.1", 4001), Endpoint("203.0.113.9", 9004)]
    board.call(abi.LEARN_OFF)
    frame, wrong = bytes(datagram(B, PORT_B)), list[Endpoint]()
    done = threading.Event()

    def change() -> None:
        for number in range(ROUNDS):
            board.rule(PORT_B)["signalled"] = words.peer(moved[number % 2], number % abi.GENERATION_MASK + 1)
        done.set()

    def answer() -> None:
        while not done.is_set():
            board.rule(PORT_B)["tick"] ^= 1
            packet = board.run(frame).packet
            seen = Endpoint(packet["IP"].dst, packet["UDP"].dport)
            if seen not in (*moved, A):
                wrong.append(seen)

    together(change, answer)
    assert wrong == []
