"""The text that a wallet signs to sign in: EIP-4361, built and read in exactly one form."""

import re
from dataclasses import dataclass

STATEMENT = "Sign in to Clearbook. This moves no money and costs nothing."
_TIME = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z"
_MESSAGE = re.compile(
    r"(?P<domain>[A-Za-z0-9.:\[\]-]{1,253}) wants you to sign in with your Ethereum account:\n"
    r"(?P<address>0x[0-9a-fA-F]{40})\n"
    r"\n" + re.escape(STATEMENT) + r"\n"
    r"\n"
    r"URI: (?P<uri>[!-~]{1,500})\n"
    r"Version: 1\n"
    r"Chain ID: (?P<chain_id>[1-9][0-9]{0,18})\n"
    r"Nonce: (?P<nonce>[0-9A-Za-z]{8,128})\n"
    rf"Issued At: (?P<issued_at>{_TIME})\n"
    rf"Expiration Time: (?P<expires_at>{_TIME})",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class SignInMessage:
    """A sign-in that is asked for.

    Attributes:
        domain: host, with its port if it has one.
        address: the wallet, in EIP-55 mixed case.
        uri: what is signed in to.
        nonce: letters and digits, good once.
        issued_at: UTC, as in 2026-11-23T04:00:00Z.
        expires_at: likewise.
    """

    domain: str
    address: str
    uri: str
    chain_id: int
    nonce: str
    issued_at: str
    expires_at: str

    def text(self) -> str:
        """The message, to be signed as it is."""
        return (
            f"{self.domain} wants you to sign in with your Ethereum account:\n"
            f"{self.address}\n\n{STATEMENT}\n\n"
            f"URI: {self.uri}\nVersion: 1\nChain ID: {self.chain_id}\nNonce: {self.nonce}\n"
            f"Issued At: {self.issued_at}\nExpiration Time: {self.expires_at}"
        )


def parse(text: str) -> SignInMessage | None:
    """The message that a text is; None for everything that `text` would have put otherwise."""
    found = _MESSAGE.fullmatch(text)
    if found is None:
        return None
    domain, address, uri, chain_id, nonce, issued_at, expires_at = found.groups()
    return SignInMessage(domain, address, uri, int(chain_id), nonce, issued_at, expires_at)
