# pragma version 0.4.3
# pragma evm-version cancun
"""
@title A token that misbehaves on order: takes a fee, answers False, calls back in the middle of a transfer
@license Apache-2.0
@notice For tests only.
"""

fee_ppm: public(uint256)
answer: public(bool)
target: public(address)
attack: public(Bytes[2048])
attacks: public(uint256)
successes: public(uint256)
balanceOf: public(HashMap[address, uint256])


@deploy
def __init__():
    self.answer = True


@external
def mint(receiver: address, amount: uint256):
    self.balanceOf[receiver] += amount


@external
def set_fee(fee_ppm: uint256):
    self.fee_ppm = fee_ppm


@external
def set_answer(answer: bool):
    self.answer = answer


@external
def set_attack(target: address, attack: Bytes[2048]):
    self.target = target
    self.attack = attack


@external
def transferFrom(sender: address, receiver: address, amount: uint256) -> bool:
    return self._transfer(sender, receiver, amount)


@external
def transfer(receiver: address, amount: uint256) -> bool:
    return self._transfer(msg.sender, receiver, amount)


@external
def claim_from(vault: address):
    """
    @notice Claims this very token, which is to be the address of a withdrawal too.
    """
    raw_call(vault, abi_encode(self, method_id=method_id("claim(address)")))


@internal
def _transfer(sender: address, receiver: address, amount: uint256) -> bool:
    if self.target != empty(address):
        self.attacks += 1
        if raw_call(self.target, self.attack, revert_on_failure=False):
            self.successes += 1
    self.balanceOf[sender] -= amount
    self.balanceOf[receiver] += amount - amount * self.fee_ppm // 1_000_000
    return self.answer
