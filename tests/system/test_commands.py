"""The verbs of the command line: settings, migrate, status, sync, show, notify and demo, with their exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.installation import ACCESS_KEY_SECRET, CALLBACK_KEY, DATABASE_PASSWORD, Installation, Pair, installed
from tests.system.processes import clean_environment, eventually, run

DONE = 0
FAILED = 1
USAGE = 2
CONFIGURATION = 3
UNREACHABLE = 4


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """All roles on SQLite, and an emulated library of 60 assets."""
    with installed(Pair(None, None), tmp_path_factory.mktemp("commands")) as running:
        running.start_emulator("--media", "60")
        running.start("receiver", "serve")
        running.start("worker", "work", "--beat")
        running.wait_until_ready()
        yield running


def library(installation: Installation) -> list[str]:
    media_ids: list[str] = installation.emulator.get("/media").json()["media_ids"]
    return media_ids


# Settings


def test_secrets_are_read_from_files_and_config_masks_them(tmp_path: Path) -> None:
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
    for output in (lines.stdout, lines.stderr, as_json.stdout):
        assert "Sys7emTest" not in output


#: Each verb that uses the database, so that it runs without further arguments.
DATABASE_VERBS = {
    **dict.fromkeys(("up", "serve", "work", "migrate", "status", "backfill", "reconcile", "renormalise", "replay"), ()),
    **{"show": ("a",), "sync": ("a",), "failures": ("list",), "jobs": ("list",)},
}


@pytest.mark.parametrize("verb", DATABASE_VERBS)
def test_every_verb_names_a_parameter_of_the_database_url_that_it_cannot_use(tmp_path: Path, verb: str) -> None:
    settings = {
        "VODSYNC_DATABASE_URL": "mysql://root@127.0.0.1/vodsync?useSSL=false",
        "VODSYNC_CALLBACK_URL": "http://a.example/callbacks",
        "VODSYNC_CALLBACK_KEYS": CALLBACK_KEY,
        "ALIBABA_CLOUD_ACCESS_KEY_ID": "key",
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
    }

    ended = run(verb, *DATABASE_VERBS[verb], folder=tmp_path, environment=clean_environment(settings, tmp_path))

    assert ended.returncode == CONFIGURATION
    assert ended.stderr.splitlines() == [
        "vodsync: VODSYNC_DATABASE_URL has the parameter useSSL, which vodsync cannot use with pymysql: leave it out, "
        "TLS is used if the server offers it; ssl_ca=FILE makes it a condition"
    ]


def test_flags_override_environment_overrides_dotenv_overrides_file(tmp_path: Path) -> None:
    (tmp_path / "vodsync.toml").write_text("lease = 11\nlinger_ms = 12\nmax_attempts = 13\n")
    (tmp_path / "other.toml").write_text("lease = 31\n")
    (tmp_path / ".env").write_text("VODSYNC_LINGER_MS=22\nVODSYNC_MAX_ATTEMPTS=23\n")
    environment = clean_environment({"VODSYNC_MAX_ATTEMPTS": "33"}, tmp_path)

    default_file = json.loads(run("config", "--json", folder=tmp_path, environment=environment).stdout)
    other_file = json.loads(run("--config", "other.toml", "config", "--json", folder=tmp_path, environment=environment).stdout)

    names = ("VODSYNC_LEASE", "VODSYNC_LINGER_MS", "VODSYNC_MAX_ATTEMPTS")
    assert [default_file[name] for name in names] == [11, 22, 33]
    assert [other_file[name] for name in names] == [31, 22, 33]


# migrate


def test_migrate_plans_applies_and_reports_the_revision(tmp_path: Path) -> None:
    environment = clean_environment({}, tmp_path)

    def migrate(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run("migrate", *arguments, folder=tmp_path, environment=environment)

    before, plan, applied, again = migrate("status", "--json"), migrate("plan"), migrate(), migrate("up")
    after, plan_after = migrate("status", "--json"), migrate("plan")

    assert (before.returncode, after.returncode) == (FAILED, DONE)
    pending = json.loads(before.stdout)["pending"]
    assert len(pending) >= 3
    assert [line.split()[0] for line in plan.stdout.splitlines()] == pending
    assert (applied.returncode, again.returncode) == (DONE, DONE)
    assert json.loads(after.stdout) == {"revision": pending[-1], "expected": pending[-1], "pending": []}
    assert (plan_after.returncode, plan_after.stdout) == (DONE, "")


# status, show, sync, notify


def test_status_prints_text_and_json(installation: Installation) -> None:
    text, as_json = installation.run("status"), installation.run("status", "--json")

    assert (text.returncode, as_json.returncode) == (DONE, DONE)
    assert "sync requests due" in text.stdout
    status = json.loads(as_json.stdout)
    assert status["backlog"].keys() == {"due", "waiting"}
    assert status.keys() >= {"oldest_due_age_seconds", "dead_letters", "workers", "problems", "spool"}
    assert len(status["workers"]) == 1
    assert as_json.stderr == ""


def test_sync_wait_stores_assets_and_show_prints_them(installation: Installation) -> None:
    media_ids = library(installation)[:25]

    synced = installation.run("sync", *media_ids, "--wait")
    shown = installation.run("show", media_ids[0], "--json")
    as_text = installation.run("show", media_ids[0])

    assert (synced.returncode, shown.returncode, as_text.returncode) == (DONE, DONE, DONE), synced.stderr
    assert synced.stdout == ""
    element = installation.emulator.get(f"/media/{media_ids[0]}").json()
    record = json.loads(shown.stdout)
    assert (record["media_id"], record["state"], record["source"]) == (media_ids[0], "ok", "default")
    assert record["title"] == element["MediaInfo"]["Title"].strip()
    assert [play["job_id"] for play in record["play_infos"]] == sorted(play["JobId"] for play in element.get("PlayInfoList") or [])
    assert record["title"].split()[0] in as_text.stdout


def test_sync_reads_ids_from_stdin_and_from_a_file(installation: Installation) -> None:
    media_ids = library(installation)
    (installation.folder / "ids.txt").write_text(f"{media_ids[27]},{media_ids[28]}\n\n  {media_ids[29]}\n")

    piped = installation.run("sync", "-", "--wait", "--json", stdin=f"{media_ids[25]}\n{media_ids[26]} {media_ids[26]}\n")
    from_file = installation.run("sync", "--file", "ids.txt", "--wait", "--json")

    assert (piped.returncode, from_file.returncode) == (DONE, DONE)
    assert (json.loads(piped.stdout)["ok"], json.loads(from_file.stdout)["ok"]) == (2, 3)
    states = installation.database.rows("SELECT state FROM vod_media WHERE media_id IN (:a, :b)", a=media_ids[26], b=media_ids[29])
    assert [row["state"] for row in states] == ["ok", "ok"]


def test_sync_accepts_reference_ids(installation: Installation) -> None:
    elements = installation.emulator.post("/record", json=library(installation)[30:]).json()["media"]
    media_id, reference_id = next(
        (media_id, element["MediaInfo"]["ReferenceId"])
        for media_id, element in elements.items()
        if "ReferenceId" in element["MediaInfo"]
    )

    synced = installation.run("sync", "--reference-ids", reference_id, "--wait")

    assert synced.returncode == DONE, synced.stderr
    assert installation.database.rows("SELECT media_id FROM vod_media WHERE reference_id = :id", id=reference_id) == [
        {"media_id": media_id}
    ]


def test_unknown_reference_id_is_a_failure(installation: Installation) -> None:
    synced = installation.run("sync", "--reference-ids", "ref-000000-none", "--wait", "--json")

    assert synced.returncode == FAILED
    assert json.loads(synced.stdout)["dead"] == 1


def test_sync_without_wait_returns_at_once_and_dry_run_requests_nothing(installation: Installation) -> None:
    media_id = library(installation)[50]

    dry_run = installation.run("sync", media_id, "--dry-run", "--json")
    rows_after_dry_run = installation.database.rows("SELECT media_id FROM vod_media WHERE media_id = :id", id=media_id)
    requested = installation.run("sync", media_id)

    assert (dry_run.returncode, requested.returncode) == (DONE, DONE)
    assert (json.loads(dry_run.stdout)["requested"], rows_after_dry_run) == (1, [])
    eventually(
        lambda: installation.database.rows("SELECT 1 FROM vod_media WHERE media_id = :id", id=media_id),
        within=10,
        missing="the asset",
    )


def test_notify_sends_a_signed_notification(installation: Installation) -> None:
    media_id = library(installation)[51]

    sent = installation.run("notify", media_id, "--event", "TranscodeComplete")

    assert sent.returncode == DONE, sent.stderr
    assert installation.database.rows("SELECT event_type FROM vod_notification WHERE media_id = :id", id=media_id) == [
        {"event_type": "TranscodeComplete"}
    ]
    eventually(
        lambda: installation.database.rows("SELECT 1 FROM vod_media WHERE media_id = :id AND state = 'ok'", id=media_id),
        within=10,
        missing="the asset that the notification named",
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
def test_exit_codes_match_the_documentation(installation: Installation, arguments: str, code: int) -> None:
    result = installation.run(*arguments.split())

    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    assert bool(result.stderr) == (code != DONE)


def test_closed_stdout_pipe_is_not_an_error(installation: Installation) -> None:
    pipe = f"{sys.executable} -m worker status --json | head -c 1"

    result = subprocess.run(
        pipe, shell=True, cwd=installation.folder, env=installation.environment, capture_output=True, text=True, timeout=90
    )

    assert (result.stdout, result.stderr) == ("{", "")


# demo


def test_demo_stores_every_uploaded_asset(tmp_path: Path) -> None:
    result = run(
        "demo", "--media", "30", folder=tmp_path, environment=clean_environment({"TMPDIR": str(tmp_path)}, tmp_path), within=40
    )

    assert result.returncode == DONE, result.stderr
    assert "30 media" in result.stdout
    assert "calls to BatchGetMediaInfos" in result.stdout
    assert "all 30 media arrived" in result.stderr
    logs = "".join(path.read_text() for path in tmp_path.glob("vodsync-demo-*/*.log"))
    assert logs
    assert "Traceback" not in logs
