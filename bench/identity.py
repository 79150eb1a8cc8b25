"""What it costs to know who is calling: the gate's judgement of one call, by kind of credential, good and wrong.

``python bench/identity.py`` asks the authenticator itself, in this process, with keys in memory as a gateway has them:
all the CPU that a call pays for identity, from its metadata and bytes to who it is, replays remembered. What a client
pays to sign is beside it. The request is an order of about a hundred bytes.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from clearbook.v1 import account_service_pb2 as account_pb
from clearbook.v1 import order_service_pb2 as order_pb
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from eth_keys.datatypes import PrivateKey

from clearbook.credentials import Bearer, Credential, Ed25519, Hmac
from services.errors import Rejected
from services.order_gateway import keys_wire
from services.order_gateway.call import Call
from services.order_gateway.identity.desk import Desk
from services.order_gateway.identity.issuer import Issued
from services.order_gateway.identity.settings import IdentitySettings
from services.order_gateway.identity.wallet_signature import signer_of_hash
from services.order_gateway.identity.who import ADMIN_USER, Identity

METHOD = "/clearbook.v1.OrderService/PlaceOrder"
REQUEST = order_pb.PlaceOrderRequest(
    client_order_id="bench-123456", market="BTC-USD", side=order_pb.SIDE_BUY, type=order_pb.ORDER_TYPE_LIMIT,
    price="30000.00", quantity="0.001",
).SerializeToString()  # fmt: skip
SIGNATURE_KEY = "x-signature-bin"
ROUNDS = 5


def call_with(credential: Credential) -> Call:
    """A call as the gate is given it."""
    metadata = dict(credential.metadata(METHOD, REQUEST))
    signature = metadata.pop(SIGNATURE_KEY, b"")
    assert isinstance(signature, bytes)
    return Call(METHOD, {key: str(value) for key, value in metadata.items()}, REQUEST, signature, peer="127.0.0.1")


async def credentials(desk: Desk) -> dict[str, Credential]:
    """One of each kind, and wrong ones."""
    private, stranger = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate().private_bytes_raw()
    signer = await _issued(desk, account_pb.KEY_KIND_ED25519, private.public_key().public_bytes_raw())
    hmac, bearer = await _issued(desk, account_pb.KEY_KIND_HMAC_SHA256), await _issued(desk, account_pb.KEY_KIND_BEARER)
    return {
        "Ed25519": Ed25519(signer.key.key_id, private.private_bytes_raw()),
        "Ed25519, a forged signature": Ed25519(signer.key.key_id, stranger),
        "Ed25519, an unknown key": Ed25519("0" * 16, stranger),
        "HMAC-SHA256": Hmac(hmac.key.key_id, hmac.secret),
        "bearer token": Bearer(bearer.secret),
    }


async def _issued(desk: Desk, kind: account_pb.KeyKind.ValueType, public_key: bytes = b"") -> Issued:
    asked = account_pb.CreateApiKeyRequest(kind=kind, public_key=public_key)
    return await desk.issuer.create_for(Identity(ADMIN_USER, frozenset()), "alice", keys_wire.new_key(asked))


async def judge(desk: Desk, calls: Iterable[Call]) -> None:
    """Judges calls as they come, each at once if it can be.

    What is not known here waits for the next look into the database, the same one for all of it: in turn, each would
    wait for a look of its own.
    """
    unknown = [call for call in calls if not known(desk, call)]
    found = await asyncio.gather(*map(desk.authenticator.identify_anew, unknown), return_exceptions=True)
    assert all(isinstance(each, Rejected) for each in found), found


def known(desk: Desk, call: Call) -> bool:
    """Whether the call is judged good at once."""
    return desk.authenticator.identify_at_once(call) is not None


async def microseconds(desk: Desk, credential: Credential, calls: int) -> tuple[float, float]:
    """(to sign, to judge) one call: the median of the rounds."""
    signing, judging = [], []
    for _ in range(ROUNDS):
        began = time.process_time()
        made = [call_with(credential) for _ in range(calls)]
        signed = time.process_time()
        await judge(desk, made)
        signing.append((signed - began) / calls)
        judging.append((time.process_time() - signed) / calls)
    return statistics.median(signing) * 1e6, statistics.median(judging) * 1e6


async def main(calls: int, write: Callable[[str], object]) -> None:
    """Prints a line for each kind."""
    with tempfile.TemporaryDirectory() as folder:
        settings = IdentitySettings.load(
            clearbook_auth="required",
            clearbook_data=Path(folder),
            clearbook_secrets_key="ab" * 32,
            database_url=f"sqlite:///{folder}/gateway.sqlite",
            auth_failures_max=10**9,
        )
        async with Desk.opened(settings) as desk:
            await desk.keyring.load()
            made = await credentials(desk)
            await asyncio.sleep(desk.authenticator.seconds_to_wait())
            write(f"{'credential':30} {'to judge':>12} {'to sign':>12}")
            write(f"{'a wallet':30} {wallet_microseconds(calls):>9.1f} µs")
            for name, credential in made.items():
                signing, judging = await microseconds(desk, credential, calls)
                write(f"{name:30} {judging:>9.1f} µs {signing:>9.1f} µs")


def wallet_microseconds(calls: int) -> float:
    """To find out which wallet has signed 32 bytes, as of an order in a market of signed orders."""
    key, signed = PrivateKey(b"\1" * 32), b"\7" * 32
    signature = key.sign_msg_hash(signed).to_bytes()
    judging = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(calls):
            assert signer_of_hash(signed, signature) == key.public_key.to_checksum_address()
        judging.append((time.process_time() - began) / calls)
    return statistics.median(judging) * 1e6


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1_000, help="in each of five rounds")
    asyncio.run(main(parser.parse_args().calls, print))
