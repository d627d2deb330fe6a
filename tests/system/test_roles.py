"""The verbs and roles as a person starts them: what works, what refuses to start and says why, and with which exit code."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.system.installation import (
    ACCESS_KEY_ID,
    ACCESS_KEY_SECRET,
    CALLBACK_KEY,
    DATABASE_PASSWORD,
    PAIRS,
    Installation,
    Pair,
    analysed,
    installed,
)
from tests.system.processes import (
    Process,
    alive,
    clean_environment,
    command_line,
    descendants,
    eventually,
    free_port,
    run,
)

DONE, FAILED, USAGE, CONFIGURATION, UNREACHABLE = range(5)

FOUR_SETTINGS = {
    "ALIBABA_CLOUD_ACCESS_KEY_ID": ACCESS_KEY_ID,
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
    "VODSYNC_CALLBACK_URL": "http://127.0.0.1:8080/callbacks",
    "VODSYNC_CALLBACK_KEYS": CALLBACK_KEY,
}


def assert_one_sentence(said: str, *names: str) -> None:
    """One line for people, which names what to do something about."""
    assert said.startswith("vodsync: "), said
    assert said.count("\n") == 1, said
    assert "Traceback" not in said
    for name in names:
        assert name in said


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """All roles on SQLite, and an emulated library of 60."""
    with installed(Pair(None, None), tmp_path_factory.mktemp("small")) as ready:
        ready.start_emulator("--media", "60")
        ready.start("receiver", "serve")
        ready.start("worker", "work", "--beat")
        ready.wait_until_ready()
        yield ready


def library(installation: Installation) -> list[str]:
    media_ids: list[str] = installation.emulator.get("/media").json()["media_ids"]
    return media_ids


# up


@pytest.fixture
def up(tmp_path: Path) -> Iterator[tuple[Installation, Process]]:
    """`vodsync up` in an empty folder with the four settings, and where the emulator and a free port are."""
    database_url = f"sqlite:///{tmp_path / 'vodsync.db'}"
    installation = Installation(tmp_path, database_url=database_url, broker_url=None)
    del installation.settings["VODSYNC_DATABASE_URL"]
    installation.start_emulator()
    process = installation.start("up", "up", command=(str(Path(sys.executable).with_name("vodsync")),))
    installation.wait_until_ready()
    yield installation, process
    installation.close()


def role(process: Process, verb: str) -> int:
    """The process id of one of the roles that `up` started."""
    found = [pid for pid in descendants(process.pid) if f" {verb} " in command_line(pid)]
    return found[0] if found else 0


def test_up_with_four_settings_is_a_working_installation(up: tuple[Installation, Process]) -> None:
    installation, process = up
    assert installation.settings.keys() - {"VODSYNC_ENDPOINT", "VODSYNC_PORT"} == FOUR_SETTINGS.keys()

    installation.emulator.post("/uploads", json={"count": 5})
    installation.wait_until_synced()
    everybody = descendants(process.pid) | {process.pid}
    code = process.stop()

    assert installation.database.value("SELECT count(*) FROM vod_media WHERE state = 'ok' AND status = 'Normal'") == 5
    assert code == DONE
    assert len(everybody) >= 3
    assert [command_line(pid) for pid in everybody if alive(pid)] == []


def test_up_starts_a_killed_role_again(up: tuple[Installation, Process]) -> None:
    installation, process = up
    killed = eventually(lambda: role(process, "work"), within=5, missing="a process `work` below `up`")
    eventually(lambda: installation.http.get("/statusz").json()["workers"], within=10, missing="the worker's heartbeat")

    os.kill(killed, signal.SIGKILL)
    reborn = eventually(lambda: {role(process, "work")} - {0, killed}, within=10, missing="a new worker")
    installation.emulator.post("/uploads", json={"count": 3})
    installation.wait_until_synced()

    assert all(map(alive, reborn))
    assert installation.database.count("vod_media") == 3


def test_up_goes_on_while_a_role_that_is_started_again_finds_no_credentials(tmp_path: Path) -> None:
    with CredentialsServer() as credentials, installed(Pair(None, None), tmp_path) as ready:
        ready.start_emulator()
        own_keys = {name: "" for name in ready.settings if name.startswith("ALIBABA_CLOUD_")}
        process = ready.start("up", "up", ALIBABA_CLOUD_CREDENTIALS_URI=credentials.url, **own_keys)
        ready.wait_until_ready()
        eventually(lambda: "worker started" in process.log, within=15, missing="a worker")

        credentials.away = True
        os.kill(role(process, "work"), signal.SIGKILL)
        eventually(lambda: '"code": 3' in process.log, within=15, missing="a worker that found no credentials")
        answer = ready.notify(analysed("meanwhile"))
        credentials.away = False
        eventually(
            lambda: process.log.count("worker started") == 2, within=30, missing=lambda: f"a worker that starts; {process.log}"
        )

        assert answer.status_code == 200
        assert process.running


class CredentialsServer:
    """What ALIBABA_CLOUD_CREDENTIALS_URI points to; 503 while it is `away`."""

    def __init__(self) -> None:
        self.away = False
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                given = {
                    "Code": "Success",
                    "AccessKeyId": ACCESS_KEY_ID,
                    "AccessKeySecret": ACCESS_KEY_SECRET,
                    "SecurityToken": "Sys7emTestSecurityToken",
                    "Expiration": "2099-01-01T00:00:00Z",
                }
                self.send_response(503 if server.away else 200)
                self.end_headers()
                self.wfile.write(b"" if server.away else json.dumps(given).encode())

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/"

    def __enter__(self) -> CredentialsServer:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = FOUR_SETTINGS | {"VODSYNC_PORT": str(taken.getsockname()[1])}

        refused = run("up", folder=tmp_path, environment=clean_environment(settings, tmp_path))

    assert refused.returncode == CONFIGURATION
    assert "VODSYNC_PORT" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_second_signal_stops_up_at_once(up: tuple[Installation, Process]) -> None:
    _, process = up
    everybody = descendants(process.pid)

    process.terminate()
    process.terminate()
    process.wait(within=5)

    eventually(lambda: not any(map(alive, everybody)), within=5, missing="the end of every role")


def test_a_killed_up_leaves_nobody_behind_and_the_next_one_takes_over(up: tuple[Installation, Process]) -> None:
    installation, process = up
    everybody = descendants(process.pid)

    process.kill()
    again = installation.start("up-again", "up")
    installation.wait_until_ready()
    installation.emulator.post("/uploads", json={"count": 3})
    installation.wait_until_synced()

    eventually(lambda: not any(map(alive, everybody)), within=10, missing="the end of the killed one's roles")
    assert installation.database.count("vod_media") == 3
    assert again.stop() == DONE


# Refusals


WITHOUT_CREDENTIALS = ({"ALIBABA_CLOUD_ACCESS_KEY_ID": "", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ""}, "ALIBABA_CLOUD_ACCESS_KEY_ID")
HALF_A_PAIR = ({"ALIBABA_CLOUD_ACCESS_KEY_SECRET": ""}, "ALIBABA_CLOUD_ACCESS_KEY_SECRET")
WITHOUT_KEYS = ({"VODSYNC_CALLBACK_KEYS": ""}, "VODSYNC_CALLBACK_KEYS")
WITHOUT_URL = ({"VODSYNC_CALLBACK_URL": ""}, "VODSYNC_CALLBACK_URL")
UNKNOWN_NAME = ({"VODSYNC_LINGERMS": "250"}, "VODSYNC_LINGERMS")
BAD_NUMBER = ({"VODSYNC_LEASE": "soon"}, "VODSYNC_LEASE")
BAD_DATABASE = ({"VODSYNC_DATABASE_URL": "oracle://host/name"}, "VODSYNC_DATABASE_URL")
BAD_BROKER = ({"VODSYNC_BROKER_URL": "kafka://host"}, "VODSYNC_BROKER_URL")
MISSING_FILE = ({"VODSYNC_CALLBACK_KEYS_FILE": "/nonexistent/key"}, "VODSYNC_CALLBACK_KEYS_FILE")


@pytest.mark.parametrize(
    ("verb", "wrong"),
    [
        *(("up", wrong) for wrong in (WITHOUT_CREDENTIALS, WITHOUT_KEYS, UNKNOWN_NAME, BAD_BROKER)),
        *(("serve", wrong) for wrong in (WITHOUT_KEYS, WITHOUT_URL, BAD_NUMBER, MISSING_FILE)),
        *(("work", wrong) for wrong in (WITHOUT_CREDENTIALS, HALF_A_PAIR, BAD_NUMBER, BAD_DATABASE)),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value[0])),
)
def test_a_role_refuses_a_bad_setting_and_names_it(
    migrated: Path, tmp_path: Path, verb: str, wrong: tuple[dict[str, str], str]
) -> None:
    settings, name = wrong
    four = FOUR_SETTINGS if "VODSYNC_CALLBACK_KEYS_FILE" not in settings else FOUR_SETTINGS | {"VODSYNC_CALLBACK_KEYS": ""}
    chosen = {"VODSYNC_DATABASE_URL": f"sqlite:///{migrated}", "VODSYNC_PORT": str(free_port())} | four | settings

    refused = run(verb, folder=tmp_path, environment=clean_environment(chosen, tmp_path))

    assert refused.returncode == CONFIGURATION, refused.stderr
    assert_one_sentence(refused.stderr, name)
    assert refused.stdout == ""


@pytest.mark.parametrize("verb", ["serve", "work", "status", "sync x"])
def test_a_stale_schema_is_refused_with_the_command_to_run(tmp_path: Path, verb: str) -> None:
    refused = run(*verb.split(), folder=tmp_path, environment=clean_environment(FOUR_SETTINGS, tmp_path))

    assert refused.returncode == CONFIGURATION
    assert_one_sentence(refused.stderr, "vodsync migrate")


@pytest.mark.parametrize(
    "command",
    [("celery", "-A", "worker.queue", "worker"), ("uvicorn", "worker.web:app", "--port", "0")],
    ids=lambda command: command[0],
)
@pytest.mark.parametrize("wrong", [UNKNOWN_NAME, None], ids=["setting", "schema"])
def test_other_peoples_commands_refuse_as_well(
    tmp_path: Path, command: tuple[str, ...], wrong: tuple[dict[str, str], str] | None
) -> None:
    settings, name = wrong or ({}, "vodsync migrate")
    environment = clean_environment(FOUR_SETTINGS | settings, tmp_path)

    process = Process([sys.executable, "-m", *command], folder=tmp_path, environment=environment, log=tmp_path / "log")

    assert process.wait(within=15) == CONFIGURATION, process.log
    assert f"vodsync: {name}" in process.log or name in process.log
    assert "Traceback" not in process.log


@pytest.mark.parametrize(
    ("database", "verb"),
    [
        *(("postgresql", verb) for verb in ("migrate", "status", "show x", "sync x", "failures list")),
        *(("mariadb", verb) for verb in ("migrate", "sync x")),
        *(("sqlite", verb) for verb in ("serve", "work", "up", "migrate")),
    ],
)
def test_an_unreachable_database_is_exit_code_4(tmp_path: Path, database: str, verb: str) -> None:
    url = f"{database}://vodsync:{DATABASE_PASSWORD}@127.0.0.1:{free_port()}/vodsync"
    if database == "sqlite":
        (tmp_path / "vodsync.db").mkdir()
        url = f"sqlite:///{tmp_path / 'vodsync.db'}"
    environment = clean_environment(FOUR_SETTINGS | {"VODSYNC_DATABASE_URL": url}, tmp_path)

    refused = run(*verb.split(), folder=tmp_path, environment=environment)

    assert refused.returncode == UNREACHABLE, refused.stderr
    assert_one_sentence(refused.stderr)
    assert DATABASE_PASSWORD not in refused.stderr


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite database."""
    folder = tmp_path_factory.mktemp("migrated")
    assert run("migrate", folder=folder, environment=clean_environment({}, folder)).returncode == DONE
    return folder / "vodsync.db"


# Other people's servers


def test_celery_and_any_asgi_server_do_the_same(tmp_path: Path) -> None:
    with installed(PAIRS["postgresql-rabbitmq"], tmp_path) as ready:
        ready.start_emulator()
        ready.start("worker", "-A", "worker.queue", "worker", "--beat", command=(sys.executable, "-m", "celery"))
        ready.start("receiver", "worker.web:app", "--port", str(ready.port), command=(sys.executable, "-m", "uvicorn"))
        ready.wait_until_ready()

        ready.emulator.post("/uploads", json={"count": 10})
        ready.wait_until_synced()

        assert ready.database.value("SELECT count(*) FROM vod_media WHERE status = 'Normal'") == 10
        assert ready.processes["worker"].stop() == DONE
        # Uvicorn ends by the signal that stopped it, where its own command was used.
        assert ready.processes["receiver"].stop() in (DONE, -signal.SIGTERM)


def test_several_processes_share_the_port(tmp_path: Path) -> None:
    with installed(Pair(None, None), tmp_path) as ready:
        receiver = ready.start("receiver", "serve", "--workers", "2")
        ready.wait_until_ready()
        children = descendants(receiver.pid)

        answers = [ready.notify(analysed(f"media-{number}")) for number in range(50)]
        code = receiver.stop()

        assert {answer.status_code for answer in answers} == {200}
        assert ready.database.count("vod_notification") == 50
        assert len([pid for pid in children if "tracker" not in command_line(pid)]) >= 2
        assert code == DONE
        eventually(lambda: not any(map(alive, children)), within=5, missing="the end of every process")


# Settings


def test_secrets_may_stand_in_files_and_config_shows_none(tmp_path: Path) -> None:
    secrets = {
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
        "VODSYNC_CALLBACK_KEYS": f"{CALLBACK_KEY}\nSys7emTestSecondKey",
        "VODSYNC_DATABASE_URL": f"postgresql://vodsync:{DATABASE_PASSWORD}@db.example.org/vod?application_name=x&password={DATABASE_PASSWORD}",
        "VODSYNC_BROKER_URL": f"amqp://vodsync:{DATABASE_PASSWORD}@mq.example.org//",
        "VODSYNC_ADMIN_TOKEN": "Sys7emTestAdminToken",
    }
    for name, secret in secrets.items():
        (tmp_path / name).write_text(secret + "\n")
    settings = {f"{name}_FILE": str(tmp_path / name) for name in secrets}
    environment = clean_environment(settings | {"VODSYNC_CALLBACK_URL": "http://a.example/callbacks"}, tmp_path)

    lines = run("config", folder=tmp_path, environment=environment)
    as_json = run("config", "--json", folder=tmp_path, environment=environment)

    assert (lines.returncode, as_json.returncode) == (DONE, DONE)
    values = json.loads(as_json.stdout)
    assert dict(line.split("=", 1) for line in lines.stdout.splitlines()).keys() == values.keys()
    assert "db.example.org/vod" in values["VODSYNC_DATABASE_URL"]
    assert "mq.example.org" in values["VODSYNC_BROKER_URL"]
    assert values["VODSYNC_CALLBACK_URL"] == "http://a.example/callbacks"
    for said in (lines.stdout, lines.stderr, as_json.stdout):
        assert "Sys7emTest" not in said


def test_flags_go_before_environment_before_dotenv_before_file(tmp_path: Path) -> None:
    (tmp_path / "vodsync.toml").write_text("lease = 11\nlinger_ms = 12\nmax_attempts = 13\n")
    (tmp_path / "other.toml").write_text("lease = 31\n")
    (tmp_path / ".env").write_text("VODSYNC_LINGER_MS=22\nVODSYNC_MAX_ATTEMPTS=23\n")
    environment = clean_environment({"VODSYNC_MAX_ATTEMPTS": "33"}, tmp_path)

    usual = json.loads(run("config", "--json", folder=tmp_path, environment=environment).stdout)
    other = json.loads(run("--config", "other.toml", "config", "--json", folder=tmp_path, environment=environment).stdout)

    names = ("VODSYNC_LEASE", "VODSYNC_LINGER_MS", "VODSYNC_MAX_ATTEMPTS")
    assert [usual[name] for name in names] == [11, 22, 33]
    assert [other[name] for name in names] == [31, 22, 33]


# migrate


def test_migrate_plans_applies_and_knows_where_it_stands(tmp_path: Path) -> None:
    environment = clean_environment({}, tmp_path)

    def migrate(*arguments: str) -> Any:
        return run("migrate", *arguments, folder=tmp_path, environment=environment)

    before, plan, applied, again = migrate("status", "--json"), migrate("plan"), migrate(), migrate("up")
    after, nothing = migrate("status", "--json"), migrate("plan")

    assert (before.returncode, after.returncode) == (FAILED, DONE)
    pending = json.loads(before.stdout)["pending"]
    assert len(pending) >= 3
    assert [line.split()[0] for line in plan.stdout.splitlines()] == pending
    assert (applied.returncode, again.returncode) == (DONE, DONE)
    assert json.loads(after.stdout) == {"revision": pending[-1], "expected": pending[-1], "pending": []}
    assert (nothing.returncode, nothing.stdout) == (DONE, "")


# Asking


def test_status_speaks_to_people_and_to_programs(small: Installation) -> None:
    people, programs = small.run("status"), small.run("status", "--json")

    assert (people.returncode, programs.returncode) == (DONE, DONE)
    assert "sync requests due" in people.stdout
    status = json.loads(programs.stdout)
    assert status["backlog"].keys() == {"due", "waiting"}
    assert status.keys() >= {"oldest_due_age_seconds", "dead_letters", "workers", "problems", "spool"}
    assert len(status["workers"]) == 1
    assert programs.stderr == ""


def test_sync_waits_until_the_media_are_there_and_show_shows_them(small: Installation) -> None:
    media_ids = library(small)[:25]

    synced = small.run("sync", *media_ids, "--wait")
    shown = small.run("show", media_ids[0], "--json")
    for_people = small.run("show", media_ids[0])

    assert (synced.returncode, shown.returncode, for_people.returncode) == (DONE, DONE, DONE), synced.stderr
    assert synced.stdout == ""
    element = small.emulator.get(f"/media/{media_ids[0]}").json()
    record = json.loads(shown.stdout)
    assert (record["media_id"], record["state"], record["source"]) == (media_ids[0], "ok", "default")
    assert record["title"] == element["MediaInfo"]["Title"].strip()
    assert [play["job_id"] for play in record["play_infos"]] == sorted(play["JobId"] for play in element.get("PlayInfoList") or [])
    assert record["title"].split()[0] in for_people.stdout


def test_sync_reads_ids_from_stdin_and_from_a_file(small: Installation) -> None:
    media_ids = library(small)
    (small.folder / "ids.txt").write_text(f"{media_ids[27]},{media_ids[28]}\n\n  {media_ids[29]}\n")

    piped = small.run("sync", "-", "--wait", "--json", stdin=f"{media_ids[25]}\n{media_ids[26]} {media_ids[26]}\n")
    from_file = small.run("sync", "--file", "ids.txt", "--wait", "--json")

    assert (piped.returncode, from_file.returncode) == (DONE, DONE)
    assert (json.loads(piped.stdout)["ok"], json.loads(from_file.stdout)["ok"]) == (2, 3)
    states = small.database.rows("SELECT state FROM vod_media WHERE media_id IN (:a, :b)", a=media_ids[26], b=media_ids[29])
    assert [row["state"] for row in states] == ["ok", "ok"]


def test_sync_takes_reference_ids(small: Installation) -> None:
    elements = small.emulator.post("/record", json=library(small)[30:]).json()["media"]
    media_id, reference_id = next(
        (m, e["MediaInfo"]["ReferenceId"]) for m, e in elements.items() if "ReferenceId" in e["MediaInfo"]
    )

    synced = small.run("sync", "--reference-ids", reference_id, "--wait")

    assert synced.returncode == DONE, synced.stderr
    assert small.database.rows("SELECT media_id FROM vod_media WHERE reference_id = :id", id=reference_id) == [
        {"media_id": media_id}
    ]


def test_an_unknown_reference_id_is_a_failure(small: Installation) -> None:
    synced = small.run("sync", "--reference-ids", "ref-000000-none", "--wait", "--json")

    assert synced.returncode == FAILED
    assert json.loads(synced.stdout)["dead"] == 1


def test_sync_without_wait_only_asks_and_a_dry_run_not_even_that(small: Installation) -> None:
    media_id = library(small)[50]

    dry = small.run("sync", media_id, "--dry-run", "--json")
    untouched = small.database.rows("SELECT media_id FROM vod_media WHERE media_id = :id", id=media_id)
    asked = small.run("sync", media_id)

    assert (dry.returncode, asked.returncode) == (DONE, DONE)
    assert (json.loads(dry.stdout)["requested"], untouched) == (1, [])
    eventually(
        lambda: small.database.rows("SELECT 1 FROM vod_media WHERE media_id = :id", id=media_id), within=10, missing="the medium"
    )


def test_notify_plays_vod(small: Installation) -> None:
    media_id = library(small)[51]

    sent = small.run("notify", media_id, "--event", "TranscodeComplete")

    assert sent.returncode == DONE, sent.stderr
    assert small.database.rows("SELECT event_type FROM vod_notification WHERE media_id = :id", id=media_id) == [
        {"event_type": "TranscodeComplete"}
    ]
    eventually(
        lambda: small.database.rows("SELECT 1 FROM vod_media WHERE media_id = :id AND state = 'ok'", id=media_id),
        within=10,
        missing="the medium that was notified",
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("--help", DONE),
        ("sync --help", DONE),
        ("show nobody-knows-this", FAILED),
        ("sync not/an/id", FAILED),
        ("sync dead0000000000000000000000000009 --wait", FAILED),
        ("notify x --to http://127.0.0.1:9/callbacks", UNREACHABLE),
        ("nonsense", USAGE),
        ("sync", USAGE),
        ("sync a --file b", USAGE),
        ("sync a --source nobody", CONFIGURATION),
        ("--config /nonexistent.toml status", CONFIGURATION),
    ],
)
def test_exit_codes_are_what_scripts_rely_on(small: Installation, arguments: str, code: int) -> None:
    ended = small.run(*arguments.split())

    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    assert bool(ended.stderr) == (code != DONE)


def test_a_reader_that_had_enough_is_no_error(small: Installation) -> None:
    pipe = f"{sys.executable} -m worker status --json | head -c 1"

    done = subprocess.run(pipe, shell=True, cwd=small.folder, env=small.environment, capture_output=True, text=True, timeout=90)

    assert (done.stdout, done.stderr) == ("{", "")


# demo


def test_the_demo_shows_the_whole_way(tmp_path: Path) -> None:
    shown = run(
        "demo", "--media", "30", folder=tmp_path, environment=clean_environment({"TMPDIR": str(tmp_path)}, tmp_path), within=40
    )

    assert shown.returncode == DONE, shown.stderr
    assert "30 media" in shown.stdout
    assert "calls to BatchGetMediaInfos" in shown.stdout
    assert "all 30 media arrived" in shown.stderr
    logs = "".join(path.read_text() for path in tmp_path.glob("vodsync-demo-*/*.log"))
    assert logs
    assert "Traceback" not in logs
