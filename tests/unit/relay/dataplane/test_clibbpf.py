"""What errors of BPF operations say to the operator."""

from __future__ import annotations

import errno

import pytest

from relay.dataplane.clibbpf import BpfError, VerifierError


def test_who_lacks_privileges_is_told_which() -> None:
    error = BpfError("make map rules", errno.EPERM)
    assert str(error).startswith("make map rules: Operation not permitted (EPERM): run as root")
    assert error.errno == errno.EPERM


@pytest.mark.parametrize("error", [BpfError("load relay.bpf.o", errno.EACCES), VerifierError("x", errno.EACCES, "")])
def test_a_refusal_by_the_verifier_is_not_put_down_to_privileges(error: BpfError) -> None:
    assert error.errno == errno.EACCES
    assert "root" not in str(error)
    assert "CAP_" not in str(error)


def test_a_refusal_by_the_verifier_is_told_by_the_line_that_says_why() -> None:
    log = "0: (b7) r0 = 0\nR1 offset is outside of the packet\nprocessed 1 insns (limit 1000000)\nstack depth 0\n"
    error = VerifierError("hairpin", errno.EACCES, log)
    assert "the kernel refused program hairpin: R1 offset is outside of the packet; " in str(error)
    assert error.log == log
