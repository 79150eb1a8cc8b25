"""Between the protos and what withdrawals keep to: rules of assets, lists of addresses."""

from collections.abc import Mapping
from dataclasses import replace

from clearbook.v1 import account_service_pb2 as pb
from clearbook.v1 import admin_service_pb2 as admin_pb

from services.allow_list import AllowList
from services.order_gateway.money_wire import address
from services.order_gateway.wire import amount_or_zero, invalid, set_time
from services.units import Asset
from services.withdrawal_rules import AMOUNTS, COOLING_SECONDS_MAX, WithdrawalRules


def rules(request: admin_pb.SetWithdrawalRulesRequest, asset: Asset, before: WithdrawalRules) -> WithdrawalRules:
    """The rules as they are asked for: what is not named is as before.

    Raises:
        Rejected: INVALID_FIELD for no amount, for one that no withdrawal could keep to, for a too long cooling-off.
    """
    asked = {name: amount_or_zero(getattr(request, name), name, asset) for name in AMOUNTS if request.HasField(name)}
    if request.HasField("cooling_seconds"):
        if request.cooling_seconds > COOLING_SECONDS_MAX:
            raise invalid("cooling_seconds", f"must be at most {COOLING_SECONDS_MAX}")
        asked["cooling_seconds"] = request.cooling_seconds
    after = replace(before, **asked)
    if not after.fit():
        raise invalid("amount_min", "must not be more than amount_max or day_max: nothing could be withdrawn")
    return after


def told_rules(known: Mapping[int, WithdrawalRules], assets: Mapping[int, Asset]) -> pb.ListWithdrawalRulesResponse:
    """All rules, by symbol."""
    rows = [_told(assets[asset_id], each) for asset_id, each in known.items()]
    return pb.ListWithdrawalRulesResponse(rules=sorted(rows, key=lambda row: row.asset))


def _told(asset: Asset, known: WithdrawalRules) -> pb.WithdrawalRules:
    amounts = {name: asset.format(amount) for name in AMOUNTS if (amount := getattr(known, name))}
    return pb.WithdrawalRules(asset=asset.symbol, cooling_seconds=known.cooling_seconds, **amounts)


def listed(text: str) -> str:
    """An address of a list, in lower case. Raises Rejected: INVALID_FIELD."""
    if not text:
        raise invalid("address", "is missing")
    return address(text)


def told_list(allowed: AllowList, time_ns: int) -> pb.WithdrawalAddresses:
    """A list as its owner sees it at that time."""
    message = pb.WithdrawalAddresses(only=allowed.is_on(time_ns))
    for known, usable_ns in allowed.addresses:
        set_time(message.addresses.add(address=known).usable_time, usable_ns)
    if message.only and allowed.off_ns:
        set_time(message.off_time, allowed.off_ns)
    return message
