"""Where the settlement key is: in the environment, in an encrypted file, or with a signer elsewhere. Never logged."""

import json
from pathlib import Path
from typing import Final

from eth_account import Account
from pydantic import Field

from services.runtime.config import Settings
from services.runtime.run import StartError
from services.settler.contract import ChainMisconfigured, Signer, Signs
from services.settler.remote_signer import Endpoint, RemoteSigner

DEV_KEY: Final = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
"""The first key of the mnemonic "test test … junk": funded on every development chain, worthless everywhere."""
DEV_ADDRESS: Final = Signer(DEV_KEY).address


class KeySettings(Settings):
    """The settlement key, in one of three ways. None of them: the well-known key of development chains."""

    settlement_private_key: str = Field(default="", repr=False)
    settlement_keystore: Path | None = None
    settlement_keystore_password: str = Field(default="", repr=False)
    settlement_keystore_password_file: Path | None = None
    settlement_signer_url: str = Field(default="", repr=False)
    settlement_signer_address: str = ""
    settlement_signer_authority: Path | None = None
    settlement_signer_certificate: Path | None = None
    settlement_signer_key: Path | None = None

    @property
    def has_key(self) -> bool:
        """Whether any key is named."""
        return bool(self.settlement_private_key or self.settlement_keystore or self.settlement_signer_url)

    def signer(self) -> Signs:
        """The key. Slow for an encrypted file, which is the purpose of such a file.

        Raises:
            StartError: in one line that quotes no secret: more than one way, a wrong password, no such file.
        """
        ways = {
            "SETTLEMENT_PRIVATE_KEY": self.settlement_private_key,
            "SETTLEMENT_KEYSTORE": self.settlement_keystore,
            "SETTLEMENT_SIGNER_URL": self.settlement_signer_url,
        }
        named = [name for name, value in ways.items() if value]
        if len(named) > 1:
            raise StartError(f"{' and '.join(named)} are set: the key is in one place")
        try:
            if self.settlement_keystore:
                return Signer(_decrypted(self.settlement_keystore, self._password()))
            if self.settlement_signer_url:
                return RemoteSigner(self._endpoint(), self.settlement_signer_address)
            return Signer(self.settlement_private_key or DEV_KEY)
        except ChainMisconfigured as wrong:
            raise StartError(f"{named[0]}: {wrong}") from None

    def _endpoint(self) -> Endpoint:
        return Endpoint(
            self.settlement_signer_url,
            self.settlement_signer_authority,
            self.settlement_signer_certificate,
            self.settlement_signer_key,
        )

    def _password(self) -> str:
        if self.settlement_keystore_password_file is None:
            return self.settlement_keystore_password
        try:
            return self.settlement_keystore_password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as wrong:
            raise StartError(f"SETTLEMENT_KEYSTORE_PASSWORD_FILE cannot be read: {type(wrong).__name__}") from None


def _decrypted(keystore: Path, password: str) -> str:
    """The key in an encrypted file, in hex."""
    try:
        content = json.loads(keystore.read_text(encoding="utf-8"))
    except (OSError, ValueError) as wrong:
        raise ChainMisconfigured(f"{keystore} cannot be read: {type(wrong).__name__}") from None
    try:
        return "0x" + bytes(Account.decrypt(content, password)).hex()
    except Exception:  # eth_keyfile raises whatever a malformed file leads to
        raise ChainMisconfigured(f"{keystore} cannot be decrypted: a wrong password, or no keystore") from None
