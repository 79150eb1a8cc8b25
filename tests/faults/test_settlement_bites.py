"""Faults of settlement, planted one at a time in an interpreted copy of the source: the quick tests must find each."""

from __future__ import annotations

import pytest

from tests.faults.test_money_faults import FAILED, NO_FAULT, Fault, run_planted

STORE = "tests/integration/test_settler_store.py"
SLEEPER = f"{STORE}::test_a_sleeper_that_wakes_writes_nothing[sqlite]"
LEASE = f"{STORE}::test_a_lease_is_waited_for_and_its_holder_is_heard[sqlite]"
ONE_OF_MANY = f"{STORE}::test_one_of_many_takes_a_lease[sqlite]"
REOPENED = f"{STORE}::test_what_a_reorganisation_took_from_closed_nonces_is_open_again[sqlite]"
FEES, KEYS = "tests/unit/test_settler_fees.py", "tests/unit/test_settler_keys.py"
SETTLER = "services/settler"

FAULTS = [
    Fault(
        "a write without the fence",
        f"{SETTLER}/lease.py",
        'WHERE token = $1", [(self',
        'WHERE token >= $1", [(self',
        SLEEPER,
    ),
    Fault("a lease taken from who lives", f"{SETTLER}/lease.py", "seen, since = found, clock()", "seen = found", LEASE),
    Fault(
        "a lease given back by who lost it",
        f"{SETTLER}/lease.py",
        "beat = $1 WHERE token = $2",
        "beat = $1 WHERE token >= $2 - 1",
        LEASE,
    ),
    Fault(
        "a lease that two take", f"{SETTLER}/lease.py", "token = $2 AND beat = $3", "token >= $2 - $3 * 0", ONE_OF_MANY
    ),
    Fault(
        "a nonce that stays closed",
        f"{SETTLER}/store.py",
        "nonce >= $2 AND state <> $3",
        "nonce > $2 AND state <> $3",
        REOPENED,
    ),
    Fault("a replacement that is too cheap", f"{SETTLER}/fees.py", "RAISE_EIGHTHS = 1", "RAISE_EIGHTHS = 0", FEES),
    Fault("a cap that does not hold", f"{SETTLER}/fees.py", "if most > cap_wei:", "if most > 2 * cap_wei:", FEES),
    Fault(
        "a replacement of other calldata", f"{SETTLER}/transactions.py", "fields[7].hex()", "fields[7][1:].hex()", FEES
    ),
    Fault("a signer that is believed", f"{SETTLER}/remote_signer.py", "said != asked or by", "by", KEYS),
    Fault("any key signs", f"{SETTLER}/remote_signer.py", " or by != self.address", "", KEYS),
    Fault("a password in a message", f"{SETTLER}/keys.py", "a wrong password, or no keystore", "{password}", KEYS),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    return run_planted(tmp_path_factory.mktemp("copy"), FAULTS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_of_settlement_is_found(fault: Fault, results: dict[str, tuple[int, str]]) -> None:
    code, output = results[fault.name]
    assert code == FAILED, output


def test_without_a_fault_nothing_is_found(results: dict[str, tuple[int, str]]) -> None:
    code, output = results[NO_FAULT]
    assert code == 0, output
