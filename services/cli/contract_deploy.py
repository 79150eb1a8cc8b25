"""`clearbook contract deploy`: the settlement contract on a chain, deployed once however often it is asked for."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import Field

from services.runtime.run import StartError
from services.settler.binding import first_block, is_play
from services.settler.contract import (
    Chain,
    ChainMisconfigured,
    ChainUnavailable,
    SettlementContract,
    Signer,
    load_abi,
)
from services.settler.deploy import DELAYS_OF_PLAY, Delays, DeployFailed, DirectTransact, ensure_clearbook
from services.settler.keys import KeySettings

DELAYS: Final = Delays(exit_seconds=7 * 86_400, listing_seconds=2 * 86_400)
"""On a chain whose money is worth something."""
_VARIABLE: Final = re.compile(r"\s*#?\s*([A-Z_]+)\s*=")


class DeploySettings(KeySettings):
    """Which chain, and whose keys. The admin's key deploys; unset, it is the settler's."""

    eth_testnet_url: str = Field(default="http://127.0.0.1:8545", repr=False)
    chain_id: int = Field(default=0, ge=0)
    contract_admin_private_key: str = Field(default="", repr=False)
    settlement_contract_address: str = ""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the contract is to be like. None, and "": as is usual.

    Attributes:
        settler: the address that settles; else that of SETTLEMENT_PRIVATE_KEY.
        pauser: the address that may pause; else the admin's.
        exit_seconds: from the request of an exit to the exit.
        listing_seconds: from the proposal of a token to its listing.
    """

    settler: str = ""
    pauser: str = ""
    exit_seconds: int | None = None
    listing_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Deployed:
    """A contract that is there.

    Attributes:
        chain_id: of its chain.
        address: of the contract.
        start_block: its first block.
        admin: who lists tokens and offers roles.
        settler: who settles.
        pauser: who may pause.
        delays: its delays.
    """

    chain_id: int
    address: str
    start_block: int
    admin: str
    settler: str
    pauser: str
    delays: Delays

    def variables(self, abi: Path | None) -> dict[str, str]:
        """What a settler's environment is to say."""
        lines = {
            "CHAIN_ID": str(self.chain_id),
            "SETTLEMENT_CONTRACT_ADDRESS": self.address,
            "SETTLEMENT_START_BLOCK": str(self.start_block),
        }
        return lines | ({"SETTLEMENT_CONTRACT_ABI": str(abi.resolve())} if abi is not None else {})


async def deploy(settings: DeploySettings, wish: Wish) -> Deployed:
    """The contract at SETTLEMENT_CONTRACT_ADDRESS, or the newest that the admin's key deployed, or a new one.

    Raises:
        StartError: in one line: no key, no chain, a contract that is there is not as it is wished.
    """
    if not settings.has_key and not wish.settler:
        raise StartError("who settles? Set SETTLEMENT_PRIVATE_KEY, or give --settler")
    if not settings.has_key and not settings.contract_admin_private_key:
        raise StartError("who deploys? Set CONTRACT_ADMIN_PRIVATE_KEY")
    try:
        own = settings.contract_admin_private_key
        admin = Signer(own) if own else settings.signer()
        settler = wish.settler or str(settings.signer().address)
        chain = await Chain.connect(settings.eth_testnet_url, expected_chain_id=settings.chain_id or None)
    except (ChainMisconfigured, ChainUnavailable) as wrong:
        raise StartError(str(wrong)) from None
    try:
        usual = DELAYS_OF_PLAY if is_play(chain.chain_id) else DELAYS
        delays = Delays(
            usual.exit_seconds if wish.exit_seconds is None else wish.exit_seconds,
            usual.listing_seconds if wish.listing_seconds is None else wish.listing_seconds,
        )
        address = await ensure_clearbook(
            chain,
            DirectTransact(chain, admin),
            admin.address,
            settler=settler,
            pauser=wish.pauser or None,
            delays=delays,
            address=settings.settlement_contract_address or None,
        )
        found = await _described(await SettlementContract.on(chain, address, load_abi()))
    except (ChainMisconfigured, ChainUnavailable, DeployFailed) as wrong:
        raise StartError(str(wrong)) from None
    finally:
        await chain.close()
    _compare(found, wish)
    return found


async def _described(contract: SettlementContract) -> Deployed:
    return Deployed(
        contract.chain.chain_id,
        contract.address,
        await first_block(contract),
        await contract.role("admin"),
        await contract.role("settler"),
        await contract.role("pauser"),
        Delays(*await contract.delays()),
    )


def _compare(found: Deployed, wish: Wish) -> None:
    """What was asked for in so many words must be so: a contract that is there is never changed."""
    pairs = (
        ("settler", found.settler.lower(), wish.settler.lower() or None),
        ("pauser", found.pauser.lower(), wish.pauser.lower() or None),
        ("exit delay", found.delays.exit_seconds, wish.exit_seconds),
        ("listing delay", found.delays.listing_seconds, wish.listing_seconds),
    )
    for name, is_so, wished in pairs:
        if wished is not None and is_so != wished:
            raise StartError(
                f"the contract at {found.address} is there already, and its {name} is {is_so}, not {wished}"
            )


def write_abi(file: Path) -> None:
    """Writes the contract's ABI as JSON."""
    file.write_text(json.dumps(load_abi(), indent=1) + "\n", encoding="utf-8")


def put_into_env(file: Path, variables: dict[str, str]) -> None:
    """Sets variables in an env file: in the place of lines that set them, commented out or not; else at its end."""
    left, lines = dict(variables), []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        named = _VARIABLE.match(line)
        name = named.group(1) if named else ""
        if name not in variables:
            lines.append(line)
        elif name in left:
            lines.append(f"{name}={left.pop(name)}")
    lines += [f"{name}={value}" for name, value in left.items()]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
