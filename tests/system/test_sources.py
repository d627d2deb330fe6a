"""Several sources in one installation: an error of one source does not affect the others."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.system.installation import (
    CALLBACK_KEY,
    PAIRS,
    Installation,
    analysed,
    emulator_client,
    installed,
    signed,
    wait_for_emulator,
)
from tests.system.processes import eventually
from tests.system.proxy import Proxy, proxied

PROMPTLY = 8.0  # seconds; less than the ten that vodsync waits for a VOD that does not answer

KEYS = {name: (f"LTAI5tSystemTest{name}", f"Sys7emTest{name}Secret", f"{CALLBACK_KEY}{name}") for name in ("faulty", "healthy")}


class Sources:
    """A worker and a receiver that serve the sources `faulty` and `healthy`, each with its own emulated VOD."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.emulators: dict[str, httpx.Client] = {}
        self.media: dict[str, list[str]] = {}
        self.proxy: Proxy
        for name in (
            "ALIBABA_CLOUD_ACCESS_KEY_ID",
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
            "VODSYNC_CALLBACK_URL",
            "VODSYNC_CALLBACK_KEYS",
        ):
            del installation.settings[name]
        self.described: dict[str, dict[str, str]] = {}
        for seed, (name, (key_id, secret, callback_key)) in enumerate(KEYS.items()):
            url = self._emulate(name, seed, key_id, secret)
            if name == "faulty":
                self.proxy, url = proxied(url)
            self.described[name] = {
                "endpoint": url,
                "access_key_id": key_id,
                "access_key_secret": secret,
                "callback_url": self.callback_url(name),
                "callback_keys": callback_key,
            }

    def start(self) -> None:
        """Start receiver and worker. The pool has two threads, fewer than the batches that are due for the faulty source."""
        sections = [
            "\n".join([f"[sources.{name}]", *(f'{key} = "{value}"' for key, value in described.items())])
            for name, described in self.described.items()
        ]
        (self.installation.folder / "vodsync.toml").write_text("\n\n".join(sections))
        self.installation.start("receiver", "serve")
        self.installation.start("worker", "work", "--beat", "--concurrency", "1")
        self.installation.wait_until_ready()
        eventually(lambda: self.statusz()["workers"], within=20, missing="a worker")

    def callback_url(self, name: str) -> str:
        return f"{self.installation.callback_url}/{name}"

    def notify(self, name: str, *media_ids: str, key: str = "") -> list[int]:
        """Send one notification for each asset to this source's path and return the statuses."""
        statuses = []
        for media_id in media_ids:
            content = json.dumps(analysed(media_id)).encode()
            headers = signed(content, url=self.callback_url(name), key=key or KEYS[name][2])
            statuses.append(self.installation.http.post(f"/callbacks/{name}", content=content, headers=headers).status_code)
        return statuses

    def wait_for(self, name: str, media_ids: list[str], *, within: float) -> None:
        eventually(
            lambda: set(media_ids) <= self.stored(name),
            within=within,
            missing=lambda: f"{set(media_ids) - self.stored(name)} of {name}; logs:\n{self.installation.logs()[-4000:]}",
        )

    def stored(self, name: str) -> set[str]:
        rows = self.installation.database.rows("SELECT media_id FROM vod_media WHERE state = 'ok' AND source = :s", s=name)
        return {row["media_id"] for row in rows}

    def statusz(self) -> dict[str, Any]:
        status: dict[str, Any] = self.installation.http.get("/statusz").json()
        return status

    def close(self) -> None:
        self.proxy.restore()
        for emulator in self.emulators.values():
            emulator.close()

    def _emulate(self, name: str, seed: int, key_id: str, secret: str) -> str:
        settings = {"ALIBABA_CLOUD_ACCESS_KEY_ID": key_id, "ALIBABA_CLOUD_ACCESS_KEY_SECRET": secret}
        process = self.installation.start(
            f"emulator-{name}", "emulate", "--port", "0", "--media", "60", "--seed", str(seed), **settings
        )
        url = wait_for_emulator(process)
        self.emulators[name] = emulator_client(url)
        self.media[name] = self.emulators[name].get("/media").json()["media_ids"]
        return url


@pytest.fixture(params=list(PAIRS))
def sources(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sources]:
    with installed(PAIRS[request.param], tmp_path) as installation:
        sources = Sources(installation)
        yield sources
        sources.close()


def assert_healthy_source_is_served(sources: Sources) -> None:
    """Check several times: a thread that returns from the faulty source could serve the other one once by chance."""
    for media_id in sources.media["healthy"][:4]:
        assert sources.notify("healthy", media_id) == [200]
        sources.wait_for("healthy", [media_id], within=PROMPTLY)
        time.sleep(1)


def test_frozen_source_does_not_delay_other_sources(sources: Sources) -> None:
    sources.start()
    sources.proxy.freeze()
    assert sources.notify("faulty", *sources.media["faulty"]) == [200] * 60

    assert_healthy_source_is_served(sources)
    status = sources.statusz()
    stored_before = sources.stored("faulty")
    sources.proxy.restore()

    assert stored_before == set()
    assert [worker["state"] for worker in status["workers"]] == ["ok"]
    assert all(problem.startswith("source faulty") for problem in status["problems"])
    sources.wait_for("faulty", sources.media["faulty"], within=60)
    assert status["dead_letters"] == sources.statusz()["dead_letters"] == 0


def test_throttled_source_does_not_delay_other_sources(sources: Sources) -> None:
    sources.emulators["faulty"].put("/faults", json={"throttle": {"probability": 1}}).raise_for_status()
    sources.start()
    sources.notify("faulty", *sources.media["faulty"])

    assert_healthy_source_is_served(sources)
    problems = eventually(lambda: sources.statusz()["problems"], within=10, missing="a problem")
    sources.emulators["faulty"].delete("/faults").raise_for_status()

    assert all(problem.startswith("source faulty") and "Throttling" in problem for problem in problems)
    sources.wait_for("faulty", sources.media["faulty"], within=60)
    eventually(lambda: not sources.statusz()["problems"], within=10, missing="an empty list of problems")


def test_source_with_wrong_keys_does_not_delay_others_and_works_once_they_are_correct(sources: Sources) -> None:
    correct_secret = sources.described["faulty"]["access_key_secret"]
    sources.described["faulty"]["access_key_secret"] = "wrong"
    sources.start()
    sources.notify("faulty", *sources.media["faulty"])

    assert_healthy_source_is_served(sources)
    problems = eventually(lambda: sources.statusz()["problems"], within=10, missing="a problem")
    sources.installation.processes["worker"].stop()
    sources.described["faulty"]["access_key_secret"] = correct_secret
    sources.start()

    assert [problem.startswith("source faulty") and "check its keys" in problem for problem in problems] == [True]
    sources.wait_for("faulty", sources.media["faulty"], within=30)


def test_source_without_credentials_is_reported_and_does_not_delay_others(sources: Sources) -> None:
    keys = {name: sources.described["faulty"].pop(name) for name in ("access_key_id", "access_key_secret")}
    sources.start()
    sources.notify("faulty", sources.media["faulty"][0])

    assert_healthy_source_is_served(sources)
    problems = eventually(lambda: sources.statusz()["problems"], within=10, missing="a problem")
    doctor = json.loads(sources.installation.run("doctor", "--json").stdout)
    log = sources.installation.processes["worker"].log
    sources.installation.processes["worker"].stop()
    sources.described["faulty"] |= keys
    sources.start()

    assert [problem.startswith("source faulty, credentials") for problem in problems] == [True]
    verdicts = {check["part"]: check["verdict"] for check in doctor}
    assert (verdicts["source faulty: VOD"], verdicts["source healthy: VOD"]) == ("bad", "ok")
    assert "source is not served" in log
    assert "start this worker again" in log
    sources.wait_for("faulty", sources.media["faulty"][:1], within=30)
    eventually(lambda: not sources.statusz()["problems"], within=10, missing="an empty list of problems")


def test_each_source_has_its_own_path_and_key(tmp_path: Path) -> None:
    with installed(PAIRS["sqlite-embedded"], tmp_path) as installation:
        sources = Sources(installation)
        sources.start()
        media_id = sources.media["healthy"][0]

        accepted = sources.notify("healthy", media_id)
        refused = sources.notify("faulty", media_id, key=KEYS["healthy"][2])
        without_source = installation.http.post("/callbacks", content=b"{}").status_code
        sources.wait_for("healthy", [media_id], within=20)
        sources.close()

        assert (accepted, refused, without_source) == ([200], [401], 404)
        assert {row["source"] for row in installation.database.table("vod_notification")} == {"healthy"}
        assert {row["source"] for row in installation.database.table("vod_media")} == {"healthy"}
