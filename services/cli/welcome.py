"""What `clearbook up` says once everything answers: the addresses, and a first order to paste."""

import importlib.util
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.cli import certs

if TYPE_CHECKING:
    from services.cli.up import Plan

SECRETS: Final = {
    "CLEARBOOK_ADMIN_TOKEN": "nobody can make the first key",
    "CLEARBOOK_SECRETS_KEY": "there are no HMAC keys",
}
"""What required mode asks for, and what is true without it."""
_ORDER: Final = """-H 'content-type: application/json' -d \\
    '{"order_id": "%s", "user_id": "%s", "pair": "BTC-USD", "order_type": "%s", "side": "%s", %s"amount": 0.001}'"""


def welcome(plan: "Plan", seconds: float) -> str:
    """The text. `seconds`: how long the start took."""
    http, gateway, publisher = plan.http.from_here, plan.gateway.from_here, plan.publisher.from_here
    url, ws = f"{plan.scheme}://{http}", f"{plan.scheme.replace('http', 'ws')}://{http}"
    curl = "curl -s" if plan.certificates is None else f"curl -s --cacert {plan.certificates / certs.AUTHORITY}"
    return f"""
Clearbook is up after {seconds:.1f} s. Engine: {engine_build()}. Data: {plan.data}. Ctrl-C drains and stops.

  REST        {url}/docs          WebSocket  {ws}/ws/marketdata
  gRPC orders {gateway}                 gRPC market data {publisher}

{_by_name(curl, url) if plan.open_mode else _by_token(plan, curl, url)}
"""


def engine_build() -> str:
    """Which build of the engine runs: "compiled" (mypyc) or "interpreted"."""
    spec = importlib.util.find_spec("services.book.engine")
    return "interpreted" if spec is None or (spec.origin or "").endswith(".py") else "compiled"


def _order(who: str, kind: str, side: str, price: str = "") -> str:
    """Under an id of its own: the exchange goes on from before, and an id that it knows is no new order."""
    return _ORDER % (f"{who}-{secrets.token_hex(3)}", who, kind, side, price)


def _sell(who: str) -> str:
    return _order(who, "limit", "sell", '"price": 30000.00, ')


def _by_name(curl: str, url: str) -> str:
    """Open mode: whoever asks names himself."""
    return f"""A first order, and one that trades with it:

  {curl} {url}/api/v1/order {_sell("alice")}
  {curl} {url}/api/v1/orderbook/BTC-USD
  {curl} {url}/api/v1/order {_order("bob", "market", "buy")}
"""


def _by_token(plan: "Plan", curl: str, url: str) -> str:
    """Required mode: what is missing, or how the operator has a first order made."""
    steps = [
        f"{name} is not set: {what}. Ctrl-C, `export {name}=$(openssl rand -hex 32)`, keep it, and start again."
        for name, what in SECRETS.items()
        if name in plan.missing
    ]
    if "CLEARBOOK_ADMIN_TOKEN" not in plan.missing:
        known = {"CLEARBOOK_TOKEN": "$CLEARBOOK_ADMIN_TOKEN", "GATEWAY_ADDRESS": str(plan.gateway.from_here)}
        if plan.certificates is not None:
            known["PUBLIC_TLS_AUTHORITY"] = str(plan.certificates / certs.AUTHORITY)
        cli = Path(sys.executable).with_name("clearbook")
        grant = f"\n  {cli} admin grant alice BTC 1" if plan.own_chain else ""
        exports = " ".join(f"{name}={value}" for name, value in known.items())
        steps.append(f"""As the operator, a token and funds for alice; then her first order (docs/identity.md has more):

  export {exports}
  alice=$({cli} admin keys create alice --scope trade | sed -n 's/^secret //p'){grant}
  {curl} {url}/api/v1/order -H "authorization: Bearer $alice" {_sell("alice")}
""")
    return "\n\n".join(["Everybody needs a credential here (CLEARBOOK_AUTH=required).", *steps])
