"""The origin of settings, and which values are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker import settings
from worker.core.errors import ConfigurationError


def test_an_empty_environment_leads_to_the_documented_defaults() -> None:
    loaded = settings.load(environ={})

    assert loaded.database_url.get_secret_value() == "sqlite:///vodsync.db"
    assert (loaded.region, loaded.host, loaded.port) == ("cn-shanghai", "127.0.0.1", 8080)
    assert (loaded.linger_ms, loaded.api_qps, loaded.lease, loaded.max_attempts) == (250, 20, 60, 10)
    assert (loaded.callback_unsigned, loaded.callback_tolerance, loaded.video_info) == ("reject", 300, "off")
    assert (loaded.changes, loaded.changes_keep_hours) == ("off", 24)
    assert (loaded.keep_notifications_days, loaded.keep_jobs_days) == (90, 90)
    assert loaded.broker_url is None


def test_a_switch_may_be_true_or_false_in_the_file() -> None:
    Path("vodsync.toml").write_text("changes = true\nvideo_info = false\n")

    loaded = settings.load(environ={})

    assert (loaded.changes, loaded.video_info) == ("on", "off")


def test_flags_override_environment_overrides_dotenv_overrides_file() -> None:
    Path("vodsync.toml").write_text("port = 1\nlease = 1\nlinger_ms = 1\nmax_attempts = 1\n")
    Path(".env").write_text("VODSYNC_PORT=2\nVODSYNC_LEASE=2\nVODSYNC_LINGER_MS=2\n")

    loaded = settings.load(environ={"VODSYNC_PORT": "3", "VODSYNC_LEASE": "3"}, port=4)

    assert (loaded.port, loaded.lease, loaded.linger_ms, loaded.max_attempts) == (4, 3, 2, 1)


def test_credentials_are_read_from_the_vendors_variables() -> None:
    loaded = settings.load(environ={"ALIBABA_CLOUD_ACCESS_KEY_ID": "id", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "secret"})

    assert loaded.access_key_id == "id"
    assert loaded.access_key_secret is not None
    assert loaded.access_key_secret.get_secret_value() == "secret"


def test_a_secret_may_come_from_a_file() -> None:
    Path("key").write_text("Old1Key,New2Key\n")

    loaded = settings.load(environ={"VODSYNC_CALLBACK_KEYS_FILE": "key"})

    assert [key.get_secret_value() for key in loaded.callback_keys] == ["Old1Key", "New2Key"]


def test_an_empty_variable_counts_as_not_set() -> None:
    loaded = settings.load(environ={"VODSYNC_ENDPOINT": "", "VODSYNC_BROKER_URL": ""})

    assert (loaded.endpoint, loaded.broker_url) == (None, None)


def test_the_repr_of_the_settings_contains_no_secret() -> None:
    loaded = settings.load(
        environ={
            "VODSYNC_DATABASE_URL": "postgresql://u:hunter22@h/d",
            "VODSYNC_CALLBACK_KEYS": "hunter33",
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "hunter44",
            "VODSYNC_ADMIN_TOKEN": "hunter55",
        }
    )

    assert "hunter" not in f"{loaded!r} {loaded}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VODSYNC_PROT", "8080"),
        ("VODSYNC_PORT", "many"),
        ("VODSYNC_PORT", "70000"),
        ("VODSYNC_LEASE", "0"),
        ("VODSYNC_API_QPS", "0"),
        ("VODSYNC_API_QPS", "nan"),
        ("VODSYNC_CALLBACK_UNSIGNED", "maybe"),
        ("VODSYNC_CALLBACK_TOLERANCE", "-1"),
        ("VODSYNC_CALLBACK_URL", "example.org/hook"),
        ("VODSYNC_ENDPOINT", "vod.cn-shanghai.aliyuncs.com"),
        ("VODSYNC_DATABASE_SCHEMA", "a; drop"),
        ("VODSYNC_APP_ID", "app 1,app 2"),
        ("VODSYNC_CALLBACK_KEYS_FILE", "nowhere"),
        ("VODSYNC_CONFIG", "nowhere.toml"),
    ],
)
def test_an_invalid_setting_is_refused_and_named(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name if name != "VODSYNC_CONFIG" else "nowhere.toml"):
        settings.load(environ={name: value})


def test_the_message_about_an_invalid_url_does_not_contain_its_password() -> None:
    with pytest.raises(ConfigurationError) as error:
        settings.load(environ={"VODSYNC_CALLBACK_URL": "ftp://user:hunter2@host"})

    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("text", ["port = ", "prot = 1", "[sources.a]\nprot = 1", "sources = 1", "[sources.'A b']\nregion = 'x'"])
def test_an_invalid_file_is_refused_and_named(text: str) -> None:
    Path("vodsync.toml").write_text(text)

    with pytest.raises(ConfigurationError, match=r"vodsync\.toml|sources"):
        settings.load(environ={})


def test_a_file_describes_several_sources_with_their_own_keys() -> None:
    Path("vodsync.toml").write_text(
        "[sources.shanghai]\n"
        "access_key_id = 'one'\naccess_key_secret = 's1'\ncallback_url = 'https://a.example/cb'\ncallback_keys = 'K1'\n"
        "[sources.singapore]\n"
        "region = 'ap-southeast-1'\nalibaba_cloud_access_key_id = 'two'\ncallback_keys = ['K2', 'K3']\napi_qps = 5\n"
        "app_id = 'app-1000007'\n"
    )

    sources = settings.load(environ={}).all_sources

    assert list(sources) == ["shanghai", "singapore"]
    assert (sources["shanghai"].access_key_id, sources["singapore"].access_key_id) == ("one", "two")
    assert (sources["shanghai"].app_id, sources["singapore"].app_id) == (None, "app-1000007")
    assert (sources["singapore"].region, sources["singapore"].api_qps, len(sources["singapore"].callback_keys)) == (
        "ap-southeast-1",
        5,
        2,
    )


def test_the_environment_adds_the_source_default() -> None:
    Path("vodsync.toml").write_text("[sources.other]\nregion = 'ap-southeast-1'\n")

    sources = settings.load(environ={"VODSYNC_CALLBACK_KEYS": "K"}).all_sources

    assert list(sources) == ["default", "other"]


def test_without_keys_unsigned_callbacks_must_be_accepted_explicitly() -> None:
    with pytest.raises(ConfigurationError, match="VODSYNC_CALLBACK_KEYS"):
        settings.load(environ={}).require_callback("default")
    with pytest.raises(ConfigurationError, match="VODSYNC_CALLBACK_URL"):
        settings.load(environ={"VODSYNC_CALLBACK_KEYS": "K"}).require_callback("default")

    settings.load(environ={"VODSYNC_CALLBACK_UNSIGNED": "accept"}).require_callback("default")


def test_a_key_id_without_a_secret_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="ALIBABA_CLOUD_ACCESS_KEY_SECRET"):
        settings.load(environ={"ALIBABA_CLOUD_ACCESS_KEY_ID": "id"}).has_keys("default")


def test_sources_share_a_rate_limit_only_if_they_sign_with_the_same_key() -> None:
    def account(**keys: str) -> tuple[object, ...]:
        return settings.Source.model_validate({"access_key_id": "id"} | keys).account

    assert account(access_key_secret="s", callback_url="http://a/") == account(access_key_secret="s", callback_url="http://b/")
    assert account(access_key_secret="right") != account(access_key_secret="wrong")
    assert account(access_key_secret="s") != account(access_key_secret="s", region="ap-southeast-1")


def test_a_queue_needs_an_endpoint_and_a_name() -> None:
    environ = {"VODSYNC_SMQ_ENDPOINT": "https://1234.mns.cn-shanghai.aliyuncs.com/", "VODSYNC_SMQ_QUEUE": "vod-events"}

    source = settings.load(environ=environ).all_sources["default"]
    without_endpoint = settings.load(environ={"VODSYNC_SMQ_QUEUE": "vod-events"}).all_sources["default"]

    assert (source.smq_endpoint, source.has_queue("default")) == ("https://1234.mns.cn-shanghai.aliyuncs.com", True)
    assert not settings.load(environ={}).all_sources["default"].has_queue("default")
    with pytest.raises(ConfigurationError, match="VODSYNC_SMQ_ENDPOINT"):
        without_endpoint.has_queue("default")


def test_applications_of_an_account_share_its_rate_limit() -> None:
    first, second = (settings.load(environ={"VODSYNC_APP_ID": name}).all_sources["default"] for name in ("app-1", "app-2"))

    assert (first.app_id, second.app_id) == ("app-1", "app-2")
    assert first.account == second.account


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VODSYNC_SMQ_ENDPOINT", "1234.mns.cn-shanghai.aliyuncs.com"),
        ("VODSYNC_SMQ_ENDPOINT", "https://1234.mns.cn-shanghai.aliyuncs.com/queues/vod"),
        ("VODSYNC_SMQ_ENDPOINT", "https://user:secret@host"),
        ("VODSYNC_SMQ_QUEUE", "vod events"),
        ("VODSYNC_SMQ_QUEUE", "a/../b"),
    ],
)
def test_an_invalid_queue_setting_is_refused_and_named(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        settings.load(environ={name: value})


#: Characters that nobody sees at the end of a line: blanks, line breaks, a tabulator, a byte order mark, a zero-width space.
BLANKS = [" ", "\n", "\r\n", "\t", "\u00a0", "\ufeff", "\u200b", " \ufeff "]

TEXTS = {
    "VODSYNC_DATABASE_URL": "postgresql://vodsync:Pass%20word@db/vodsync",
    "VODSYNC_BROKER_URL": "amqp://vodsync:Pass${word}@broker",
    "VODSYNC_CALLBACK_URL": "https://example.org/callbacks?env=${prod}",
    "VODSYNC_CALLBACK_KEYS": "K${HOME}y$1",
    "ALIBABA_CLOUD_ACCESS_KEY_ID": "LTAI5tUnit",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "Se${cret",
    "ALIBABA_CLOUD_SECURITY_TOKEN": "To$ken==",
    "VODSYNC_ADMIN_TOKEN": "To${}ken",
    "VODSYNC_ENDPOINT": "https://vod.example.org",
    "VODSYNC_APP_ID": "app-1000000",
    "VODSYNC_HOST": "0.0.0.0",
    "VODSYNC_SPOOL": "/var/lib/vodsync spool.db",
    "VODSYNC_LOG_LEVEL": "debug",
    "VODSYNC_PORT": "1234",
}


def text_of(loaded: settings.Settings, name: str) -> str:
    value = getattr(loaded, name.removeprefix("VODSYNC_").removeprefix("ALIBABA_CLOUD_").lower())
    (value,) = value if isinstance(value, tuple) else (value,)
    return str(value.get_secret_value() if hasattr(value, "get_secret_value") else value)


@pytest.mark.parametrize("origin", ["environment", "file", ".env", "vodsync.toml", "file of vodsync.toml"])
@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
@pytest.mark.parametrize("name", TEXTS)
def test_blanks_around_a_setting_are_removed_and_nothing_else_changes(name: str, blank: str, origin: str) -> None:
    value = f"{blank}{TEXTS[name]}{blank}"
    key = name.removeprefix("VODSYNC_").removeprefix("ALIBABA_CLOUD_").lower()
    environ = {}
    if origin == "environment":
        environ[name] = value
    elif origin == ".env":
        Path(".env").write_text(f"\ufeff{name}='{value}'\n", encoding="utf-8", newline="")
    elif origin == "vodsync.toml":
        escaped = "".join(f"\\u{ord(character):04x}" for character in value)
        Path("vodsync.toml").write_text(f'\ufeff{key} = "{escaped}"\n', encoding="utf-8")
    else:
        Path("value").write_text(value, encoding="utf-8", newline="")
        environ = {f"{name}_FILE": "value"} if origin == "file" else {}
        if not environ:
            Path("vodsync.toml").write_text(f'{key}_file = "value"\n')

    assert text_of(settings.load(environ=environ), name) == TEXTS[name]


@pytest.mark.parametrize("name", [name for name in TEXTS if name != "VODSYNC_PORT"])
@pytest.mark.parametrize("quotes", ['""', "''", "\u201c\u201d"], ids=ascii)
def test_quotes_around_a_setting_are_refused(name: str, quotes: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}: has quotes around its value; remove them"):
        settings.load(environ={name: f"{quotes[0]}{TEXTS[name]}{quotes[1]}"})


@pytest.mark.parametrize("name", [name for name in TEXTS if name != "VODSYNC_PORT"])
@pytest.mark.parametrize("character", ["\ufeff", "\u200b", "\x00", "\t", "\n"], ids=ascii)
def test_invisible_characters_inside_a_setting_are_refused(name: str, character: str) -> None:
    if (name, character) == ("VODSYNC_CALLBACK_KEYS", "\n"):
        pytest.skip("a line break separates keys")
    with pytest.raises(ConfigurationError, match=rf"{name}: contains the invisible character U\+") as error:
        settings.load(environ={name: TEXTS[name][:3] + character + TEXTS[name][3:]})

    assert TEXTS[name] not in str(error.value)


def test_each_of_several_keys_is_cleaned() -> None:
    Path("keys").write_text("\ufeffFirst , Second\r\n\r\n\u00a0Third,\n")

    loaded = settings.load(environ={"VODSYNC_CALLBACK_KEYS_FILE": "keys"})

    assert [key.get_secret_value() for key in loaded.callback_keys] == ["First", "Second", "Third"]
    with pytest.raises(ConfigurationError, match="VODSYNC_CALLBACK_KEYS: has quotes"):
        settings.load(environ={"VODSYNC_CALLBACK_KEYS": 'First, "Second"'})


def test_a_blank_variable_counts_as_not_set() -> None:
    assert settings.load(environ={"VODSYNC_ENDPOINT": " \ufeff", "VODSYNC_CONFIG": " "}).endpoint is None


def test_a_blank_inside_a_url_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="VODSYNC_CALLBACK_URL: contains a blank"):
        settings.load(environ={"VODSYNC_CALLBACK_URL": "https://example.org/call backs"})


def test_an_empty_secret_file_is_refused() -> None:
    Path("value").write_text("\ufeff\n")

    with pytest.raises(ConfigurationError, match="VODSYNC_DATABASE_URL_FILE: value is empty"):
        settings.load(environ={"VODSYNC_DATABASE_URL_FILE": "value"})


@pytest.mark.parametrize(
    "line",
    [
        'VODSYNC_DATABASE_URL="postgresql://x/y',
        "VODSYNC_DATABASE_URL: postgresql://x/y",
        "VODSYNC_CALLBACK_KEYS",
        "VODSYNC_CALLBACK_KEYS='secret\nVODSYNC_PORT=1",
    ],
)
def test_a_line_of_dotenv_that_is_not_an_assignment_is_refused_without_its_content(line: str) -> None:
    Path(".env").write_text(f"# comment\n\nexport VODSYNC_HOST=127.0.0.1\n{line}\n")

    with pytest.raises(ConfigurationError, match=r"line 4 of \.env is not an assignment") as caught:
        settings.load(environ={})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("schema", ["pg_catalog", "pg_foo", "information_schema"])
def test_a_schema_that_postgresql_reserves_is_refused(schema: str) -> None:
    with pytest.raises(ConfigurationError, match="VODSYNC_DATABASE_SCHEMA: is reserved by PostgreSQL"):
        settings.load(environ={"VODSYNC_DATABASE_SCHEMA": schema})


def test_a_dotenv_file_that_cannot_be_read_is_refused() -> None:
    Path(".env").write_bytes(b"VODSYNC_HOST=\xff\xfe")

    with pytest.raises(ConfigurationError, match=r"cannot read \.env: it is not UTF-8 text"):
        settings.load(environ={})
