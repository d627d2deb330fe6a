"""The change feed: everything that changed is heard, in order for each medium, whatever breaks on the way."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import kombu
import pytest

from tests.system.fault_harness import KINDS, FaultHarness, break_, fault_harness, with_servers
from tests.system.installation import PAIRS, analysed
from tests.system.listener import Listener
from tests.system.processes import eventually

README = Path(__file__).parents[2] / "README.md"
DETAILS = Path(__file__).parents[2] / "docs" / "change-feed.md"

DELIVERED = "DELETE FROM vod_change"

#: Seconds. What was sent is heard within the first; after a kill the lease of the one who sent has to end first.
SOON, AFTER_A_KILL = 15.0, 40.0


@pytest.fixture(scope="module", params=list(PAIRS))
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultHarness]:
    with fault_harness(request.param, tmp_path_factory.mktemp(request.param), VODSYNC_CHANGES="on") as made:
        yield made


@pytest.fixture
def house(shared: FaultHarness) -> Iterator[FaultHarness]:
    yield shared
    shared.clear()
    for table in ("vod_change", "vod_lease"):
        shared.installation.database.do(f"DELETE FROM {table}")


@pytest.fixture
def listener(house: FaultHarness) -> Iterator[Listener]:
    """Somebody whose own way to the broker nothing interrupts."""
    made = Listener(house.installation.settings.get("VODSYNC_BROKER_URL"), house.installation.folder)
    yield made
    made.close()


def upload(house: FaultHarness, count: int) -> list[str]:
    """Tell of media that nobody was told of yet."""
    told = [house.news() for _ in range(count)]
    assert [house.send(each) for each in told] == [200] * count
    return [each["VideoId"] for each in told]


def rename(house: FaultHarness, media_ids: list[str], title: str) -> None:
    for media_id in media_ids:
        house.installation.emulator.post(f"/media/{media_id}/change", json={"Title": title}).raise_for_status()
        assert house.send(analysed(media_id, Serial=house.news()["Serial"])) == 200


def delete(house: FaultHarness, media_ids: list[str]) -> None:
    for media_id in media_ids:
        house.installation.emulator.post(f"/media/{media_id}/delete").raise_for_status()
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        body = {"EventType": "DeleteMediaComplete", "EventTime": now, "Status": "success", "MediaType": "video"}
        body |= {"DeleteType": "all", "MediaId": media_id, "Serial": house.news()["Serial"]}
        assert house.installation.notify(body).status_code == 200


def wait_for(house: FaultHarness, listener: Listener, heard: dict[str, tuple[str, ...]], *, within: float = SOON) -> None:
    """Until exactly this was heard of each medium, repeats aside."""
    eventually(
        lambda: listener.kinds() == heard,
        within=within,
        missing=lambda: f"{heard}; heard {listener.kinds()}; logs:\n{house.installation.logs()[-5000:]}",
    )


def wait_until_titled(house: FaultHarness, media_ids: list[str], title: str) -> None:
    query = "SELECT media_id FROM vod_media WHERE title = :title"
    eventually(
        lambda: {row["media_id"] for row in house.installation.database.rows(query, title=title)} >= set(media_ids),
        within=25,
        missing=lambda: f"the title {title}; logs:\n{house.installation.logs()[-5000:]}",
    )


def waiting(house: FaultHarness) -> int:
    return house.installation.database.count("vod_change")


def assert_in_order(listener: Listener) -> None:
    for heard in listener.of_each().values():
        assert [each.number for each in heard] == sorted(each.number for each in heard)
        times = [each.body["changed_at"] for each in heard]
        assert times == sorted(times)


def test_what_happens_to_a_medium_is_heard_in_order(house: FaultHarness, listener: Listener) -> None:
    house.receiver()
    house.worker()
    house.worker()

    media_ids = upload(house, 10)
    wait_for(house, listener, dict.fromkeys(media_ids, ("created",)))
    rename(house, media_ids, "Renamed")
    wait_for(house, listener, dict.fromkeys(media_ids, ("created", "updated")))
    delete(house, media_ids)
    wait_for(house, listener, dict.fromkeys(media_ids, ("created", "updated", "deleted")))

    for media_id, (created, updated, deleted) in listener.of_each().items():
        assert [each.key for each in (created, updated, deleted)] == ["media.created", "media.updated", "media.deleted"]
        assert updated.body.keys() == {"source", "media_id", "change", "changed_at", "fields"}
        assert (updated.body["source"], updated.body["media_id"]) == ("default", media_id)
        assert {"title", "state", "mezzanine"} <= set(created.body["fields"])
        assert "title" in updated.body["fields"]
        assert "state" not in updated.body["fields"]
        assert deleted.body["fields"] == ["state", "deleted_at"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", updated.body["changed_at"])
    assert_in_order(listener)
    assert len(listener.heard) == 30
    eventually(lambda: not waiting(house), within=5, missing="an empty vod_change")


def test_nobody_hears_of_what_is_not_committed(house: FaultHarness, listener: Listener) -> None:
    house.receiver()
    house.worker("vod_raw:before:hold")

    media_ids = upload(house, 3)
    house.struck()
    time.sleep(2)
    before = list(listener.listen())
    house.release()
    wait_for(house, listener, dict.fromkeys(media_ids, ("created",)))

    assert before == []


@pytest.mark.parametrize("moment", ["before", "after"])
def test_worker_killed_after_it_published_loses_nothing(house: FaultHarness, listener: Listener, moment: str) -> None:
    house.receiver()
    worker = house.worker(f"{DELIVERED}:{moment}:kill")

    media_ids = upload(house, 5)
    code = worker.wait(within=20)
    published = [each.number for each in listener.listen()]
    left = [row["id"] for row in house.installation.database.rows("SELECT id FROM vod_change ORDER BY id")]
    house.worker()
    wait_for(house, listener, dict.fromkeys(media_ids, ("created",)), within=AFTER_A_KILL)
    eventually(lambda: not waiting(house), within=AFTER_A_KILL, missing="an empty vod_change")

    repeated = [each.number for each in listener.listen()[len(published) :] if each.number in published]
    assert code == -signal.SIGKILL
    assert published
    if moment == "before":
        assert left[: len(published)] == published
        assert repeated == published
    else:
        assert not set(left) & set(published)
        assert repeated == []
    assert_in_order(listener)


@with_servers
@pytest.mark.parametrize("kind", KINDS)
def test_changes_wait_for_a_broker_that_is_away_and_nothing_else_does(house: FaultHarness, listener: Listener, kind: str) -> None:
    house.receiver()
    house.worker()
    house.worker()
    first = upload(house, 3)
    wait_for(house, listener, dict.fromkeys(first, ("created",)))

    break_(house.broker, kind)
    told = [house.news() for _ in range(5)]
    answers = [house.send(each) for each in told]
    # The broker is still away.
    house.assert_promise_kept(*told)
    rename(house, first, f"Renamed ({kind})")
    wait_until_titled(house, first, f"Renamed ({kind})")
    seen = house.installation.http.get("/statusz").json()["changes"]
    shown = house.installation.run("status").stdout
    time.sleep(3)
    meanwhile = len(listener.listen())
    house.broker.restore()

    second = [each["VideoId"] for each in told]
    expected = dict.fromkeys(first, ("created", "updated")) | dict.fromkeys(second, ("created",))
    wait_for(house, listener, expected, within=30)
    assert answers == [200] * 5
    assert (meanwhile, seen["count"]) == (3, 8)
    assert seen["since"]
    assert "changes waiting" in shown
    assert_in_order(listener)
    eventually(lambda: not waiting(house), within=15, missing="an empty vod_change")


def test_two_workers_do_not_overtake_each_other(house: FaultHarness, listener: Listener) -> None:
    """One stands still for a while, and is killed later; another takes its place."""
    house.receiver()
    first, _ = house.worker(), house.worker()
    media_ids = upload(house, 4)
    wait_for(house, listener, dict.fromkeys(media_ids, ("created",)))

    for turn in range(8):
        if turn == 2:
            first.signal(signal.SIGSTOP)
        if turn == 4:
            first.signal(signal.SIGCONT)
        if turn == 6:
            first.kill()
            house.worker()
        rename(house, media_ids, f"Turn {turn}")
        wait_until_titled(house, media_ids, f"Turn {turn}")

    wait_for(house, listener, dict.fromkeys(media_ids, ("created", *["updated"] * 8)), within=AFTER_A_KILL)
    assert_in_order(listener)


@pytest.mark.parametrize("shared", ["postgresql-rabbitmq"], indirect=True)
def test_an_exchange_that_a_consumer_declared_before_is_used_where_its_type_is_right(house: FaultHarness) -> None:
    with kombu.Connection(house.installation.settings["VODSYNC_BROKER_URL"]) as connection:
        channel = connection.default_channel
        channel.exchange_delete("vodsync.changes")
        channel.exchange_declare("vodsync.changes", "direct", auto_delete=False)
        house.receiver()
        worker = house.worker()

        media_ids = upload(house, 3)
        eventually(lambda: "was declared by another program" in worker.log, within=SOON, missing=lambda: worker.log)
        worker.stop()
        kept = waiting(house)
        channel.exchange_delete("vodsync.changes")
        channel.exchange_declare("vodsync.changes", "topic", auto_delete=False)
        queue = channel.queue_declare(exclusive=True).queue
        channel.queue_bind(queue, "vodsync.changes", "media.#")
        worker = house.worker()
        heard = [
            eventually(lambda: channel.basic_get(queue, no_ack=True), within=SOON, missing=lambda: worker.log) for _ in media_ids
        ]
        channel.exchange_delete("vodsync.changes")

    assert kept == 3
    assert sorted(json.loads(message.body)["media_id"] for message in heard) == sorted(media_ids)


@pytest.mark.parametrize("feed", ["on", "off"])
@pytest.mark.parametrize("shared", ["sqlite-embedded"], indirect=True)
def test_what_nobody_took_for_too_long_is_dropped_and_counted(house: FaultHarness, listener: Listener, feed: str) -> None:
    rows = "('default', 'old', 'created', '2020-01-01 00:00:00.000000', '[]')"
    columns = "source, media_id, change, changed_at, fields"
    house.installation.database.do(f"INSERT INTO vod_change ({columns}) VALUES {rows}, {rows}, {rows}")

    worker = house.start("work", VODSYNC_CHANGES=feed)

    dropped = r'"count": 3, .*"event": "changes dropped'
    eventually(lambda: re.search(dropped, worker.log), within=15, missing=lambda: f"a line with the number; log:\n{worker.log}")
    assert (waiting(house), listener.listen()) == (0, [])


def test_the_consumer_in_the_readme_works_as_it_stands_there(house: FaultHarness, tmp_path: Path) -> None:
    [code] = [each for each in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "vodsync.changes" in each]
    broker_url = house.installation.settings.get("VODSYNC_BROKER_URL")
    if broker_url:
        code = code.replace("amqp://guest:guest@127.0.0.1:5672//", broker_url)
    else:
        (connection,) = re.findall(r"`(kombu\.Connection\(\"filesystem.*?\))`", DETAILS.read_text(), re.DOTALL)
        folder = str(house.installation.folder / "vodsync-broker")
        code = code.replace('kombu.Connection("amqp://guest:guest@127.0.0.1:5672//")', connection.replace("vodsync-broker", folder))
    consumer = tmp_path / "consumer.py"
    consumer.write_text(code)
    house.receiver()
    house.worker()

    with (tmp_path / "out").open("w") as out:
        # Its surroundings are not ours to judge.
        environment = {**os.environ, "VODSYNC_NO_SETTING_OF_OURS": "1"}
        running = subprocess.Popen(
            [sys.executable, "-u", str(consumer)], stdout=out, stderr=subprocess.STDOUT, cwd=tmp_path, env=environment
        )
    try:
        time.sleep(3)
        media_ids = upload(house, 2)

        def told() -> str:
            return (tmp_path / "out").read_text()

        eventually(lambda: all(f"created {media_id}" in told() for media_id in media_ids), within=SOON, missing=told)
        assert {path.name for path in tmp_path.iterdir()} == {"consumer.py", "out"}
    finally:
        running.kill()
        running.wait()
        if broker_url:
            with kombu.Connection(broker_url) as connection:
                connection.channel().queue_delete("search-index")
