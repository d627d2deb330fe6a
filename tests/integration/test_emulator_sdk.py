"""The official SDK works with the emulator as it does with VOD."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from alibabacloud_tea_openapi import models as openapi
from alibabacloud_tea_openapi.exceptions import ClientException
from alibabacloud_vod20170321 import models
from alibabacloud_vod20170321.client import Client
from darabonba.runtime import RuntimeOptions

# Import only this verb: all verbs together start more slowly.
EMULATE = [sys.executable, "-c", "import typer; from worker.cli.emulate import emulate; typer.run(emulate)"]


@contextmanager
def emulator_process(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `vodsync emulate` as a real process on a free port."""
    command = [*EMULATE, "--port", "0", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ALIBABA_CLOUD")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            assert words[:2] == ["listening", "on"]
            yield process, words[2]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with emulator_process("--media", "300", "--qps", "0", "--video-info-qps", "0") as (_, url):
        yield url


@pytest.fixture(autouse=True)
def without_faults(url: str) -> Iterator[None]:
    yield
    httpx.delete(f"{url}/emulator/faults")


def client(url: str, *, secret: str = "demoSecret", algorithm: str | None = None) -> Client:
    return Client(
        openapi.Config(
            access_key_id="demoKeyId",
            access_key_secret=secret,
            endpoint=url.removeprefix("http://"),
            protocol="http",
            signature_algorithm=algorithm,
        )
    )


def some_ids(url: str, count: int = 20) -> list[str]:
    ids: list[str] = httpx.get(f"{url}/emulator/media", params={"limit": count}).json()["media_ids"]
    return ids


def batch(url: str, ids: list[str], **kwargs: str) -> models.BatchGetMediaInfosResponseBody:
    request = models.BatchGetMediaInfosRequest(media_ids=",".join(ids))
    return client(url, **kwargs).batch_get_media_infos(request).body


def test_the_typed_client_reads_a_batch_of_twenty(url: str) -> None:
    ids = some_ids(url)

    body = batch(url, [*ids[:19], "dead0000000000000000000000000001"])

    assert {item.media_id for item in body.media_infos} == set(ids[:19])
    assert "dead0000000000000000000000000001" in "".join(body.non_exist_media_ids)
    assert any(item.mezzanine_info.video_stream_list for item in body.media_infos if item.mezzanine_info)
    assert body.request_id


def test_the_typed_client_reads_every_asset(url: str) -> None:
    ids = some_ids(url, 300)

    titles = {item.media_info.title for start in range(0, 300, 20) for item in batch(url, ids[start : start + 20]).media_infos}

    assert len(titles) == 300


def test_the_typed_client_reads_single_videos_in_both_editions(url: str) -> None:
    sdk = client(url)

    videos = [sdk.get_video_info(models.GetVideoInfoRequest(video_id=video_id)).body.video for video_id in some_ids(url, 40)]

    assert {type(video.duration) for video in videos} >= {float, str}
    assert [video.video_id for video in videos] == some_ids(url, 40)


def test_the_older_signature_is_accepted_too(url: str) -> None:
    ids = some_ids(url, 3)

    assert len(batch(url, ids, algorithm="v2").media_infos) == 3


def test_a_wrong_secret_is_refused(url: str) -> None:
    with pytest.raises(ClientException) as refused:
        batch(url, some_ids(url, 1), secret="wrong")

    assert (refused.value.code, refused.value.status_code) == ("SignatureDoesNotMatch", 400)


def test_an_unknown_video_is_refused(url: str) -> None:
    with pytest.raises(ClientException) as refused:
        client(url).get_video_info(models.GetVideoInfoRequest(video_id="dead0000000000000000000000000001"))

    assert (refused.value.code, refused.value.status_code) == ("InvalidVideo.NotFound", 404)


def test_an_operation_that_is_not_emulated_is_refused(url: str) -> None:
    with pytest.raises(ClientException) as refused:
        client(url).get_play_info(models.GetPlayInfoRequest(video_id="x"))

    assert (refused.value.code, refused.value.status_code) == ("InvalidAction.NotFound", 404)


def test_all_clients_of_an_account_share_its_rate_limit() -> None:
    with emulator_process("--media", "20", "--qps", "3") as (_, url):
        ids = some_ids(url, 1)
        outcomes: list[str] = []

        def call() -> None:
            try:
                outcomes.append(str(len(batch(url, ids).media_infos)))
            except ClientException as exc:
                outcomes.append(f"{exc.status_code} {exc.code}")

        threads = [threading.Thread(target=call) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert outcomes.count("400 Throttling.User") >= 4
        calls = httpx.get(f"{url}/emulator/calls").json()["BatchGetMediaInfos"]
        assert calls["calls"] == 10
        assert calls["throttled"] == outcomes.count("400 Throttling.User")


def search(url: str, **query: str) -> dict[str, Any]:
    """Call SearchMedia with the client's generic method, which returns the JSON unchanged."""
    params = openapi.Params(
        action="SearchMedia",
        version="2017-03-21",
        protocol="HTTP",
        pathname="/",
        method="POST",
        auth_type="AK",
        style="RPC",
        req_body_type="formData",
        body_type="json",
    )
    answer = client(url).call_api(params, openapi.OpenApiRequest(query=query), RuntimeOptions())
    body: dict[str, Any] = answer["body"]
    return body


def test_the_library_is_listed_page_by_page(url: str) -> None:
    httpx.delete(f"{url}/emulator/calls")
    match = "CreationTime = ['2022-01-01T00:00:00Z','2022-01-01T03:00:00Z'] and (Status='Normal' or Status='Blocked')"

    listed, totals = list[str](), 0
    for kind in ("video", "audio"):
        for page in range(1, 100):
            query = {"SearchType": kind, "SortBy": "CreationTime:Asc", "PageNo": str(page), "PageSize": "50", "Match": match}
            answer = search(url, Fields="Title,Status", **query)
            listed += [row["MediaId"] for row in answer["MediaList"]]
            if not answer["MediaList"]:
                break
        totals += answer["Total"]

    record = httpx.post(f"{url}/emulator/record", json=some_ids(url, 180)).json()["media"]
    finished = {media_id for media_id, media in record.items() if media["MediaInfo"]["Status"] in ("Normal", "Blocked")}
    calls = httpx.get(f"{url}/emulator/calls").json()["SearchMedia"]
    assert len(listed) == totals == len(finished)
    assert set(listed) == finished
    assert calls["calls"] >= calls["busiest_second"] >= 1


def test_the_typed_client_reads_a_listing_and_its_refusal(url: str) -> None:
    answer = client(url).search_media(models.SearchMediaRequest(fields="Title,Size,Duration", page_size=20)).body

    assert answer.total > 200
    assert len(answer.media_list) == 20
    assert answer.media_list[0].video.title
    assert len(answer.scroll_token) == 32
    with pytest.raises(ClientException) as refused:
        client(url).search_media(models.SearchMediaRequest(match="Status = Normal"))
    assert (refused.value.code, refused.value.status_code) == ("ErrorMatchSyntax", 400)


def test_searches_have_a_rate_limit_of_their_own() -> None:
    with emulator_process("--media", "1", "--qps", "0", "--search-qps", "1") as (_, url):
        search(url)
        with pytest.raises(ClientException) as refused:
            search(url)

    assert refused.value.code == "Throttling.User"


def test_calls_are_counted_until_the_counters_are_deleted(url: str) -> None:
    httpx.delete(f"{url}/emulator/calls")
    ids = some_ids(url, 2)

    batch(url, [*ids, ids[0]])

    calls = httpx.get(f"{url}/emulator/calls").json()["BatchGetMediaInfos"]
    assert (calls["calls"], calls["media_ids"], calls["largest_batch"], calls["repeated_in_call"]) == (1, 3, 3, 1)


@pytest.mark.parametrize(
    ("fault", "status", "start"),
    [
        ("html", 502, "<html>"),
        ("http_500", 500, '{"RequestId"'),
        ("service_unavailable", 503, '{"RequestId"'),
    ],
)
def test_faults_answer_as_a_failing_gateway_would(url: str, fault: str, status: int, start: str) -> None:
    httpx.put(f"{url}/emulator/faults", json={fault: {"next": 1}})

    failed = httpx.post(url, headers={"x-acs-action": "BatchGetMediaInfos"})

    assert (failed.status_code, failed.text[: len(start)]) == (status, start)
    assert len(batch(url, some_ids(url, 1)).media_infos) == 1


@pytest.mark.parametrize("fault", ["reset", "halfway", "truncated", "garbage"])
def test_a_broken_answer_is_not_a_refusal_to_the_sdk(url: str, fault: str) -> None:
    httpx.put(f"{url}/emulator/faults", json={fault: {"next": 1}})
    ids = some_ids(url, 20)

    with pytest.raises(Exception) as failed:  # noqa: PT011 - the SDK raises another exception for each fault
        batch(url, ids)

    assert not isinstance(failed.value, ClientException)
    assert len(batch(url, ids).media_infos) == 20


@pytest.mark.parametrize("fault", ["reset", "halfway"])
def test_a_caller_that_has_disconnected_causes_no_traceback(fault: str) -> None:
    with emulator_process("--media", "1") as (process, url):
        httpx.put(f"{url}/emulator/faults", json={"slow": {"next": 1, "seconds": 0.3}, fault: {"next": 1}})
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(url, headers={"x-acs-action": "BatchGetMediaInfos"}, timeout=0.1)

        # The fault happens after the caller's timeout.
        time.sleep(0.5)
        process.terminate()
        _, errors = process.communicate(timeout=60)

    assert "Traceback" not in errors


@pytest.mark.parametrize(("code", "status"), [("Forbidden.RAM", 403), ("InvalidAccessKeyId.NotFound", 404)])
def test_credential_errors_can_be_configured(url: str, code: str, status: int) -> None:
    httpx.put(f"{url}/emulator/faults", json={"credentials": {"probability": 1, "code": code}})

    with pytest.raises(ClientException) as refused:
        batch(url, some_ids(url, 1))

    assert (refused.value.code, refused.value.status_code) == (code, status)


def test_a_fault_that_does_not_exist_is_refused_with_a_reason(url: str) -> None:
    answer = httpx.put(f"{url}/emulator/faults", json={"earthquake": {"next": 1}})

    assert answer.status_code == 400
    assert answer.json()["reason"] == "body"
    assert "earthquake" in answer.json()["error"]


def test_every_answer_has_the_date_of_the_server(url: str) -> None:
    assert httpx.post(url).headers["date"].endswith("GMT")
    assert httpx.get(f"{url}/emulator").headers["date"].endswith("GMT")


def test_the_record_is_the_answer_without_signatures(url: str) -> None:
    ids = some_ids(url, 5)

    record = httpx.get(f"{url}/emulator/record", params={"media_ids": ",".join([*ids, "unknown"])}).json()
    again = httpx.post(f"{url}/emulator/record", json=[*ids, "unknown"]).json()
    single = httpx.get(f"{url}/emulator/media/{ids[0]}").json()

    assert record == again
    assert list(record["media"]) == ids
    assert record["unknown"] == ["unknown"]
    assert single == record["media"][ids[0]]
    assert "auth_key" not in str(record)
    assert httpx.get(f"{url}/emulator/media/unknown").status_code == 404


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_emulator_at_once_without_output(number: signal.Signals) -> None:
    with emulator_process("--media", "1", "--latency", "60") as (process, url):
        waiting = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
        waiting.sendall(b"GET / HTTP/1.1\r\nHost: vod\r\n\r\n")
        httpx.get(f"{url}/emulator")

        process.send_signal(number)
        out, err = process.communicate(timeout=60)

        assert (process.returncode, out, err) == (0, "", "")
        waiting.close()


def test_a_port_in_use_is_reported_with_its_address(url: str) -> None:
    port = url.rpartition(":")[2]

    failed = subprocess.run([*EMULATE, "--port", port], capture_output=True, text=True, timeout=120, check=False)

    assert failed.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in failed.stderr
    assert failed.stdout == ""
