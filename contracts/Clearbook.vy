# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Clearbook: the settlement contract
@license Apache-2.0
@notice
    A vault with one ledger and one cursor per shard. `deposit` credits what really arrived; `settle` takes the next
    contiguous batch of a shard's settlement sequence, netted per account and token, and nothing else. Whatever is
    sent twice, late or out of order is refused by the cursor, so a batch is settled exactly once on every fork.

    A batch is a list of signed deltas, strictly ascending by (token, account). That order makes three checks one
    pass: a repeated leg is out of order, each token's legs lie together (so its sum is complete when the token
    changes and must then be zero), and, since a leg is unique, the balance after it is the balance at the end of the
    batch, so non-negativity is checked for the whole batch and not for some order of the trades in it.

    Beside them a batch lists its withdrawals, strictly ascending by (token, address): each token's deltas sum to minus
    what is withdrawn of it. What is withdrawn is `claimable` by its address from then on, by nobody else, whatever
    is paused: `claim` pays all of it.

    Errors. `LegRefused(bytes32 account, address token)`: that account cannot pay its leg.
    `NotNext(uint64 expected, uint64 first)`: the batch is not the shard's next. All others are reason strings.
"""

from ethereum.ercs import IERC20

struct Delta:
    account: bytes32
    token: address
    amount: int256

struct Withdrawal:
    token: address
    to: address
    amount: uint256

event Deposited:
    index: indexed(uint256)
    account: indexed(bytes32)
    token: indexed(address)
    amount: uint256

event Claimed:
    index: indexed(uint256)
    to: indexed(address)
    token: indexed(address)
    amount: uint256

event Settled:
    shard: indexed(uint64)
    first: uint64
    last: uint64
    batch_hash: bytes32

event TokenListed:
    asset: indexed(bytes32)
    token: indexed(address)

event AdminOffered:
    admin: indexed(address)
    offered: indexed(address)

event AdminChanged:
    before: indexed(address)
    admin: indexed(address)

event SettlerChanged:
    before: indexed(address)
    settler: indexed(address)

event PauseChanged:
    paused: bool

DELTAS_MAX: constant(uint256) = 200
WITHDRAWALS_MAX: constant(uint256) = 50
ACCOUNT_MAX: constant(uint256) = 2**63 - 1

# Roles
admin: public(address)
offered_admin: public(address)
settler: public(address)
paused: public(bool)

# Assets: a symbol is left-aligned ASCII in bytes32. One token to an asset, one asset to a token, for ever.
token_of: public(HashMap[bytes32, address])
asset_of: public(HashMap[address, bytes32])

# The ledger
balances: public(HashMap[bytes32, HashMap[address, uint256]])
deposit_count: public(uint256)

# What has left the ledger and not yet the vault
claimable: public(HashMap[address, HashMap[address, uint256]])
claim_count: public(uint256)

# The cursor: the last settlement sequence settled, and the hash of the chain of batches up to it
settledThrough: public(HashMap[uint64, uint64])
batch_hash: public(HashMap[uint64, bytes32])


@deploy
def __init__(settler: address):
    """
    @param settler The only address that may settle; the deployer becomes the admin.
    """
    assert settler != empty(address), "no settler"
    self.admin = msg.sender
    self.settler = settler
    log AdminChanged(before=empty(address), admin=msg.sender)
    log SettlerChanged(before=empty(address), settler=settler)


# Settlement

@external
@nonreentrant
def settle(
    shard: uint64,
    first: uint64,
    last: uint64,
    deltas: DynArray[Delta, DELTAS_MAX],
    withdrawals: DynArray[Withdrawal, WITHDRAWALS_MAX],
):
    """
    @notice Settles the entries first..last of a shard's settlement sequence.
    @param deltas The batch's net per account and token; empty if it nets to nothing.
    @param withdrawals What leaves the accounts, per token and address; each token's deltas sum to minus its withdrawals.
    """
    assert msg.sender == self.settler, "not the settler"
    assert not self.paused, "paused"
    expected: uint64 = self.settledThrough[shard] + 1
    if first != expected:
        raw_revert(abi_encode(expected, first, method_id=method_id("NotNext(uint64,uint64)")))
    assert last >= first, "last before first"

    token: uint256 = 0
    account: uint256 = 0
    sum: int256 = 0
    released: uint256 = 0  # withdrawals taken so far
    started: bool = False
    for delta: Delta in deltas:
        next_token: uint256 = convert(delta.token, uint256)
        next_account: uint256 = convert(delta.account, uint256)
        if started and next_token == token:
            assert next_account > account, "legs out of order"
        else:
            assert not started or next_token > token, "legs out of order"
            assert sum == 0, "token does not sum to zero"
            # A token's sum begins with what is withdrawn of it. One loop beside the deltas: both ascend by token.
            to: uint256 = 0
            for place: uint256 in range(released, len(withdrawals), bound=WITHDRAWALS_MAX):
                withdrawal: Withdrawal = withdrawals[place]
                if withdrawal.token != delta.token:
                    break
                assert convert(withdrawal.to, uint256) > to, "withdrawals out of order"
                assert withdrawal.amount > 0, "empty withdrawal"
                to = convert(withdrawal.to, uint256)
                sum += convert(withdrawal.amount, int256)
                self.claimable[withdrawal.to][withdrawal.token] += withdrawal.amount
                released = place + 1
        started = True
        token = next_token
        account = next_account
        sum += delta.amount
        self._move(delta)
    assert sum == 0, "token does not sum to zero"
    assert released == len(withdrawals), "withdrawals out of order"

    chained: bytes32 = keccak256(
        abi_encode(self.batch_hash[shard], shard, first, last, keccak256(abi_encode(deltas, withdrawals)))
    )
    self.settledThrough[shard] = last
    self.batch_hash[shard] = chained
    log Settled(shard=shard, first=first, last=last, batch_hash=chained)


@internal
def _move(delta: Delta):
    held: uint256 = self.balances[delta.account][delta.token]
    if delta.amount >= 0:
        self.balances[delta.account][delta.token] = held + convert(delta.amount, uint256)
        return
    owed: uint256 = convert(-delta.amount, uint256)
    if owed > held:
        raw_revert(abi_encode(delta.account, delta.token, method_id=method_id("LegRefused(bytes32,address)")))
    self.balances[delta.account][delta.token] = held - owed


# Money in

@external
@nonreentrant
def deposit(account: bytes32, token: address, amount: uint256):
    """
    @notice Takes `amount` of a listed token from the caller and credits `account` with what really arrived.
    """
    assert not self.paused, "paused"
    assert self.asset_of[token] != empty(bytes32), "token is not listed"
    assert account != empty(bytes32) and convert(account, uint256) <= ACCOUNT_MAX, "no account"
    before: uint256 = staticcall IERC20(token).balanceOf(self)
    assert extcall IERC20(token).transferFrom(msg.sender, self, amount, default_return_value=True), "transfer refused"
    received: uint256 = staticcall IERC20(token).balanceOf(self) - before
    assert received > 0, "nothing arrived"
    index: uint256 = self.deposit_count + 1
    self.deposit_count = index
    self.balances[account][token] += received
    log Deposited(index=index, account=account, token=token, amount=received)


# Money out

@external
@nonreentrant
def claim(token: address) -> uint256:
    """
    @notice Pays the caller all that it can claim in a token. Nothing stops it: not the pause, not the admin.
    @return How much.
    """
    amount: uint256 = self.claimable[msg.sender][token]
    assert amount > 0, "nothing to claim"
    self.claimable[msg.sender][token] = 0
    index: uint256 = self.claim_count + 1
    self.claim_count = index
    log Claimed(index=index, to=msg.sender, token=token, amount=amount)
    assert extcall IERC20(token).transfer(msg.sender, amount, default_return_value=True), "transfer refused"
    return amount


# Administration

@external
def list_token(asset: bytes32, token: address):
    """
    @notice Names the token of an asset, once and for ever. Listing the same pair again changes nothing.
    """
    assert msg.sender == self.admin, "not the admin"
    assert asset != empty(bytes32), "no asset"
    assert token != empty(address), "no token"
    if self.token_of[asset] == token:
        return
    assert self.token_of[asset] == empty(address), "asset is listed"
    assert self.asset_of[token] == empty(bytes32), "token is listed"
    assert token.is_contract, "token is not a contract"
    self.token_of[asset] = token
    self.asset_of[token] = asset
    log TokenListed(asset=asset, token=token)


@external
def set_settler(settler: address):
    """
    @notice Replaces the settler.
    """
    assert msg.sender == self.admin, "not the admin"
    assert settler != empty(address), "no settler"
    log SettlerChanged(before=self.settler, settler=settler)
    self.settler = settler


@external
def set_paused(paused: bool):
    """
    @notice Stops or resumes `settle` and `deposit`; never `claim`.
    """
    assert msg.sender == self.admin, "not the admin"
    self.paused = paused
    log PauseChanged(paused=paused)


@external
def offer_admin(offered: address):
    """
    @notice First half of the hand-over. The zero address withdraws an offer.
    """
    assert msg.sender == self.admin, "not the admin"
    self.offered_admin = offered
    log AdminOffered(admin=self.admin, offered=offered)


@external
def accept_admin():
    """
    @notice Second half of the hand-over, by the address that was offered.
    """
    assert msg.sender == self.offered_admin, "not offered"
    log AdminChanged(before=self.admin, admin=msg.sender)
    self.admin = msg.sender
    self.offered_admin = empty(address)
