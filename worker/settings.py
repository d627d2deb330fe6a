"""Read and validate the settings (contract 2): flags, environment, .env and settings file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator

from worker.core.errors import ConfigurationError
from worker.setting_values import (
    CONFIG_VARIABLE,
    DEFAULT_SOURCE,
    PREFIX,
    clean,
    read_dotenv,
    read_file,
    read_variables,
    strip_blanks,
)

_CREDENTIALS = ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN")
_SOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_QUEUE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,255}")
_APP_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")

__all__ = ["DEFAULT_SOURCE", "Settings", "Source", "load", "variable"]


class Source(BaseModel):
    """The settings of one source: an account, a region and optionally an application (contract 2.3)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    region: str = Field(default="cn-shanghai", pattern=r"^[a-z0-9-]+$")
    endpoint: str | None = None
    access_key_id: str | None = None
    access_key_secret: SecretStr | None = None
    security_token: SecretStr | None = None
    callback_url: str | None = None
    callback_keys: tuple[SecretStr, ...] = ()
    callback_unsigned: Literal["reject", "accept"] = "reject"
    callback_tolerance: int = Field(default=300, ge=1, le=86_400)  # seconds of clock skew
    #: BatchGetMediaInfos calls per second, all workers together.
    api_qps: float = Field(default=20, gt=0, le=10_000)
    #: SearchMedia calls per second, all workers together. VOD documents a limit of 50 per account.
    search_qps: float = Field(default=40, gt=0, le=10_000)
    video_info: Literal["off", "on"] = "off"
    #: The application, if the account has several. Its callback settings are compared, and only its media are listed.
    app_id: str | None = None
    #: The queue to which VOD writes its events, if it does not send callbacks.
    smq_endpoint: str | None = None
    smq_queue: str | None = None

    @field_validator("video_info", mode="before")
    @classmethod
    def _video_info_as_bool(cls, value: object) -> object:
        return _switch(value)

    @field_validator("*", mode="before")
    @classmethod
    def _clean(cls, value: object, info: ValidationInfo) -> object:
        """Clean texts, wherever they come from. The keys of callbacks may be several, one per line or separated by commas."""
        if info.field_name == "callback_keys":
            if isinstance(value, str):
                value = [key for line in clean(value, allowed="\r\n").splitlines() for key in line.split(",")]
            if isinstance(value, list | tuple):
                keys = [clean(key) if isinstance(key, str) else key for key in value]
                return tuple(key for key in keys if key != "")
        return clean(value) if isinstance(value, str) else value

    @field_validator("callback_url", "endpoint", "smq_endpoint")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if any(map(str.isspace, value)):
            raise ValueError("contains a blank; remove it, or write %20")
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("is not an http:// or https:// URL; write the whole URL")
        if parts.username or parts.password:
            raise ValueError("contains a user name or password; remove it")
        return value

    @field_validator("smq_endpoint")
    @classmethod
    def _is_host(cls, value: str | None) -> str | None:
        if value is not None and (urlsplit(value).path not in ("", "/") or "?" in value):
            raise ValueError("has a path; write only the host, like https://1234567890.mns.cn-shanghai.aliyuncs.com")
        return value.rstrip("/") if value else value

    @field_validator("app_id")
    @classmethod
    def _is_application(cls, value: str | None) -> str | None:
        if value is not None and not _APP_ID.fullmatch(value):
            raise ValueError("is not an application id; write an id like app-1000000")
        return value

    @field_validator("smq_queue")
    @classmethod
    def _is_queue(cls, value: str | None) -> str | None:
        if value is not None and not _QUEUE_NAME.fullmatch(value):
            raise ValueError("is not a queue name; use letters, digits, - and _")
        return value

    @property
    def account(self) -> tuple[object, ...]:
        """The settings that identify an account at VOD. Sources with the same value share one rate limit.

        The secret is part of it: a source with a wrong secret must not slow down those with the right one.
        """
        return self.access_key_id, self.access_key_secret, self.security_token, self.region, self.endpoint

    def has_keys(self, name: str) -> bool:
        """Return True if access keys are set. Otherwise the vendor's credential chain is used.

        Raises ConfigurationError if only one of the two is set. `name` is the name of this source.
        """
        if bool(self.access_key_id) != bool(self.access_key_secret):
            raise ConfigurationError(
                f"source {name}: set both ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, or neither"
            )
        return self.access_key_id is not None

    def has_queue(self, name: str) -> bool:
        """Return True if VOD's events can be read from a queue. Raises ConfigurationError if only half of its address is set."""
        if bool(self.smq_endpoint) != bool(self.smq_queue):
            raise ConfigurationError(f"source {name}: set both VODSYNC_SMQ_ENDPOINT and VODSYNC_SMQ_QUEUE, or neither")
        return self.smq_queue is not None

    def require_callback(self, name: str) -> None:
        """Raises ConfigurationError if callbacks of this source cannot be verified and unsigned ones are not accepted."""
        if self.callback_unsigned == "accept":
            return
        if not self.callback_keys:
            raise ConfigurationError(
                f"source {name}: callbacks cannot be verified; set VODSYNC_CALLBACK_KEYS to the authentication key configured at "
                "VOD (or VODSYNC_CALLBACK_UNSIGNED=accept to accept callbacks from any sender)"
            )
        if self.callback_url is None:
            raise ConfigurationError(
                f"source {name}: set VODSYNC_CALLBACK_URL to the callback URL exactly as configured at VOD; it is part of the "
                "signature"
            )


class Settings(Source):
    """All settings (contract 2.2). The fields inherited from Source describe the source `default`."""

    database_url: SecretStr = SecretStr("sqlite:///vodsync.db")
    database_schema: str | None = None
    broker_url: SecretStr | None = None
    broker_folder: Path | None = None
    spool: Path = Path("vodsync-spool.db")
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535)
    linger_ms: int = Field(default=250, ge=0, le=60_000)
    lease: int = Field(default=60, ge=1, le=86_400)  # seconds until an unfinished claim can be claimed again
    max_attempts: int = Field(default=10, ge=1, le=1_000)
    #: How long an asset that VOD still processes is fetched again.
    follow_up_hours: int = Field(default=72, ge=0, le=8_760)
    #: Time between two reconciliations of what changed, and between two full ones; 0 disables them.
    reconcile_hours: float = Field(default=6, ge=0, le=8_760)
    reconcile_full_days: float = Field(default=7, ge=0, le=3_650)
    #: The largest share of all media that a reconciliation marks as deleted without --allow-mass-delete.
    most_deleted_percent: float = Field(default=5, ge=0, le=100)
    #: Whether changes are published on the exchange vodsync.changes, and how long they wait for an unreachable broker.
    changes: Literal["off", "on"] = "off"
    changes_keep_hours: int = Field(default=24, ge=1, le=8_760)
    #: How long notifications and finished jobs are kept; 0 keeps them forever.
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
            raise ValueError("does not begin with amqp:// or redis://; correct it, or leave it out to use the embedded broker")
        if value is not None and not _has_readable_port(value.get_secret_value()):
            raise ValueError("has a port that is not a number; write / : @ and # in the password as %2F %3A %40 and %23")
        return value

    @field_validator("database_schema")
    @classmethod
    def _is_schema(cls, value: str | None) -> str | None:
        if value is not None and not _SCHEMA_NAME.fullmatch(value):
            raise ValueError("is not a plain PostgreSQL schema name; use lower-case letters, digits and _")
        if value is not None and (value.startswith("pg_") or value == "information_schema"):
            raise ValueError("is reserved by PostgreSQL; choose another name")
        return value

    @field_validator("sources")
    @classmethod
    def _are_named(cls, value: dict[str, Source]) -> dict[str, Source]:
        for name in value:
            if not _SOURCE_NAME.fullmatch(name):
                raise ValueError(f"[sources.{name}] is not a valid name; use a-z, 0-9, - and _, at most 63 characters")
        return value

    @property
    def all_sources(self) -> dict[str, Source]:
        """Every source by its name. `default` is left out if no setting describes it and vodsync.toml describes others."""
        described = self.model_fields_set & set(Source.model_fields)
        if self.sources and not described:
            return dict(self.sources)
        default = Source.model_construct(**{name: getattr(self, name) for name in Source.model_fields})
        return {DEFAULT_SOURCE: default} | self.sources

    @property
    def queue_folder(self) -> Path:
        """The folder of the embedded broker; by default beside the SQLite file, or in the working directory."""
        if self.broker_folder:
            return self.broker_folder
        url = self.database_url.get_secret_value()
        folder = Path(url.partition("///")[2].partition("?")[0]).parent if url.startswith("sqlite") else Path()
        return folder / "vodsync-broker"


def _switch(value: object) -> object:
    """Return `on` or `off` for the booleans of TOML, and any other value as it is."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


def _has_readable_port(url: str) -> bool:
    """Return False if the part after the last colon is not a port, as with an unescaped password."""
    try:
        return urlsplit(url).port is None or bool(urlsplit(url).hostname)
    except ValueError:
        return False


def load(*, config: Path | None = None, environ: Mapping[str, str] | None = None, **flags: Any) -> Settings:
    """Return the effective settings. Flags win over the environment, then .env, then the settings file, then the defaults.

    Raises ConfigurationError that names a setting if it is unknown, unreadable or unsafe.
    """
    environment = dict(os.environ if environ is None else environ)
    dotenv = read_dotenv(Path(".env"))
    known = _known_names()
    path = config or _config_path(environment, dotenv)
    values = read_file(path, set(Settings.model_fields), set(Source.model_fields)) if path else {}
    for layer, origin in ((dotenv, ".env"), (environment, "the environment")):
        values |= read_variables(layer, known, origin)
    values |= {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**values)
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from None


def _config_path(environment: Mapping[str, str], dotenv: Mapping[str, str]) -> Path | None:
    for layer in (environment, dotenv):
        if name := strip_blanks(layer.get(CONFIG_VARIABLE, "")):
            return Path(name)
    return Path("vodsync.toml") if Path("vodsync.toml").is_file() else None


def _known_names() -> dict[str, str]:
    """Return the field of each environment variable."""
    names = {PREFIX + field.upper(): field for field in Settings.model_fields if field != "sources"}
    for variable in _CREDENTIALS:
        field = variable.removeprefix("ALIBABA_CLOUD_").lower()
        names.pop(PREFIX + field.upper())
        names[variable] = field
    return names


def variable(field: str) -> str:
    """Return the environment variable of a field."""
    return next((name for name, known in _known_names().items() if known == field), PREFIX + field.upper())


def _explain(error: ValidationError) -> str:
    """Return one sentence for each invalid setting, without its value, which may be a secret."""
    problems = error.errors(include_input=False, include_url=False)
    return "; ".join(f"{_setting_name(problem['loc'])}: {problem['msg'].removeprefix('Value error, ')}" for problem in problems)


def _setting_name(location: tuple[int | str, ...]) -> str:
    match [str(part) for part in location]:
        case ["sources", name, *inner]:
            return f"[sources.{name}] {'.'.join(inner)}"
        case ["sources"] | []:
            return "vodsync.toml"
        case [field, *_]:
            return variable(field)
    raise AssertionError(location)
