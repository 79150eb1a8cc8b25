import subprocess
import sys
from pathlib import Path

import pytest

from services.runtime.config import Address, BrokerSettings, DatabaseSettings, HostPort, TlsSettings, host_port


class Example(DatabaseSettings, BrokerSettings, TlsSettings):
    book_address: Address = "127.0.0.1:50061"
    batch_size_max: int = 512


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "RABBITMQ_URI", "CLEARBOOK_DATA", "BOOK_ADDRESS", "BATCH_SIZE_MAX"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("127.0.0.1:80", "127.0.0.1", 80, True),
        ("localhost:0", "localhost", 0, True),
        ("[::1]:8000", "::1", 8000, True),
        ("0.0.0.0:65535", "0.0.0.0", 65535, False),
        ("book:50061", "book", 50061, False),
        (" 10.0.0.1:1 ", "10.0.0.1", 1, False),
    ],
)
def test_host_port(text: str, host: str, port: int, loopback: bool) -> None:
    parsed = host_port(text)
    assert parsed == HostPort(host, port)
    assert parsed.loopback is loopback
    assert host_port(str(parsed)) == parsed


@pytest.mark.parametrize(
    "text", ["", "host", ":80", "host:", "host:x", "host:-1", "host:65536", "::1:80", "host:٣", "h:1 2"]
)
def test_what_is_no_host_port(text: str) -> None:
    with pytest.raises(ValueError):
        host_port(text)


def test_defaults() -> None:
    settings = Example.load()
    assert settings.database("book") == "sqlite:///data/book.sqlite"
    assert settings.rabbitmq_uri == ""
    assert settings.tls() is None


def test_the_environment_wins_over_the_file_and_an_argument_over_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("BATCH_SIZE_MAX=1\nRABBITMQ_URI=amqp://file\nDATABASE_URL=\nUNKNOWN=1\n")
    monkeypatch.setenv("BATCH_SIZE_MAX", "2")
    monkeypatch.setenv("CLEARBOOK_DATA", "/elsewhere")
    settings = Example.load()
    assert (settings.batch_size_max, settings.rabbitmq_uri) == (2, "amqp://file")
    assert settings.database("book") == "sqlite:////elsewhere/book.sqlite"
    assert Example.load(batch_size_max=3).batch_size_max == 3


def test_a_folder_can_be_given_by_name() -> None:
    assert Example.load(clearbook_data=Path("/x")).database("book") == "sqlite:////x/book.sqlite"


def test_an_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_SIZE_MAX", "")
    assert Example.load().batch_size_max == 512


def test_wrong_values_are_one_line_each_and_exit_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BATCH_SIZE_MAX", "hunter2")
    monkeypatch.setenv("BOOK_ADDRESS", "nowhere")
    with pytest.raises(SystemExit) as caught:
        Example.load()
    assert caught.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert sorted(line.partition(":")[0] for line in lines) == ["BATCH_SIZE_MAX", "BOOK_ADDRESS"]
    assert "hunter2" not in "".join(lines)


def test_secrets_do_not_print() -> None:
    settings = Example.load(database_url="postgresql://u:secret@h/d", rabbitmq_uri="amqp://u:secret@h/")
    assert "secret" not in repr(settings)


def test_settings_do_not_import_the_servers() -> None:
    program = "import sys, services.runtime.config; print({'grpc', 'sqlalchemy', 'aiormq'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "set()\n"
    )
