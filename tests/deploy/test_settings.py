"""Settings as operators meet them: one line that names the setting, its source and what is allowed; never a traceback.

What would be unsafe outside one machine is refused, with how to do it right.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services import cli
from services.demonstration import make
from shared.runtime import logs, processes
from shared.runtime import settings as settings_of
from shared.runtime.settings import BadSetting, Settings, is_default_password, load

SERVICES = ("issues", "routing", "meetings", "notifications")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MARU_{name.upper()}", raising=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets") / "all"
    make(folder, SERVICES)
    return folder


Start = Callable[[Mapping[str, str], str], tuple[int, str]]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Start:
    """Run the program in this process with an environment; gives its code and what it wrote to standard error."""

    def run(env: Mapping[str, str], command: str) -> tuple[int, str]:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        # What should have been refused must not run here until somebody ends it.
        monkeypatch.setattr(processes.Process, "run", lambda *_: 99)
        # Nor may the log of other tests go to this one's standard error.
        monkeypatch.setattr(logs, "configure", lambda *_: None)
        monkeypatch.setattr("sys.argv", ["maru", *command.split()])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        return int(code or 0) if not isinstance(code, str) else -1, capsys.readouterr().err

    return run


OWN_DATABASE = "postgresql://issues:9vQ2-long-and-random-Zk41@db.internal:5432/issues"
DEPLOYED = {"MARU_DATABASE": OWN_DATABASE, "MARU_ISSUER": "https://login.molit.example"}

BAD: list[tuple[str, str, dict[str, str], list[str]]] = [
    ("no number", "config", {"MARU_PORT": "abc"}, ["port (environment MARU_PORT)", "integer"]),
    ("too great", "config", {"MARU_PORT": "70000"}, ["MARU_PORT", "65535"]),
    ("no such level", "config", {"MARU_LOG_LEVEL": "loud"}, ["MARU_LOG_LEVEL", "'debug', 'info'"]),
    ("no truth", "config", {"MARU_DEVELOPMENT": "perhaps"}, ["MARU_DEVELOPMENT", "boolean"]),
    ("no moment", "config", {"MARU_START": "soon"}, ["MARU_START", "2023-01-04T09:00:00+09:00"]),
    ("no zone", "config", {"MARU_START": "2023-01-04T09:00:00"}, ["MARU_START", "with its zone"]),
    ("no collector", "config", {"MARU_OTLP": "collector:4318"}, ["MARU_OTLP", "http://host:port"]),
    ("no database URL", "config", {"MARU_DATABASE": "mysql://a@b/c"}, ["MARU_DATABASE", "postgresql://"]),
    ("no database name", "config", {"MARU_DATABASE": "postgresql://a:b@c"}, ["MARU_DATABASE", "/database"]),
    ("no port of a broker", "config", {"MARU_KAFKA": "kafka"}, ["MARU_KAFKA", "host:port"]),
    ("empty", "config", {"MARU_KAFKA": ""}, ["MARU_KAFKA", "host:port"]),
    ("no such protocol", "config", {"MARU_KAFKA_PROTOCOL": "sasl_plaintext"}, ["MARU_KAFKA_PROTOCOL", "'sasl_ssl'"]),
    ("no such folder", "config", {"MARU_SECRETS": "/nowhere"}, ["MARU_SECRETS", "/nowhere is no folder"]),
    (
        "plaintext",
        "config",
        {"MARU_KAFKA": "127.0.0.1:1,kafka:9092"},
        ["kafka is another machine", "MARU_KAFKA_PROTOCOL"],
    ),
    ("CA over plaintext", "config", {"MARU_KAFKA_CA": "ca.pem"}, ["MARU_KAFKA_CA", "ssl or sasl_ssl"]),
    (
        "no CA",
        "config",
        {"MARU_KAFKA_PROTOCOL": "ssl", "MARU_KAFKA_CA": "/nowhere/ca.pem"},
        ["/nowhere/ca.pem", "No such"],
    ),
    ("no PEM", "config", {"MARU_KAFKA_PROTOCOL": "ssl", "MARU_KAFKA_CA": __file__}, ["MARU_KAFKA_CA", "PEM"]),
    ("no key", "config", {"MARU_KAFKA_PROTOCOL": "ssl", "MARU_KAFKA_CERT": "c"}, ["kafka_key (not set", "kafka_cert"]),
    ("no user", "config", {"MARU_KAFKA_PROTOCOL": "sasl_ssl"}, ["MARU_KAFKA_USER", "kafka_password"]),
    (
        "user without SASL",
        "config",
        {"MARU_KAFKA_PROTOCOL": "ssl", "MARU_KAFKA_USER": "u", "MARU_KAFKA_PASSWORD": "9vQ2-long-and-random"},
        ["MARU_KAFKA_USER", "sasl_ssl"],
    ),
    (
        "default password",
        "config",
        {"MARU_DATABASE": "postgresql://issues:change-me@db.internal/issues"},
        ["MARU_DATABASE", "anybody would try first", "random"],
    ),
    (
        "its own name",
        "migrate",
        {"MARU_DATABASE_ADMIN": "postgresql://owner:owner@db.internal/issues"},
        ["MARU_DATABASE_ADMIN", "anybody would try first"],
    ),
    (
        "Kafka's default password",
        "config",
        {"MARU_KAFKA_PROTOCOL": "sasl_ssl", "MARU_KAFKA_USER": "u", "MARU_KAFKA_PASSWORD": "changeit"},
        ["MARU_KAFKA_PASSWORD", "anybody would try first"],
    ),
    ("relay without Kafka", "relay issues", DEPLOYED, ["kafka (not set, MARU_KAFKA)", "a relay needs", "host:port"]),
    ("follower without Kafka", "follow issues", DEPLOYED, ["kafka (not set, MARU_KAFKA)", "a follower needs"]),
    ("observer without Kafka", "observe", {}, ["kafka (not set, MARU_KAFKA)", "the observer needs"]),
    ("topics without Kafka", "topics", {}, ["kafka (not set, MARU_KAFKA)"]),
    ("relay without a database", "relay issues", {"MARU_KAFKA": "127.0.0.1:1"}, ["database (not set, MARU_DATABASE)"]),
    ("gateway without an issuer", "serve issues", {"MARU_DATABASE": OWN_DATABASE}, ["issuer (not set, MARU_ISSUER)"]),
    ("gateway without a database", "serve issues", {"MARU_ISSUER": "https://a.example"}, ["not set, MARU_DATABASE"]),
    (
        "gateway without data",
        "serve issues",
        {**DEPLOYED, "MARU_REFERENCE": "/nowhere"},
        ["MARU_REFERENCE", "/nowhere"],
    ),
    (
        "development issuer",
        "serve issues",
        {**DEPLOYED, "MARU_ISSUER": "http://127.0.0.1:8700"},
        ["MARU_ISSUER", "gives a token to anybody", "OpenID Connect issuer, over https", "MARU_DEVELOPMENT=true"],
    ),
    (
        "issuer in the open",
        "serve issues",
        {**DEPLOYED, "MARU_ISSUER": "http://issuer:8700"},
        ["is not https", "OpenID Connect issuer, over https", "MARU_DEVELOPMENT=true"],
    ),
    ("issuer not meant", "issuer", {}, ["development (not set, MARU_DEVELOPMENT)", "MARU_ISSUER"]),
    ("no such host", "observe", {"MARU_KAFKA": "127.0.0.1:1", "MARU_HOST": "192.0.2.1"}, ["MARU_HOST", "192.0.2.1"]),
]


@pytest.mark.parametrize(("command", "env", "words"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_one_line_names_the_setting_and_what_is_allowed(
    start: Start, command: str, env: dict[str, str], words: list[str]
) -> None:
    code, said = start(env, command)
    assert code == 7, said
    assert said.count("\n") == 1, said
    for word in (*words, "Bad setting: "):
        assert word in said, said
    for secret in ("change-me", "owner:owner", "changeit", "9vQ2-long-and-random"):
        assert secret not in said


def test_a_setting_is_taken_from_an_option_then_the_environment_then_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    (tmp_path / "one" / "maru_port").write_text("1\n")
    (tmp_path / "one" / "maru_cursor_key").write_text("do-not-show-this\n")
    (tmp_path / "two" / "MARU_PORT").write_text("2")
    monkeypatch.setenv("MARU_SECRETS", f"{tmp_path}/one")
    assert load().port == 1
    monkeypatch.setenv("MARU_SECRETS", f"{tmp_path}/one:{tmp_path}/two")
    assert load().port == 2, "the last folder wins"
    rows = {row["name"]: row for row in settings_of.explain(load(), {})}
    assert rows["port"]["source"] == f"file {tmp_path}/two/MARU_PORT"
    assert rows["cursor_key"]["source"] == f"file {tmp_path}/one/maru_cursor_key"
    assert set(rows["cursor_key"]["value"]) == {"*"}
    assert rows["host"]["source"] == "default"
    monkeypatch.setenv("MARU_PORT", "3")
    assert load().port == 3
    assert load(port=4).port == 4
    assert load().cursor_key is not None


def test_a_bad_value_in_a_file_is_named_by_its_file(start: Start, tmp_path: Path) -> None:
    (tmp_path / "maru_port").write_text("abc")
    code, said = start({"MARU_SECRETS": str(tmp_path)}, "config")
    assert code == 7
    assert f"port (file {tmp_path}/maru_port)" in said


def test_config_shows_every_setting_and_no_secret() -> None:
    env = {
        "MARU_KAFKA_PASSWORD": "9vQ2-long-and-random",
        "MARU_KAFKA_USER": "issues",
        "MARU_KAFKA_PROTOCOL": "sasl_ssl",
        "MARU_DATABASE": OWN_DATABASE,
    }
    done = CliRunner().invoke(cli.app, ["config", "--json"], env=env)
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert set(rows) == set(Settings.model_fields)
    assert all(row["meaning"] and row["source"] for row in rows.values())
    assert rows["kafka_user"]["source"] == "environment MARU_KAFKA_USER"
    assert "long-and-random" not in done.stdout


@pytest.mark.parametrize(
    ("env", "what"),
    [
        ({"MARU_KAFKA": "127.0.0.1:9092, localhost:9093,[::1]:9094"}, "plaintext on this machine"),
        ({"MARU_DATABASE": "postgresql://postgres:postgres@127.0.0.1:5432/x"}, "a password on this machine"),
        ({"MARU_DATABASE": "postgresql://issues@db.internal/x"}, "certificates instead of a password"),
        ({"MARU_KAFKA": "kafka:9092", "MARU_KAFKA_PROTOCOL": "ssl"}, "a broker that this machine trusts"),
    ],
)
def test_what_is_safe_is_taken(monkeypatch: pytest.MonkeyPatch, env: dict[str, str], what: str) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    found: dict[str, Any] = {row["name"]: row["source"] for row in settings_of.explain(load(), {})}
    assert found[next(iter(env)).removeprefix("MARU_").lower()].startswith("environment"), what


def test_a_key_that_is_not_the_certificates_is_refused(made: Path) -> None:
    files = {"kafka_protocol": "ssl", "kafka_ca": made / "issues" / "ca.pem"}
    load(**files, kafka_cert=made / "issues" / "client.pem", kafka_key=made / "issues" / "client.key")
    with pytest.raises(BadSetting, match=r"kafka_key \(option\).*not the key of"):
        load(**files, kafka_cert=made / "issues" / "client.pem", kafka_key=made / "routing" / "client.key")


@pytest.mark.parametrize("password", ["", "Change-Me", "P_O_S_T_G_R_E_S", "issues", "ISSUES"])
def test_passwords_that_anybody_would_try(password: str) -> None:
    assert is_default_password(password, "issues")


def test_passwords_that_nobody_would_try() -> None:
    assert not is_default_password("9vQ2-long-and-random-Zk41", "issues")
