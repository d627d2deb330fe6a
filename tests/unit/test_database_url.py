"""What is refused in VODSYNC_DATABASE_URL, and what is merged into the settings of a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.core.errors import ConfigurationError, StoreUnavailableError
from worker.store import Store
from worker.store.engine import open_engine
from worker.store.sessions import parse_options


@pytest.mark.parametrize(
    ("url", "named", "next_step"),
    [
        ("mysql://u@h/d?useSSL=false", "useSSL", "leave it out"),
        ("mysql://u@h/d?sslmode=require", "sslmode", "use ssl_ca=FILE"),
        ("mariadb://u@h/d?autocommit=true", "autocommit", "leave it out"),
        ("mysql://u@h/d?max_allowed_packet=5", "max_allowed_packet", "remove it"),
        ("mysql://u@h/d?ssl_disabled=no", "ssl_disabled", "true or false"),
        ("mysql://u@h/d?ssl_ca=/nowhere/ca.pem", "ssl_ca", "correct the path"),
        ("mysql://u@h/d?connect_timeout=soon", "connect_timeout", "number of seconds"),
        ("mysql://u@h/d?client_flag=x", "invalid value", "correct it"),
        ("mysql://u@h/", "names no database", "add it after the last slash"),
        ("mariadb://u@h", "names no database", "add it after the last slash"),
        ("postgresql://u@h/d?useSSL=false", "useSSL", "allowed are"),
        ("postgresql://u@h/d?currentSchema=vod", "currentSchema", "set VODSYNC_DATABASE_SCHEMA"),
        ("postgresql://u@h/d?sslrootcert=/nowhere/ca.pem", "/nowhere/ca.pem", "correct the path"),
        ("postgresql://u@h/d?options=-e", "-e", "write each setting as -c name=value"),
        ("postgresql://u@h:54x2/d", "VODSYNC_DATABASE_URL", "a number as port"),
        ("postgresql://u@h:99999/d", "99999", "from 1 to 65535"),
        ("sqlite:///x.db?mode=ro", "mode", "allowed are timeout"),
        ("sqlite:///x.db?timeout=0", "timeout", "number of seconds"),
        ("sqlite://host/x.db", "two slashes", "use sqlite:///vodsync.db"),
        ("sqlite://", "no file name", "use sqlite:///vodsync.db"),
        ("oracle://u@h/d", "oracle://", "use postgresql://"),
        ("no url", "is not a database URL", "use for example"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_the_name_of_its_fault_and_the_next_step(
    url: str, named: str, next_step: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_engine(url)

    assert named in str(refused.value)
    assert next_step in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@h/d?sslmode=require&application_name=mine&connect_timeout=10&options=-c%20work_mem%3D8MB",
        "postgresql://u@h/d?sslrootcert=system&sslmode=verify-full",
        "postgresql:///d?host=/var/run/postgresql",
        "postgresql:///d?host=a:5432&host=b:5433&target_session_attrs=read-write",
        "mysql://u@h/d?charset=utf8&connect_timeout=10&init_command=SET%20lock_wait_timeout%3D9",
        "mariadb://u@h/d?ssl_check_hostname=false&unix_socket=/run/mysqld.sock&ssl_verify_cert=true",
        "sqlite:///x.db?timeout=30",
    ],
)
def test_the_parameters_of_a_driver_are_accepted(url: str) -> None:
    open_engine(url).dispose()


def test_a_directory_is_not_a_sqlite_file(tmp_path: Path) -> None:
    for path, advice in ((tmp_path, "add the name of a file"), (tmp_path / "missing" / "x.db", "create it first")):
        with pytest.raises(StoreUnavailableError, match=advice):
            Store.open(f"sqlite:///{path}")


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", {}),
        ("-c a=1 -cb=2 --c-d=3", {"a": "1", "b": "2", "c_d": "3"}),
        (r"-c search_path=a,\ b -c DateStyle=ISO,\ MDY", {"search_path": "a, b", "datestyle": "ISO, MDY"}),
        (r"-c x=a\\b=c", {"x": r"a\b=c"}),
    ],
)
def test_startup_options_are_read_as_postgresql_reads_them(text: str, settings: dict[str, str]) -> None:
    assert parse_options(text) == settings


@pytest.mark.parametrize("text", ["-e", "-c", "-c work_mem", "work_mem=1", "-d 5", "-c a;b=1"])
def test_other_startup_options_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="write each setting as -c name=value"):
        parse_options(text)


@pytest.mark.parametrize("search_path", ["other", "public,vod", '"Vod"'])
def test_a_schema_and_another_search_path_contradict_each_other(search_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", f"-c search_path={search_path}")

    with pytest.raises(ConfigurationError, match="remove one of the two"):
        open_engine("postgresql://u@h/d", schema="vod")


@pytest.mark.parametrize("search_path", ["vod", '"vod",public'])
def test_a_search_path_that_begins_with_the_schema_is_accepted(search_path: str) -> None:
    open_engine(f"postgresql://u@h/d?options=-c%20search_path%3D{search_path}", schema="vod").dispose()
