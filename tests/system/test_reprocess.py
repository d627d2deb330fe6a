"""Any program asks for media with plain JSON on a queue, and nothing of what it asked is lost, whoever breaks."""

from __future__ import annotations

import json
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import amqp
import kombu
import pytest
import redis
import sqlalchemy as sa

from tests.conftest import require_program
from tests.system.fault_harness import KINDS, FaultHarness, break_, with_servers
from tests.system.installation import Installation
from tests.system.processes import eventually, free_port

REPROCESS, REJECTED = "vodsync.reprocess", "vodsync.reprocess.rejected"

README = Path(__file__).parents[2] / "README.md"
README_ID = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
README_BROKER = "amqp://guest:guest@localhost:5672//"

#: Only the transaction in which requests come into being; a claim updates them.
REQUEST = "INSERT INTO vod_sync_request"


#: Gives ids of media that VOD has and nobody asked for yet.
Library = Callable[[int], list[str]]


class Queues:
    """The broker as another program sees it: it knows neither vodsync nor, where it can do without, kombu."""

    def __init__(self, installation: Installation) -> None:
        self.url = installation.settings.get("VODSYNC_BROKER_URL")
        self.folder = installation.folder / "vodsync-broker"
        messages = str(self.folder / "messages")
        self._filesystem = {
            "data_folder_in": messages,
            "data_folder_out": messages,
            "control_folder": str(self.folder / "control"),
            "polling_interval": 0.05,
        }

    @property
    def kind(self) -> str:
        return "embedded" if self.url is None else self.url.partition("://")[0]

    def forget(self) -> None:
        """As before any worker ran."""
        if self.url is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            for name in ("messages", "control"):
                (self.folder / name).mkdir(parents=True)
        elif self.kind == "redis":
            with redis.Redis.from_url(self.url) as client:
                client.flushdb()
        else:
            with self.connect() as connection:
                for queue in (REPROCESS, REJECTED):
                    connection.default_channel.queue_delete(queue)

    def connect(self) -> kombu.Connection:
        return kombu.Connection(self.url) if self.url else kombu.Connection("filesystem://", transport_options=self._filesystem)

    def push(self, said: bytes | dict[str, Any]) -> None:
        """Just the text, with no label on it."""
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        if self.url is None:
            draft = self.folder / f"{secrets.token_hex(6)}.draft"
            draft.write_bytes(body)
            draft.rename(self.folder / "messages" / f"{draft.stem}.{REPROCESS}.msg")
        elif self.kind == "redis":
            with redis.Redis.from_url(self.url) as client:
                client.lpush(REPROCESS, body)
        else:
            self.push_labelled(body)

    def push_labelled(self, body: bytes, **properties: Any) -> None:
        with self.connect() as connection:
            connection.default_channel.basic_publish_confirm(
                amqp.Message(body, **properties), routing_key=REPROCESS, mandatory=True, timeout=30
            )

    def publish(self, said: Any, **options: Any) -> None:
        with self.connect() as connection:
            connection.Producer().publish(said, routing_key=REPROCESS, **options)

    def rejected(self, count: int) -> list[tuple[bytes, str]]:
        """Body and reason of the next `count` messages that were refused."""
        with self.connect() as connection:
            queue = connection.SimpleQueue(kombu.Queue(REJECTED, no_declare=True))
            messages = [queue.get(timeout=80) for _ in range(count)]
            for message in messages:
                message.ack()
            return [(_bytes(message.body), message.headers["reason"]) for message in messages]


def _bytes(body: bytes | str) -> bytes:
    return body.encode() if isinstance(body, str) else body


@pytest.fixture
def queues(house: FaultHarness) -> Queues:
    return Queues(house.installation)


@pytest.fixture
def library(house: FaultHarness) -> Library:
    return lambda count: [house.news()["VideoId"] for _ in range(count)]


def start(house: FaultHarness, strike: str | None = None) -> Any:
    """A worker that has opened its queue: the first one makes it."""
    worker = house.worker(strike)
    eventually(lambda: "worker started" in worker.log, within=20, missing=lambda: worker.log)
    _wait_for_queue(house)
    return worker


def _wait_for_queue(house: FaultHarness) -> None:
    queues = Queues(house.installation)
    if queues.kind == "amqp":
        eventually(lambda: _declared(queues), within=20, missing=lambda: f"the queue; logs:\n{house.installation.logs()[-3000:]}")


def _declared(queues: Queues) -> bool:
    with queues.connect() as connection:
        try:
            connection.default_channel.queue_declare(REPROCESS, passive=True)
        except amqp.NotFound:
            return False
        return True


def wait_for(house: FaultHarness, media_ids: list[str], *, within: float = 30) -> None:
    """Until each has its row and nothing is owed."""
    bodies = [{"VideoId": media_id} for media_id in media_ids]
    eventually(
        lambda: house.stored(*bodies), within=within, missing=lambda: f"rows; logs:\n{house.installation.logs()[-6000:]}", pause=0.2
    )


# What is asked


def test_plain_json_becomes_rows(house: FaultHarness, queues: Queues, library: Library) -> None:
    start(house)
    ids = library(7)

    queues.push({"media_ids": ids[:2]})
    queues.push({"source": "default", "media_ids": ids[1:3], "reference_ids": [], "reason": "re-encoded", "priority": "backfill"})
    queues.push(b"\xef\xbb\xbf" + json.dumps({"media_ids": ids[3:4]}, indent=2).encode() + b"\r\n")
    queues.publish({"media_ids": ids[4:5], "priority": "live"})
    queues.publish(json.dumps({"media_ids": ids[5:6]}), content_type="text/plain", content_encoding="utf-8")
    queues.publish({"media_ids": ids[6:]}, priority=9, compression="zlib", headers={"x": 1})

    wait_for(house, ids)


def test_a_reference_id_is_as_good(house: FaultHarness, queues: Queues, library: Library) -> None:
    start(house)
    elements = house.installation.emulator.post("/record", json=library(20)).json()["media"]
    media_id, reference_id = next(
        (media_id, said["MediaInfo"]["ReferenceId"]) for media_id, said in elements.items() if "ReferenceId" in said["MediaInfo"]
    )

    queues.push({"reference_ids": [reference_id]})

    wait_for(house, [media_id])


@pytest.mark.parametrize("shared", ["postgresql-rabbitmq"], indirect=True)
@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"content_type": "application/json"},
        {"content_type": "text/plain"},
        {"content_type": "application/json", "content_encoding": "utf-8"},
    ],
)
def test_the_label_on_a_message_means_nothing(
    house: FaultHarness, queues: Queues, library: Library, properties: dict[str, str]
) -> None:
    start(house)
    ids = library(2)

    queues.push_labelled(json.dumps({"media_ids": ids[:1]}).encode(), **properties)
    queues.push_labelled(b"\xef\xbb\xbf" + json.dumps({"media_ids": ids[1:]}).encode(), **properties)

    wait_for(house, ids)


@pytest.mark.parametrize("shared", ["postgresql-rabbitmq"], indirect=True)
def test_a_queue_that_a_foreign_client_declared_before_is_used(house: FaultHarness, queues: Queues, library: Library) -> None:
    with queues.connect() as connection:
        connection.default_channel.queue_delete(REPROCESS)
        connection.default_channel.queue_declare(REPROCESS, durable=True, auto_delete=False)
    ids = library(1)

    queues.push({"media_ids": ids})
    house.worker()

    wait_for(house, ids)
    with queues.connect() as connection:
        connection.default_channel.queue_delete(REPROCESS)


@pytest.mark.parametrize("shared", ["postgresql-rabbitmq"], indirect=True)
def test_a_queue_that_somebody_deletes_is_made_again(house: FaultHarness, queues: Queues, library: Library) -> None:
    start(house)
    ids = library(1)

    with queues.connect() as connection:
        connection.default_channel.queue_delete(REPROCESS)
        connection.default_channel.queue_delete(REJECTED)
    _wait_for_queue(house)
    queues.push({"media_ids": ids})

    wait_for(house, ids)


# What the README says


@pytest.mark.parametrize("first", ["worker", "publisher"])
def test_the_publisher_of_the_readme_works_as_written(house: FaultHarness, queues: Queues, library: Library, first: str) -> None:
    if first == "worker":
        start(house)
    else:
        queues.forget()
    [media_id] = library(1)
    [code] = [each for each in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if REPROCESS in each]
    assert len([line for line in code.splitlines() if line]) == 3
    assert README_BROKER in code

    opened = f'kombu.Connection("filesystem://", transport_options={queues._filesystem})'
    if queues.url:
        opened = f'kombu.Connection("{queues.url}")'
    code = code.replace(f'kombu.Connection("{README_BROKER}")', opened).replace(README_ID, media_id)
    # kombu binds once in a process, whatever becomes of the broker.
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    if first == "publisher":
        start(house)

    wait_for(house, [media_id])


@pytest.mark.parametrize("shared", ["sqlite-embedded", "mariadb-redis"], indirect=True)
def test_the_line_of_the_readme_works_as_written(house: FaultHarness, queues: Queues, library: Library) -> None:
    start(house)
    [media_id] = library(1)
    command = {"redis": "redis-cli", "embedded": "echo"}[queues.kind]
    [line] = re.findall(rf"^{command} .*vodsync.reprocess.*$", README.read_text(), re.MULTILINE)
    if queues.url:
        line = line.replace("redis-cli", f"redis-cli -u {queues.url}")

    subprocess.run(line.replace(README_ID, media_id), shell=True, check=True, cwd=house.installation.folder, timeout=60)

    wait_for(house, [media_id])


# What is refused


def test_what_cannot_be_read_is_set_aside_with_the_reason(house: FaultHarness, queues: Queues, library: Library) -> None:
    worker = start(house)
    good = library(2)
    bad = {
        b"no json at all, s3cret": "not a JSON text",
        b'{"media_ids": ["a"]': "not a JSON text",
        b'["a"]': "Expected `object`, got `array`",
        b'{"media_ids": "a"}': "at `$.media_ids`",
        b'{"media_ids": []}': "names no media",
        json.dumps({"media_ids": [*good, "a b"]}).encode(): "media_ids[2] = 'a b'",
        b'{"media_ids": ["a"], "source": "nowhere"}': "unknown source 'nowhere'; known are: default",
        b'{"media_ids": ["\xff\xfe"]}': "not a JSON text in UTF-8",
        '{"media_ids": ["ä"]}'.encode(): "media_ids[0] = 'ä'",
    }

    for body in bad:
        queues.push(body)
    rejected = dict(queues.rejected(len(bad)))

    assert rejected.keys() == bad.keys()
    assert [(body, reason) for body, reason in rejected.items() if bad[body] not in reason] == []
    # The worker logs a refusal after it has published the rejected message, so that the message can be here before its line.
    eventually(
        lambda: worker.log.count("message refused") == len(bad), within=10, missing=lambda: f"a line per refusal; {worker.log}"
    )
    assert "s3cret" not in house.installation.logs()
    assert house.installation.database.rows("SELECT * FROM vod_media WHERE media_id IN ('a', :good)", good=good[0]) == []
    queues.push({"media_ids": good})
    wait_for(house, good)


# Who breaks


@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_a_worker_killed_around_the_commit_loses_no_message(
    house: FaultHarness, queues: Queues, library: Library, moment: str
) -> None:
    worker = start(house, f"{REQUEST}:{moment}:kill")
    ids = library(20)

    queues.push({"media_ids": ids})
    code = worker.wait(within=20)
    written = {row["media_id"] for row in house.installation.database.table("vod_sync_request")} & set(ids)
    house.worker()

    assert code == -signal.SIGKILL
    assert len(written) in {"before": {0}, "during": {0, 20}, "after": {20}}[moment]
    # On Redis what the dead worker held is given back after 20 s.
    wait_for(house, ids, within=60)


def test_a_worker_killed_with_many_messages_loses_none(house: FaultHarness, queues: Queues, library: Library) -> None:
    ids = library(60)
    worker = start(house, f"{REQUEST}:before:kill")
    for media_id in ids[:30]:
        queues.push({"media_ids": [media_id]})
    for media_id in ids[30:]:
        queues.publish({"media_ids": [media_id]})

    worker.wait(within=20)
    house.worker()

    wait_for(house, ids, within=60)


@with_servers
@pytest.mark.parametrize("kind", KINDS)
def test_a_database_that_is_away_only_delays(house: FaultHarness, queues: Queues, library: Library, kind: str) -> None:
    worker = start(house)
    ids = library(3)

    break_(house.database, kind)
    for media_id in ids:
        queues.push({"media_ids": [media_id]})
    eventually(lambda: "their messages wait" in worker.log, within=40, missing=lambda: worker.log[-3000:])
    queues.push(b"not json")
    [(_, reason)] = queues.rejected(1)
    house.database.restore()

    wait_for(house, ids)
    assert "not a JSON text" in reason
    assert "database takes requests again" in worker.log


@with_servers
@pytest.mark.parametrize("kind", KINDS)
def test_a_database_lost_around_the_commit_only_delays(house: FaultHarness, queues: Queues, library: Library, kind: str) -> None:
    start(house, f"{REQUEST}:before:hold")
    ids = library(3)

    queues.push({"media_ids": ids})
    house.struck()
    break_(house.database, kind)
    house.release()
    time.sleep(2)
    house.database.restore()

    wait_for(house, ids, within=60)


@pytest.mark.parametrize("shared", ["sqlite-embedded"], indirect=True)
def test_a_locked_database_file_only_delays(house: FaultHarness, queues: Queues, library: Library) -> None:
    start(house)
    ids = library(3)
    engine = sa.create_engine(house.installation.settings["VODSYNC_DATABASE_URL"])

    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        queues.push({"media_ids": ids})
        time.sleep(7)
    engine.dispose()

    wait_for(house, ids)


@with_servers
@pytest.mark.parametrize("kind", KINDS)
def test_a_broker_that_was_away_is_listened_to_again(house: FaultHarness, queues: Queues, library: Library, kind: str) -> None:
    worker = start(house)
    ids = library(3)

    queues.push({"media_ids": ids[:1]})
    wait_for(house, ids[:1])
    break_(house.broker, kind)
    queues.push({"media_ids": ids[1:2]})
    time.sleep(4)
    house.broker.cut()
    house.broker.restore()
    queues.push({"media_ids": ids[2:]})

    wait_for(house, ids, within=60)
    assert worker.running


@with_servers
@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_that_starts_without_its_broker_works_and_stops(
    house: FaultHarness, queues: Queues, library: Library, kind: str
) -> None:
    first = start(house)
    assert first.stop() == 0
    break_(house.broker, kind)
    worker = house.worker()
    ids = library(2)

    house.receiver()
    told = {"EventType": "VideoAnalysisComplete", "VideoId": ids[0], "Status": "success", "EventTime": "2026-01-01T00:00:00Z"}
    house.installation.notify(told)
    wait_for(house, ids[:1])
    queues.push({"media_ids": ids[1:]})
    house.broker.cut()
    house.broker.restore()

    wait_for(house, ids, within=60)
    assert worker.stop(within=20) == 0


def test_a_worker_that_is_stopped_gives_back_what_it_could_not_store(house: FaultHarness, queues: Queues, library: Library) -> None:
    ids = library(30)
    worker = start(house)

    for media_id in ids:
        queues.push({"media_ids": [media_id]})
    code = worker.stop()
    house.worker()

    assert code == 0
    wait_for(house, ids, within=60)


# A broker of our own, which really dies


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts a Redis that writes each change to its disk before it answers, and starts it again after it was killed."""
    program = require_program("redis-server")
    started = []
    options = f"--port {PORT} --dir {tmp_path} --appendonly yes --appendfsync always --save ''"

    def start_server() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(shlex.split(f"{program} {options}"), stdout=subprocess.DEVNULL)
        started.append(process)
        with redis.Redis(port=PORT) as client:
            eventually(lambda: _answers(client), within=10, missing="a Redis that answers")
        return process

    yield start_server
    for process in started:
        process.kill()
        process.wait()


PORT = free_port()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_a_redis_that_dies_with_messages_waiting_and_taken_loses_none(
    server: Callable[[], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    first = server()
    installation = Installation(
        tmp_path, database_url=f"sqlite:///{tmp_path / 'vodsync.db'}", broker_url=f"redis://127.0.0.1:{PORT}/0"
    )
    # Closing stops every process and looks for one that did not end in order.
    with closing(installation):
        assert installation.run("migrate").returncode == 0
        house = FaultHarness(installation)
        queues = Queues(installation)
        ids = [house.news()["VideoId"] for _ in range(40)]

        installation.start("held", "work", **striking(tmp_path))
        for media_id in ids:
            queues.push({"media_ids": [media_id]})
        eventually((tmp_path / "struck").exists, within=20, missing=installation.logs)
        first.kill()
        first.wait()
        time.sleep(2)
        server()
        (tmp_path / "struck").unlink()

        wait_for(house, ids, within=60)


def striking(folder: Path) -> dict[str, str]:
    path = str(Path(__file__).with_name("fault_injection"))
    return {"STRIKE_AT": f"{REQUEST}:before:hold", "STRIKE_SIGN": str(folder / "struck"), "PYTHONPATH": path}
