"""Each fault that settlement must stand, and the tests that bring it about: each has some, and they are there."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

AMQP = "tests/integration/test_runtime_amqp.py"
BITES = "tests/faults/test_settlement_bites.py"
CONTRACT = "tests/unit/test_contract.py"
DEBTS = "tests/integration/test_settler_debts.py"
FAULTS = "tests/faults/test_settlement_faults.py"
MANY = "tests/integration/test_settler_faults.py"
NODE = "tests/integration/test_settler_node_faults.py"
RELAY = "tests/integration/test_book_relay.py"
SETTLER = "tests/integration/test_settler.py"
STORE = "tests/integration/test_settler_store.py"

ROWS = {
    "a process is killed at any point": (
        (MANY, "test_a_crash_at_any_write_or_send_changes_nothing"),
        (MANY, "test_kill_9_in_a_loop"),
        (
            "tests/integration/test_settler_withdrawals.py",
            "test_what_is_withdrawn_is_claimed_and_journaled_once_whatever_is_killed",
        ),
        ("tests/faults/test_kills.py", "test_kills_on_production_backends"),
    ),
    "the broker is down, killed, frozen": (
        (FAULTS, "test_broker_kills_lose_nothing_that_was_confirmed"),
        (RELAY, "test_no_broker_does_not_hold_up_matching_nor_the_end"),
        (RELAY, "test_the_broker_is_killed_and_the_backlog_drains"),
        (AMQP, "test_a_frozen_broker_is_noticed_and_left"),
        (MANY, "test_without_deliveries_the_journal_is_enough"),
    ),
    "deliveries are duplicated, reordered, missing": (
        (FAULTS, "test_duplicated_and_reordered_deliveries"),
        (MANY, "test_duplicated_reordered_missing_and_poisoned_deliveries"),
        (STORE, "test_random_deliveries_end_as_one_sequence"),
    ),
    "a message is poison": (
        (MANY, "test_duplicated_reordered_missing_and_poisoned_deliveries"),
        ("tests/unit/test_settler_wire.py", "test_malformed"),
        ("tests/integration/test_dead_letters.py", "test_what_was_set_aside_is_listed_shown_and_put_back_once"),
    ),
    "a queue is deleted, a consumer canceled": (
        (AMQP, "test_a_deleted_queue_is_consumed_again_within_five_seconds"),
        (AMQP, "test_a_queue_deleted_under_a_publisher_is_unroutable_then_made_again"),
    ),
    "the node is down, slow, answers 429, 500 or nonsense": (
        (NODE, "test_whatever_the_node_does_each_entry_is_settled_once"),
        (MANY, "test_the_node_goes_and_comes_back"),
        (MANY, "test_it_waits_for_a_node_that_is_not_there_yet"),
    ),
    "the chain is another one": (
        (NODE, "test_a_wrong_chain_refuses_to_start"),
        (SETTLER, "test_it_refuses_another_chain_or_contract_than_it_remembers"),
    ),
    "the reply is lost after the node took the transaction": (
        (FAULTS, "test_lost_replies_to_sends"),
        (NODE, "test_whichever_of_a_nonces_transactions_is_mined_counts"),
    ),
    "a transaction is stuck, underpriced, dropped": (
        (NODE, "test_a_base_fee_that_leaps_is_followed_by_replacements"),
        (NODE, "test_a_cap_holds_and_what_waits_below_it_goes_on_when_the_chain_is_cheaper"),
        (NODE, "test_a_dropped_transaction_is_sent_again"),
    ),
    "a foreign transaction is on the key": ((NODE, "test_a_foreign_transaction_on_the_key_is_told_and_overcome"),),
    "a reorganisation, 1 to 8 deep": (
        (FAULTS, "test_reorganisations"),
        (MANY, "test_a_reorganised_batch_is_sent_again_and_settled_once"),
        (STORE, "test_a_reorganised_batch_has_its_nonce_back"),
        ("tests/interop/test_geth.py", "test_a_reorganisation_of_geth_is_healed"),
    ),
    "a reorganisation past what was final": ((DEBTS, "test_a_reorganisation_past_what_was_final_halts"),),
    "the chain is ahead of the journal": ((SETTLER, "test_a_chain_ahead_of_the_journal_halts"),),
    "the chain refuses a leg": (
        (DEBTS, "test_a_leg_that_the_chain_refuses_is_insurances_and_nobody_waits"),
        (DEBTS, "test_what_insurance_cannot_pay_waits_for_a_deposit"),
        ("tests/integration/test_signed_market.py", "test_whose_leg_the_chain_refuses_keeps_nobody_waiting"),
    ),
    "a batch reverts": (
        (DEBTS, "test_a_stored_batch_that_is_refused_fails_and_is_superseded_under_its_id"),
        (DEBTS, "test_a_failed_batch_says_so_and_why_until_it_is_mended"),
    ),
    "two settlers at once": (
        (FAULTS, "test_races_of_two_settlers"),
        (SETTLER, "test_two_settlers_at_once_settle_nothing_twice"),
        (STORE, "test_one_of_many_takes_a_lease"),
        (CONTRACT, "test_replay_skip_and_overlap_are_refused"),
    ),
    "a sleeper wakes": (
        (FAULTS, "test_sleepers"),
        (STORE, "test_a_sleeper_that_wakes_writes_nothing"),
        ("tests/faults/test_sleeper.py", "test_a_sleeper_acknowledges_nothing_on_production_backends"),
    ),
    "the database is lost": (
        (SETTLER, "test_a_lost_database_is_rebuilt_from_journal_and_chain"),
        (DEBTS, "test_debts_outlive_the_settlers_database"),
    ),
    "the database is killed or slow": (
        ("tests/integration/test_runtime_db.py", "test_a_frozen_postgres_is_unavailable_in_time_then_heals"),
        ("tests/integration/test_runtime_db.py", "test_a_cut_postgres_connection_is_unavailable_then_heals"),
    ),
    "the book goes, or has another journal": (
        (MANY, "test_the_book_goes_and_comes_back"),
        (SETTLER, "test_a_journal_of_another_name_halts"),
    ),
    "ledger and chain differ": (
        ("tests/integration/test_reconciliation.py", "test_a_difference_is_told_and_nothing_is_published"),
        ("tests/integration/test_reconciliation.py", "test_what_the_journal_lacks_is_named"),
    ),
    "a fault is in the settler or the contract itself": (
        (BITES, "test_a_planted_fault_of_settlement_is_found"),
        ("tests/unit/test_contract_mutants.py", "test_a_planted_fault_is_found"),
    ),
}


@pytest.mark.parametrize("fault", ROWS)
def test_it_is_brought_about(fault: str) -> None:
    missing = [f"{file}::{test}" for file, test in ROWS[fault] if f"def {test}(" not in (ROOT / file).read_text()]
    assert ROWS[fault]
    assert not missing
