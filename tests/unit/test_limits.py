"""Limits as settings, as headers, and by whom they count: tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gateway_http import limits as http_limits
from services.buckets import NS_PER_SECOND, Rate
from services.errors import Reason, Rejected
from services.order_gateway import __main__ as gateway
from services.order_gateway.call import Call
from services.order_gateway.limits import ONE_REFERENCE, ONE_REQUEST, Limits, LimitSettings, Weight
from services.runtime.limits import of_ip, rate_of
from services.runtime.run import Closing, StartError
from tests.transcript import ROOT

BALANCES = "/clearbook.v1.AccountService/ListBalances"
ONE_ORDER = Weight(orders=1)


@pytest.mark.parametrize(("text", "rate"), [("50/100", Rate(50, 100)), ("1/1", Rate(1, 1))])
def test_rates(text: str, rate: Rate) -> None:
    assert rate_of(text) == rate


@pytest.mark.parametrize("text", ["", "50", "0/1", "1/0", "-1/1", "1.5/2", "1/2/3", " 1/2", "1/10000000000", "१/१"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="RATE/BURST"):
        rate_of(text)


def test_a_wrong_rate_is_one_line_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIMIT_ACCOUNT_ORDERS", "many")
    with pytest.raises(SystemExit):
        LimitSettings.load()
    assert capsys.readouterr().err.startswith("LIMIT_ACCOUNT_ORDERS: must be")


@pytest.mark.parametrize("name", ["LIMIT_ACCOUNT_ORDERS", "LIMIT_ACCOUNT_REQUESTS"])
async def test_no_gateway_starts_with_limits_that_a_full_call_never_passes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, "50/499")
    with pytest.raises(StartError, match=f"{name}=50/499"):
        await gateway.main(Closing())


def test_a_full_call_passes_the_limits_of_compose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    limits = re.findall(r"\$\{(LIMIT_ACCOUNT_[A-Z]+):-([^}]+)\}", (ROOT / "compose.yaml").read_text())
    assert len(limits) == 3
    gateway.GatewaySettings.load(**{name.lower(): rate for name, rate in limits}).check_limits()


@pytest.mark.parametrize(
    ("peer", "counts_for"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("nonsense", ""),
    ],
)
def test_whom_an_address_counts_for(peer: str, counts_for: str) -> None:
    assert of_ip(peer) == counts_for


class Clock:
    """Stands still until told."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def gateway_limits(clock: Clock, tmp_path: Path, **rates: Any) -> Limits:
    return Limits(LimitSettings(_env_file=tmp_path / "none", **rates), clock)  # type: ignore[call-arg]


def test_orders_and_other_requests_have_buckets_of_their_own(tmp_path: Path) -> None:
    clock = Clock()
    limits = gateway_limits(clock, tmp_path, limit_account_orders="1/2", limit_account_requests="1/1")
    told = []
    for weight in (ONE_ORDER, ONE_ORDER, ONE_REQUEST):
        call = Call(BALANCES)
        limits.identified(call, "alice", weight)
        told.append(tuple(call.trailer.values()))
    assert told == [("2", "1", "1"), ("2", "0", "2"), ("1", "0", "1")]
    for weight in (ONE_ORDER, ONE_REQUEST):
        call = Call(BALANCES)
        with pytest.raises(Rejected) as caught:
            limits.identified(call, "alice", weight)
        assert caught.value.reason is Reason.RATE_LIMITED
        assert call.trailer["retry-after"] == "1"
        limits.identified(Call(BALANCES), "bob", weight)
    clock.now_ns += NS_PER_SECOND
    limits.identified(Call(BALANCES), "alice", ONE_ORDER)


def test_orders_of_one_call_are_counted_all_or_none(tmp_path: Path) -> None:
    limits = gateway_limits(Clock(), tmp_path, limit_account_orders="1/5")
    for orders, reason, remaining in (
        # of one call; why it is refused; what remains
        (3, None, "2"),
        (3, Reason.RATE_LIMITED, "2"),
        (6, Reason.TOO_LARGE, "1"),  # counts as one: to ask for what never comes is not free
        (1, None, "0"),
        (6, Reason.RATE_LIMITED, "0"),
    ):
        call, answer = Call(BALANCES), None
        try:
            limits.identified(call, "alice", Weight(orders=orders))
        except Rejected as rejected:
            answer = rejected.reason
        assert (answer, call.trailer.get("x-ratelimit-remaining")) == (reason, remaining), orders


def test_reference_prices_have_a_rate_of_their_own(tmp_path: Path) -> None:
    clock = Clock()
    limits = gateway_limits(clock, tmp_path, limit_account_references="1/2")
    for _ in range(2):
        limits.identified(Call(BALANCES), "alice", ONE_REFERENCE)
    with pytest.raises(Rejected, match="too many reference prices of this account"):
        limits.identified(Call(BALANCES), "alice", ONE_REFERENCE)
    limits.identified(Call(BALANCES), "alice", ONE_REQUEST)
    clock.now_ns += NS_PER_SECOND
    limits.identified(Call(BALANCES), "alice", ONE_REFERENCE)


def test_an_address_counts_before_it_is_known_who_calls(tmp_path: Path) -> None:
    limits = gateway_limits(Clock(), tmp_path, limit_ip_requests="1/1")
    limits.arrived(Call(BALANCES, peer="2001:db8::1"))
    with pytest.raises(Rejected) as caught:
        limits.arrived(Call(BALANCES, peer="2001:db8::2"))
    assert caught.value.reason is Reason.RATE_LIMITED
    limits.arrived(Call(BALANCES, peer="2001:db9::1"))


def test_sockets_of_an_address_and_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_limits, "SOCKETS_MAX", 3)
    settings = http_limits.LimitSettings(
        _env_file=tmp_path / "none",  # type: ignore[call-arg]
        limit_ip_sockets=2,
        limit_ip_connections="1/4",
    )
    limits = http_limits.Limits(settings, Clock())
    a, b, other = limits.socket("192.0.2.1"), limits.socket("192.0.2.1"), limits.socket("192.0.2.2")
    a.__enter__(), b.__enter__(), other.__enter__()
    for peer in ("192.0.2.1", "192.0.2.3"):
        with pytest.raises(Rejected) as caught, limits.socket(peer):
            pass
        assert caught.value.reason is Reason.OVERLOADED
    a.__exit__(None, None, None)
    for _ in range(2):  # the third and the fourth of that address
        with limits.socket("192.0.2.1"):
            pass
    with pytest.raises(Rejected) as caught, limits.socket("192.0.2.1"):
        pass
    assert caught.value.reason is Reason.RATE_LIMITED
