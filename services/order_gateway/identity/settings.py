"""The part of the gateway's settings that is about identity."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from services.order_gateway.identity.failures import FAILURES_PER_IP_MAX
from services.order_gateway.identity.secret_box import SecretsKey, checked_secrets_key
from services.order_gateway.identity.sign_in import Site
from services.order_gateway.identity.sign_in_counts import SIGN_INS_PER_IP_MAX, SIGN_INS_PER_WALLET_MAX
from services.order_gateway.identity.sign_ups import SIGN_UPS_PER_DAY_MAX, SIGN_UPS_PER_IP_MAX
from services.runtime.config import DatabaseSettings
from services.runtime.db import sqlite_path

SCHEMA = "identity"
DEVELOPMENT_CHAIN_ID = 31_337
ADMIN_TOKEN_CHARS_MIN = 32
"""Nobody guesses 32 hexadecimal digits; and one that people can remember is one that others can guess."""


def checked_admin_token(text: str) -> str:
    """The operator's token as the setting has it. Raises ValueError."""
    if text and len(text) < ADMIN_TOKEN_CHARS_MIN:
        raise ValueError(f"must be at least {ADMIN_TOKEN_CHARS_MIN} characters (openssl rand -hex 32)")
    return text


class IdentitySettings(DatabaseSettings):
    """Who may call, and how they prove it."""

    clearbook_auth: Literal["open", "required"] = "open"
    """open: whoever shows no credential may name a user. required: every call but those for everybody needs one."""
    clearbook_audience: str = Field(default="clearbook", pattern=r"^[!-~]{1,64}$")
    """What gRPC signatures are meant for: another one for each gateway that takes the same keys."""
    clearbook_secrets_key: Annotated[str, AfterValidator(checked_secrets_key)] = Field(default="", repr=False)
    """Encrypts HMAC secrets at rest. Unset in open mode: a file of our own in the data folder."""
    clearbook_admin_token: Annotated[str, AfterValidator(checked_admin_token)] = Field(default="", repr=False)
    """The first operator's bearer token; it may do nothing but administer."""
    auth_failures_max: int = Field(default=FAILURES_PER_IP_MAX, ge=1)
    """Wrong credentials of one address in a minute, and wrong sign-ins; good credentials pass all the same."""
    sign_ins_per_ip_max: int = Field(default=SIGN_INS_PER_IP_MAX, ge=1)
    """Sign-ins by wallet in a minute, right or wrong, from one address."""
    sign_ins_per_wallet_max: int = Field(default=SIGN_INS_PER_WALLET_MAX, ge=1)
    """Sign-ins of one wallet in a day."""
    sign_ups_per_ip_max: int = Field(default=SIGN_UPS_PER_IP_MAX, ge=1)
    """Accounts that strangers open by sign-in in a day, from one address."""
    sign_ups_per_day_max: int = Field(default=SIGN_UPS_PER_DAY_MAX, ge=1)
    """Accounts that strangers open by sign-in in a day, from everywhere."""
    identity_database_url: str = Field(default="", repr=False)
    """Where keys and wallets are, if not beside the gateway's own database: several gateways may share it."""
    sign_in_domain: str = Field(default="127.0.0.1:8000", pattern=r"^[A-Za-z0-9.:\[\]-]{1,253}$")
    """What wallets are told that they sign in to."""
    sign_in_uri: str = Field(default="http://127.0.0.1:8000", pattern=r"^[!-~]{1,500}$")
    chain_id: int = Field(default=0, ge=0)
    """Of the chain, as wallets are told; 0: that of a development chain."""

    @property
    def open_mode(self) -> bool:
        """Whether callers may just name a user."""
        return self.clearbook_auth == "open"

    @property
    def identity_database(self) -> str:
        """The URL of keys and wallets: a schema of their own, or beside the gateway's SQLite file one of their own."""
        if self.identity_database_url:
            return self.identity_database_url
        file = sqlite_path(self.database_url)
        return f"sqlite:///{file.with_name(SCHEMA)}.sqlite" if file is not None else self.database(SCHEMA)

    @property
    def secrets_key(self) -> SecretsKey:
        """What HMAC secrets are sealed with."""
        return SecretsKey(self.clearbook_secrets_key, self.clearbook_data, may_make=self.open_mode)

    @property
    def site(self) -> Site:
        """As sign-in messages name it."""
        return Site(self.sign_in_domain, self.sign_in_uri, self.chain_id or DEVELOPMENT_CHAIN_ID)
