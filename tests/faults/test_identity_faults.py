"""Faults of identity, planted one at a time in an interpreted copy of the source: the quick tests must find each."""

from __future__ import annotations

import pytest

from tests.faults.test_money_faults import FAILED, NO_FAULT, Fault, run_planted

IDENTITY = "services/order_gateway/identity"
GATE, SIGNING = "tests/unit/test_identity_gate.py", "tests/unit/test_identity_signing.py"
OWNERS = "tests/unit/test_gateway_orders.py::test_an_order_is_its_owners_to_name"
TIME = f"{SIGNING}::test_the_timestamp_rule_at_its_edges"

FAULTS = [
    Fault(
        "a nonce is not remembered",
        f"{IDENTITY}/replays.py",
        "        known.add(once)\n",
        "",
        f"{GATE}::test_a_request_is_good_once",
    ),
    Fault(
        "a scope is not asked for",
        "services/order_gateway/gate.py",
        "if not identity.may(access.scope):",
        "if False:",
        f"{GATE}::test_a_scope_is_asked_for",
    ),
    Fault(
        "anybody may revoke a key",
        f"{IDENTITY}/issuer.py",
        "if key is None or user != key.user:",
        "if key is None:",
        f"{GATE}::test_a_key_is_its_owners_to_revoke",
    ),
    Fault(
        "anybody may name another's order",
        "services/order_gateway/orders.py",
        "if found is None or found.account_id != account_id:",
        "if found is None:",
        OWNERS,
    ),
    Fault(
        "anybody may name another's order that is at hand",
        "services/order_gateway/orders.py",
        "return found if found is not None and found.account_id == account_id else None",
        "return found",
        OWNERS,
    ),
    Fault(
        "the engine cancels for anybody",
        "services/book/engine.py",
        "if resting is None or resting.place.account_id != cancel.account_id:",
        "if resting is None:",
        "tests/unit/test_engine_commands.py::test_an_order_is_its_owners_to_cancel",
    ),
    Fault(
        "an unknown key costs nothing to refuse",
        f"{IDENTITY}/authenticator.py",
        "right = (verify or self._nobodys[claim.kind])(claim.signature, claim.payload)",
        "right = verify is not None and verify(claim.signature, claim.payload)",
        f"{GATE}::test_one_answer_after_the_same_work",
    ),
    Fault(
        "a timestamp one millisecond too old",
        f"{IDENTITY}/signing.py",
        "now_ms - timestamp_ms <= recv_window_ms",
        "now_ms - timestamp_ms <= recv_window_ms + 1",
        TIME,
    ),
    Fault(
        "a timestamp one millisecond too far ahead",
        f"{IDENTITY}/signing.py",
        "timestamp_ms < now_ms + AHEAD_MS_MAX",
        "timestamp_ms <= now_ms + AHEAD_MS_MAX",
        TIME,
    ),
    Fault(
        "a signature that does not cover the body",
        f"{IDENTITY}/signing.py",
        "digest = hashlib.sha256(request).hexdigest()",
        'digest = hashlib.sha256(b"").hexdigest()',
        f"{SIGNING}::TestGrpc::test_the_text_that_is_signed",
    ),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    return run_planted(tmp_path_factory.mktemp("copy"), FAULTS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_of_identity_is_found(fault: Fault, results: dict[str, tuple[int, str]]) -> None:
    code, output = results[fault.name]
    assert code == FAILED, output


def test_without_a_fault_nothing_is_found(results: dict[str, tuple[int, str]]) -> None:
    code, output = results[NO_FAULT]
    assert code == 0, output
