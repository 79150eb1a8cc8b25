"""`clearbook`: one command line for every process and chore. Modules are imported when asked for: starting is quick."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import admin

if TYPE_CHECKING:
    from services.cli.chain_side import Sources
    from services.cli.dead_letters import DeadLetter
    from services.runtime.amqp import Topology

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # read when grpc is imported: `up` execs what it forks

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

app.add_typer(admin.app, name="admin")

DIFFERENCES_SHOWN_MAX = 50

Port = Annotated[int, typer.Option(min=1, max=65_535)]
GatewayAddress = Annotated[str | None, typer.Option(help="GATEWAY_ADDRESS, or 127.0.0.1:50051.")]
PublisherAddress = Annotated[str | None, typer.Option(help="PUBLISHER_ADDRESS, or 127.0.0.1:50052.")]
DatabaseUrl = Annotated[str | None, typer.Option(help="DATABASE_URL, or the files in --data.")]
DataFolder = Annotated[Path | None, typer.Option(help="CLEARBOOK_DATA, or ./data.")]
Shard = Annotated[int | None, typer.Option(help="BOOK_SHARD, or 0.")]


@app.command()
def up(
    host: Annotated[str, typer.Option(help="Where the public ports listen.")] = "127.0.0.1",
    data: Annotated[Path | None, typer.Option(help="Where everything is kept; CLEARBOOK_DATA, or ./data.")] = None,
    http_port: Port = 8000,
    gateway_port: Port = 50051,
    publisher_port: Port = 50052,
    book_port: Port = 50061,
    settler_port: Port = 50062,
    forward_port: Port = 50063,
    devchain_port: Port = 8545,
    metrics_port: Annotated[int, typer.Option(help="The first of four.", min=1, max=65_532)] = 9101,
    certificates: Annotated[Path | None, typer.Option(help="Use TLS, with what `clearbook certs` made there.")] = None,
) -> None:
    """Run the whole exchange on this machine."""
    from services.cli.up import plan_from
    from services.cli.up import up as run_up
    from services.runtime import log
    from services.runtime.run import run

    ports = {
        "http": http_port,
        "gateway": gateway_port,
        "publisher": publisher_port,
        "book": book_port,
        "settler": settler_port,
        "forward": forward_port,
        "devchain": devchain_port,
        "metrics": metrics_port,
    }
    log.configure("up")
    with _clear_start():
        plan = plan_from(host, data, ports, certificates)
    run(lambda closing: run_up(plan, closing), shutdown_seconds_max=120.0)


def _service(module: str) -> None:
    import_module(module).run_service()


@app.command()
def book() -> None:
    """Run the matching engine and its journal."""
    _service("services.book.__main__")


@app.command()
def publisher(
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Forget the store and read the journal again.")] = False,
) -> None:
    """Run the market data service."""
    if rebuild:
        os.environ["PUBLISHER_REBUILD"] = "1"
    _service("services.book.publisher.__main__")


@app.command()
def gateway() -> None:
    """Run the order gateway."""
    _service("services.order_gateway.__main__")


@app.command()
def settler() -> None:
    """Run the settler."""
    _service("services.settler.__main__")


@app.command()
def mirror() -> None:
    """Follow Binance's prices, and quote them in our markets (MIRROR_MARKETS says which)."""
    _service("services.mirror.__main__")


@app.command()
def http() -> None:
    """Run the REST and WebSocket shim."""
    _service("gateway_http.__main__")


@app.command()
def health(
    address: Annotated[str, typer.Argument(help="host:port of a gRPC server, or an http:// URL.")],
    service: Annotated[str, typer.Option(help="One service; all by default.")] = "",
    role: Annotated[str | None, typer.Option(help="Of a port between our own processes: who must be there.")] = None,
) -> None:
    """Exit 0 if a process serves, 1 if not. TLS_… say who asks (with --role), PUBLIC_TLS_AUTHORITY whom to believe."""
    from services.cli.health import http_ready, serving
    from services.cli.settings import HealthSettings
    from services.runtime.roles import Role

    if role is not None and role not in set(Role):
        raise typer.BadParameter(f"one of {', '.join(Role)}", param_hint="--role")
    settings, expected = HealthSettings.load(), Role(role) if role else None
    with _clear_start():
        tls = settings.public_authority() if role is None else settings.tls()
    http = address.startswith("http")
    fine = asyncio.run(http_ready(address, tls) if http else serving(address, service, tls=tls, role=expected))
    sys.stdout.write("SERVING\n" if fine else "NOT_SERVING\n")
    raise typer.Exit(0 if fine else 1)


@app.command()
def certs(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where they are kept.")] = Path("certs"),
    host: Annotated[
        list[str] | None, typer.Option(help="One more name or address of the public ports.", envvar="PUBLIC_HOSTS")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Say when they end; exit 1 if one is to be renewed.")] = False,
) -> None:
    """Make or renew certificates for development: an authority, one for each process, one for the public ports."""
    from services.cli.certs import command

    raise typer.Exit(command(folder, host or [], only_check=check))


@app.command()
def devchain(
    port: Port = 8545,
    data: Annotated[Path, typer.Option(help="Where the chain is kept.")] = Path("data/devchain"),
) -> None:
    """Run an EVM chain for development."""
    from services.cli.devchain import main

    main(port, data)


@app.command()
def verify(database_url: DatabaseUrl = None, data: DataFolder = None, shard: Shard = None) -> None:
    """Apply a journal again from its first row and compare every event and digest."""
    from services.cli.settings import VerifySettings, given
    from services.cli.verify import verify as check

    settings = VerifySettings.load(**given(database_url=database_url, clearbook_data=data, book_shard=shard))
    raise typer.Exit(check(settings.database("book"), settings.book_shard))


@app.command()
def audit(
    database_url: DatabaseUrl = None,
    data: DataFolder = None,
    shard: Shard = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object; amounts in whole units.")] = False,
) -> None:
    """Compare journal, ledger and chain, and print the balance sheet. Reads only; the chain must run.

    The chain is that of ETH_TESTNET_URL, or what `clearbook up` last ran on these data.
    """
    from rich.console import Console

    from services.cli.audit import audit as compare

    raise typer.Exit(compare(_sources(database_url, data, shard), Console(), as_json=as_json))


@app.command()
def reconcile(
    database_url: DatabaseUrl = None,
    data: DataFolder = None,
    shard: Shard = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object; amounts in whole units.")] = False,
) -> None:
    """Compare ledger and chain by asset and account, and print both sides. Reads only; the chain must run.

    The chain is found as by `clearbook audit`.
    """
    from rich.console import Console

    from services.cli.reconcile import reconcile as compare

    raise typer.Exit(compare(_sources(database_url, data, shard), Console(), as_json=as_json))


def _sources(database_url: str | None, data: Path | None, shard: int | None) -> "Sources":
    """Where journal, ledger and chain are."""
    from services.cli.chain_note import noted
    from services.cli.chain_side import Sources
    from services.cli.settings import given
    from services.settler.__main__ import SettlerSettings

    options = given(database_url=database_url, clearbook_data=data, book_shard=shard)
    settings = SettlerSettings.load(**options)
    if not settings.eth_testnet_url:
        settings = SettlerSettings.load(**options, **given(eth_testnet_url=noted(settings.clearbook_data)))
    with _clear_start():
        wanted = settings.wanted()
    return Sources(
        settings.database("book"),
        settings.database("gateway"),
        settings.database("settler"),
        settings.book_shard,
        wanted.url,
        wanted.address,
        wanted.abi,
    )


@app.command()
def rebuild(database_url: DatabaseUrl = None, data: DataFolder = None, shard: Shard = None) -> None:
    """Fold the gateway's tables anew from the journal, and compare. Stop the gateway first."""
    from rich.console import Console

    from services.cli.rebuild import Sources
    from services.cli.rebuild import rebuild as fold_anew
    from services.cli.settings import RebuildSettings, given

    settings = RebuildSettings.load(**given(database_url=database_url, clearbook_data=data, book_shard=shard))
    urls = settings.database("book"), settings.database("gateway")
    raise typer.Exit(fold_anew(Sources(*urls, settings.book_shard, settings.fee_volume_asset), Console()))


@app.command()
def replay(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="A recording, and its snapshots.")],
    gateway: GatewayAddress = None,
    publisher: PublisherAddress = None,
) -> None:
    """Play a recorded exchange feed into the running exchange, and compare the books."""
    from rich.console import Console

    from services.cli.clients import CallFailed
    from services.cli.recorded import FeedError
    from services.cli.replay import replay as play
    from services.cli.settings import ClientSettings, given

    settings = ClientSettings.load(**given(gateway_address=gateway, publisher_address=publisher))
    console, summary = Console(), None
    try:
        with _clear_start():
            tls = settings.public_authority()
        summary = asyncio.run(play(files, settings.gateway_address, settings.publisher_address, console, tls))
    except* (FeedError, CallFailed) as wrong:
        console.print(_first(wrong), style="red")
    if summary is None:
        raise typer.Exit(1)
    for text in summary.differences[:DIFFERENCES_SHOWN_MAX]:
        console.print(text, style="red")
    console.print(
        f"{summary.markets} markets, {summary.levels} levels, {summary.trades} trades, {summary.orders} orders:",
        f"{len(summary.differences)} differences",
    )
    raise typer.Exit(1 if summary.differences else 0)


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=0, help="How long; 0: until Ctrl-C.")] = 0,
    gateway: GatewayAddress = None,
    publisher: PublisherAddress = None,
) -> None:
    """Trade a little in the running exchange, so that its books are alive."""
    from services.cli.demo import demo as trade
    from services.cli.settings import ClientSettings, given
    from services.runtime import log
    from services.runtime.run import run

    settings = ClientSettings.load(**given(gateway_address=gateway, publisher_address=publisher))
    log.configure("demo", "warning")
    with _clear_start():
        tls = settings.public_authority()
    run(lambda closing: trade(settings.gateway_address, settings.publisher_address, seconds, closing, tls))


@app.command()
def export(
    kind: Annotated[str, typer.Argument(help="orders, executions, ledger or transfers.")],
    user: Annotated[str, typer.Option(help="Who is calling: in open mode anybody, else CLEARBOOK_TOKEN's owner.")] = "",
    out: Annotated[Path | None, typer.Option(help="A file; else standard output.")] = None,
    market: Annotated[str, typer.Option(help="Only this market: orders, executions.")] = "",
    asset: Annotated[str, typer.Option(help="Only this asset: ledger, transfers.")] = "",
    start: Annotated[str, typer.Option(help="From this time on, for example 2026-11-22T00:00:00Z.")] = "",
    end: Annotated[str, typer.Option(help="Before this time.")] = "",
    gateway: GatewayAddress = None,
) -> None:
    """Write one's own history as CSV."""
    from services.cli.calls import refusals
    from services.cli.export import TABLES, instant, written
    from services.cli.export import export as write
    from services.cli.settings import given

    with refusals(), ExitStack() as files:
        if kind not in TABLES:
            raise typer.BadParameter(f"must be one of {', '.join(TABLES)}", param_hint="KIND")
        times = {"start_time": instant(start) if start else None, "end_time": instant(end) if end else None}
        filters = {name: value for name, value in times.items() if value is not None}
        file = files.enter_context(written(out)) if out else sys.stdout
        rows = asyncio.run(write(kind, user, given(market=market, asset=asset) | filters, file, gateway))
    sys.stderr.write(f"{rows} rows\n")


contract = typer.Typer(no_args_is_help=True, help="The settlement contract.")
app.add_typer(contract, name="contract")


@contract.command("deploy")
def deploy_contract(
    settler: Annotated[str, typer.Option(help="Who settles; else SETTLEMENT_PRIVATE_KEY's address.")] = "",
    pauser: Annotated[str, typer.Option(help="Who may pause; else the admin.")] = "",
    exit_delay: Annotated[int | None, typer.Option(help="Seconds from an exit's request to the exit.")] = None,
    listing_delay: Annotated[int | None, typer.Option(help="Seconds from a token's proposal to its listing.")] = None,
    abi: Annotated[Path | None, typer.Option(help="Write the ABI here.")] = None,
    env: Annotated[Path | None, typer.Option(help="Put the settings into this file too.")] = None,
) -> None:
    """Put the contract on ETH_TESTNET_URL's chain, or find it there; print its address as lines for .env.

    CONTRACT_ADMIN_PRIVATE_KEY deploys and is the admin's; unset, SETTLEMENT_PRIVATE_KEY is both.
    """
    from services.cli import contract_deploy as deploying

    wish = deploying.Wish(settler, pauser, exit_delay, listing_delay)
    with _clear_start():
        found = asyncio.run(deploying.deploy(deploying.DeploySettings.load(), wish))
    if abi is not None:
        deploying.write_abi(abi)
    variables = found.variables(abi)
    if env is not None:
        deploying.put_into_env(env, variables)
    roles = f"admin {found.admin}, settler {found.settler}, pauser {found.pauser}"
    delays = f"exits after {found.delays.exit_seconds} s, tokens after {found.delays.listing_seconds} s"
    sys.stdout.write(f"# {roles}; {delays}\n" + "".join(f"{name}={value}\n" for name, value in variables.items()))


dlq = typer.Typer(no_args_is_help=True, help="Settlement messages that RabbitMQ has set aside (RABBITMQ_URI).")
app.add_typer(dlq, name="dlq")


@dlq.command("list")
def list_dead_letters(shard: Shard = None) -> None:
    """List them, the oldest first. They stay where they are."""
    for letter in _dead_letters(shard):
        since = "" if letter.since is None else f"{letter.since:%Y-%m-%dT%H:%M:%SZ}"
        named = "\t".join((str(letter.place), letter.message_id, letter.reason, since, f"{len(letter.body)} bytes"))
        sys.stdout.write(f"{named}\t{letter.summary()}\n")


@dlq.command("show")
def show_dead_letter(
    message_id: Annotated[str, typer.Argument(help="As `list` shows it.")], shard: Shard = None
) -> None:
    """Write one's bytes in hexadecimal digits. It stays where it is."""
    found = [letter for letter in _dead_letters(shard) if letter.message_id == message_id]
    if not found:
        sys.stderr.write(f"clearbook: no dead letter {message_id}\n")
        raise typer.Exit(1)
    sys.stdout.write(f"# {found[0].summary()}\n{found[0].body.hex()}\n")


@dlq.command("requeue")
def requeue_dead_letters(
    message_id: Annotated[str | None, typer.Argument(help="As `list` shows it; all of them if none is given.")] = None,
    shard: Shard = None,
) -> None:
    """Put one, or all, back into the settler's queue: what it has already it passes over."""
    from services.cli import dead_letters

    with _broker(shard) as (uri, topology):
        done = asyncio.run(dead_letters.requeue(uri, topology, message_id))
    sys.stdout.write(f"{done} put back\n")
    raise typer.Exit(0 if done or message_id is None else 1)


def _dead_letters(shard: int | None) -> "list[DeadLetter]":
    from services.cli import dead_letters

    with _broker(shard) as (uri, topology):
        return asyncio.run(dead_letters.dead_letters(uri, topology))


@contextmanager
def _broker(shard: int | None) -> "Iterator[tuple[str, Topology]]":
    """Where the dead letters are. A broker that does not answer is one line and exit 2."""
    from services.cli import dead_letters
    from services.cli.settings import DeadLetterSettings, given
    from services.runtime import log
    from services.runtime.amqp import settlement_topology
    from services.runtime.run import StartError

    log.configure("dlq", "warning")
    settings = DeadLetterSettings.load(**given(book_shard=shard))
    with _clear_start():
        if not settings.rabbitmq_uri:
            raise StartError("RABBITMQ_URI is not set: without a broker nothing is set aside")
        try:
            yield settings.rabbitmq_uri, settlement_topology(settings.book_shard)
        except dead_letters.UNREACHABLE as error:
            raise StartError(f"the broker: {error!r}") from None


settle = typer.Typer(no_args_is_help=True, help="What settlement leaves to operators.")
app.add_typer(settle, name="settle")


@settle.command("debts")
def settle_debts(
    resolve: Annotated[int | None, typer.Option(help="This debt is over: the account may go on.")] = None,
    why: Annotated[str, typer.Option(help="How it ended: paid back, written off.")] = "",
) -> None:
    """List what accounts owe insurance, which has paid on chain what they could not; or end one of these debts."""
    from services.cli import debts
    from services.cli.rebuild import Refusal
    from services.cli.settings import VerifySettings
    from services.runtime import log
    from services.runtime.db import Unavailable
    from services.runtime.run import StartError

    log.configure("settle", "warning")
    url = VerifySettings.load().database(debts.SCHEMA)
    with _clear_start():
        try:
            if resolve is not None:
                asyncio.run(debts.resolve(url, resolve, why))
            for debt in asyncio.run(debts.listed(url)):
                sys.stdout.write(debt.line() + "\n")
        except (debts.NotResolvable, Refusal, Unavailable) as error:
            raise StartError(str(error)) from None


keys = typer.Typer(no_args_is_help=True, help="Ed25519 pairs, and signatures for scripts and grpcurl.")
app.add_typer(keys, name="keys")


@keys.command("new")
def new_pair(file: Annotated[Path, typer.Argument(help="Where the private key is written, in PEM.")]) -> None:
    """Make an Ed25519 pair: the private key stays in a file, the public one is printed, for CreateApiKey."""
    from services.cli.keys import new_pair as make

    with _clear_start():
        sys.stdout.write(make(file) + "\n")


@keys.command("sign")
def sign(
    key_id: Annotated[str, typer.Argument(help="As CreateApiKey gave it.")],
    method: Annotated[str, typer.Argument(help="For example clearbook.v1.OrderService/PlaceOrder.")],
    request: Annotated[str, typer.Argument(help="As JSON, just as grpcurl is given it.")] = "{}",
    key: Annotated[Path | None, typer.Option(help="Private key; else CLEARBOOK_KEY_SECRET is an HMAC key's.")] = None,
    audience: Annotated[str, typer.Option(help="CLEARBOOK_AUDIENCE of the exchange.")] = "clearbook",
) -> None:
    """Sign one call; print it as options for grpcurl."""
    from services.cli.keys import signed_headers

    with _clear_start():
        sys.stdout.write(signed_headers(key_id, key, method, request, audience) + "\n")


@contextmanager
def _clear_start() -> Iterator[None]:
    """What cannot start as configured is one line and exit 2."""
    from services.runtime.run import EXIT_CANNOT_START, StartError

    try:
        yield
    except StartError as error:
        sys.stderr.write(f"clearbook: {error}\n")
        raise typer.Exit(EXIT_CANNOT_START) from None


def _first(error: BaseException) -> BaseException:
    """The first error in a group, however deep."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


if __name__ == "__main__":
    app()
