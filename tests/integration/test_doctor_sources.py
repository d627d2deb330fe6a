"""How `vodsync doctor` checks each source: callbacks, VOD, queue and the callback settings at VOD."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.doctor_harness import CALLBACK_URL, QUEUE, Harness
from worker.core.errors import VodCredentialsError, VodError, VodRefusedError, VodThrottledError, VodUnavailableError
from worker.store import Store

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch, store: Store) -> Harness:
    return Harness(monkeypatch, store)


# Callbacks


@pytest.mark.parametrize(
    ("environ", "verdict", "part_of_text"),
    [
        ({}, "ok", "1 key"),
        ({"VODSYNC_CALLBACK_KEYS": "key1key1,key2key2"}, "ok", "2 keys"),
        ({"VODSYNC_CALLBACK_KEYS": ""}, "bad", "VODSYNC_CALLBACK_KEYS"),
        ({"VODSYNC_CALLBACK_URL": ""}, "bad", "VODSYNC_CALLBACK_URL"),
        ({"VODSYNC_CALLBACK_URL": "", "VODSYNC_CALLBACK_KEYS": "", **QUEUE}, "ok", "queue"),
        ({"VODSYNC_CALLBACK_URL": "", **QUEUE}, "bad", "VODSYNC_CALLBACK_URL"),
        ({"VODSYNC_CALLBACK_KEYS": "", **QUEUE}, "bad", "VODSYNC_CALLBACK_KEYS"),
        (
            {"VODSYNC_CALLBACK_URL": "", "VODSYNC_CALLBACK_KEYS": "", "VODSYNC_CALLBACK_UNSIGNED": "accept", **QUEUE},
            "unsure",
            "VODSYNC_CALLBACK_UNSIGNED",
        ),
    ],
)
def test_callbacks_are_ok_if_they_can_be_verified_or_are_not_used(
    harness: Harness, environ: dict[str, str], verdict: str, part_of_text: str
) -> None:
    harness.configure(**environ)

    actual, text = harness.finding("source default: callbacks")

    assert actual == verdict
    assert part_of_text in text


# VOD


@pytest.mark.parametrize(
    ("fault", "verdict", "parts_of_text"),
    [
        (VodRefusedError("unknown", code="InvalidVideo.NotFound"), "ok", ["signed call"]),
        (VodRefusedError("no", code="InvalidParameter", request_id="R-1"), "bad", ["R-1"]),
        (VodCredentialsError("wrong key", code="InvalidAccessKeyId.NotFound", request_id="R-2"), "bad", ["wrong key", "R-2"]),
        (VodThrottledError("Throttling.User", code="Throttling.User"), "bad", ["other programs"]),
        (VodUnavailableError("HTTP 503", code="ServiceUnavailable", request_id="R-3"), "bad", ["R-3"]),
        (VodUnavailableError("refused"), "bad", ["VODSYNC_REGION", "VODSYNC_ENDPOINT"]),
    ],
    ids=lambda value: getattr(value, "code", None) if isinstance(value, VodError) else None,
)
def test_only_an_answer_that_proves_the_signature_is_ok(
    harness: Harness, fault: VodError, verdict: str, parts_of_text: list[str]
) -> None:
    harness.vod.fault = fault

    actual, text = harness.finding("source default: VOD")

    assert actual == verdict
    assert [part for part in parts_of_text if part not in text] == []


@pytest.mark.parametrize(
    ("ahead", "verdict", "part_of_text"),
    [
        (timedelta(seconds=90), "bad", "-90 s"),
        (timedelta(seconds=-90), "bad", "+90 s"),
        (timedelta(seconds=50), "ok", "clock within 50 s"),
        (None, "ok", "signed call"),
    ],
)
def test_a_clock_that_is_a_minute_off_is_bad(harness: Harness, ahead: timedelta | None, verdict: str, part_of_text: str) -> None:
    harness.vod.ahead = ahead

    actual, text = harness.finding("source default: VOD")

    assert actual == verdict
    assert part_of_text in text
    assert ("clock" in text) == (ahead is not None)


def test_a_source_without_keys_is_bad(harness: Harness) -> None:
    harness.configure(ALIBABA_CLOUD_ACCESS_KEY_SECRET="")

    assert harness.finding("source default: VOD")[0] == "bad"


# The queue


@pytest.mark.parametrize(
    ("messages", "verdict", "part_of_text"),
    [
        (0, "ok", "is empty"),
        (3, "ok", "3 messages"),
        (16, "ok", "16 or more"),
        (VodUnavailableError("no answer"), "bad", "VODSYNC_SMQ_ENDPOINT"),
        (VodCredentialsError("forbidden", code="AccessDenied"), "unsure", "mns:PeekMessage"),
        (VodCredentialsError("wrong key", code="InvalidAccessKeyId"), "bad", "wrong key"),
        (VodRefusedError("no such queue", code="QueueNotExist"), "bad", "no such queue"),
    ],
    ids=str,
)
def test_a_queue_is_ok_if_it_can_be_peeked_into(
    harness: Harness, messages: int | VodError, verdict: str, part_of_text: str
) -> None:
    harness.configure(**QUEUE)
    harness.queue.messages = messages

    actual, text = harness.finding("source default: queue")

    assert actual == verdict
    assert part_of_text in text
    assert harness.queue.is_closed


def test_a_queue_without_an_endpoint_is_bad_and_no_queue_has_no_line(harness: Harness) -> None:
    without = harness.findings()
    harness.configure(VODSYNC_SMQ_QUEUE="vod-events")

    assert "source default: queue" not in without
    assert harness.finding("source default: queue")[0] == "bad"


# The callback settings at VOD


@pytest.mark.parametrize(
    ("fault", "has_hint"),
    [
        (VodCredentialsError("no right", code="Forbidden.RAM"), True),
        (VodCredentialsError("no right", code="NoPermission"), True),
        (VodCredentialsError("wrong key", code="InvalidAccessKeyId"), False),
        (VodUnavailableError("no answer"), False),
    ],
    ids=["Forbidden.RAM", "NoPermission", "InvalidAccessKeyId", "unavailable"],
)
def test_callback_settings_that_cannot_be_read_are_unsure(harness: Harness, fault: VodError, has_hint: bool) -> None:
    harness.vod.settings_fault = fault

    actual, text = harness.finding("source default: callback settings at VOD")

    assert actual == "unsure"
    assert ("vod:GetMessageCallback" in text) == has_hint


@pytest.mark.parametrize(
    ("at_vod", "parts_of_text"),
    [
        ({}, []),
        ({"EventTypeList": "FileUploadComplete, VideoAnalysisComplete"}, []),
        ({"AuthKey": "key1key1"}, []),
        ({"AuthKey": "k****1"}, []),
        ({"CallbackURL": "https://other.example/callbacks"}, ["https://other.example/callbacks", CALLBACK_URL]),
        ({"AuthSwitch": "off"}, ["authentication is off"]),
        ({"AuthKey": "anotherkey"}, ["VODSYNC_CALLBACK_KEYS"]),
        ({"EventTypeList": "FileUploadComplete"}, ["VideoAnalysisComplete"]),
        ({"EventTypeList": None}, ["VideoAnalysisComplete"]),
        ({"CallbackType": "MNS"}, ["MNS"]),
        ({"AuthSwitch": "off", "CallbackURL": "http://x"}, ["authentication is off", "http://x"]),
    ],
    ids=repr,
)
def test_differences_from_our_callback_settings_are_bad_and_all_named(
    harness: Harness, at_vod: dict[str, Any], parts_of_text: list[str]
) -> None:
    harness.vod.settings |= at_vod

    actual, text = harness.finding("source default: callback settings at VOD")

    assert actual == ("bad" if parts_of_text else "ok")
    assert [part for part in parts_of_text if part not in text] == []
    assert "anotherkey" not in text


AT_QUEUE = {
    "CallbackType": "MNS",
    "MnsQueueName": "vod-events",
    "MnsEndpoint": "http://1.mns.example/",
    "EventTypeList": "ALL",
    "AuthSwitch": "off",
}


@pytest.mark.parametrize(
    ("at_vod", "parts_of_text"),
    [
        ({}, []),
        ({"MnsEndpoint": None}, []),
        ({"MnsEndpoint": "http://1-internal.mns.example/"}, []),
        ({"MnsQueueName": "others"}, ["others", "vod-events"]),
        ({"MnsEndpoint": "http://2.mns.example/"}, ["2.mns.example", "VODSYNC_SMQ_ENDPOINT"]),
        ({"CallbackType": "HTTP"}, ["does not write to the queue"]),
    ],
    ids=repr,
)
def test_differences_from_our_queue_are_bad(harness: Harness, at_vod: dict[str, Any], parts_of_text: list[str]) -> None:
    harness.configure(VODSYNC_CALLBACK_URL="", VODSYNC_CALLBACK_KEYS="", **QUEUE)
    harness.vod.settings = AT_QUEUE | at_vod

    actual, text = harness.finding("source default: callback settings at VOD")

    assert actual == ("bad" if parts_of_text else "ok")
    assert [part for part in parts_of_text if part not in text] == []


def test_authentication_may_be_off_at_vod_if_no_signature_is_expected(harness: Harness) -> None:
    harness.configure(VODSYNC_CALLBACK_KEYS="", VODSYNC_CALLBACK_UNSIGNED="accept")
    harness.vod.settings |= {"AuthSwitch": "off"}

    assert harness.finding("source default: callback settings at VOD")[0] == "ok"
