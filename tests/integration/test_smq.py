"""The queue client against the emulated queue, which shares no code with it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests import monotonic_clock
from worker.core import events
from worker.core.errors import VodCredentialsError, VodError, VodRefusedError, VodUnavailableError
from worker.emulator.server.config import EmulatorConfig
from worker.emulator.server.server import running
from worker.settings import Source
from worker.vod import credentials
from worker.vod.smq import Queue
from worker.vod.smq_xml import Message

QUEUE_NAME = "vod-events"


class EmulatedQueue:
    """An emulator with a queue, and clients of the queue."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.control = httpx.Client(base_url=f"{url}/emulator", trust_env=False)
        self._opened: list[Queue] = []

    def queue(self, **settings: str) -> Queue:
        defaults = {
            "access_key_id": "demoKeyId",
            "access_key_secret": "demoSecret",
            "smq_endpoint": self.url,
            "smq_queue": QUEUE_NAME,
        }
        self._opened.append(Queue(Source.model_validate(defaults | settings)))
        return self._opened[-1]

    def send(self, *bodies: str) -> None:
        for body in bodies:
            self.control.post("/queue", content=body.encode()).raise_for_status()

    def set_faults(self, **faults: Any) -> None:
        self.control.put("/faults", json=faults).raise_for_status()

    def counters(self) -> dict[str, int]:
        counts: dict[str, int] = self.control.get("/queue").json()
        return counts

    def close(self) -> None:
        self.control.close()
        for queue in self._opened:
            queue.close()


@contextmanager
def emulated(**settings: Any) -> Iterator[EmulatedQueue]:
    config = EmulatorConfig(port=0, smq_queue=QUEUE_NAME, **({"smq_visibility": 1.0, "life_seconds": 0} | settings))
    with running(config) as url:
        emulator = EmulatedQueue(url)
        yield emulator
        emulator.close()


@pytest.fixture
def emulator() -> Iterator[EmulatedQueue]:
    with emulated() as emulator:
        yield emulator


def receipts(messages: list[Message]) -> list[str]:
    return [message.receipt or "" for message in messages]


def bodies(messages: list[Message]) -> list[str]:
    return [message.body for message in messages]


# Receive and delete


def test_messages_are_received_once_and_gone_when_deleted(emulator: EmulatedQueue) -> None:
    sent = ['{"Title": "<新标题> & 🎬"}', "second"]
    emulator.send(*sent)
    queue = emulator.queue()

    received = queue.receive(wait=0)
    deleted = queue.delete(receipts(received))

    assert bodies(received) == sent
    assert [(message.intact, message.dequeue_count) for message in received] == [(True, 1)] * 2
    assert deleted == 2
    assert emulator.counters() == {"visible": 0, "invisible": 0, "written": 2, "received": 2, "deleted": 2, "void_receipts": 0}


def test_one_call_receives_at_most_sixteen_messages(emulator: EmulatedQueue) -> None:
    emulator.send(*map(str, range(20)))
    queue = emulator.queue()

    assert [len(queue.receive(wait=0)) for _ in range(3)] == [16, 4, 0]


def test_an_undeleted_message_is_received_again_with_a_higher_count(emulator: EmulatedQueue) -> None:
    emulator.send("a")
    queue = emulator.queue()

    first, second = queue.receive(wait=0), queue.receive(wait=5)

    assert [message.dequeue_count for message in first + second] == [1, 2]
    assert first[0].receipt != second[0].receipt


def test_the_queue_accepts_one_receipt_in_the_url_and_several_in_the_body(emulator: EmulatedQueue) -> None:
    queue = emulator.queue()
    emulator.send("a", "b", "c")
    first, *others = receipts(queue.receive(wait=0))

    assert queue._call("DELETE", {"ReceiptHandle": first}) == (204, b"")
    assert queue.delete(others) == 2
    assert emulator.counters()["deleted"] == 3


def test_a_queue_that_deletes_only_single_messages_is_emptied(emulator: EmulatedQueue) -> None:
    emulator.set_faults(single_delete={"probability": 1})
    queue = emulator.queue()
    emulator.send("a", "b", "c")

    deleted = queue.delete(receipts(queue.receive(wait=0)))

    assert (deleted, emulator.counters()["deleted"]) == (3, 3)


def test_an_expired_receipt_is_not_an_error_and_the_others_are_deleted(emulator: EmulatedQueue) -> None:
    queue = emulator.queue()
    emulator.send("a")
    old = receipts(queue.receive(wait=0))
    again = receipts(queue.receive(wait=5))
    emulator.send("b")
    fresh = receipts(queue.receive(wait=5))

    assert queue.delete(old) == 0
    assert queue.delete(old + again + fresh) == 2
    assert emulator.counters()["visible"] + emulator.counters()["invisible"] == 0


def test_a_long_poll_of_an_empty_queue_waits_and_returns_nothing(emulator: EmulatedQueue) -> None:
    began = time.monotonic()

    received = emulator.queue().receive(wait=1)

    assert received == []
    assert time.monotonic() - began > 0.9


def test_a_message_ends_the_long_poll(emulator: EmulatedQueue) -> None:
    sender = threading.Timer(0.3, emulator.send, ["late"])
    sender.start()
    began = monotonic_clock.seconds()

    received = emulator.queue().receive(wait=20)

    # The message can arrive before the sender has its answer.
    sender.join()
    assert bodies(received) == ["late"]
    assert monotonic_clock.seconds() - began < 5


def test_a_404_that_comes_early_is_an_empty_answer(emulator: EmulatedQueue) -> None:
    emulator.set_faults(early_404={"next": 1})
    began = monotonic_clock.seconds()

    assert emulator.queue().receive(wait=20) == []
    assert monotonic_clock.seconds() - began < 5


def test_check_counts_messages_without_receiving_them(emulator: EmulatedQueue) -> None:
    queue = emulator.queue()

    before = queue.check()
    emulator.send("a", "b")

    assert (before, queue.check(), queue.check()) == (0, 2, 2)
    assert emulator.counters()["visible"] == 2


# Stop


@pytest.mark.parametrize("after", [0.0, 0.5], ids=["at once", "in the middle"])
def test_after_an_interrupted_long_poll_messages_can_still_be_deleted(after: float) -> None:
    with emulated(smq_visibility=60.0) as emulator:
        queue = emulator.queue()
        emulator.send("a")
        undeleted = receipts(queue.receive(wait=0))
        threading.Timer(after, queue.interrupt).start()
        began = monotonic_clock.seconds()

        received = queue.receive(wait=20)

        assert monotonic_clock.seconds() - began < 3
        assert received == queue.receive(wait=20) == []
        assert queue.delete(undeleted) == 1


# What goes wrong


@pytest.mark.parametrize("fault", ["reset", "halfway", "truncated", "garbage", "html", "http_500", "service_unavailable"])
def test_a_broken_answer_is_an_outage_and_the_next_call_works(emulator: EmulatedQueue, fault: str) -> None:
    queue = emulator.queue()
    emulator.send("a")
    emulator.set_faults(**{fault: {"next": 1}})

    with pytest.raises(VodUnavailableError):
        queue.receive(wait=0)

    assert bodies(queue.receive(wait=5)) == ["a"]


def test_a_closed_port_is_an_outage() -> None:
    source = Source.model_validate(
        {"access_key_id": "id", "access_key_secret": "s", "smq_endpoint": "http://127.0.0.1:9", "smq_queue": QUEUE_NAME}
    )

    with pytest.raises(VodUnavailableError, match="no answer"):
        Queue(source).receive(wait=0)


@pytest.mark.parametrize(
    ("settings", "error", "code"),
    [
        ({"access_key_secret": "wrong"}, VodCredentialsError, "SignatureDoesNotMatch"),
        ({"access_key_id": "wrong"}, VodCredentialsError, "InvalidAccessKeyId"),
        ({"security_token": "sts"}, VodCredentialsError, "AccessDenied"),
        ({"smq_queue": "another"}, VodRefusedError, "QueueNotExist"),
    ],
)
def test_wrong_settings_are_reported_with_the_code_of_the_queue(
    emulator: EmulatedQueue, settings: dict[str, str], error: type[VodError], code: str
) -> None:
    with pytest.raises(error) as refused:
        emulator.queue(**settings).receive(wait=0)

    assert refused.value.code == code
    assert refused.value.request_id
    assert "demoSecret" not in str(refused.value)


def test_a_missing_right_to_delete_is_named(emulator: EmulatedQueue) -> None:
    queue = emulator.queue()
    emulator.send("a")
    undeleted = receipts(queue.receive(wait=0))
    emulator.set_faults(credentials={"next": 1, "operation": "DeleteMessage", "code": "AccessDenied"})

    with pytest.raises(VodCredentialsError, match="mns:DeleteMessage"):
        queue.delete(undeleted)


def test_keys_are_read_from_the_credential_chain_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    current = SimpleNamespace(access_key_id="demoKeyId", access_key_secret="demoSecret", security_token="first")
    tokens = []

    class Chain:
        def get_credential(self) -> SimpleNamespace:
            tokens.append(current.security_token)
            return current

    monkeypatch.setattr(credentials, "CredentialChain", Chain)
    with emulated(security_token="second") as emulator:
        queue = Queue(Source.model_validate({"smq_endpoint": emulator.url, "smq_queue": QUEUE_NAME}))
        with pytest.raises(VodCredentialsError):
            queue.receive(wait=0)
        current.security_token = "second"

        assert queue.receive(wait=0) == []
        queue.close()
    assert tokens == ["first", "second"]


def test_a_credential_chain_without_keys_is_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    class Chain:
        def get_credential(self) -> None:
            raise OSError("no metadata server")

    monkeypatch.setattr(credentials, "CredentialChain", Chain)

    with pytest.raises(VodUnavailableError, match="credential chain"):
        Queue(Source.model_validate({"smq_endpoint": "http://127.0.0.1:9", "smq_queue": QUEUE_NAME})).receive(wait=0)


# What VOD sends


def wait_until_delivered(emulator: EmulatedQueue) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while (deliveries := emulator.control.get("/deliveries").json())["pending"]:
        assert time.monotonic() < deadline, deliveries
        time.sleep(0.02)
    return dict(deliveries)


def receive_all(queue: Queue) -> list[Message]:
    messages = []
    while received := queue.receive(wait=0):
        messages += received
    return messages


def test_events_of_uploads_arrive_in_the_queue_plain_and_encoded(emulator: EmulatedQueue) -> None:
    media_ids = emulator.control.post("/uploads", json={"count": 10}).json()["media_ids"]
    deliveries = wait_until_delivered(emulator)

    received = receive_all(emulator.queue())
    notifications = [events.parse_queued(message.body) for message in received]

    assert len(received) == deliveries["delivered"] == deliveries["attempts"]
    assert {notification.media_ids[0] for notification in notifications} == set(media_ids)
    assert {message.body[0] == "{" for message in received} == {True, False}


def test_without_quirks_the_queue_holds_plain_json() -> None:
    with emulated(quirks=False) as emulator:
        emulator.control.post("/uploads", json={"count": 3})
        wait_until_delivered(emulator)

        received = receive_all(emulator.queue())

    assert received
    assert all("EventType" in json.loads(message.body) for message in received)


def test_an_event_that_the_queue_refuses_three_times_is_dropped() -> None:
    with emulated(callback_pause=0.05) as emulator:
        emulator.set_faults(unwritable_queue={"next": 4})
        emulator.control.post("/uploads", json={"count": 1})
        deliveries = wait_until_delivered(emulator)

        received = receive_all(emulator.queue())

    assert (deliveries["dropped"], deliveries["refused_by_status"]) == (1, {"unwritable": 4})
    assert deliveries["delivered"] == len(received) == deliveries["events"] - 1
