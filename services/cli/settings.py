"""What the chores read from the environment and `.env`, as every process does; options win over both."""

from typing import Any

from pydantic import Field

from services.cli.clients import ADMIN, Metadata
from services.cli.clients import user as open_mode
from services.order_gateway.volumes import VOLUME_ASSET
from services.runtime.config import (
    SHARD_MAX,
    Address,
    BrokerSettings,
    DatabaseSettings,
    PublicClientSettings,
    TlsSettings,
)
from services.runtime.metadata import AUTHORIZATION_KEY


class ClientSettings(PublicClientSettings):
    """Where the running exchange is."""

    gateway_address: Address = "127.0.0.1:50051"
    publisher_address: Address = "127.0.0.1:50052"
    clearbook_token: str = Field(default="", repr=False)
    """The bearer token to show; empty: open mode."""

    def who(self, user: str) -> Metadata:
        """The metadata that says who is calling: the token's owner, or in open mode `user`, the operator if empty.

        A user who is named beside a token must be its owner: the gateway refuses anybody else.
        """
        if not self.clearbook_token:
            return open_mode(user) if user else ADMIN
        token = (AUTHORIZATION_KEY, f"Bearer {self.clearbook_token}")
        return (token, *open_mode(user)) if user else (token,)


class HealthSettings(TlsSettings, PublicClientSettings):
    """With which certificates to ask."""


class VerifySettings(DatabaseSettings):
    """Which journal."""

    book_shard: int = Field(default=0, ge=0, le=SHARD_MAX)


class DeadLetterSettings(BrokerSettings):
    """Whose dead letters."""

    book_shard: int = Field(default=0, ge=0, le=SHARD_MAX)


class RebuildSettings(VerifySettings):
    """Which journal, and how volumes are counted."""

    fee_volume_asset: str = VOLUME_ASSET


def given(**options: Any) -> dict[str, Any]:
    """The options that were given, as overrides of settings. An empty one counts as not given."""
    return {name: value for name, value in options.items() if value not in {None, ""}}
