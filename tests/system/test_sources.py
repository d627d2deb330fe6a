"""Several sources in one installation: each has its own VOD, keys and callback path, and one's trouble is not the other's."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.system.installation import CALLBACK_KEY, PAIRS, Installation, analysed, installed, signed
from tests.system.processes import eventually
from tests.system.proxy import Proxy, proxied

#: Seconds. Less than the ten that vodsync listens to a VOD that says nothing.
PROMPTLY = 8.0

KEYS = {name: (f"LTAI5tSystemTest{name}", f"Sys7emTest{name}Secret", f"{CALLBACK_KEY}{name}") for name in ("sick", "well")}


class Sources:
    """A worker and a receiver that serve `sick` and `well`, each with an emulated VOD of its own."""

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
            if name == "sick":
                self.proxy, url = proxied(url)
            self.described[name] = {
                "endpoint": url,
                "access_key_id": key_id,
                "access_key_secret": secret,
                "callback_url": self.callback_url(name),
                "callback_keys": callback_key,
            }

    def start(self) -> None:
        """Of several sources a pool has two threads at least: fewer than the batches that are due at the sick one."""
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
        """The statuses of one notification for each medium, sent to this source's path."""
        found = []
        for media_id in media_ids:
            content = json.dumps(analysed(media_id)).encode()
            headers = signed(content, url=self.callback_url(name), key=key or KEYS[name][2])
            found.append(self.installation.http.post(f"/callbacks/{name}", content=content, headers=headers).status_code)
        return found

    def wait_for(self, name: str, media_ids: list[str], *, within: float) -> None:
        eventually(
            lambda: set(media_ids) <= self.arrived(name),
            within=within,
            missing=lambda: f"{set(media_ids) - self.arrived(name)} of {name}; logs:\n{self.installation.logs()[-4000:]}",
        )

    def arrived(self, name: str) -> set[str]:
        rows = self.installation.database.rows("SELECT media_id FROM vod_media WHERE state = 'ok' AND source = :s", s=name)
        return {row["media_id"] for row in rows}

    def statusz(self) -> dict[str, Any]:
        said: dict[str, Any] = self.installation.http.get("/statusz").json()
        return said

    def close(self) -> None:
        self.proxy.restore()
        for emulator in self.emulators.values():
            emulator.close()

    def _emulate(self, name: str, seed: int, key_id: str, secret: str) -> str:
        settings = {"ALIBABA_CLOUD_ACCESS_KEY_ID": key_id, "ALIBABA_CLOUD_ACCESS_KEY_SECRET": secret}
        process = self.installation.start(
            f"emulator-{name}", "emulate", "--port", "0", "--media", "60", "--seed", str(seed), **settings
        )
        said = eventually(lambda: re.search(r"listening on (http://\S+)\n", process.log), within=15, missing="an emulator")
        self.emulators[name] = httpx.Client(base_url=f"{said[1]}/emulator", timeout=60, trust_env=False)
        self.media[name] = self.emulators[name].get("/media").json()["media_ids"]
        return said[1]


@pytest.fixture(params=list(PAIRS))
def sources(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sources]:
    with installed(PAIRS[request.param], tmp_path) as ready:
        made = Sources(ready)
        yield made
        made.close()


def assert_the_well_one_is_served(sources: Sources) -> None:
    """Again and again, because a thread that comes back from the sick source would serve the other one in passing."""
    for media_id in sources.media["well"][:4]:
        assert sources.notify("well", media_id) == [200]
        sources.wait_for("well", [media_id], within=PROMPTLY)
        time.sleep(1)


def test_a_source_that_is_frozen_keeps_no_other_one_waiting(sources: Sources) -> None:
    sources.start()
    sources.proxy.freeze()
    assert sources.notify("sick", *sources.media["sick"]) == [200] * 60

    assert_the_well_one_is_served(sources)
    seen = sources.statusz()
    before = sources.arrived("sick")
    sources.proxy.restore()

    assert before == set()
    assert [worker["state"] for worker in seen["workers"]] == ["ok"]
    assert all(problem.startswith("source sick") for problem in seen["problems"])
    sources.wait_for("sick", sources.media["sick"], within=60)
    assert seen["dead_letters"] == sources.statusz()["dead_letters"] == 0


def test_a_source_that_throttles_everything_keeps_no_other_one_waiting(sources: Sources) -> None:
    sources.emulators["sick"].put("/faults", json={"throttle": {"probability": 1}}).raise_for_status()
    sources.start()
    sources.notify("sick", *sources.media["sick"])

    assert_the_well_one_is_served(sources)
    problems = eventually(lambda: sources.statusz()["problems"], within=10, missing="a problem")
    sources.emulators["sick"].delete("/faults").raise_for_status()

    assert all(problem.startswith("source sick") and "Throttling" in problem for problem in problems)
    sources.wait_for("sick", sources.media["sick"], within=60)
    eventually(lambda: not sources.statusz()["problems"], within=10, missing="an end of the problems")


def test_a_source_with_wrong_keys_keeps_no_other_one_waiting_and_works_once_they_are_right(sources: Sources) -> None:
    right = sources.described["sick"]["access_key_secret"]
    sources.described["sick"]["access_key_secret"] = "wrong"
    sources.start()
    sources.notify("sick", *sources.media["sick"])

    assert_the_well_one_is_served(sources)
    problems = eventually(lambda: sources.statusz()["problems"], within=10, missing="a problem")
    sources.installation.processes["worker"].stop()
    sources.described["sick"]["access_key_secret"] = right
    sources.start()

    assert [problem.startswith("source sick") and "check its keys" in problem for problem in problems] == [True]
    sources.wait_for("sick", sources.media["sick"], within=30)


def test_a_source_without_credentials_is_named_and_keeps_no_other_one_waiting(sources: Sources) -> None:
    keys = {name: sources.described["sick"].pop(name) for name in ("access_key_id", "access_key_secret")}
    sources.start()
    sources.notify("sick", sources.media["sick"][0])

    assert_the_well_one_is_served(sources)
    problems = eventually(lambda: sources.statusz()["problems"], within=10, missing="a problem")
    doctor = json.loads(sources.installation.run("doctor", "--json").stdout)
    said = sources.installation.processes["worker"].log
    sources.installation.processes["worker"].stop()
    sources.described["sick"] |= keys
    sources.start()

    assert [problem.startswith("source sick, credentials") for problem in problems] == [True]
    verdicts = {each["part"]: each["verdict"] for each in doctor}
    assert (verdicts["source sick: VOD"], verdicts["source well: VOD"]) == ("bad", "ok")
    assert "source is not served" in said
    assert "start this worker again" in said
    sources.wait_for("sick", sources.media["sick"][:1], within=30)
    eventually(lambda: not sources.statusz()["problems"], within=10, missing="an end of the problems")


def test_each_source_has_its_own_path_and_key(tmp_path: Path) -> None:
    with installed(PAIRS["sqlite-embedded"], tmp_path) as ready:
        sources = Sources(ready)
        sources.start()
        media_id = sources.media["well"][0]

        taken = sources.notify("well", media_id)
        refused = sources.notify("sick", media_id, key=KEYS["well"][2])
        nowhere = ready.http.post("/callbacks", content=b"{}").status_code
        sources.wait_for("well", [media_id], within=20)
        sources.close()

        assert (taken, refused, nowhere) == ([200], [401], 404)
        assert {row["source"] for row in ready.database.table("vod_notification")} == {"well"}
        assert {row["source"] for row in ready.database.table("vod_media")} == {"well"}
