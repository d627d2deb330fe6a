"""What an operator can set (the table in DESIGN 2.1), where it comes from, and what is refused."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from worker.core.errors import ConfigurationError

_PREFIX = "VODSYNC_"
_CREDENTIALS = ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN")
_SOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_QUEUE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,255}")
_APPLICATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")

# Names that are not settings: the path of the settings file, and the variables of the test suite.
_CONFIG_VARIABLE = "VODSYNC_CONFIG"
_TEST_PREFIX = "VODSYNC_TEST_"

DEFAULT_SOURCE = "default"


class Source(BaseModel):
    """One account + region (+ AppId): where VOD is asked, and how its callbacks are told from forged ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    region: str = Field(default="cn-shanghai", pattern=r"^[a-z0-9-]+$")
    endpoint: str | None = None
    access_key_id: str | None = None
    access_key_secret: SecretStr | None = None
    security_token: SecretStr | None = None
    callback_url: str | None = None
    callback_keys: tuple[SecretStr, ...] = ()
    callback_unsigned: Literal["reject", "accept"] = "reject"
    #: Seconds of clock skew.
    callback_tolerance: int = Field(default=300, ge=1, le=86_400)
    #: BatchGetMediaInfos calls per second, all workers together.
    api_qps: float = Field(default=20, gt=0, le=10_000)
    #: SearchMedia calls per second, all workers together; VOD documents 50 for an account.
    search_qps: float = Field(default=40, gt=0, le=10_000)
    video_info: Literal["off", "on"] = "off"
    #: The application, where an account has several: whose callback settings are compared, and whose media are listed.
    app_id: str | None = None
    #: The queue that VOD writes its events to, where it does not call us.
    smq_endpoint: str | None = None
    smq_queue: str | None = None

    @field_validator("video_info", mode="before")
    @classmethod
    def _video_info_as_bool(cls, value: object) -> object:
        return _switch(value)

    @field_validator("callback_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(key for part in value.splitlines() for key in map(str.strip, part.split(",")) if key)
        return value

    @field_validator("callback_url", "endpoint", "smq_endpoint")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("is not an http:// or https:// URL")
        if parts.username or parts.password:
            raise ValueError("must not carry a user name or password")
        return value

    @field_validator("smq_endpoint")
    @classmethod
    def _is_host(cls, value: str | None) -> str | None:
        if value is not None and (urlsplit(value).path not in ("", "/") or "?" in value):
            raise ValueError("has a path; it is like https://1234567890.mns.cn-shanghai.aliyuncs.com")
        return value.rstrip("/") if value else value

    @field_validator("app_id")
    @classmethod
    def _is_application(cls, value: str | None) -> str | None:
        if value is not None and not _APPLICATION.fullmatch(value):
            raise ValueError("is not the id of an application; it is like app-1000000")
        return value

    @field_validator("smq_queue")
    @classmethod
    def _is_queue(cls, value: str | None) -> str | None:
        if value is not None and not _QUEUE_NAME.fullmatch(value):
            raise ValueError("is not the name of a queue: letters, digits, - and _")
        return value

    @property
    def account(self) -> tuple[object, ...]:
        """Sources that agree in this share one quota at VOD; a wrong secret must not hold back those who have the right one."""
        return self.access_key_id, self.access_key_secret, self.security_token, self.region, self.endpoint

    def has_keys(self, name: str) -> bool:
        """Whether keys are set here, so that the vendor's chain is not needed. Raises ConfigurationError for half of them."""
        if bool(self.access_key_id) != bool(self.access_key_secret):
            raise ConfigurationError(
                f"source {name}: set both ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, or neither of them"
            )
        return self.access_key_id is not None

    def has_queue(self, name: str) -> bool:
        """Whether VOD's events can be collected from a queue. Raises ConfigurationError for half of its address."""
        if bool(self.smq_endpoint) != bool(self.smq_queue):
            raise ConfigurationError(f"source {name}: set both VODSYNC_SMQ_ENDPOINT and VODSYNC_SMQ_QUEUE, or neither of them")
        return self.smq_queue is not None

    def require_callback(self, name: str) -> None:
        """Raises ConfigurationError where callbacks of this source could be neither verified nor knowingly taken unsigned."""
        if self.callback_unsigned == "accept":
            return
        if not self.callback_keys:
            raise ConfigurationError(
                f"source {name}: callbacks could not be verified; set VODSYNC_CALLBACK_KEYS to the authentication key "
                "configured at VOD (or VODSYNC_CALLBACK_UNSIGNED=accept to take callbacks from anybody)"
            )
        if self.callback_url is None:
            raise ConfigurationError(
                f"source {name}: set VODSYNC_CALLBACK_URL to the callback URL exactly as configured at VOD; it enters the signature"
            )


class Settings(Source):
    """Everything that can be set; the fields of Source describe the source `default`."""

    database_url: SecretStr = SecretStr("sqlite:///vodsync.db")
    database_schema: str | None = None
    broker_url: SecretStr | None = None
    spool: Path = Path("vodsync-spool.db")
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535)
    linger_ms: int = Field(default=250, ge=0, le=60_000)
    #: Seconds until an unfinished claim is offered again.
    lease: int = Field(default=60, ge=1, le=86_400)
    max_attempts: int = Field(default=10, ge=1, le=1_000)
    #: How long a medium that VOD is still at work on is followed.
    follow_up_hours: int = Field(default=72, ge=0, le=8_760)
    #: Hours between two incremental reconciliations, days between two full ones; 0 is never.
    reconcile_hours: float = Field(default=6, ge=0, le=8_760)
    reconcile_full_days: float = Field(default=7, ge=0, le=3_650)
    #: The share of our media that a reconciliation marks as deleted without being told to.
    most_deleted_percent: float = Field(default=5, ge=0, le=100)
    #: Whether changes of media are announced on the exchange vodsync.changes, and how long they wait for a broker that is away.
    changes: Literal["off", "on"] = "off"
    changes_keep_hours: int = Field(default=24, ge=1, le=8_760)
    #: How long is kept what VOD told us, and what became of long runs; 0 is for ever.
    keep_notifications_days: int = Field(default=90, ge=0, le=36_500)
    keep_jobs_days: int = Field(default=90, ge=0, le=36_500)
    admin_token: SecretStr | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    sources: dict[str, Source] = Field(default_factory=dict)

    @field_validator("changes", mode="before")
    @classmethod
    def _changes_as_bool(cls, value: object) -> object:
        return _switch(value)

    @field_validator("broker_url")
    @classmethod
    def _is_broker(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and value.get_secret_value().partition("://")[0] not in ("amqp", "amqps", "pyamqp", "redis", "rediss"):
            raise ValueError("begins with neither amqp:// nor redis://; leave it out for the embedded broker")
        if value is not None and not _has_port(value.get_secret_value()):
            raise ValueError("has a port that is no number; a / : @ or # in the password has to be written as %2F %3A %40 %23")
        return value

    @field_validator("database_schema")
    @classmethod
    def _is_schema(cls, value: str | None) -> str | None:
        if value is not None and not _SCHEMA_NAME.fullmatch(value):
            raise ValueError("is not a plain lower-case PostgreSQL schema name")
        return value

    @field_validator("sources")
    @classmethod
    def _are_named(cls, value: dict[str, Source]) -> dict[str, Source]:
        for name in value:
            if not _SOURCE_NAME.fullmatch(name):
                raise ValueError(f"[sources.{name}]: a source is named with a-z, 0-9, - and _, at most 63 characters")
        return value

    @property
    def all_sources(self) -> dict[str, Source]:
        """Every source by its name. `default` is left out where only vodsync.toml describes sources."""
        described = self.model_fields_set & set(Source.model_fields)
        if self.sources and not described:
            return dict(self.sources)
        default = Source.model_construct(**{name: getattr(self, name) for name in Source.model_fields})
        return {DEFAULT_SOURCE: default} | self.sources

    @property
    def queue_folder(self) -> Path:
        """Where the embedded broker keeps its messages: beside the database file, or here."""
        url = self.database_url.get_secret_value()
        folder = Path(url.split("///", 1)[1].split("?")[0]).parent if url.startswith("sqlite") else Path()
        return folder / "vodsync-broker"


def _switch(value: object) -> object:
    """TOML knows true and false."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


def _has_port(url: str) -> bool:
    try:
        return urlsplit(url).port is None or bool(urlsplit(url).hostname)
    except ValueError:
        return False


def load(*, config: Path | None = None, environ: Mapping[str, str] | None = None, **flags: Any) -> Settings:
    """The effective settings: flags before environment before .env before the file before defaults.

    Raises ConfigurationError naming the setting that is unknown, unreadable or unsafe.
    """
    environment = dict(os.environ if environ is None else environ)
    dotenv = {name: value for name, value in dotenv_values(".env").items() if value is not None}
    known = _known_names()
    values = _read_file(config or _config_path(environment | {}, dotenv))
    for layer, origin in ((dotenv, ".env"), (environment, "the environment")):
        values |= _read_variables(layer, known, origin)
    values |= {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**values)
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from None


def _config_path(environment: Mapping[str, str], dotenv: Mapping[str, str]) -> Path | None:
    name = environment.get("VODSYNC_CONFIG") or dotenv.get("VODSYNC_CONFIG")
    if name:
        return Path(name)
    return Path("vodsync.toml") if Path("vodsync.toml").is_file() else None


def _known_names() -> dict[str, str]:
    """Environment name → field."""
    names = {_PREFIX + field.upper(): field for field in Settings.model_fields if field != "sources"}
    for variable in _CREDENTIALS:
        field = variable.removeprefix("ALIBABA_CLOUD_").lower()
        names.pop(_PREFIX + field.upper())
        names[variable] = field
    return names


def _read_variables(layer: Mapping[str, str], known: Mapping[str, str], origin: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in layer.items():
        plain = name.removesuffix("_FILE")
        if name in known:
            if value != "":
                values[known[name]] = value
        elif plain in known:
            if value != "" and layer.get(plain):
                raise ConfigurationError(f"{name} and {plain} in {origin} name the same setting; leave one out")
            if value != "":
                values[known[plain]] = _read_secret(name, value)
        elif name.startswith(_PREFIX) and name != _CONFIG_VARIABLE and not name.startswith(_TEST_PREFIX):
            raise ConfigurationError(f"{name} in {origin} is not a setting of vodsync; {_nearest(name, known)}")
    return values


def _nearest(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else "the README lists those that are"


def _read_secret(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{name}: cannot read {path}: {type(error).__name__}") from None


def _read_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read the configuration file {path}: {type(error).__name__}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from None
    sources = document.pop("sources", {})
    values = _read_section(document, set(Settings.model_fields), f"{path}")
    if not isinstance(sources, dict) or not all(isinstance(section, dict) for section in sources.values()):
        raise ConfigurationError(f"{path}: describe each source in a section of its own, [sources.NAME]")
    if DEFAULT_SOURCE in sources:
        # The same settings as those at the top, so that the environment goes before them too.
        values |= _read_section(sources.pop(DEFAULT_SOURCE), set(Source.model_fields), f"{path}, [sources.{DEFAULT_SOURCE}]")
    if sources:
        values["sources"] = {
            name: _read_section(section, set(Source.model_fields), f"{path}, [sources.{name}]") for name, section in sources.items()
        }
    return values


def _read_section(section: Mapping[str, Any], known: set[str], place: str) -> dict[str, Any]:
    """The keys of a TOML section as field names; `vodsync_` and `alibaba_cloud_` in front are the same key."""
    values = {}
    for key, value in section.items():
        field = key.lower().removeprefix("vodsync_").removeprefix("alibaba_cloud_")
        if field.removesuffix("_file") in known and field not in known:
            field, value = field.removesuffix("_file"), _read_secret(f"{key} in {place}", str(value))
        if field not in known:
            raise ConfigurationError(f"{key} in {place} is not a setting of vodsync; {_nearest(field, known)}")
        values[field] = value
    return values


def variable(field: str) -> str:
    """The environment name of a field."""
    return next((name for name, known in _known_names().items() if known == field), _PREFIX + field.upper())


def _explain(error: ValidationError) -> str:
    problems = error.errors(include_input=False, include_url=False)
    return "; ".join(f"{_place(problem['loc'])}: {problem['msg'].removeprefix('Value error, ')}" for problem in problems)


def _place(location: tuple[int | str, ...]) -> str:
    match [str(part) for part in location]:
        case ["sources", name, *inner]:
            return f"[sources.{name}] {'.'.join(inner)}"
        case ["sources"] | []:
            return "vodsync.toml"
        case [field, *_]:
            return variable(field)
    raise AssertionError(location)
