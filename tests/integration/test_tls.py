"""Who may speak to whom: every role at every internal method of a real book; and strangers, who may not."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from clearbook.internal.v1 import (
    forward_service_pb2,
    journal_pb2,
    matching_service_pb2,
    matching_service_pb2_grpc,
    settler_service_pb2,
)
from cryptography import x509

from services.cli.health import serving
from services.command_ids import command_id_of
from services.runtime import rpc
from services.runtime.config import PublicTlsSettings, Tls, TlsSettings
from services.runtime.roles import ADMITTED, Role
from services.runtime.run import StartError
from tests import books
from tests.certificates import Certificates

Stub = matching_service_pb2_grpc.MatchingServiceStub
SECONDS_MAX = 10.0


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certs"))


@pytest.fixture
async def book(ours: Certificates, tmp_path: Path) -> AsyncIterator[str]:
    """A real book with mutual TLS; its address."""
    async with books.running(
        books.settings(f"sqlite:///{tmp_path}/book.sqlite", **ours.settings(Role.BOOK))
    ) as running:
        yield f"127.0.0.1:{running.port}"


@asynccontextmanager
async def calling(address: str, tls: Tls | None) -> AsyncIterator[Any]:
    async with rpc.connect(address, tls, role=Role.BOOK) as channel:
        yield Stub(channel)


async def first(call: Any) -> None:
    """Waits for the first message of a stream, or nothing for a moment: it was let in."""
    try:
        async with asyncio.timeout(0.3):
            await call.read()
    except TimeoutError:
        call.cancel()


async def open_as(stub: Any, number: int) -> int:
    """Returns the id of the session's first command."""
    request = matching_service_pb2.OpenSessionRequest(gateway=number)
    return command_id_of(number, (await stub.OpenSession(request, timeout=SECONDS_MAX)).epoch, 1)


async def submit_as(stub: Any, command_id: int, **kind: Any) -> None:
    command = journal_pb2.Command(command_id=command_id, **kind)
    request = matching_service_pb2.SubmitRequest(commands=[command])
    await stub.Submit(iter([request]), timeout=SECONDS_MAX)


async def follow(stub: Any) -> None:
    await first(stub.StreamEvents(matching_service_pb2.StreamEventsRequest()))


async def settlements(stub: Any) -> None:
    await first(stub.StreamSettlementMessages(matching_service_pb2.StreamSettlementMessagesRequest()))


SESSIONS = {Role.GATEWAY: 1, Role.SETTLER: 100}
USER = {"open_account": journal_pb2.OpenAccount(name="alice")}
DEPOSIT = {
    "deposit_final": journal_pb2.DepositFinal(deposit_index=1, account_id=2, asset="BTC", amount="1"),
}
Ids = dict[Role, int]
"""The id of the next command in the session of a gateway (1) and of a settler (100)."""
CALLS: list[tuple[str, Callable[[Any, Ids], Any], set[Role]]] = [
    ("a gateway's session", lambda stub, _: open_as(stub, 1), {Role.GATEWAY}),
    ("a settler's session", lambda stub, _: open_as(stub, 100), {Role.SETTLER}),
    ("the journal", lambda stub, _: follow(stub), {Role.GATEWAY, Role.SETTLER, Role.PUBLISHER}),
    ("settlement messages", lambda stub, _: settlements(stub), {Role.SETTLER}),
    ("a user's command", lambda stub, ids: submit_as(stub, ids[Role.GATEWAY], **USER), {Role.GATEWAY}),
    ("a user's command in a settler's", lambda stub, ids: submit_as(stub, ids[Role.SETTLER], **USER), set()),
    ("a deposit", lambda stub, ids: submit_as(stub, ids[Role.SETTLER], **DEPOSIT), {Role.SETTLER}),
    ("a deposit in a gateway's", lambda stub, ids: submit_as(stub, ids[Role.GATEWAY], **DEPOSIT), set()),
]


async def test_each_role_may_do_its_own_and_nothing_else(book: str, ours: Certificates) -> None:
    async with AsyncExitStack() as stack:
        stubs = {role: await stack.enter_async_context(calling(book, ours.role(role))) for role in Role}
        found = {}
        for what, call, allowed in CALLS:
            for role, stub in stubs.items():
                # Both sessions are new, so that a refusal is for the role and not for want of a session.
                ids = {one: await open_as(stubs[one], number) for one, number in SESSIONS.items()}
                outcome = "OK"
                try:
                    await call(stub, ids)
                except grpc.aio.AioRpcError as error:
                    outcome = error.code().name
                found[what, role] = (outcome, "OK" if role in allowed else "PERMISSION_DENIED")
    assert not {case: outcome for case, outcome in found.items() if outcome[0] != outcome[1]}


async def test_a_refusal_names_the_role_and_the_method(book: str, ours: Certificates) -> None:
    async with calling(book, ours.role(Role.PUBLISHER)) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await open_as(stub, 1)
    assert caught.value.details() == "publisher may not call /clearbook.internal.v1.MatchingService/OpenSession"


async def test_health_is_for_whoever_has_a_certificate_of_ours(book: str, ours: Certificates) -> None:
    for role in Role:
        assert await serving(book, tls=ours.role(role), role=Role.BOOK)


def strangers(ours: Certificates, folder: Path) -> dict[str, Tls | None]:
    """Who does not even get through the handshake."""
    other = Certificates(folder / "other")
    gateway = x509.UniformResourceIdentifier(Role.GATEWAY.uri)
    believing = ours.believed.authority
    return {
        "plain text": None,
        "no certificate": Tls(authority=believing),
        "another authority's": other.role(Role.GATEWAY)._replace(authority=believing),
        "an expired one": ours.odd(gateway, days=-1),
        "a public port's": ours.public._replace(authority=believing),
        "one for servers only": ours.odd(gateway, server_only=True),
    }


async def test_strangers_do_not_get_through_the_handshake(book: str, ours: Certificates, tmp_path: Path) -> None:
    for who, tls in strangers(ours, tmp_path).items():
        async with calling(book, tls) as stub:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await open_as(stub, 1)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE, who
        assert not await serving(book, tls=tls, role=Role.BOOK), who


async def test_a_certificate_without_exactly_one_role_has_none(book: str, ours: Certificates) -> None:
    gateway, settler = (x509.UniformResourceIdentifier(role.uri) for role in (Role.GATEWAY, Role.SETTLER))
    odd = {
        "no name": ours.odd(),
        "two roles": ours.odd(gateway, settler),
        "a role as a host's name": ours.odd(x509.DNSName(Role.GATEWAY.uri)),
        "the role's host alone": ours.odd(x509.DNSName(Role.GATEWAY.host)),
        "an unknown role": ours.odd(x509.UniformResourceIdentifier("spiffe://clearbook/role/admin")),
        "another domain": ours.odd(x509.UniformResourceIdentifier("spiffe://elsewhere/role/gateway")),
    }
    for what, tls in odd.items():
        async with calling(book, tls) as stub:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await open_as(stub, 1)
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED, what


async def test_whoever_answers_at_the_books_address_must_be_the_book(ours: Certificates, tmp_path: Path) -> None:
    given = books.settings(f"sqlite:///{tmp_path}/book.sqlite", **ours.settings(Role.PUBLISHER))
    async with books.running(given) as impostor:
        address = f"127.0.0.1:{impostor.port}"
        assert await serving(address, tls=ours.role(Role.GATEWAY), role=Role.PUBLISHER)
        async with calling(address, ours.role(Role.GATEWAY)) as stub:
            with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
                await open_as(stub, 1)


def test_the_table_names_every_internal_method() -> None:
    services = [
        service
        for module in (forward_service_pb2, matching_service_pb2, settler_service_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
    ]
    declared = {f"/{service.full_name}/{method.name}" for service in services for method in service.methods}
    assert declared == ADMITTED.keys()


# The public ports.


@pytest.fixture
async def public(ours: Certificates) -> AsyncIterator[rpc.Server]:
    server = rpc.Server("127.0.0.1:0", tls=ours.public)
    await server.start()
    yield server
    await server.stop(0)


async def test_a_public_port_asks_for_no_certificate(public: rpc.Server, ours: Certificates) -> None:
    assert await serving(f"127.0.0.1:{public.port}", tls=ours.believed)
    assert await serving(f"localhost:{public.port}", tls=ours.believed)
    assert not await serving(f"127.0.0.1:{public.port}")


async def test_a_name_that_is_not_the_address(public: rpc.Server, ours: Certificates) -> None:
    address = f"127.0.0.1:{public.port}"
    assert await serving(address, tls=ours.believed._replace(name="publisher"))
    assert not await serving(address, tls=ours.believed._replace(name="elsewhere.example"))


async def test_clients_believe_the_named_authority_only(public: rpc.Server, tmp_path: Path) -> None:
    assert not await serving(f"127.0.0.1:{public.port}", tls=Certificates(tmp_path / "other").believed)


@pytest.mark.parametrize(
    ("version", "taken"),
    [
        (ssl.TLSVersion.TLSv1, False),
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_tls_begins_with_1_2(
    public: rpc.Server, ours: Certificates, version: ssl.TLSVersion, taken: bool
) -> None:
    context = ssl.create_default_context(cadata=(ours.believed.authority or b"").decode())
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # else this side would not even offer the old ones
    context.set_alpn_protocols(["h2"])
    context.minimum_version = context.maximum_version = version
    opening = asyncio.open_connection("127.0.0.1", public.port, ssl=context)
    if taken:
        _, writer = await asyncio.wait_for(opening, SECONDS_MAX)
        writer.close()
    else:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await asyncio.wait_for(opening, SECONDS_MAX)


# What a process says when it cannot start so.


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "book:50061"])
def test_plain_text_stays_on_loopback(address: str, ours: Certificates) -> None:
    with pytest.raises(StartError, match="CLEARBOOK_PLAINTEXT_BIND"):
        rpc.Server(address)
    rpc.Server(address, plaintext_anywhere=True)
    rpc.Server(address, tls=ours.role(Role.BOOK))


def test_key_material_that_cannot_be_used_is_one_clear_line(ours: Certificates) -> None:
    book, gateway = ours.role(Role.BOOK), ours.role(Role.GATEWAY)
    cases = {
        "both a certificate and its key": Tls(certificate=book.certificate),
        "not readable PEM": book._replace(key=b"x"),
        "the key is not the certificate's": book._replace(key=gateway.key),
        "the certificate ended at": ours.odd(days=-1),
    }
    for line, tls in cases.items():
        with pytest.raises(StartError, match=line):
            rpc.Server("127.0.0.1:0", tls=tls)


def test_settings_that_belong_together(tmp_path: Path) -> None:
    there, missing = tmp_path / "there.pem", tmp_path / "missing.pem"
    there.write_bytes(b"x")
    with pytest.raises(StartError, match="TLS_KEY is missing: TLS_CERTIFICATE, TLS_KEY, TLS_AUTHORITY"):
        TlsSettings.load(tls_certificate=there).tls()
    with pytest.raises(StartError, match="PUBLIC_TLS_KEY: cannot read"):
        PublicTlsSettings.load(public_tls_certificate=there, public_tls_key=missing).public_tls()
