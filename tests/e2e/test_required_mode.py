"""The documented routes where every caller must prove who it is: signed requests, tokens, sockets, limits, headers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from clearbook.v1 import account_service_pb2 as accounts
from clearbook.v1 import admin_service_pb2 as admin
from clearbook.v1 import order_service_pb2 as orders
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from gateway_http import accounts as accounts_routes
from services.cli.welcome import welcome
from tests import processes
from tests.e2e.conftest import running
from tests.identity_guide import run_guide
from tests.suite import Clients, Suite, fresh
from tests.transcript import ROOT

ADMIN_TOKEN = "an-operators-token-" + "0" * 32
SECRETS_KEY = "5e" * 32
FRAME_SECONDS_MAX = 20.0
ORDERS_AT_ONCE = 500
LEFT = 20
MESSAGES_AT_ONCE = 50
OPERATOR = (("authorization", f"Bearer {ADMIN_TOKEN}"),)
ROUTE = "/api/v1/order"
PRIVATE_ROUTES = sorted(accounts_routes.ROUTES)
CURL = (
    "import httpx, sys; from itertools import pairwise; given = list(pairwise(sys.argv));"
    "headers = dict(value.split(': ') for option, value in given if option == '-H');"
    "body, = (value for option, value in given if option == '-d');"
    "print(httpx.post(next(part for part in sys.argv if part.startswith('http:')), content=body, headers=headers).text)"
)
"""A curl that every machine has. Quick to start: a signature is good for five seconds."""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """An exchange that asks for credentials, with limits that a test can reach."""
    made = Suite.embedded(
        tmp_path_factory.mktemp("required"),
        CLEARBOOK_AUTH="required",
        CLEARBOOK_ADMIN_TOKEN=ADMIN_TOKEN,
        CLEARBOOK_SECRETS_KEY=SECRETS_KEY,
        CLEARBOOK_DEMO_FUNDS="1",
        LIMIT_ACCOUNT_ORDERS=f"1/{ORDERS_AT_ONCE}",
        LIMIT_IP_MESSAGES=f"10/{MESSAGES_AT_ONCE}",
        TRUSTED_PROXIES="127.0.0.0/8",
        CORS_ORIGINS="https://app.example, https://other.example",
        LOG_LEVEL="debug",
    )
    yield from running(made)
    no_secret_is_in_a_log(made)


def no_secret_is_in_a_log(suite: Suite) -> None:
    """The last thing of all: what the tests here were given has left its traces, and every process has ended."""
    logs = {path.name: path.read_text(errors="replace") for path in Path(suite.folder).glob("*.log")}
    assert {"http.log", "gateway.log", "book.log"} <= logs.keys()
    assert "CreateUserApiKey" in logs["gateway.log"]
    for name, text in logs.items():
        for secret in [ADMIN_TOKEN, SECRETS_KEY, *SECRETS]:
            assert not secret or secret not in text, f"a secret is in {name}"


@dataclass(frozen=True)
class Key:
    """A credential and how it signs."""

    user: str
    key_id: str
    secret: str
    private: Ed25519PrivateKey | None = None

    def sign(self, payload: bytes) -> str:
        if self.private is not None:
            return base64.b64encode(self.private.sign(payload)).decode()
        return hmac.new(self.secret.encode(), payload, hashlib.sha256).hexdigest()

    def logon(self, **changed: Any) -> dict[str, Any]:
        """The parameters of session.logon."""
        params: dict[str, Any] = {"apiKey": self.key_id, "recvWindow": 5_000, "timestamp": now_ms()} | changed
        payload = "&".join(f"{name}={params[name]}" for name in sorted(params))
        signature = self.sign(payload.encode())
        SECRETS.append(signature)
        return params | {"signature": signature}


def now_ms() -> int:
    return time.time_ns() // 10**6


async def new_key(clients: Clients, user: str, kind: str = "HMAC_SHA256", scope: str = "TRADE") -> Key:
    """A key that an operator gives a user."""
    private = Ed25519PrivateKey.generate() if kind == "ED25519" else None
    asked = accounts.CreateApiKeyRequest(
        kind=accounts.KeyKind.Value(f"KEY_KIND_{kind}"),
        scopes=[accounts.Scope.Value(f"SCOPE_{scope}")],
        public_key=private.public_key().public_bytes_raw() if private else b"",
    )
    request = admin.CreateUserApiKeyRequest(user=user, key=asked)
    made = (await clients.admin.CreateUserApiKey(request, metadata=OPERATOR, timeout=20)).key
    SECRETS.append(made.secret)
    return Key(user, made.key.key_id, made.secret, private)


SECRETS: list[str] = []
"""All that the tests here were given: none of it may be in a log."""


@pytest.fixture
async def clients(suite: Suite) -> AsyncIterator[Clients]:
    async with suite.clients() as made:
        yield made


@pytest.fixture
async def http(suite: Suite) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"content-type": "application/json"}
    async with httpx.AsyncClient(base_url=suite.http, timeout=30, headers=headers) as client:
        yield client


def order(user: str, **changed: Any) -> bytes:
    fields: dict[str, Any] = {"order_id": fresh("o"), "user_id": user, "pair": "BTC-USD", "order_type": "limit"}
    return json.dumps(fields | {"side": "buy", "price": 10_000.0, "amount": 0.001} | changed).encode()


def signed(key: Key, body: bytes, **changed: Any) -> tuple[str, dict[str, str]]:
    """The URL and the headers of a signed order."""
    timestamp, window = changed.get("timestamp", now_ms()), changed.get("recvWindow", 5_000)
    query = f"timestamp={timestamp}&recvWindow={window}"
    signature = key.sign(query.encode() + body)
    SECRETS.append(signature)
    url = f"{ROUTE}?{query}&signature={quote(signature, safe='')}"
    return url, {"X-MBX-APIKEY": key.key_id, "content-type": "application/json"}


def assert_refused(answer: httpx.Response, status: int, code: str, field: str | None = None) -> None:
    assert answer.status_code == status, answer.text
    assert (answer.json()["code"], answer.json()["field"]) == (code, field)


@pytest.mark.parametrize("kind", ["HMAC_SHA256", "ED25519"])
async def test_signed_orders(http: httpx.AsyncClient, clients: Clients, kind: str) -> None:
    key = await new_key(clients, fresh("signer"), kind)
    body = order(key.user)
    url, headers = signed(key, body)
    answer = await http.post(url, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    wanted = b'{"message":"Order submitted successfully","order_id":"%s"}' % json.loads(body)["order_id"].encode()
    assert answer.content == wanted
    limit, remaining, reset = (int(answer.headers[f"x-ratelimit-{name}"]) for name in ("limit", "remaining", "reset"))
    assert (limit, remaining, reset) == (ORDERS_AT_ONCE, ORDERS_AT_ONCE - 1, 1)
    # the same again is a replay, and whatever is changed is not what was signed
    tampered = body.replace(b"0.001", b"0.002")
    fresh_url, _ = signed(key, body)
    for request in (
        http.post(url, content=body, headers=headers),
        http.post(fresh_url, content=tampered, headers=headers),
        http.post(fresh_url.replace("recvWindow=5000", "recvWindow=6000"), content=body, headers=headers),
        http.post(fresh_url, content=body, headers=headers | {"X-MBX-APIKEY": "nobodys"}),
        http.post(fresh_url, content=body, headers={"content-type": "application/json"}),
        http.post(fresh_url.partition("&signature")[0], content=body, headers=headers),
        http.post(signed(key, body, timestamp=now_ms() - 6_000)[0], content=body, headers=headers),
        http.post(signed(key, body, timestamp=now_ms() + 5_000)[0], content=body, headers=headers),
        http.post(signed(key, body, recvWindow=60_001)[0], content=body, headers=headers),
    ):
        answer = await request
        assert_refused(answer, 401, "UNAUTHENTICATED")
        assert answer.json()["message"] == "no valid credential"
    assert_refused(await http.post(fresh_url + "&timestamp=1", content=body, headers=headers), 400, "MALFORMED_REQUEST",
                   "timestamp")  # fmt: skip


async def test_an_order_as_a_form(http: httpx.AsyncClient, clients: Clients) -> None:
    key = await new_key(clients, fresh("former"))
    fields = json.loads(order(key.user)) | {"price": "10000.00", "amount": "0.001", "timestamp": now_ms()}
    form = "&".join(f"{name}={value}" for name, value in fields.items())
    SECRETS.append(key.sign(form.encode()))
    body = f"{form}&signature={SECRETS[-1]}"
    headers = {"X-MBX-APIKEY": key.key_id, "content-type": "application/x-www-form-urlencoded"}
    answer = await http.post(ROUTE, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["order_id"] == fields["order_id"]
    assert_refused(await http.post(ROUTE, content=body, headers=headers), 401, "UNAUTHENTICATED")
    unsigned = await http.post(ROUTE, content=form, headers={"content-type": headers["content-type"]})
    assert_refused(unsigned, 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(("number", "kind"), [(0, "HMAC_SHA256"), (1, "ED25519")])
async def test_the_guide_signs(suite: Suite, clients: Clients, tmp_path: Path, number: int, kind: str) -> None:
    """The scripts of docs/api.md, with a curl that every machine has."""
    script = re.findall(r"^```bash\n(.*?)^```$", (ROOT / "docs/api.md").read_text(), re.MULTILINE | re.DOTALL)[number]
    key = await new_key(clients, fresh("reader"), kind)
    if key.private is not None:
        pem = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (tmp_path / "key.pem").write_bytes(pem)
    done = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-euc", 'curl() { "$PYTHON" -c "$CURL" "$@"; }\n' + script.replace("127.0.0.1:8000", suite.http[7:])],
        cwd=tmp_path,
        env=os.environ | {"PYTHON": sys.executable, "CURL": CURL,
                          "KEY": key.key_id, "SECRET": key.secret, "USER_ID": key.user},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )  # fmt: skip
    wanted = f'{{"message":"Order submitted successfully","order_id":"signed-{number + 1}"}}\n'
    assert (done.stdout, done.stderr) == (wanted, "")


async def test_other_routes_of_orders_take_signatures_and_no_forms(http: httpx.AsyncClient, clients: Clients) -> None:
    key = await new_key(clients, fresh("user"))
    body = json.dumps({"user_id": key.user, "orders": [{"market": "NO-SUCH"}]}).encode()
    url, headers = signed(key, body)
    several = url.replace(ROUTE, f"{ROUTE}s")
    taken = await http.post(several, content=body, headers=headers)
    assert taken.json()["outcomes"][0]["refusal"]["reason"] == "MARKET_NOT_FOUND"
    assert (await http.post(several, content=body, headers=headers)).status_code == 401, "good once"
    url, headers = signed(key, b"user_id=x")
    form = headers | {"content-type": "application/x-www-form-urlencoded"}
    assert (await http.post(url.replace(ROUTE, f"{ROUTE}s"), content=b"user_id=x", headers=form)).status_code == 415


async def test_bearer_tokens_and_other_peoples_names(http: httpx.AsyncClient, clients: Clients) -> None:
    token, reader = await new_key(clients, fresh("bearer"), "BEARER"), await new_key(clients, fresh("reader"), "BEARER",
                                                                                  "READ")  # fmt: skip
    headers = {"authorization": f"Bearer {token.secret}"}
    good = await http.post(ROUTE, content=order(token.user), headers=headers)
    assert good.status_code == 200, good.text
    other = await http.post(ROUTE, content=order(reader.user), headers=headers)
    assert_refused(other, 403, "PERMISSION_DENIED", "user_id")
    unscoped = await http.post(ROUTE, content=order(reader.user), headers={"authorization": f"Bearer {reader.secret}"})
    assert_refused(unscoped, 403, "PERMISSION_DENIED")
    key = await new_key(clients, fresh("signer"))
    body = order(token.user)
    url, key_headers = signed(key, body)
    assert_refused(await http.post(url, content=body, headers=key_headers), 403, "PERMISSION_DENIED", "user_id")
    both = await http.post(url, content=body, headers=key_headers | headers)
    assert_refused(both, 400, "MALFORMED_REQUEST")


@pytest.mark.parametrize("headers", [{}, {"x-clearbook-user": "alice"}, {"authorization": "Bearer x"},
                                     {"authorization": "Basic YTpi"}, {"x-clearbook-session": "x"}])  # fmt: skip
async def test_without_a_credential_nothing_is_private(http: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await http.post(ROUTE, content=order("alice"), headers=headers)
    assert_refused(answer, 401, "UNAUTHENTICATED")
    for path in PRIVATE_ROUTES if not headers else ():  # more failures would have the address wait
        assert_refused(await http.post(path, json={"user_id": "alice"}, headers=headers), 401, "UNAUTHENTICATED")
    for path, status in (("orderbook/BTC-USD", 200), ("book/BTC-USD", 200), ("settlement?transfer_id=none", 404)):
        assert (await http.get(f"/api/v1/{path}", headers=headers)).status_code == status, path


async def test_a_flood_is_held_back_and_nobody_else(http: httpx.AsyncClient, clients: Clients) -> None:
    flooder, other = [await new_key(clients, fresh(name), "BEARER") for name in ("flooder", "other")]
    headers = {"authorization": f"Bearer {flooder.secret}"}
    most = orders.PlaceOrdersRequest(orders=[orders.PlaceOrderRequest()] * (ORDERS_AT_ONCE - LEFT))
    await clients.orders.PlaceOrders(most, metadata=tuple(headers.items()), timeout=20)
    answers = [await http.post(ROUTE, content=order(flooder.user), headers=headers) for _ in range(LEFT + 10)]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert 0 < len(refused) <= 10
    for answer in refused:
        assert_refused(answer, 429, "RATE_LIMITED")
        assert int(answer.headers["retry-after"]) == 1
        assert answer.headers["x-ratelimit-remaining"] == "0"
        assert int(answer.headers["x-ratelimit-reset"]) >= ORDERS_AT_ONCE - 1
    meanwhile = await http.post(ROUTE, content=order(other.user), headers={"authorization": f"Bearer {other.secret}"})
    assert meanwhile.status_code == 200
    await asyncio.sleep(1.1)  # as long as it was told
    again = await http.post(ROUTE, content=order(flooder.user), headers=headers)
    assert again.status_code == 200


async def test_the_key_is_good_from_its_own_addresses_only(http: httpx.AsyncClient, clients: Clients) -> None:
    asked = accounts.CreateApiKeyRequest(
        kind=accounts.KEY_KIND_BEARER, scopes=[accounts.SCOPE_TRADE], allowed_ips=["203.0.113.0/24"]
    )
    user = fresh("homely")
    request = admin.CreateUserApiKeyRequest(user=user, key=asked)
    made = (await clients.admin.CreateUserApiKey(request, metadata=OPERATOR, timeout=20)).key
    SECRETS.append(made.secret)
    for forwarded, status in (("", 401), ("203.0.113.9", 200), ("203.0.113.9, 198.51.100.1", 401), ("nonsense", 401)):
        headers = {"authorization": f"Bearer {made.secret}"} | ({"x-forwarded-for": forwarded} if forwarded else {})
        answer = await http.post(ROUTE, content=order(user), headers=headers)
        assert answer.status_code == status, (forwarded, answer.text)


async def test_headers(http: httpx.AsyncClient) -> None:
    private = await http.post(ROUTE, content=order("alice"))
    public = await http.get("/api/v1/orderbook/BTC-USD")
    for answer in (private, public):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert "server" not in answer.headers
        assert "strict-transport-security" not in answer.headers, "this was plain text"
        assert "access-control-allow-origin" not in answer.headers
    assert private.headers["cache-control"] == "no-store"
    assert "cache-control" not in public.headers
    behind_tls = await http.get("/healthz", headers={"x-forwarded-proto": "https"})
    assert behind_tls.headers["strict-transport-security"] == "max-age=31536000"
    docs = await http.get("/docs")
    script = docs.text.partition("<script>")[2].partition("</script>")[0]
    own = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src https://cdn.jsdelivr.net 'sha256-{own}';" in docs.headers["content-security-policy"]


@pytest.mark.parametrize(("origin", "allowed"), [("https://app.example", True), ("https://evil.example", False)])
async def test_other_peoples_pages(suite: Suite, http: httpx.AsyncClient, origin: str, allowed: bool) -> None:
    asked = {"origin": origin, "access-control-request-method": "POST",
             "access-control-request-headers": "x-mbx-apikey"}  # fmt: skip
    preflight = await http.options(ROUTE, headers=asked)
    assert (preflight.status_code == 200) is allowed
    answer = await http.get("/api/v1/orderbook/BTC-USD", headers={"origin": origin})
    posted = await http.post(ROUTE, content=order("alice"), headers={"origin": origin})
    assert_refused(posted, *((401, "UNAUTHENTICATED") if allowed else (403, "ORIGIN_REFUSED", "origin")))
    for headers in (preflight.headers, answer.headers, posted.headers):
        assert headers.get("access-control-allow-origin") == (origin if allowed else None)
    url = f"ws://{suite.plan.http}/ws/marketdata"
    if allowed:
        async with connect(url, origin=Origin(origin)) as socket:
            assert "orderbook_update" in str(await socket.recv())
    else:
        with pytest.raises(InvalidStatus) as caught:
            await connect(url, origin=Origin(origin))
        assert (caught.value.response.status_code, json.loads(caught.value.response.body)["code"]) == (
            403, "ORIGIN_REFUSED",
        )  # fmt: skip


async def test_what_up_says_works(suite: Suite, tmp_path: Path) -> None:
    """The commands that `clearbook up` prints in required mode, as they are pasted."""
    said = welcome(replace(suite.plan, open_mode=False, missing=()), 1.0)
    script = "\n".join(line for line in said.splitlines() if re.match(r" {2}(export|alice=|/| {2}'|curl)", line))
    env = os.environ | {"CLEARBOOK_ADMIN_TOKEN": ADMIN_TOKEN, "PYTHON": sys.executable, "CURL": CURL}
    argv = ["bash", "-euc", 'curl() { "$PYTHON" -c "$CURL" "$@"; }\n' + script]
    done = await asyncio.to_thread(
        subprocess.run, argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r'{"message":"Order submitted successfully","order_id":"alice-[0-9a-f]{6}"}\n$', done.stdout)


async def test_the_demo_says_what_it_lacks(suite: Suite) -> None:
    argv = [*processes.COMMAND, "demo", "--gateway", suite.gateway, "--publisher", suite.publisher]
    done = await asyncio.to_thread(processes.run, argv, os.environ, 60)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "CLEARBOOK_AUTH=required" in done.stderr


# The socket.


async def ask(socket: ClientConnection, method: str, params: dict[str, Any], number: int = 1) -> dict[str, Any]:
    """Asks, and reads on until the answer."""
    await socket.send(json.dumps({"id": number, "method": method, "params": params}))
    while True:
        message = await told(socket)
        if "status" in message:
            assert message["id"] == number
            return message


async def told(socket: ClientConnection, kind: str = "") -> dict[str, Any]:
    """The next message, of a kind if one is named."""
    async with asyncio.timeout(FRAME_SECONDS_MAX):
        while True:
            message: dict[str, Any] = json.loads(await socket.recv())
            if not kind or message.get("type") == kind:
                return message


@pytest.fixture
async def socket(suite: Suite) -> AsyncIterator[ClientConnection]:
    async with connect(f"ws://{suite.plan.http}/ws/marketdata") as opened:
        await told(opened, "orderbook_update")
        yield opened


@pytest.mark.parametrize("kind", ["HMAC_SHA256", "ED25519"])
async def test_a_socket_logs_on(socket: ClientConnection, clients: Clients, kind: str) -> None:
    key = await new_key(clients, fresh("watcher"), kind, "READ")
    before = (await ask(socket, "session.status", {}))["result"]
    assert (before["apiKey"], before["user"], before["authorizedSince"]) == (None, None, None)
    params = key.logon()
    answer = await ask(socket, "session.logon", params, 7)
    assert answer["status"] == 200, answer
    assert (answer["result"]["apiKey"], answer["result"]["user"]) == (key.key_id, key.user)
    assert answer["result"]["scopes"] == ["SCOPE_READ"]
    assert abs(answer["result"]["authorizedSince"] - now_ms()) < 60_000
    assert (await ask(socket, "session.logon", key.logon()))["error"]["code"] == "ALREADY_EXISTS"
    assert (await ask(socket, "session.logout", {}))["result"]["apiKey"] is None
    assert (await ask(socket, "session.logon", params))["status"] == 401, "a replay"
    assert (await ask(socket, "session.logon", key.logon()))["status"] == 200


async def test_a_socket_is_sent_its_account(
    socket: ClientConnection, http: httpx.AsyncClient, clients: Clients
) -> None:
    key, bystander = (
        await new_key(clients, fresh("holder"), "ED25519"),
        await new_key(clients, fresh("other"), "BEARER"),
    )
    assert (await ask(socket, "session.logon", key.logon()))["status"] == 200
    assert (await ask(socket, "subscribe", {"channels": ["account"]}))["result"] == {"channels": ["account"]}
    state = (await told(socket, "account_update"))["data"]
    assert state["snapshot"] is True
    assert {balance["asset"]: balance["total"] for balance in state["balances"]}["USD"] == "10000000"
    await http.post(ROUTE, content=order(bystander.user), headers={"authorization": f"Bearer {bystander.secret}"})
    body = order(key.user)
    url, headers = signed(key, body)
    assert (await http.post(url, content=body, headers=headers)).status_code == 200
    change = (await told(socket, "account_update"))["data"]
    assert [made["client_order_id"] for made in change["orders"]] == [json.loads(body)["order_id"]]
    assert "snapshot" not in change
    assert int(change["index"]) > int(state["index"])
    assert (await ask(socket, "unsubscribe", {"channels": ["account"]}))["result"] == {"channels": []}


async def test_logons_that_are_refused(socket: ClientConnection, clients: Clients) -> None:
    key = await new_key(clients, fresh("watcher"))
    assert (await ask(socket, "subscribe", {"channels": ["account"]}))["error"]["code"] == "UNAUTHENTICATED"
    refused: list[tuple[dict[str, Any], int, str, str | None]] = [
        (key.logon() | {"signature": "0" * 64}, 401, "UNAUTHENTICATED", None),
        (key.logon() | {"recvWindow": 6_000}, 401, "UNAUTHENTICATED", None),
        (key.logon(timestamp=now_ms() - 10_000), 401, "UNAUTHENTICATED", None),
        (key.logon(apiKey="nobodys"), 401, "UNAUTHENTICATED", None),
        ({}, 401, "UNAUTHENTICATED", None),
        ({"user_id": key.user}, 401, "UNAUTHENTICATED", None),
        ({"token": "made-up"}, 401, "UNAUTHENTICATED", None),
        ({"token": ""}, 422, "INVALID_FIELD", "token"),
        (key.logon() | {"timestamp": 1.5}, 422, "INVALID_FIELD", "timestamp"),
    ]
    for params, status, code, field in refused:
        answer = await ask(socket, "session.logon", params)
        assert (answer["status"], answer["error"]["code"], answer["error"]["field"]) == (status, code, field), params
        assert list(answer["error"]) == ["code", "message", "field", "request_id"]
    unknown = await ask(socket, "order.place", {})
    assert (unknown["status"], unknown["error"]["field"]) == (422, "method")


async def test_what_is_no_request_is_ignored_as_ever(socket: ClientConnection) -> None:
    for words in ("hello", "[]", '{"id": 1}', '{"method": 1}', b"\xff", "{" * 2_000, '{"type": "subscribe"}'):
        await socket.send(words)
    assert (await ask(socket, "session.status", {}, 9))["id"] == 9


async def test_a_revoked_key_ends_its_socket(socket: ClientConnection, clients: Clients) -> None:
    key = await new_key(clients, fresh("watcher"), "BEARER")
    assert (await ask(socket, "session.logon", {"token": key.secret}))["status"] == 200
    started = time.monotonic()
    revoke = admin.RevokeUserApiKeyRequest(key_id=key.key_id)
    await clients.admin.RevokeUserApiKey(revoke, metadata=OPERATOR, timeout=20)
    last = await told(socket, "closing")
    assert last["error"]["code"] == "UNAUTHENTICATED"
    with pytest.raises(ConnectionClosed):
        await told(socket)
    assert socket.close_code == 4401
    assert time.monotonic() - started < 2


async def test_too_many_messages_end_a_socket(suite: Suite) -> None:
    async with connect(
        f"ws://{suite.plan.http}/ws/marketdata", additional_headers={"x-forwarded-for": "198.51.100.77"}
    ) as socket:
        for _ in range(MESSAGES_AT_ONCE + 5):
            await socket.send("hello")
        assert (await told(socket, "closing"))["error"]["code"] == "RATE_LIMITED"
        with pytest.raises(ConnectionClosed):
            await told(socket)
        assert socket.close_code == 1008


async def test_a_message_that_is_too_large_ends_a_socket(socket: ClientConnection) -> None:
    await socket.send("x" * (64 * 1024 + 1))
    with pytest.raises(ConnectionClosed):
        await told(socket, "nothing")
    assert socket.close_code == 1009


def test_the_guide_to_identity(suite: Suite, tmp_path: Path) -> None:
    said = run_guide(suite, tmp_path, ADMIN_TOKEN)
    assert '"signed-1"' in said
    assert '"signed-2"' in said
    assert (tmp_path / "dora.pem").stat().st_mode & 0o777 == 0o600
    given = [json.loads((tmp_path / name).read_text())["key"]["secret"] for name in ("token.json", "hmac.json")]
    SECRETS.extend(given)
