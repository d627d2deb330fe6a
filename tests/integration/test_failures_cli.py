"""`vodsync failures` with dead letters and refused notifications: what a filter changes is what the list shows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.builders import NOON, SECOND, body, claimed, request
from worker import runtime, settings
from worker.cli.application import app
from worker.cli.output import Exit
from worker.core import events
from worker.store import Store
from worker.store.inbox.sync_requests import SyncRequests
from worker.sync.receive import delivery

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def installation(store: Store, monkeypatch: pytest.MonkeyPatch) -> runtime.Runtime:
    """One dead letter `dead`, and the refused notifications `a` (too long) and `b` (no such character)."""
    current = runtime.Runtime(settings.load(environ={}))
    vars(current)["store"] = store
    monkeypatch.setattr(runtime, "_current", current)
    monkeypatch.setattr("worker.cli.failures.wake_workers", lambda: None)
    request(store, "dead")
    claim = claimed(store)
    store.transact(lambda connection: SyncRequests(connection).dead_letter(claim, {"dead": "too long"}, now=NOON + SECOND))
    refusals = [
        (delivery("default", events.parse(body(media_id)), received_at=NOON), reason)
        for media_id, reason in (("a", "too long"), ("b", "no such character"))
    ]
    current.refused.put(refusals, now=NOON)
    return current


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["failures", *arguments])


def ids(*arguments: str) -> list[str]:
    listed: list[dict[str, Any]] = json.loads(run("list", "--json", *arguments).stdout)
    return [failure["id"] for failure in listed]


@pytest.mark.usefixtures("installation")
def test_both_kinds_are_listed_and_marked() -> None:
    table = run("list")
    listed = json.loads(run("list", "--json").stdout)

    assert [(failure["kind"], failure["id"], failure["media_id"], failure["error"]) for failure in listed] == [
        ("dead_letter", "dead", "dead", "too long"),
        ("refused_notification", "refused:2", "b", "no such character"),
        ("refused_notification", "refused:1", "a", "too long"),
    ]
    assert "1 dead letter\n" in table.stderr
    assert "2 refused notifications\n" in table.stderr


@pytest.mark.usefixtures("installation")
@pytest.mark.parametrize(
    ("arguments", "dropped"),
    [
        (["--reason", "too long"], ["dead", "refused:1"]),
        (["--reason", "VideoAnalysisComplete"], ["refused:2", "refused:1"]),
        (["--reason", "long", "--source", "default"], ["dead", "refused:1"]),
    ],
)
def test_a_filter_drops_what_the_list_shows(arguments: list[str], dropped: list[str]) -> None:
    before, listed = ids(), ids(*arguments)

    result = run("drop", *arguments)

    assert (listed, result.exit_code) == (dropped, Exit.DONE)
    assert ids() == [failure for failure in before if failure not in dropped]


@pytest.mark.usefixtures("installation")
def test_an_id_names_one_kind_only() -> None:
    result = run("drop", "a", "refused:1")

    assert result.exit_code == Exit.FAILED
    assert "1 of the ids are not failures" in result.stderr
    assert ids() == ["dead", "refused:2"]


@pytest.mark.usefixtures("installation")
def test_a_retry_of_all_stores_the_notifications_and_makes_the_request_due() -> None:
    dry_run = run("retry", "--all", "--dry-run")
    before = ids()
    result = run("retry", "--all")

    assert "2 refused notifications stored (dry run)" in dry_run.stderr
    assert len(before) == 3
    assert (result.exit_code, ids()) == (Exit.DONE, []), result.stderr
    assert "1 dead letter made due again" in result.stderr
    assert "2 refused notifications stored" in result.stderr


@pytest.mark.usefixtures("installation")
def test_a_refused_notification_is_shown_with_its_body() -> None:
    table = run("show", "refused:1")
    (shown,) = json.loads(run("show", "refused:1", "--json").stdout)

    assert json.loads(shown["body"])["VideoId"] == "a"
    assert shown["media_ids"] == ["a"]
    assert "VideoAnalysisComplete" in table.stdout


@pytest.mark.usefixtures("installation")
@pytest.mark.parametrize("failure_id", ["refused:3", "refused:x", "refused:", f"refused:{'9' * 40}", "a"])
def test_an_unknown_id_is_one_sentence(failure_id: str) -> None:
    result = run("show", failure_id)

    assert result.exit_code == Exit.FAILED
    assert "list them with: vodsync failures list" in result.stderr
