"""`clearbook admin`: AdminService on the command line. Lists are tables for people, or JSON for programs.

The credential is CLEARBOOK_TOKEN; without it, open mode's user `admin`. Generated code is imported when asked for.
"""

import asyncio
import base64
import json
import secrets
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final

import typer

app = typer.Typer(no_args_is_help=True, help="Operate the exchange (AdminService).")
accounts = typer.Typer(no_args_is_help=True, help="Users' accounts.")
markets = typer.Typer(no_args_is_help=True, help="Markets: create, open, halt, close, rules.")
assets = typer.Typer(no_args_is_help=True, help="Assets.")
withdrawals = typer.Typer(no_args_is_help=True, help="Withdrawals: approve or reject.")
fees = typer.Typer(no_args_is_help=True, help="Fee tiers.")
keys = typer.Typer(no_args_is_help=True, help="Anybody's API keys.")
audit = typer.Typer(no_args_is_help=True, help="What operators did.")
for _name, _part in (
    *(("accounts", accounts), ("markets", markets), ("assets", assets), ("withdrawals", withdrawals)),
    *(("fees", fees), ("keys", keys), ("audit", audit)),
):
    app.add_typer(_part, name=_name)

PAGE_ROWS: Final = 500
ID_BYTES: Final = 12

Gateway = Annotated[str | None, typer.Option(help="GATEWAY_ADDRESS, or 127.0.0.1:50051.")]
Publisher = Annotated[str | None, typer.Option(help="PUBLISHER_ADDRESS, or 127.0.0.1:50052.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Limit = Annotated[int, typer.Option(min=1, help="At most so many rows.")]
User = Annotated[str, typer.Argument(help="The user's name.")]
Asset = Annotated[str, typer.Argument(help="Symbol, for example BTC.")]
Amount = Annotated[str, typer.Argument(help="A plain decimal number of whole units.")]
TransferId = Annotated[str, typer.Option("--id", help="Makes it happen once, however often it is asked; else made up.")]
Reason = Annotated[str, typer.Option(help="Why; the account's owner sees it.")]
Why = Annotated[str, typer.Option("--reason", help="Why, for the audit log.")]


class State(StrEnum):
    """Where a withdrawal may stand."""

    REQUESTED = "requested"
    APPROVED = "approved"
    SETTLED = "settled"
    DONE = "done"
    CANCELED = "canceled"


class Kind(StrEnum):
    """How a key may prove itself."""

    BEARER = "bearer"
    HMAC_SHA256 = "hmac_sha256"
    ED25519 = "ed25519"


class Scope(StrEnum):
    """What a key may do."""

    READ = "read"
    TRADE = "trade"
    WITHDRAW = "withdraw"
    ADMIN = "admin"
    REFERENCE_PRICE = "reference-price"


# Accounts and money.


@accounts.command("list")
def accounts_list(user: str = "", limit: Limit = 100, gateway: Gateway = None, as_json: Json = False) -> None:
    """List accounts with their balances, by number."""
    rows = _list(gateway, "ListAccounts", "accounts", limit, user=user)
    if as_json:
        _print_json(rows)
        return
    columns = ("account", "user", "tier", "frozen", "asset", "total", "available", "held", "unsettled")
    lines = []
    for row in rows:
        for balance in row.balances or [None]:
            money = [getattr(balance, name) if balance else "" for name in columns[4:]]
            lines.append([row.account_id, row.user, row.fee_tier, row.freeze_reason or "-", *money])
    _print_table(columns, lines)


@accounts.command("create")
def accounts_create(user: User, gateway: Gateway = None, as_json: Json = False) -> None:
    """Open a user's account."""
    answer = _ask(gateway, "CreateAccount", user=user)
    _done(answer, as_json, f"account {answer.account_id}")


@accounts.command("freeze")
def accounts_freeze(
    user: User,
    reason: Why,
    cancel_orders: Annotated[bool, typer.Option("--cancel-orders", help="Cancel the open orders too.")] = False,
    gateway: Gateway = None,
    as_json: Json = False,
) -> None:
    """Let a user begin nothing new: no orders, transfers, withdrawals. Cancels go on."""
    answer = _ask(gateway, "FreezeAccount", user=user, reason=reason, cancel_orders=cancel_orders)
    _done(answer, as_json, f"{user} is frozen, {answer.canceled_orders} orders canceled")


@accounts.command("unfreeze")
def accounts_unfreeze(user: User, reason: Why, gateway: Gateway = None, as_json: Json = False) -> None:
    """Let a frozen user go on."""
    _done(_ask(gateway, "UnfreezeAccount", user=user, reason=reason), as_json, f"{user} is not frozen")


@accounts.command("unlink-wallet")
def accounts_unlink_wallet(user: User, reason: Why, gateway: Gateway = None, as_json: Json = False) -> None:
    """Take a user's wallet away, and end the user's sessions."""
    answer = _ask(gateway, "UnlinkWallet", again=False, user=user, reason=reason)
    _done(answer, as_json, f"{answer.wallet_address} is not linked to {user} any more")


@app.command()
def credit(
    user: User,
    asset: Asset,
    amount: Amount,
    reason: Reason,
    source: Annotated[str, typer.Option("--from", help="fees, faucet, insurance or adjustments.")] = "faucet",
    transfer_id: TransferId = "",
    gateway: Gateway = None,
    as_json: Json = False,
) -> None:
    """Give a user funds of one of the system's accounts."""
    names = {"from_user": "--from", "to_user": "USER"}
    _adjust(gateway, as_json, (source, user), names, asset, amount, reason, transfer_id)


@app.command()
def debit(
    user: User,
    asset: Asset,
    amount: Amount,
    reason: Reason,
    target: Annotated[str, typer.Option("--to", help="fees, faucet, insurance or adjustments.")] = "adjustments",
    transfer_id: TransferId = "",
    gateway: Gateway = None,
    as_json: Json = False,
) -> None:
    """Take a user's funds into one of the system's accounts."""
    names = {"from_user": "USER", "to_user": "--to"}
    _adjust(gateway, as_json, (user, target), names, asset, amount, reason, transfer_id)


@app.command()
def grant(
    user: User,
    asset: Asset,
    amount: Amount,
    reason: Reason = "demo funds",
    transfer_id: TransferId = "",
    gateway: Gateway = None,
    as_json: Json = False,
) -> None:
    """Give a user demo funds of the faucet."""
    name = transfer_id or _made_id()
    answer = _ask(gateway, "GrantFunds", transfer_id=name, user=user, asset=asset, amount=amount, reason=reason)
    _done(answer, as_json, f"transfer {name}, settlement sequence {answer.settlement_sequence}")


def _adjust(
    gateway: str | None,
    as_json: bool,
    parties: tuple[str, str],
    names: Mapping[str, str],
    asset: str,
    amount: str,
    reason: str,
    name: str,
) -> None:
    """From the first of the parties to the second."""
    name = name or _made_id()
    fields: dict[str, Any] = {"transfer_id": name, "asset": asset, "amount": amount, "reason": reason}
    fields |= {"from_user": parties[0], "to_user": parties[1]}
    answer = _ask(gateway, "AdjustBalance", names=names, **fields)
    _done(answer, as_json, f"transfer {name}, settlement sequence {answer.settlement_sequence}")


# Markets and assets.


@markets.command("list")
def markets_list(publisher: Publisher = None, as_json: Json = False) -> None:
    """List markets, as the publisher knows them."""
    rows = list(asyncio.run(_markets(publisher)).values())
    _print(rows, ("market", "base_asset", "quote_asset", "tick_size", "lot_size", "notional_min", "state"), as_json)


@markets.command("create")
def markets_create(
    market: Annotated[str, typer.Argument(help="For example BTC-USD.")],
    tick_size: Annotated[str, typer.Option(help="Smallest price step.")],
    lot_size: Annotated[str, typer.Option(help="Smallest quantity step.")],
    notional_min: Annotated[str, typer.Option(help="Smallest price x quantity of a limit order.")] = "",
    gateway: Gateway = None,
    as_json: Json = False,
) -> None:
    """Create a market, live. The quote asset's decimals must hold price decimals + quantity decimals."""
    steps: dict[str, Any] = {"tick_size": tick_size, "lot_size": lot_size, "notional_min": notional_min}
    _done(_ask(gateway, "CreateMarket", market=market, **steps), as_json, f"market {market} exists")


@markets.command("pre-open")
def markets_pre_open(market: str, reason: Why, gateway: Gateway = None, as_json: Json = False) -> None:
    """Let a market collect orders, without trades, for an auction when it opens."""
    _set_state(gateway, as_json, market, "PRE_OPEN", reason)


@markets.command("open")
@markets.command("resume")
def markets_open(market: str, reason: Why, gateway: Gateway = None, as_json: Json = False) -> None:
    """Let a market trade; what it has collected trades first, at one price."""
    _set_state(gateway, as_json, market, "OPEN", reason)


@markets.command("halt")
def markets_halt(market: str, reason: Why, gateway: Gateway = None, as_json: Json = False) -> None:
    """Let a market take cancels only."""
    _set_state(gateway, as_json, market, "HALTED", reason)


@markets.command("close")
def markets_close(market: str, reason: Why, gateway: Gateway = None, as_json: Json = False) -> None:
    """Let a market take cancels only, and end its orders of the day."""
    _set_state(gateway, as_json, market, "CLOSED", reason)


def _set_state(gateway: str | None, as_json: bool, market: str, state: str, reason: str) -> None:
    answer = _ask(gateway, "SetMarketState", market=market, state=f"MARKET_STATE_{state}", reason=reason)
    _done(answer, as_json, f"{market} is {state}")


@markets.command("rules")
def markets_rules(
    market: str,
    reason: Why,
    quantity_min: Annotated[str | None, typer.Option(help="Smallest quantity.")] = None,
    quantity_max: Annotated[str | None, typer.Option(help="Largest quantity.")] = None,
    notional_min: Annotated[str | None, typer.Option(help="Smallest price x quantity of a limit order.")] = None,
    notional_max: Annotated[str | None, typer.Option(help="Largest price x quantity, or budget.")] = None,
    price_band: Annotated[
        int | None, typer.Option(min=0, help="Basis points that a price may be from the reference price or the last.")
    ] = None,
    open_orders_max: Annotated[int | None, typer.Option(min=0, help="Open orders of an account.")] = None,
    reference_age_max: Annotated[
        int | None, typer.Option(min=0, help="Seconds that the reference price may be old; 0: 30.")
    ] = None,
    signed_orders: Annotated[
        bool | None, typer.Option("--signed-orders/--any-orders", help="Only orders that wallets have signed.")
    ] = None,
    gateway: Gateway = None,
    as_json: Json = False,
) -> None:
    """Set rules for new orders. What is not named stays as it is; 0: no such rule."""
    asked: dict[str, Any] = {"quantity_min": quantity_min, "quantity_max": quantity_max}
    asked |= {"notional_min": notional_min, "notional_max": notional_max}
    asked |= {"price_band_basis_points": price_band, "open_orders_max": open_orders_max}
    asked |= {"reference_age_max_seconds": reference_age_max, "signed_orders": signed_orders}
    names = {"price_band_basis_points": "--price-band", "reference_age_max_seconds": "--reference-age-max"}
    answer = _ask(gateway, "SetMarketRules", names=names, market=market, reason=reason, **asked)
    _done(answer, as_json, f"the rules of {market} are set")


@markets.command("reference")
def markets_reference(
    market: str,
    price: str,
    source: Annotated[str, typer.Option(help="Where it is that.")],
    gateway: Gateway = None,
    as_json: Json = False,
) -> None:
    """Say what a market's price is elsewhere, now: the price band goes by it while it is fresh."""
    answer = _ask(gateway, "SetReferencePrice", market=market, price=price, source=source)
    _done(answer, as_json, f"the reference price of {market} is {price}")


@assets.command("create")
def assets_create(
    symbol: Asset,
    decimals: Annotated[int, typer.Option(min=0, max=36)] = 18,
    gateway: Gateway = None,
    as_json: Json = False,
) -> None:
    """Create an asset."""
    _done(_ask(gateway, "CreateAsset", symbol=symbol, decimals=decimals), as_json, f"asset {symbol} exists")


# Withdrawals.


@withdrawals.command("list")
def withdrawals_list(
    state: Annotated[State | None, typer.Option(help="Only these.", case_sensitive=False)] = None,
    limit: Limit = 100,
    gateway: Gateway = None,
    as_json: Json = False,
) -> None:
    """List users' withdrawals, newest first."""
    asked = {"state": f"TRANSFER_STATE_{state.name}"} if state else {}
    rows = _list(gateway, "ListWithdrawals", "withdrawals", limit, **asked)
    if as_json:
        _print_json(rows)
        return
    columns = ("state", "asset", "amount", "address", "transfer_id", "create_time", "release_time")
    lines = [[row.withdrawal_id, row.user, *(_cell(row.transfer, name) for name in columns)] for row in rows]
    _print_table(("withdrawal", "user", *columns), lines)


@withdrawals.command("approve")
def withdrawals_approve(withdrawal_id: str, gateway: Gateway = None, as_json: Json = False) -> None:
    """Let a withdrawal go to the chain, after its asset's cooling-off."""
    answer = _ask(gateway, "ApproveWithdrawal", withdrawal_id=withdrawal_id)
    if answer.HasField("release_time"):
        _done(answer, as_json, f"approved, goes at {_cell(answer, 'release_time')}")
        return
    _done(answer, as_json, f"approved, settlement sequence {answer.settlement_sequence}")


@withdrawals.command("reject")
def withdrawals_reject(withdrawal_id: str, reason: Reason, gateway: Gateway = None, as_json: Json = False) -> None:
    """Cancel a withdrawal that has not gone to the chain."""
    _done(_ask(gateway, "RejectWithdrawal", withdrawal_id=withdrawal_id, reason=reason), as_json, "rejected")


@withdrawals.command("rules")
def withdrawals_rules(
    asset: Asset,
    reason: Why,
    amount_min: Annotated[str | None, typer.Option(help="The least that one may be.")] = None,
    amount_max: Annotated[str | None, typer.Option(help="The most that one may be.")] = None,
    day_max: Annotated[str | None, typer.Option(help="The most of an account within 24 hours.")] = None,
    unapproved_max: Annotated[
        str | None, typer.Option(help="As long as an account asks for no more within 24 hours, nobody need approve it.")
    ] = None,
    cooling_seconds: Annotated[
        int | None, typer.Option(min=0, help="How long an approved one waits, and may be canceled.")
    ] = None,
    gateway: Gateway = None,
    as_json: Json = False,
) -> None:
    """Set what withdrawals of an asset keep to. What is not named stays as it is; 0: no such rule."""
    asked: dict[str, Any] = {"amount_min": amount_min, "amount_max": amount_max, "day_max": day_max}
    asked |= {"unapproved_max": unapproved_max, "cooling_seconds": cooling_seconds}
    answer = _ask(gateway, "SetWithdrawalRules", asset=asset, reason=reason, **asked)
    _done(answer, as_json, f"the rules of withdrawals of {asset} are set")


# Fees, keys, the log.


@fees.command("list")
def fees_list(gateway: Gateway = None, as_json: Json = False) -> None:
    """List the fee tiers, from the least volume up."""
    answer = _ask(gateway, "ListFeeTiers")
    _print(answer.tiers, ("tier", "volume_min", "maker_fee_ppm", "taker_fee_ppm"), as_json)


@fees.command("set")
def fees_set(
    user: User,
    tier: Annotated[str, typer.Argument(help="A tier's name; empty: follows the volume.")] = "",
    gateway: Gateway = None,
    as_json: Json = False,
) -> None:
    """Fix a user's fee tier, or let it follow the volume again."""
    _done(_ask(gateway, "SetFeeTier", user=user, tier=tier), as_json, f"{user}: {tier or 'follows the volume'}")


@keys.command("create")
def keys_create(
    user: User,
    kind: Annotated[Kind, typer.Option(help="How it proves itself.", case_sensitive=False)] = Kind.BEARER,
    scope: Annotated[list[Scope] | None, typer.Option(help="More than once.", case_sensitive=False)] = None,
    allow_ip: Annotated[list[str] | None, typer.Option(help="An address or network; more than once.")] = None,
    label: str = "",
    public_key: Annotated[str, typer.Option(help="ed25519: as `clearbook keys new` prints it, base64.")] = "",
    gateway: Gateway = None,
    as_json: Json = False,
) -> None:
    """Make an API key for a user. The secret is shown once."""
    key = {
        "kind": f"KEY_KIND_{kind.name}",
        "label": label,
        "scopes": [f"SCOPE_{name.name}" for name in scope or []],
        "allowed_ips": allow_ip or [],
        "public_key": _bytes(public_key),
    }
    answer = _ask(gateway, "CreateUserApiKey", again=False, user=user, key=key)
    secret = f"\nsecret {answer.key.secret}" if answer.key.secret else ""
    _done(answer.key, as_json, f"key {answer.key.key.key_id}{secret}")


@keys.command("list")
def keys_list(user: str = "", limit: Limit = 100, gateway: Gateway = None, as_json: Json = False) -> None:
    """List keys, a user's or everybody's, the revoked ones too, newest first."""
    rows = _list(gateway, "ListUserApiKeys", "keys", limit, user=user)
    if as_json:
        _print_json(rows)
        return
    of_the_key = ("key_id", "parent_key_id", "kind", "label", "scopes", "allowed_ips")
    columns = (*of_the_key, "create_time", "last_used_time", "revoke_time")
    _print_table(("user", *columns), [[row.user, *(_cell(row.key, name) for name in columns)] for row in rows])


@keys.command("revoke")
def keys_revoke(
    key_id: str,
    keep_made: Annotated[bool, typer.Option("--keep-made", help="Leave the keys that were made with it.")] = False,
    gateway: Gateway = None,
    as_json: Json = False,
) -> None:
    """Revoke a key at once, with all that were made with it."""
    answer = _ask(gateway, "RevokeUserApiKey", key_id=key_id, keep_made_keys=keep_made)
    _done(answer, as_json, f"key {key_id} is revoked")


@audit.command("list")
def audit_list(limit: Limit = 100, gateway: Gateway = None, as_json: Json = False) -> None:
    """List what operators did, newest first."""
    rows = _list(gateway, "ListAuditEntries", "entries", limit)
    columns = ("index", "create_time", "user", "key_id", "peer", "method", "outcome", "request", "response")
    _print(rows, columns, as_json)


# Asking.


def _made_id() -> str:
    return f"cli-{secrets.token_hex(ID_BYTES)}"


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise typer.BadParameter("must be base64") from None


def _ask(
    gateway: str | None, rpc: str, *, again: bool = True, names: Mapping[str, str] | None = None, **fields: Any
) -> Any:
    """The answer of one call; a refusal is one line and exit 1.

    Args:
        gateway: its address, or None as configured.
        rpc: as in the proto.
        again: whether it may be made twice.
        names: what of the command line became which field, where that is this command's own.
        fields: of the request; enums by name.
    """
    from services.cli.calls import ask, refusals

    with refusals(names):
        return asyncio.run(ask(gateway, rpc, fields, again=again))


def _list(gateway: str | None, rpc: str, field: str, limit: int, **fields: Any) -> list[Any]:
    """Rows of a list, page by page."""
    found: list[Any] = []
    token = ""
    while len(found) < limit:
        size = min(limit - len(found), PAGE_ROWS)
        page = _ask(gateway, rpc, page_size=size, page_token=token, **fields)
        found += getattr(page, field)
        token = page.next_page_token
        if not token:
            break
    return found


async def _markets(publisher: str | None) -> dict[str, Any]:
    from services.cli.calls import markets as ask_markets
    from services.cli.calls import refusals

    with refusals():
        return await ask_markets(publisher)


# Showing.


def _done(answer: Any, as_json: bool, text: str) -> None:
    if as_json:
        _print_json([answer])
    else:
        sys.stdout.write(f"{text}\n")


def _print(rows: Sequence[Any], columns: Sequence[str], as_json: bool) -> None:
    if as_json:
        _print_json(rows)
    else:
        _print_table(columns, [[_cell(row, name) for name in columns] for row in rows])


def _cell(row: Any, name: str) -> str:
    from services.cli.cells import cell

    return cell(row, name)


def _print_json(rows: Sequence[Any]) -> None:
    from google.protobuf.json_format import MessageToDict

    for row in rows:
        shown = MessageToDict(row, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        sys.stdout.write(json.dumps(shown) + "\n")


def _print_table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    widths = [max(len(name), *(len(line[place]) for line in lines), 0) for place, name in enumerate(columns)]
    for line in (columns, *lines):
        padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        sys.stdout.write("  ".join(padded).rstrip() + "\n")
