"""The small parts of identity: scopes, networks, failures, sealed secrets, sign-in messages, callers' addresses."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import Reason, Rejected
from services.order_gateway.identity import addresses, scopes
from services.order_gateway.identity.addresses import networks_of, welcomes
from services.order_gateway.identity.failures import FAILURES_MS, Failures
from services.order_gateway.identity.scopes import Scope, allows
from services.order_gateway.identity.secret_box import SecretBox, SecretsKey, WrongSecretsKey, checked_secrets_key
from services.order_gateway.identity.settings import IdentitySettings
from services.order_gateway.identity.sign_in_counts import SignInCounts
from services.order_gateway.identity.sign_in_message import SignInMessage, parse
from services.order_gateway.identity.sign_ups import DAY_MS, SignUps
from services.order_gateway.identity.tally import KEYS_MAX, Tally
from services.runtime.peers import ip_of

R, T, W, A, P = Scope.READ, Scope.TRADE, Scope.WITHDRAW, Scope.ADMIN, Scope.REFERENCE_PRICE


@pytest.mark.parametrize(
    ("given_scopes", "allowed"),
    [
        ({R}, {R}),
        ({T}, {R, T}),
        ({W}, {R, W}),
        ({A}, {A, P}),
        ({P}, {P}),
        ({T, W}, {R, T, W}),
        ({R, A}, {R, A, P}),
        (set(), set()),
    ],
)
def test_scopes_and_what_they_include(given_scopes: set[Scope], allowed: set[Scope]) -> None:
    assert {scope for scope in Scope if allows(frozenset(given_scopes), scope)} == allowed
    assert scopes.all_within(frozenset(allowed), frozenset(given_scopes))


@given(st.frozensets(st.sampled_from(Scope)), st.frozensets(st.sampled_from(Scope)))
def test_what_is_passed_on_allows_no_more(asked: frozenset[Scope], had: frozenset[Scope]) -> None:
    if scopes.all_within(asked, had):
        assert all(allows(had, scope) for scope in Scope if allows(asked, scope))


@pytest.mark.parametrize(
    ("texts", "ip", "welcome"),
    [
        ([], "203.0.113.9", True),
        ([], "", True),
        (["203.0.113.9"], "203.0.113.9", True),
        (["203.0.113.9"], "203.0.113.8", False),
        (["203.0.113.0/24"], "203.0.113.255", True),
        (["203.0.113.0/24"], "203.0.114.0", False),
        (["203.0.113.0/24"], "", False),
        (["2001:db8::/32"], "2001:db8:1::5", True),
        (["2001:db8::/32"], "203.0.113.9", False),
        (["10.0.0.0/8", "::1"], "::1", True),
    ],
)
def test_from_where_a_key_is_welcome(texts: list[str], ip: str, welcome: bool) -> None:
    assert welcomes(networks_of(texts, "allowed_ips"), ip) is welcome


@pytest.mark.parametrize("text", ["", "x", "203.0.113.9/24", "203.0.113.0/33", "1.2.3", "0x7f.1", "::/129", "1.2.3.4 "])
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(Rejected) as caught:
        networks_of([text], "allowed_ips")
    assert (caught.value.reason, caught.value.field) == (Reason.INVALID_FIELD, "allowed_ips")


def test_networks_are_limited() -> None:
    many = [f"10.0.0.{number}" for number in range(addresses.NETWORKS_MAX + 1)]
    assert len(networks_of(many[:-1], "f")) == addresses.NETWORKS_MAX
    with pytest.raises(Rejected):
        networks_of(many, "f")


@pytest.mark.parametrize(
    ("asked", "had", "within"),
    [
        ([], [], True),
        (["10.0.0.1"], [], True),
        ([], ["10.0.0.0/8"], False),
        (["10.1.0.0/16"], ["10.0.0.0/8"], True),
        (["10.0.0.0/7"], ["10.0.0.0/8"], False),
        (["10.0.0.1", "11.0.0.1"], ["10.0.0.0/8"], False),
        (["10.0.0.1", "::1"], ["10.0.0.0/8", "::/64"], True),
        (["::/0"], ["0.0.0.0/0"], False),
    ],
)
def test_networks_within_networks(asked: list[str], had: list[str], within: bool) -> None:
    assert addresses.all_within(networks_of(asked, "f"), networks_of(had, "f")) is within


@pytest.mark.parametrize(
    ("peer", "ip"),
    [
        ("ipv4:203.0.113.9:5001", "203.0.113.9"),
        ("ipv6:%5B2001:db8::5%5D:5001", "2001:db8::5"),
        ("ipv6:[::1]:5001", "::1"),
        ("ipv6:%5B::ffff:203.0.113.9%5D:5001", "203.0.113.9"),
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9:80", "203.0.113.9"),
        ("::1", "::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("unix:", ""),
        ("unix:/tmp/x", ""),
        ("", ""),
        ("example.org:80", ""),
        ("testclient", ""),
    ],
)
def test_the_address_of_a_caller(peer: str, ip: str) -> None:
    assert ip_of(peer) == ip


class TestFailures:
    def test_too_many_from_one_address(self) -> None:
        now = [5]
        failures = Failures(lambda: now[0], per_ip_max=3)
        for _ in range(3):
            failures.check("a")
            failures.note("a")
        with pytest.raises(Rejected, match="wait 60 s") as caught:
            failures.check("a")
        assert caught.value.reason.grpc_code == "RESOURCE_EXHAUSTED"
        failures.check("b")
        now[0] += FAILURES_MS - 1
        with pytest.raises(Rejected, match="wait 1 s"):
            failures.check("a")
        now[0] += 1
        failures.check("a")
        failures.note("a")
        failures.check("a")

    def test_memory_is_bounded(self) -> None:
        tally = Tally(lambda: 0, window_ms=1, most=1)
        for number in range(KEYS_MAX + 10):
            tally.note(str(number))
        assert len(tally) == KEYS_MAX


class TestSignUps:
    @pytest.mark.parametrize(
        ("before", "ip", "refusal"),
        [
            # Who opened accounts before, who asks now, what is said
            ("", "a", ""),
            ("aa", "a", "too many new accounts from this address today; wait 86400 s"),
            ("aa", "b", ""),
            ("aab", "b", ""),
            ("aabb", "c", "too many new accounts by sign-in today; wait 86400 s"),
        ],
    )
    def test_so_many_in_a_day(self, before: str, ip: str, refusal: str) -> None:
        now = [7]
        sign_ups = SignUps(lambda: now[0], per_ip_max=2, per_day_max=4)
        for one in before:
            sign_ups.take(one)
        if not refusal:
            sign_ups.take(ip)
            return
        with pytest.raises(Rejected) as caught:
            sign_ups.take(ip)
        assert (caught.value.reason, caught.value.message) == (Reason.OVERLOADED, refusal)
        now[0] += DAY_MS
        sign_ups.take(ip)

    def test_what_was_not_opened_does_not_count(self) -> None:
        sign_ups = SignUps(lambda: 0, per_ip_max=1, per_day_max=1)
        for _ in range(3):
            sign_ups.take("a")
            sign_ups.give_back("a")
        sign_ups.take("b")


class TestSignInCounts:
    @pytest.mark.parametrize(
        ("before", "asks", "refusal"),
        [
            # (address, wallet) that signed in before, who asks now, what is said
            ([], ("a", "w"), ""),
            ([("a", "w"), ("a", "x")], ("a", "y"), "too many sign-ins from this address; wait 60 s"),
            ([("a", "w"), ("a", "x")], ("b", "w"), ""),
            ([("a", "w"), ("b", "w"), ("c", "w")], ("d", "w"), "too many sign-ins of this wallet today; wait 86400 s"),
            ([("a", "w"), ("b", "w"), ("c", "w")], ("d", "x"), ""),
        ],
    )
    def test_so_many(self, before: list[tuple[str, str]], asks: tuple[str, str], refusal: str) -> None:
        counts = SignInCounts(lambda: 7, per_ip_max=2, per_wallet_max=3)

        def sign_in(ip: str, wallet: str) -> None:
            counts.from_address(ip)
            counts.of_wallet(wallet)

        for one in before:
            sign_in(*one)
        if not refusal:
            sign_in(*asks)
            return
        with pytest.raises(Rejected) as caught:
            sign_in(*asks)
        assert (caught.value.reason, caught.value.message) == (Reason.OVERLOADED, refusal)


@pytest.mark.parametrize(("token", "said"), [("x" * 31, "CLEARBOOK_ADMIN_TOKEN: must be at least 32 characters"),
                                             ("x" * 32, ""), ("", "")])  # fmt: skip
def test_the_operators_token_is_long_enough(
    token: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLEARBOOK_ADMIN_TOKEN", token)
    if not said:
        assert IdentitySettings.load().clearbook_admin_token == token
        return
    with pytest.raises(SystemExit):
        IdentitySettings.load()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)
    assert token not in line


class TestSecrets:
    KEY, OTHER = "ab" * 32, "cd" * 32

    def test_a_sealed_secret_opens_under_its_key_and_for_its_owner_only(self) -> None:
        box = SecretBox(self.KEY)
        sealed = box.seal(b"secret", "k1")
        assert b"secret" not in sealed
        assert sealed != box.seal(b"secret", "k1"), "never twice the same"
        assert box.open(sealed, "k1") == b"secret"
        for other, key_id in ((box, "k2"), (SecretBox(self.OTHER), "k1")):
            with pytest.raises(WrongSecretsKey):
                other.open(sealed, key_id)
        with pytest.raises(WrongSecretsKey):
            box.open(sealed[:-1] + bytes([sealed[-1] ^ 1]), "k1")

    @pytest.mark.parametrize("text", ["ab", "zz" * 32, "ab" * 33, " " + "ab" * 32])
    def test_what_is_no_key(self, text: str) -> None:
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            checked_secrets_key(text)

    def test_the_embedded_run_makes_its_own_once(self, tmp_path: Path) -> None:
        folder = tmp_path / "data"
        first = SecretsKey("", folder, may_make=True)
        box = first.to_seal()
        assert box is not None
        file = folder / "secrets.key"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert [path.name for path in folder.iterdir()] == ["secrets.key"]
        again = SecretsKey("", folder, may_make=False).to_open("k")
        assert again.open(box.seal(b"s", "k"), "k") == b"s"

    def test_without_one_nothing_is_sealed(self, tmp_path: Path) -> None:
        none = SecretsKey("", tmp_path, may_make=False)
        assert none.to_seal() is None
        with pytest.raises(WrongSecretsKey, match="CLEARBOOK_SECRETS_KEY"):
            none.to_open("k")
        assert not list(tmp_path.iterdir())

    def test_the_setting_goes_before_the_file(self, tmp_path: Path) -> None:
        SecretsKey("", tmp_path, may_make=True).to_seal()
        box = SecretsKey(self.KEY, tmp_path, may_make=True).to_seal()
        assert box is not None
        assert SecretBox(self.KEY).open(box.seal(b"s", "k"), "k") == b"s"


WALLET = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
MESSAGE = SignInMessage(
    "exchange.example:8000", WALLET, "https://exchange.example/", 31337, "abcdef0123456789",
    "2026-11-23T04:00:00Z", "2026-11-23T04:05:00Z",
)  # fmt: skip


class TestSignInMessage:
    def test_it_reads_as_the_standard_says(self) -> None:
        assert MESSAGE.text() == (
            "exchange.example:8000 wants you to sign in with your Ethereum account:\n"
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed\n"
            "\n"
            "Sign in to Clearbook. This moves no money and costs nothing.\n"
            "\n"
            "URI: https://exchange.example/\n"
            "Version: 1\n"
            "Chain ID: 31337\n"
            "Nonce: abcdef0123456789\n"
            "Issued At: 2026-11-23T04:00:00Z\n"
            "Expiration Time: 2026-11-23T04:05:00Z"
        )
        assert parse(MESSAGE.text()) == MESSAGE

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("Version: 1", "Version: 2"), ("\n\n", "\n"), ("Chain ID: 31337", "Chain ID: 031337"),
            ("Nonce: abcdef0123456789", "Nonce: abc"), ("Z\n", "+00:00\n"), ("Sign in", "Sign out"),
            ("0x5a", "0X5a"), ("Expiration Time: ", "Expiration: "), ("URI: ", "URI:  "), ("wants", "Wants"),
            ("exchange.example:8000", "evil@exchange.example"),
        ],
    )  # fmt: skip
    def test_no_other_form_is_read(self, old: str, new: str) -> None:
        assert old in MESSAGE.text()
        assert parse(MESSAGE.text().replace(old, new, 1)) is None

    @pytest.mark.parametrize("more", ["\n", " ", "\nResources:", "\0"])
    def test_nothing_before_or_behind_it(self, more: str) -> None:
        assert parse(MESSAGE.text() + more) is None
        assert parse(more + MESSAGE.text()) is None

    @given(st.integers(0, len(MESSAGE.text()) - 1), st.characters())
    def test_a_changed_character_is_another_message_or_none(self, place: int, character: str) -> None:
        text = MESSAGE.text()
        changed = text[:place] + character + text[place + 1 :]
        read = parse(changed)
        assert read is None or read.text() == changed
        assert (read == MESSAGE) == (changed == text)
