"""Where the settlement key may be; and a signer elsewhere that is not believed. No secret is ever in a message."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from eth_account import Account

from services.cli import certs
from services.runtime.roles import Role
from services.runtime.run import StartError
from services.settler.contract import Chain, ChainUnavailable, Signed, Signer
from services.settler.fees import Fees
from services.settler.keys import DEV_ADDRESS, DEV_KEY, KeySettings
from services.settler.remote_signer import Endpoint, RemoteSigner
from tests.certificates import Certificates

KEY = "0x" + "17" * 32
ADDRESS = Signer(KEY).address
PASSWORD = "correct horse"
ASKED = Chain("http://nowhere", 5, web3=cast("Any", None)).transaction(
    "0x" + "12" * 20, b"\1\2", nonce=7, gas=90_000, fees=Fees(90, 9)
)
URL = "https://signer.example:9000"


@pytest.fixture(scope="module")
def keystore(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "settler.json"
    path.write_text(json.dumps(Account.encrypt(bytes.fromhex(KEY[2:]), PASSWORD, kdf="pbkdf2", iterations=1)))
    return path


def test_each_place_gives_the_key(keystore: Path, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n")
    rows: list[tuple[dict[str, Any], str]] = [
        ({}, DEV_ADDRESS),
        ({"settlement_private_key": KEY}, ADDRESS),
        ({"settlement_private_key": f" {KEY[2:].upper()} "}, ADDRESS),
        ({"settlement_keystore": keystore, "settlement_keystore_password": PASSWORD}, ADDRESS),
        ({"settlement_keystore": keystore, "settlement_keystore_password_file": secret}, ADDRESS),
        ({"settlement_signer_url": URL, "settlement_signer_address": ADDRESS.lower()}, ADDRESS),
        ({"settlement_signer_url": "http://127.0.0.1:9000", "settlement_signer_address": ADDRESS}, ADDRESS),
    ]
    for given, address in rows:
        settings = KeySettings(**given)
        signer = settings.signer()
        assert signer.address == address, given
        assert settings.has_key is bool(given)
        for secret_text in (KEY[2:], PASSWORD, "signer.example"):
            assert secret_text not in repr(signer) + repr(settings), given


def test_a_wrong_place_is_one_line_that_quotes_no_secret(keystore: Path, tmp_path: Path) -> None:
    broken, missing = tmp_path / "broken.json", tmp_path / "missing"
    broken.write_text('{"crypto": 1}')
    signer = {"settlement_signer_url": "https://user:secret@signer.example", "settlement_signer_address": ADDRESS}
    rows: list[tuple[dict[str, Any], str]] = [
        ({"settlement_private_key": "0xsecret"}, "the private key is not 32 bytes"),
        ({"settlement_private_key": KEY, "settlement_keystore": keystore}, "SETTLEMENT_KEYSTORE are set"),
        ({"settlement_private_key": KEY} | signer, "SETTLEMENT_SIGNER_URL are set"),
        ({"settlement_keystore": keystore, "settlement_keystore_password": "secret"}, "cannot be decrypted"),
        ({"settlement_keystore": keystore}, "cannot be decrypted"),
        ({"settlement_keystore": broken, "settlement_keystore_password": "secret"}, "cannot be decrypted"),
        ({"settlement_keystore": missing}, "cannot be read: FileNotFoundError"),
        ({"settlement_keystore": keystore, "settlement_keystore_password_file": missing}, "PASSWORD_FILE cannot be"),
        (signer | {"settlement_signer_address": ""}, "is not an address"),
        (signer | {"settlement_signer_url": "ftp://user:secret@signer"}, "not an http or https URL"),
        (signer | {"settlement_signer_url": "http://user:secret@10.0.0.9"}, "plain http to another machine"),
        (signer | {"settlement_signer_authority": str(missing)}, "certificates for SETTLEMENT_SIGNER_URL"),
        (signer | {"settlement_signer_certificate": str(missing)}, "certificates for SETTLEMENT_SIGNER_URL"),
    ]
    for given, words in rows:
        with pytest.raises(StartError, match=words) as refused:
            KeySettings(**given).signer()
        said = str(refused.value)
        assert "\n" not in said
        assert "secret" not in said
        assert KEY[2:] not in said


# A signer elsewhere

Answers = Callable[[dict[str, Any]], Any]


@asynccontextmanager
async def signer_that(answers: Answers, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A signer over HTTP whose answer to the asked transaction is the function's: its result, or a whole response."""

    async def handle(request: web.Request) -> web.Response:
        asked = json.loads(await request.read())
        assert asked["method"] == "eth_signTransaction"
        said = answers(asked["params"][0])
        if isinstance(said, web.Response):
            return said
        return web.json_response({"jsonrpc": "2.0", "id": asked["id"], "result": said})

    app = web.Application()
    app.router.add_post("/", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def honest(asked: dict[str, Any], key: str = KEY, **changed: Any) -> str:
    """What web3signer answers."""
    given = {name: value for name, value in asked.items() if name != "from"}
    return "0x" + bytes(Account.from_key(key).sign_transaction(given | changed).raw_transaction).hex()


async def asked_of(url: str, **more: Path) -> Signed:
    return await RemoteSigner(Endpoint(url, **more), ADDRESS).sign(ASKED)


@pytest.mark.parametrize("wrapped", [False, True], ids=["web3signer", "clef"])
async def test_a_signer_elsewhere_signs_what_was_asked(wrapped: bool) -> None:
    seen: list[dict[str, Any]] = []

    def answers(asked: dict[str, Any]) -> Any:
        seen.append(asked)
        return {"raw": honest(asked), "tx": {}} if wrapped else honest(asked)

    async with signer_that(answers) as url:
        signed = await asked_of(url)
    assert signed == await Signer(KEY).sign(ASKED)
    assert seen[0]["from"] == ADDRESS
    assert (seen[0]["nonce"], seen[0]["chainId"], seen[0]["value"]) == ("0x7", "0x5", "0x0")


LIES: list[tuple[str, Answers, str]] = [
    ("another nonce", lambda asked: honest(asked, nonce="0x8"), "another transaction"),
    ("another receiver", lambda asked: honest(asked, to="0x" + "13" * 20), "another transaction"),
    ("other calldata", lambda asked: honest(asked, data="0x0103"), "another transaction"),
    ("more fee", lambda asked: honest(asked, maxFeePerGas="0xffff"), "another transaction"),
    ("another chain", lambda asked: honest(asked, chainId="0x6"), "another transaction"),
    ("money with it", lambda asked: honest(asked, value="0x1"), "another transaction"),
    ("another key", lambda asked: honest(asked, key=DEV_KEY), "another transaction"),
    ("no transaction", lambda _: "0x1234", "not a signed EIP-1559"),
    ("no hex", lambda _: "zz", "not hex"),
    ("nothing", lambda _: None, "not hex"),
    ("an error", lambda _: web.json_response({"id": 1, "error": {"message": "locked"}}), "refuses: locked"),
    ("no object", lambda _: web.json_response([1]), "refuses: None"),
    ("no JSON", lambda _: web.Response(text="<html>"), "does not answer: JSONDecodeError"),
    ("500", lambda _: web.Response(status=500), "HTTP 500"),
    ("401", lambda _: web.Response(status=401), "HTTP 401"),
]


@pytest.mark.parametrize(("answers", "words"), [row[1:] for row in LIES], ids=[row[0] for row in LIES])
async def test_what_it_says_is_not_believed(answers: Answers, words: str) -> None:
    async with signer_that(answers) as url:
        with pytest.raises(ChainUnavailable, match=words):
            await asked_of(url)


async def test_a_signer_that_is_away_is_tried_again_later() -> None:
    async with signer_that(honest) as url:
        pass
    with pytest.raises(ChainUnavailable, match="does not answer: Client") as away:
        await asked_of(url.replace("http://", "http://user:secret@"))
    assert "secret" not in str(away.value)


async def test_over_tls_both_show_a_certificate(tmp_path: Path) -> None:
    own = Certificates(tmp_path).settings(Role.SETTLER)
    public = tmp_path / certs.PUBLIC
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=own["tls_authority"])
    context.load_cert_chain(public / certs.CERTIFICATE, public / certs.KEY)
    context.verify_mode = ssl.CERT_REQUIRED
    believed = {"authority": Path(own["tls_authority"])}
    shown = {"certificate": Path(own["tls_certificate"]), "key": Path(own["tls_key"])}
    async with signer_that(honest, context) as url:
        assert await asked_of(url, **believed, **shown) == await Signer(KEY).sign(ASKED)
        for less in (believed, shown):
            with pytest.raises(ChainUnavailable, match="does not answer"):
                await asked_of(url, **less)
