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
    is paused: `claim` pays all of it. And it lists links: the wallet that owns a user's account, once and for ever; only
    the owner hands it over.

    Exit. The owner of an account may `request_exit`, and EXIT_DELAY later, whatever the operator does or does not, take
    what the account then has here with `exit`. From the first `exit` on the account is closed: what it had still to pay
    and to receive falls to the insurance account, so its counterparties stay whole, and it takes no deposit.
    All that a batch brings insurance in a token, its own leg and those that fall to it, is one sum, and judged as one.

    Signed trades. `settle_signed` takes the same sequence's next entries where these are trades of orders that their
    accounts' wallets have signed (EIP-712): each trade by itself, with both orders. Then the settler cannot make up a
    trade, better a price for itself, fill an order twice or take a higher fee than was signed.

    Roles. The admin lists tokens, each proposed LISTING_DELAY before, lifts the pause and offers roles; the settler
    settles; the pauser, or the admin, stops `settle` and `deposit`. A role is its new holder's once that one accepts.

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

struct Link:
    account: bytes32
    owner: address

struct SignedOrder:
    account: bytes32
    base_amount: uint256  # all that it buys or sells
    quote_amount: uint256  # a buy: the most that it pays for all of that; a sell: the least that it receives
    fee_max_ppm: uint256  # parts per million of what it receives
    expires_at: uint256  # seconds since 1970: it is not settled later
    client_order_id: bytes32  # keccak256 of it
    r: uint256
    s: uint256
    v: uint256

struct SignedTrade:
    base: bytes32  # an asset
    quote: bytes32
    base_amount: uint256
    quote_amount: uint256
    buyer_fee: uint256
    seller_fee: uint256
    buy: SignedOrder
    sell: SignedOrder

event Filled:
    order_hash: indexed(bytes32)
    account: indexed(bytes32)
    base_amount: uint256
    quote_amount: uint256
    fee: uint256

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

event OwnerChanged:
    account: indexed(bytes32)
    before: indexed(address)
    owner: indexed(address)

event OwnerOffered:
    account: indexed(bytes32)
    offered: indexed(address)

event ExitRequested:
    index: indexed(uint256)
    account: indexed(bytes32)
    ready_at: uint256

event ExitCanceled:
    index: indexed(uint256)
    account: indexed(bytes32)

event Exited:
    index: indexed(uint256)
    account: indexed(bytes32)
    token: indexed(address)
    to: address
    amount: uint256

event Settled:
    shard: indexed(uint64)
    first: uint64
    last: uint64
    batch_hash: bytes32

event TokenProposed:
    asset: indexed(bytes32)
    token: indexed(address)
    ready_at: uint256

event TokenListed:
    asset: indexed(bytes32)
    token: indexed(address)

event RoleOffered:
    role: indexed(uint8)
    offered: indexed(address)

event RoleChanged:
    role: indexed(uint8)
    before: indexed(address)
    holder: indexed(address)

event PauseChanged:
    paused: bool

VERSION: public(constant(uint256)) = 3
DELTAS_MAX: constant(uint256) = 200
WITHDRAWALS_MAX: constant(uint256) = 50
LINKS_MAX: constant(uint256) = 50
SIGNED_TRADES_MAX: constant(uint256) = 25
ACCOUNT_MAX: constant(uint256) = 2**63 - 1
SYSTEM_ACCOUNT_MAX: constant(uint256) = 1000  # users' accounts follow
FEES: constant(bytes32) = 0x0000000000000000000000000000000000000000000000000000000000000001
INSURANCE: constant(bytes32) = 0x0000000000000000000000000000000000000000000000000000000000000003
EXIT_DELAY_MIN: constant(uint256) = 3600  # seconds
EXIT_DELAY_MAX: constant(uint256) = 30 * 86400  # seconds
LISTING_DELAY_MAX: constant(uint256) = 30 * 86400  # seconds

# Signed orders
PPM: constant(uint256) = 1_000_000
SYMBOL_BYTES_MAX: constant(uint256) = 32
S_MAX: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168  # half the order
DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
ORDER_TYPE: constant(bytes32) = keccak256(
    "Order(uint256 account,string base,string quote,bool buys,uint256 base_amount,uint256 quote_amount,uint256 fee_max_ppm,uint256 expires_at,string client_order_id)"
)

EXIT_DELAY: public(immutable(uint256))  # seconds
LISTING_DELAY: public(immutable(uint256))  # seconds; 0: a token is listed without a proposal

# Roles
ADMIN: constant(uint8) = 0
SETTLER: constant(uint8) = 1
PAUSER: constant(uint8) = 2
ROLES: constant(uint8) = 3
holders: HashMap[uint8, address]
offered: public(HashMap[uint8, address])
paused: public(bool)

# Assets: a symbol is left-aligned ASCII in bytes32. One token to an asset, one asset to a token, for ever.
token_of: public(HashMap[bytes32, address])
asset_of: public(HashMap[address, bytes32])
proposed_token: public(HashMap[bytes32, address])
listing_ready_at: public(HashMap[bytes32, uint256])  # seconds since 1970

# The ledger
balances: public(HashMap[bytes32, HashMap[address, uint256]])
deposit_count: public(uint256)

# What has left the ledger and not yet the vault. Claims and exits are numbered together: money that left.
claimable: public(HashMap[address, HashMap[address, uint256]])
claim_count: public(uint256)

# Owners and their exits. Requests and cancellations are numbered together.
owner: public(HashMap[bytes32, address])
offered_owner: public(HashMap[bytes32, address])
exit_ready_at: public(HashMap[bytes32, uint256])  # seconds since 1970; 0: no exit is requested
exited: public(HashMap[bytes32, bool])
exit_count: public(uint256)
any_exited: bool  # one look for a batch instead of one for each leg

# Signed orders, by their EIP-712 hash: base units traded. Who signs for an account that was handed over: its first owner.
filled: public(HashMap[bytes32, uint256])
first_owner: HashMap[bytes32, address]

# The cursor: the last settlement sequence settled, and the hash of the chain of batches up to it
settledThrough: public(HashMap[uint64, uint64])
batch_hash: public(HashMap[uint64, bytes32])


@deploy
def __init__(settler: address, pauser: address, exit_delay: uint256, listing_delay: uint256):
    """
    @param settler The only address that may settle; the deployer becomes the admin.
    @param pauser May stop `settle` and `deposit`.
    @param exit_delay Seconds between the request of an exit and the exit: an hour to 30 days.
    @param listing_delay Seconds between the proposal of a token and its listing: at most 30 days.
    """
    assert settler != empty(address), "no settler"
    assert pauser != empty(address), "no pauser"
    assert exit_delay >= EXIT_DELAY_MIN and exit_delay <= EXIT_DELAY_MAX, "exit delay"
    assert listing_delay <= LISTING_DELAY_MAX, "listing delay"
    EXIT_DELAY = exit_delay
    LISTING_DELAY = listing_delay
    self._give(ADMIN, msg.sender)
    self._give(SETTLER, settler)
    self._give(PAUSER, pauser)


# Settlement

@external
@nonreentrant
def settle(
    shard: uint64,
    first: uint64,
    last: uint64,
    deltas: DynArray[Delta, DELTAS_MAX],
    withdrawals: DynArray[Withdrawal, WITHDRAWALS_MAX],
    links: DynArray[Link, LINKS_MAX],
):
    """
    @notice Settles the entries first..last of a shard's settlement sequence.
    @param deltas The batch's net per account and token; empty if it nets to nothing.
    @param withdrawals What leaves the accounts, per token and address; each token's deltas sum to minus its withdrawals.
    @param links Owners of users' accounts. An account that has an owner keeps it.
    """
    self._check_next(shard, first)
    assert last >= first, "last before first"

    token: uint256 = 0
    account: uint256 = 0
    sum: int256 = 0
    released: uint256 = 0  # withdrawals taken so far
    started: bool = False
    redirects: bool = self.any_exited
    insured: int256 = 0  # of this token: insurance's own leg, and those of accounts that have left
    for delta: Delta in deltas:
        next_token: uint256 = convert(delta.token, uint256)
        next_account: uint256 = convert(delta.account, uint256)
        if started and next_token == token:
            assert next_account > account, "legs out of order"
        else:
            assert not started or next_token > token, "legs out of order"
            assert sum == 0, "token does not sum to zero"
            if insured != 0:
                self._move(INSURANCE, convert(token, address), insured)
                insured = 0
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
        if delta.account == INSURANCE or (redirects and self.exited[delta.account]):
            insured += delta.amount
        else:
            self._move(delta.account, delta.token, delta.amount)
    assert sum == 0, "token does not sum to zero"
    if insured != 0:
        self._move(INSURANCE, convert(token, address), insured)
    assert released == len(withdrawals), "withdrawals out of order"
    for link: Link in links:
        self._link(link)

    self._settled(shard, first, last, keccak256(abi_encode(deltas, withdrawals, links)))


@internal
def _check_next(shard: uint64, first: uint64):
    assert msg.sender == self.holders[SETTLER], "not the settler"
    assert not self.paused, "paused"
    expected: uint64 = self.settledThrough[shard] + 1
    if first != expected:
        raw_revert(abi_encode(expected, first, method_id=method_id("NotNext(uint64,uint64)")))


@internal
def _settled(shard: uint64, first: uint64, last: uint64, content: bytes32):
    chained: bytes32 = keccak256(abi_encode(self.batch_hash[shard], shard, first, last, content))
    self.settledThrough[shard] = last
    self.batch_hash[shard] = chained
    log Settled(shard=shard, first=first, last=last, batch_hash=chained)


@internal
def _move(account: bytes32, token: address, amount: int256):
    held: uint256 = self.balances[account][token]
    if amount >= 0:
        self.balances[account][token] = held + convert(amount, uint256)
        return
    owed: uint256 = convert(-amount, uint256)
    if owed > held:
        raw_revert(abi_encode(account, token, method_id=method_id("LegRefused(bytes32,address)")))
    self.balances[account][token] = held - owed


@internal
def _link(link: Link):
    number: uint256 = convert(link.account, uint256)
    assert number > SYSTEM_ACCOUNT_MAX and number <= ACCOUNT_MAX, "not a user's account"
    assert link.owner != empty(address), "no owner"
    if self.owner[link.account] == empty(address):
        self.owner[link.account] = link.owner
        log OwnerChanged(account=link.account, before=empty(address), owner=link.owner)


# Settlement of signed trades

@external
@nonreentrant
def settle_signed(
    shard: uint64,
    first: uint64,
    trades: DynArray[SignedTrade, SIGNED_TRADES_MAX],
    links: DynArray[Link, LINKS_MAX],
):
    """
    @notice Settles the entries of a shard's settlement sequence from `first` on, each a trade of two signed orders.
    @param trades One after the other: nobody may owe in between.
    @param links Owners of users' accounts, known before the trades. An account that has an owner keeps it.
    """
    self._check_next(shard, first)
    assert len(trades) > 0, "no trades"
    for link: Link in links:
        self._link(link)
    domain: bytes32 = self._domain_separator()
    redirects: bool = self.any_exited
    for trade: SignedTrade in trades:
        self._trade(trade, domain, redirects)
    last: uint64 = first + convert(len(trades), uint64) - 1
    self._settled(shard, first, last, keccak256(abi_encode(trades, links)))


@internal
def _trade(trade: SignedTrade, domain: bytes32, redirects: bool):
    base: address = self.token_of[trade.base]
    quote: address = self.token_of[trade.quote]
    assert base != empty(address) and quote != empty(address), "token is not listed"
    assert trade.base_amount > 0, "empty trade"  # so each order's amount is more than zero, and its limit a limit
    # Price limits by cross multiplication. A fee is at most what the maximum makes, rounded up.
    paid: uint256 = trade.quote_amount
    assert paid * trade.buy.base_amount <= trade.buy.quote_amount * trade.base_amount, "above the buyer's limit"
    assert paid * trade.sell.base_amount >= trade.sell.quote_amount * trade.base_amount, "below the seller's limit"
    assert trade.buyer_fee <= self._fee_max(trade.base_amount, trade.buy.fee_max_ppm), "above the buyer's fee"
    assert trade.seller_fee <= self._fee_max(paid, trade.sell.fee_max_ppm), "above the seller's fee"
    # The market is in each order's hash, and so is its side: an order of another one is not signed.
    base_hash: bytes32 = self._text_hash(trade.base)
    quote_hash: bytes32 = self._text_hash(trade.quote)
    order_hash: bytes32 = self._fill(trade.buy, domain, base_hash, quote_hash, True, trade.base_amount)
    log Filled(
        order_hash=order_hash,
        account=trade.buy.account,
        base_amount=trade.base_amount,
        quote_amount=paid,
        fee=trade.buyer_fee,
    )
    order_hash = self._fill(trade.sell, domain, base_hash, quote_hash, False, trade.base_amount)
    log Filled(
        order_hash=order_hash,
        account=trade.sell.account,
        base_amount=trade.base_amount,
        quote_amount=paid,
        fee=trade.seller_fee,
    )
    self._pay(base, trade.sell.account, trade.buy.account, trade.base_amount, trade.buyer_fee, redirects)
    self._pay(quote, trade.buy.account, trade.sell.account, paid, trade.seller_fee, redirects)


@internal
@pure
def _fee_max(received: uint256, ppm: uint256) -> uint256:
    return (received * ppm + PPM - 1) // PPM


@internal
def _fill(
    order: SignedOrder, domain: bytes32, base: bytes32, quote: bytes32, buys: bool, base_amount: uint256
) -> bytes32:
    """
    @return The order's hash, once its wallet has signed it, it is in time, and it has as much left.
    """
    order_hash: bytes32 = keccak256(
        concat(
            b"\x19\x01",
            domain,
            keccak256(
                abi_encode(
                    ORDER_TYPE,
                    order.account,
                    base,
                    quote,
                    buys,
                    order.base_amount,
                    order.quote_amount,
                    order.fee_max_ppm,
                    order.expires_at,
                    order.client_order_id,
                )
            ),
        )
    )
    assert block.timestamp <= order.expires_at, "order has expired"
    assert order.s <= S_MAX, "high s"  # else anybody could turn a signature into a second one
    signer: address = self._signer(order.account)
    assert signer != empty(address), "account has no owner"
    assert ecrecover(order_hash, order.v, order.r, order.s) == signer, "not signed by the owner"
    after: uint256 = self.filled[order_hash] + base_amount
    assert after <= order.base_amount, "order is filled"
    self.filled[order_hash] = after
    return order_hash


@internal
def _pay(token: address, payer: bytes32, payee: bytes32, amount: uint256, fee: uint256, redirects: bool):
    self._move(self._heir(payer, redirects), token, -convert(amount, int256))
    self._move(self._heir(payee, redirects), token, convert(amount - fee, int256))
    if fee > 0:
        self._move(FEES, token, convert(fee, int256))


@internal
@view
def _heir(account: bytes32, redirects: bool) -> bytes32:
    """
    @return Who pays and receives for the account: insurance for one that has left.
    """
    return INSURANCE if redirects and self.exited[account] else account


@internal
@pure
def _text_hash(asset: bytes32) -> bytes32:
    """
    @return What EIP-712 makes of the asset's symbol.
    """
    rest: uint256 = convert(asset, uint256)
    size: uint256 = 0
    for _: uint256 in range(SYMBOL_BYTES_MAX):
        if rest == 0:
            break
        rest = rest << 8
        size += 1
    return keccak256(slice(asset, 0, size))


@internal
@view
def _signer(account: bytes32) -> address:
    first: address = self.first_owner[account]
    return self.owner[account] if first == empty(address) else first


@internal
@view
def _domain_separator() -> bytes32:
    return keccak256(abi_encode(DOMAIN_TYPE, keccak256("Clearbook"), keccak256("1"), chain.id, self))


@external
@view
def domain_separator() -> bytes32:
    """
    @return The EIP-712 domain that orders are signed for: this contract, on this chain.
    """
    return self._domain_separator()


@external
@view
def signer(account: bytes32) -> address:
    """
    @return Whose signature an account's orders carry: its first owner, as in the exchange; a hand-over changes exits only.
    """
    return self._signer(account)


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
    assert not self.exited[account], "account has exited"
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
    index: uint256 = self._next_claim()
    log Claimed(index=index, to=msg.sender, token=token, amount=amount)
    assert extcall IERC20(token).transfer(msg.sender, amount, default_return_value=True), "transfer refused"
    return amount


@internal
def _next_claim() -> uint256:
    self.claim_count += 1
    return self.claim_count


# The way out without the operator

@external
def request_exit(account: bytes32):
    """
    @notice Begins the exit of an account, by its owner: after EXIT_DELAY `exit` pays.
    """
    assert msg.sender == self.owner[account], "not the owner"
    assert self.exit_ready_at[account] == 0, "exit is requested"
    ready_at: uint256 = block.timestamp + EXIT_DELAY
    self.exit_ready_at[account] = ready_at
    log ExitRequested(index=self._next_exit(), account=account, ready_at=ready_at)


@external
def cancel_exit(account: bytes32):
    """
    @notice Takes a request back, by the owner; not after the first `exit`.
    """
    assert msg.sender == self.owner[account], "not the owner"
    assert self.exit_ready_at[account] != 0, "no exit is requested"
    assert not self.exited[account], "account has exited"
    self.exit_ready_at[account] = 0
    log ExitCanceled(index=self._next_exit(), account=account)


@external
@nonreentrant
def exit(account: bytes32, token: address) -> uint256:
    """
    @notice Pays the owner all that its account has in a token, once EXIT_DELAY is over. Nothing stops it: not the pause.
    @return How much.
    """
    assert msg.sender == self.owner[account], "not the owner"
    ready_at: uint256 = self.exit_ready_at[account]
    assert ready_at != 0 and block.timestamp >= ready_at, "exit is not ready"
    amount: uint256 = self.balances[account][token]
    assert amount > 0, "nothing to take"
    self.balances[account][token] = 0
    self.exited[account] = True
    self.any_exited = True
    log Exited(index=self._next_claim(), account=account, token=token, to=msg.sender, amount=amount)
    assert extcall IERC20(token).transfer(msg.sender, amount, default_return_value=True), "transfer refused"
    return amount


@internal
def _next_exit() -> uint256:
    self.exit_count += 1
    return self.exit_count


@external
def offer_owner(account: bytes32, offered: address):
    """
    @notice First half of the hand-over of an account, by its owner. The zero address withdraws an offer.
    """
    assert msg.sender == self.owner[account], "not the owner"
    self.offered_owner[account] = offered
    log OwnerOffered(account=account, offered=offered)


@external
def accept_owner(account: bytes32):
    """
    @notice Second half of the hand-over, by the address that was offered.
    """
    assert msg.sender == self.offered_owner[account], "not offered"
    log OwnerChanged(account=account, before=self.owner[account], owner=msg.sender)
    self.first_owner[account] = self._signer(account)
    self.owner[account] = msg.sender
    self.offered_owner[account] = empty(address)


# Administration

@external
def propose_token(asset: bytes32, token: address):
    """
    @notice Makes a token known LISTING_DELAY before it may be listed. A newer proposal replaces an asset's older one; the
        zero address withdraws it.
    """
    assert msg.sender == self.holders[ADMIN], "not the admin"
    assert self.token_of[asset] == empty(address), "asset is listed"
    ready_at: uint256 = block.timestamp + LISTING_DELAY
    self.proposed_token[asset] = token
    self.listing_ready_at[asset] = ready_at
    log TokenProposed(asset=asset, token=token, ready_at=ready_at)


@external
def list_token(asset: bytes32, token: address):
    """
    @notice Names the token of an asset, once and for ever. Listing the same pair again changes nothing.
    """
    assert msg.sender == self.holders[ADMIN], "not the admin"
    assert asset != empty(bytes32), "no asset"
    assert token != empty(address), "no token"
    if self.token_of[asset] == token:
        return
    assert self.token_of[asset] == empty(address), "asset is listed"
    assert self.asset_of[token] == empty(bytes32), "token is listed"
    assert token.is_contract, "token is not a contract"
    if LISTING_DELAY > 0:
        assert self.proposed_token[asset] == token, "token is not proposed"
        assert block.timestamp >= self.listing_ready_at[asset], "listing is not ready"
    self.token_of[asset] = token
    self.asset_of[token] = asset
    log TokenListed(asset=asset, token=token)


@external
def set_paused(paused: bool):
    """
    @notice Stops `settle` and `deposit`, by the pauser or the admin; lets them go on, by the admin alone. Never stops
        `claim`, `request_exit` or `exit`.
    """
    if msg.sender != self.holders[ADMIN]:
        assert paused and msg.sender == self.holders[PAUSER], "not the admin"
    self.paused = paused
    log PauseChanged(paused=paused)


@external
def offer_role(role: uint8, offered: address):
    """
    @notice First half of a hand-over. The zero address withdraws an offer.
    @param role 0: admin, 1: settler, 2: pauser.
    """
    assert msg.sender == self.holders[ADMIN], "not the admin"
    assert role < ROLES, "no such role"
    self.offered[role] = offered
    log RoleOffered(role=role, offered=offered)


@external
def accept_role(role: uint8):
    """
    @notice Second half of a hand-over, by the address that was offered.
    """
    assert msg.sender == self.offered[role], "not offered"
    self.offered[role] = empty(address)
    self._give(role, msg.sender)


@internal
def _give(role: uint8, holder: address):
    log RoleChanged(role=role, before=self.holders[role], holder=holder)
    self.holders[role] = holder


@external
@view
def admin() -> address:
    """
    @return Who lists tokens, lifts the pause and offers roles.
    """
    return self.holders[ADMIN]


@external
@view
def settler() -> address:
    """
    @return Who settles.
    """
    return self.holders[SETTLER]


@external
@view
def pauser() -> address:
    """
    @return Who may stop `settle` and `deposit`.
    """
    return self.holders[PAUSER]
