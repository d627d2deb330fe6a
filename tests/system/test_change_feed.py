"""The change feed: every change is received, in order for each asset, whatever breaks."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import kombu
import pytest

from tests.system.fault_harness import OUTAGE_KINDS, FaultHarness, fault_harness, start_outage, with_servers
from tests.system.installation import PAIRS, analysed
from tests.system.listener import Listener
from tests.system.processes import eventually

README = Path(__file__).parents[2] / "README.md"
DETAILS = Path(__file__).parents[2] / "docs" / "change-feed.md"

DELIVERED = "DELETE FROM vod_change"

SOON = 15.0  # seconds until a change is received
AFTER_A_KILL = 40.0  # seconds, because the lease of the killed publisher has to end first


@pytest.fixture(scope="module", params=list(PAIRS))
def shared_harness(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultHarness]:
    with fault_harness(request.param, tmp_path_factory.mktemp(request.param), VODSYNC_CHANGES="on") as harness:
        yield harness


@pytest.fixture
def harness(shared_harness: FaultHarness) -> Iterator[FaultHarness]:
    yield shared_harness
    shared_harness.clear()
    for table in ("vod_change", "vod_lease"):
        shared_harness.installation.database.do(f"DELETE FROM {table}")


@pytest.fixture
def listener(harness: FaultHarness) -> Iterator[Listener]:
    """A consumer with a direct connection to the broker."""
    listener = Listener(harness.installation.settings.get("VODSYNC_BROKER_URL"), harness.installation.folder)
    yield listener
    listener.close()


def upload(harness: FaultHarness, count: int) -> list[str]:
    """Send notifications of `count` new assets and return their ids."""
    notifications = [harness.new_notification() for _ in range(count)]
    assert [harness.send(notification) for notification in notifications] == [200] * count
    return [notification["VideoId"] for notification in notifications]


def rename(harness: FaultHarness, media_ids: list[str], title: str) -> None:
    for media_id in media_ids:
        harness.installation.emulator.post(f"/media/{media_id}/change", json={"Title": title}).raise_for_status()
        assert harness.send(analysed(media_id, Serial=harness.new_notification()["Serial"])) == 200


def delete(harness: FaultHarness, media_ids: list[str]) -> None:
    for media_id in media_ids:
        harness.installation.emulator.post(f"/media/{media_id}/delete").raise_for_status()
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        body = {"EventType": "DeleteMediaComplete", "EventTime": now, "Status": "success", "MediaType": "video"}
        body |= {"DeleteType": "all", "MediaId": media_id, "Serial": harness.new_notification()["Serial"]}
        assert harness.installation.notify(body).status_code == 200


def wait_for(harness: FaultHarness, listener: Listener, expected: Mapping[str, tuple[str, ...]], *, within: float = SOON) -> None:
    """Wait until exactly these changes of each asset were received, repeats aside."""
    eventually(
        lambda: listener.changes() == expected,
        within=within,
        missing=lambda: f"{expected}; received {listener.changes()}; logs:\n{harness.installation.logs()[-5000:]}",
    )


def wait_until_titled(harness: FaultHarness, media_ids: list[str], title: str) -> None:
    query = "SELECT media_id FROM vod_media WHERE title = :title"
    eventually(
        lambda: {row["media_id"] for row in harness.installation.database.rows(query, title=title)} >= set(media_ids),
        within=25,
        missing=lambda: f"the title {title}; logs:\n{harness.installation.logs()[-5000:]}",
    )


def unpublished(harness: FaultHarness) -> int:
    return harness.installation.database.count("vod_change")


def assert_in_order(listener: Listener) -> None:
    for messages in listener.by_media_id().values():
        numbers = [message.number for message in messages]
        times = [message.body["changed_at"] for message in messages]
        assert numbers == sorted(numbers)
        assert times == sorted(times)


def test_changes_of_each_asset_are_published_in_order(harness: FaultHarness, listener: Listener) -> None:
    harness.start_receiver()
    harness.start_worker()
    harness.start_worker()

    media_ids = upload(harness, 10)
    wait_for(harness, listener, dict.fromkeys(media_ids, ("created",)))
    rename(harness, media_ids, "Renamed")
    wait_for(harness, listener, dict.fromkeys(media_ids, ("created", "updated")))
    delete(harness, media_ids)
    wait_for(harness, listener, dict.fromkeys(media_ids, ("created", "updated", "deleted")))

    for media_id, (created, updated, deleted) in listener.by_media_id().items():
        assert [message.key for message in (created, updated, deleted)] == ["media.created", "media.updated", "media.deleted"]
        assert updated.body.keys() == {"source", "media_id", "change", "changed_at", "fields"}
        assert (updated.body["source"], updated.body["media_id"]) == ("default", media_id)
        assert {"title", "state", "mezzanine"} <= set(created.body["fields"])
        assert "title" in updated.body["fields"]
        assert "state" not in updated.body["fields"]
        assert deleted.body["fields"] == ["state", "deleted_at"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", updated.body["changed_at"])
    assert_in_order(listener)
    assert len(listener.messages) == 30
    eventually(lambda: not unpublished(harness), within=5, missing="an empty vod_change")


def test_uncommitted_changes_are_not_published(harness: FaultHarness, listener: Listener) -> None:
    harness.start_receiver()
    harness.start_worker("vod_raw:before:hold")

    media_ids = upload(harness, 3)
    harness.wait_for_fault()
    time.sleep(2)
    received_before_commit = list(listener.receive())
    harness.release()
    wait_for(harness, listener, dict.fromkeys(media_ids, ("created",)))

    assert received_before_commit == []


@pytest.mark.parametrize("moment", ["before", "after"])
def test_worker_killed_after_publishing_loses_nothing(harness: FaultHarness, listener: Listener, moment: str) -> None:
    harness.start_receiver()
    worker = harness.start_worker(f"{DELIVERED}:{moment}:kill")

    media_ids = upload(harness, 5)
    exit_code = worker.wait(within=20)
    published = [message.number for message in listener.receive()]
    remaining = [row["id"] for row in harness.installation.database.rows("SELECT id FROM vod_change ORDER BY id")]
    harness.start_worker()
    wait_for(harness, listener, dict.fromkeys(media_ids, ("created",)), within=AFTER_A_KILL)
    eventually(lambda: not unpublished(harness), within=AFTER_A_KILL, missing="an empty vod_change")

    repeated = [message.number for message in listener.receive()[len(published) :] if message.number in published]
    assert exit_code == -signal.SIGKILL
    assert published
    if moment == "before":
        assert remaining[: len(published)] == published
        assert repeated == published
    else:
        assert not set(remaining) & set(published)
        assert repeated == []
    assert_in_order(listener)


@with_servers
@pytest.mark.parametrize("kind", OUTAGE_KINDS)
def test_broker_outage_delays_only_change_messages(harness: FaultHarness, listener: Listener, kind: str) -> None:
    harness.start_receiver()
    harness.start_worker()
    harness.start_worker()
    first = upload(harness, 3)
    wait_for(harness, listener, dict.fromkeys(first, ("created",)))

    start_outage(harness.broker, kind)
    notifications = [harness.new_notification() for _ in range(5)]
    statuses = [harness.send(notification) for notification in notifications]
    # The broker is still away.
    harness.assert_delivered(*notifications)
    rename(harness, first, f"Renamed ({kind})")
    wait_until_titled(harness, first, f"Renamed ({kind})")
    backlog = harness.installation.http.get("/statusz").json()["changes"]
    status_text = harness.installation.run("status").stdout
    time.sleep(3)
    received_during_outage = len(listener.receive())
    harness.broker.restore()

    second = [notification["VideoId"] for notification in notifications]
    expected: dict[str, tuple[str, ...]] = dict.fromkeys(first, ("created", "updated"))
    expected |= dict.fromkeys(second, ("created",))
    wait_for(harness, listener, expected, within=30)
    assert statuses == [200] * 5
    assert (received_during_outage, backlog["count"]) == (3, 8)
    assert backlog["since"]
    assert "changes waiting" in status_text
    assert_in_order(listener)
    eventually(lambda: not unpublished(harness), within=15, missing="an empty vod_change")


def test_two_workers_publish_in_order(harness: FaultHarness, listener: Listener) -> None:
    """One is paused for a while and killed later; another replaces it."""
    harness.start_receiver()
    first, _ = harness.start_worker(), harness.start_worker()
    media_ids = upload(harness, 4)
    wait_for(harness, listener, dict.fromkeys(media_ids, ("created",)))

    for round_number in range(8):
        if round_number == 2:
            first.signal(signal.SIGSTOP)
        if round_number == 4:
            first.signal(signal.SIGCONT)
        if round_number == 6:
            first.kill()
            harness.start_worker()
        rename(harness, media_ids, f"Round {round_number}")
        wait_until_titled(harness, media_ids, f"Round {round_number}")

    wait_for(harness, listener, dict.fromkeys(media_ids, ("created", *["updated"] * 8)), within=AFTER_A_KILL)
    assert_in_order(listener)


@pytest.mark.parametrize("shared_harness", ["postgresql-rabbitmq"], indirect=True)
def test_exchange_declared_by_a_consumer_is_used_if_its_type_is_topic(harness: FaultHarness) -> None:
    with kombu.Connection(harness.installation.settings["VODSYNC_BROKER_URL"]) as connection:
        channel = connection.default_channel
        channel.exchange_delete("vodsync.changes")
        channel.exchange_declare("vodsync.changes", "direct", auto_delete=False)
        harness.start_receiver()
        worker = harness.start_worker()

        media_ids = upload(harness, 3)
        eventually(lambda: "was declared by another program" in worker.log, within=SOON, missing=lambda: worker.log)
        worker.stop()
        kept_changes = unpublished(harness)
        channel.exchange_delete("vodsync.changes")
        channel.exchange_declare("vodsync.changes", "topic", auto_delete=False)
        queue = channel.queue_declare(exclusive=True).queue
        channel.queue_bind(queue, "vodsync.changes", "media.#")
        worker = harness.start_worker()
        messages = [
            eventually(lambda: channel.basic_get(queue, no_ack=True), within=SOON, missing=lambda: worker.log) for _ in media_ids
        ]
        channel.exchange_delete("vodsync.changes")

    assert kept_changes == 3
    assert sorted(json.loads(message.body)["media_id"] for message in messages) == sorted(media_ids)


@pytest.mark.parametrize("feed", ["on", "off"])
@pytest.mark.parametrize("shared_harness", ["sqlite-embedded"], indirect=True)
def test_changes_unpublished_for_too_long_are_dropped_and_counted(harness: FaultHarness, listener: Listener, feed: str) -> None:
    rows = "('default', 'old', 'created', '2020-01-01 00:00:00.000000', '[]')"
    columns = "source, media_id, change, changed_at, fields"
    harness.installation.database.do(f"INSERT INTO vod_change ({columns}) VALUES {rows}, {rows}, {rows}")

    worker = harness.start("work", VODSYNC_CHANGES=feed)

    log_line = r'"count": 3, .*"event": "unpublished changes dropped'
    eventually(lambda: re.search(log_line, worker.log), within=15, missing=lambda: f"a line with the number; log:\n{worker.log}")
    assert (unpublished(harness), listener.receive()) == (0, [])


def test_consumer_example_in_readme_works_unchanged(harness: FaultHarness, tmp_path: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    [code] = [example for example in examples if "vodsync.changes" in example]
    broker_url = harness.installation.settings.get("VODSYNC_BROKER_URL")
    if broker_url:
        code = code.replace("amqp://guest:guest@127.0.0.1:5672//", broker_url)
    else:
        (connection,) = re.findall(r"`(kombu\.Connection\(\"filesystem.*?\))`", DETAILS.read_text(), re.DOTALL)
        folder = str(harness.installation.folder / "vodsync-broker")
        code = code.replace('kombu.Connection("amqp://guest:guest@127.0.0.1:5672//")', connection.replace("vodsync-broker", folder))
    consumer = tmp_path / "consumer.py"
    consumer.write_text(code)
    harness.start_receiver()
    harness.start_worker()

    with (tmp_path / "out").open("w") as out:
        # The consumer shall ignore vodsync's settings, even unknown ones.
        environment = {**os.environ, "VODSYNC_NO_SETTING_OF_OURS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-u", str(consumer)], stdout=out, stderr=subprocess.STDOUT, cwd=tmp_path, env=environment
        )
    try:
        time.sleep(3)
        media_ids = upload(harness, 2)

        def output() -> str:
            return (tmp_path / "out").read_text()

        eventually(lambda: all(f"created {media_id}" in output() for media_id in media_ids), within=SOON, missing=output)
        assert {path.name for path in tmp_path.iterdir()} == {"consumer.py", "out"}
    finally:
        process.kill()
        process.wait()
        if broker_url:
            with kombu.Connection(broker_url) as connection:
                connection.channel().queue_delete("search-index")
