"""`clearbook certs`: what it makes, what it keeps, what it leaves alone."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from services.cli import certs
from services.runtime.certificates import RENEW_DAYS
from services.runtime.roles import Role


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def names(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in found]


def test_what_it_makes(tmp_path: Path) -> None:
    certs.make(tmp_path, ["example.org", "10.1.2.3"])
    authority = read(tmp_path / "ca.pem")
    for leaf in (*Role, "public"):
        certificate = read(tmp_path / leaf / "certificate.pem")
        certificate.verify_directly_issued_by(authority)
        assert dt.timedelta(days=89) < certificate.not_valid_after_utc - dt.datetime.now(dt.UTC) < dt.timedelta(days=91)
        assert (tmp_path / leaf / "ca.pem").read_bytes() == (tmp_path / "ca.pem").read_bytes()
        purposes = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        client = ExtendedKeyUsageOID.CLIENT_AUTH in purposes
        assert client == (leaf != "public"), "a public port's certificate opens nothing inside"
    assert names(read(tmp_path / "gateway/certificate.pem")) == [
        "spiffe://clearbook/role/gateway",
        "gateway.clearbook.internal",
    ]
    assert {"localhost", "127.0.0.1", "publisher", "example.org", "10.1.2.3"} < set(
        names(read(tmp_path / "public/certificate.pem"))
    )


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    certs.make(tmp_path)
    keys = [*tmp_path.rglob("*.key"), *tmp_path.rglob("key.pem")]
    assert len(keys) == len(Role) + 2
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}


def test_again_renews_all_but_the_authority_and_forgets_no_host(tmp_path: Path) -> None:
    certs.make(tmp_path, ["example.org"])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    certs.make(tmp_path)
    kept = {path.name for path, data in before.items() if path.read_bytes() == data}
    assert kept == {"ca.pem", "ca.key"}
    assert "example.org" in names(read(tmp_path / "public/certificate.pem"))
    assert before.keys() == {path for path in tmp_path.rglob("*") if path.is_file()}, "nothing is left lying about"


def other_authority(folder: Path) -> None:
    (folder / "other").mkdir()
    certs.make(folder / "other")
    for name in ("ca.pem", "ca.key"):
        shutil.copy(folder / "other" / name, folder / name)


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda folder: (folder / "ca.key").unlink(), "ca.key, the authority's key, is missing"),
        (lambda folder: (folder / "ca.key").write_text("x"), "ca.key, the authority's key, is missing or unreadable"),
        (lambda folder: (folder / "ca.pem").unlink(), "ca.pem: No such file"),
        (lambda folder: (folder / "ca.pem").write_text("x"), "ca.pem is no certificate"),
        (
            lambda folder: shutil.copy(folder / "book/certificate.pem", folder / "ca.pem"),
            "ca.pem is an authority that this command did not make",
        ),
        (lambda folder: shutil.copy(folder / "book/key.pem", folder / "ca.key"), "ca.key is not the key of"),
        (other_authority, "book/certificate.pem is of another authority"),
        (
            lambda folder: [(folder / name).unlink() for name in ("ca.pem", "ca.key")],
            "book/certificate.pem is of another authority",
        ),
    ],
)
def test_what_is_foreign_is_left_alone(tmp_path: Path, spoil: object, line: str) -> None:
    certs.make(tmp_path)
    assert callable(spoil)
    spoil(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(certs.CertsError, match=line):
        certs.make(tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_check_says_when_they_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certs, "LEAF_DAYS", RENEW_DAYS + 2)
    certs.make(tmp_path)
    lines, fine = certs.check(tmp_path)
    assert (len(lines), fine) == (len(Role) + 2, True)
    assert all("days left" in line for line in lines)
    monkeypatch.setattr(certs, "LEAF_DAYS", RENEW_DAYS)
    certs.make(tmp_path)
    assert certs.check(tmp_path)[1] is False
    other_authority(tmp_path)
    lines, fine = certs.check(tmp_path)
    assert not fine
    assert "not of this authority" in lines[1]


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert certs.command(tmp_path, [], only_check=True) == 2
    assert capsys.readouterr().err == f"clearbook certs: {tmp_path}/ca.pem: No such file or directory\n"
    assert certs.command(tmp_path, ["ünicode host"], only_check=False) == 2
    assert "is no host name" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert certs.command(tmp_path, [], only_check=False) == 0
    assert certs.command(tmp_path, [], only_check=True) == 0
    assert capsys.readouterr().out.count("\n") == 2 * (len(Role) + 2)
