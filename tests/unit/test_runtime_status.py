import grpc
import pytest

from services.errors import Reason, Rejected
from services.runtime.status import MESSAGE_CHARS_MAX, code_of, internal_error, refusal_in, status_of


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_goes_there_and_back(reason: Reason) -> None:
    status = status_of(Rejected(reason, "why", "price"))
    assert code_of(status) is grpc.StatusCode[reason.grpc_code]
    refusal = refusal_in(status)
    assert refusal is not None
    assert (refusal.reason, refusal.message, refusal.field) == (reason, "why", "price")
    assert refusal.retry_after_seconds == (1 if reason.http_status in {429, 503} else 0)


def test_who_knows_better_when_to_come_again_says_so() -> None:
    refusal = refusal_in(status_of(Rejected(Reason.OVERLOADED, retry_after_seconds=42)))
    assert refusal is not None
    assert refusal.retry_after_seconds == 42


def test_a_message_is_bounded() -> None:
    assert len(status_of(Rejected(Reason.INVALID_FIELD, "x" * 10_000)).message) == MESSAGE_CHARS_MAX


def test_a_bug_is_internal() -> None:
    status = status_of(internal_error())
    assert code_of(status) is grpc.StatusCode.INTERNAL
    assert status.message.startswith("internal error, request ")


def test_a_foreign_status_is_no_refusal_of_ours() -> None:
    status = status_of(Rejected(Reason.INVALID_FIELD))
    del status.details[:]
    assert refusal_in(status) is None
