"""A signer elsewhere: eth_signTransaction over HTTP, as web3signer, clef and nodes speak it.

What it returns is not trusted: it must be the asked transaction, signed by the expected address.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector
from eth_account import Account
from eth_typing import ChecksumAddress
from eth_utils.address import is_address, to_checksum_address
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from web3.types import TxParams
from yarl import URL

from services.runtime.config import HostPort
from services.settler.contract import ChainMisconfigured, ChainUnavailable, Signed
from services.settler.transactions import unsigned

SIGN_SECONDS_MAX: Final = 10
_NUMBERS: Final = ("chainId", "nonce", "gas", "maxFeePerGas", "maxPriorityFeePerGas", "value")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a signer is.

    Attributes:
        url: https, or http on this machine; may hold a user and password.
        authority: the certificates (PEM) to believe; None: the system's.
        certificate: our own, for a signer that asks for it.
        key: its key; None: in the same file.
    """

    url: str
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


class SignerUnavailable(ChainUnavailable):
    """The signer gave no usable answer; nothing was signed that counts. It never quotes the URL, a secret."""


class RemoteSigner:
    """Signs by asking. Its repr shows the address only."""

    def __init__(self, endpoint: Endpoint, address: str) -> None:
        """Reads the certificates, asks nothing yet.

        Raises:
            ChainMisconfigured: in one line.
        """
        if not is_address(address):
            raise ChainMisconfigured(f"SETTLEMENT_SIGNER_ADDRESS {address!r} is not an address (0x and 40 hex digits)")
        self.address: ChecksumAddress = to_checksum_address(address)
        url = URL(endpoint.url)
        if url.host is None or url.scheme not in {"http", "https"}:
            raise ChainMisconfigured("SETTLEMENT_SIGNER_URL is not an http or https URL")
        if url.scheme == "http" and not HostPort(url.host, 0).loopback:
            raise ChainMisconfigured("SETTLEMENT_SIGNER_URL is plain http to another machine: use https")
        self._url = url
        self._tls = _context(endpoint) if url.scheme == "https" else None

    def __repr__(self) -> str:
        """The address; never the URL."""
        return f"RemoteSigner({self.address})"

    async def sign(self, transaction: TxParams) -> Signed:
        """Has a transaction signed.

        Raises:
            SignerUnavailable: no answer, or another transaction or signature than asked for.
        """
        asked: dict[str, Any] = dict(transaction)
        params = {name: hex(int(asked[name])) for name in _NUMBERS}
        params |= {"from": self.address, "data": str(asked["data"]), "type": "0x2"}
        if "to" in asked:
            params["to"] = str(asked["to"])
        raw = _raw(await self._request(params))
        try:
            said: dict[str, Any] = dict(unsigned(raw))
            by = Account.recover_transaction(HexBytes(raw))
        except Exception:  # eth_keys and rlp raise errors of many kinds for bytes that are no transaction
            raise SignerUnavailable("the signer's answer is not a signed EIP-1559 transaction") from None
        if said != asked or by != self.address:
            raise SignerUnavailable(f"the signer has signed another transaction than asked for, as {by}")
        return Signed(raw, "0x" + keccak(raw).hex())

    async def _request(self, params: dict[str, str]) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": "eth_signTransaction", "params": [params]}
        try:
            async with (
                ClientSession(
                    connector=TCPConnector(ssl=True if self._tls is None else self._tls),
                    timeout=ClientTimeout(total=SIGN_SECONDS_MAX),
                ) as session,
                session.post(self._url, json=body) as answer,
            ):
                if answer.status != 200:
                    raise SignerUnavailable(f"the signer says HTTP {answer.status}")
                reply = await answer.json(content_type=None)
        except (ClientError, TimeoutError, OSError, ValueError) as error:
            raise SignerUnavailable(f"the signer does not answer: {type(error).__name__}") from None
        if not isinstance(reply, dict) or "result" not in reply:
            said = reply.get("error") if isinstance(reply, dict) else None
            why = said.get("message") if isinstance(said, dict) else None
            raise SignerUnavailable(f"the signer refuses: {str(why)[:200]}")
        return reply["result"]


def _raw(result: Any) -> bytes:
    """web3signer answers with the bytes, clef and nodes with an object that holds them."""
    text = result.get("raw") if isinstance(result, dict) else result
    try:
        return bytes.fromhex(cast("str", text).removeprefix("0x"))
    except (AttributeError, ValueError):
        raise SignerUnavailable("the signer's answer is not hex") from None


def _context(endpoint: Endpoint) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=endpoint.authority)
        if endpoint.certificate:
            context.load_cert_chain(endpoint.certificate, endpoint.key)
    except (OSError, ValueError) as wrong:
        raise ChainMisconfigured(f"the certificates for SETTLEMENT_SIGNER_URL cannot be read: {wrong}") from None
    return context
