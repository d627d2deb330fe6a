"""How vodsync starts processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import worker
from worker.cli.processes import child_environment, isolated_environment, vodsync_command

ROOT = str(Path(worker.__file__).resolve().parents[1])


def test_a_child_ignores_a_foreign_module_in_its_directory(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text("print('foreign')")

    ended = subprocess.run(vodsync_command("--version"), cwd=tmp_path, env=child_environment(), capture_output=True, text=True)

    assert (ended.stdout, ended.returncode) == (f"{worker.__version__}\n", 0), ended.stderr


def test_a_child_finds_the_code_of_a_source_tree_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [ROOT, "/usr/lib/python"])

    assert child_environment({})["PYTHONPATH"] == ROOT


def test_an_installed_product_changes_no_import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/anywhere", ROOT])

    assert child_environment({"A": "1"}) == {"A": "1"}


def test_pythonpath_stays_in_force_in_another_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", ["/anywhere", ROOT])
    monkeypatch.chdir(tmp_path)

    path = child_environment({"PYTHONPATH": f"relative{os.pathsep}/absolute"})["PYTHONPATH"]

    assert path == f"{tmp_path / 'relative'}{os.pathsep}/absolute"


def test_an_isolated_child_inherits_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VODSYNC_PORT", "1")
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "id")

    environment = isolated_environment(VODSYNC_HOST="127.0.0.2")

    assert environment["VODSYNC_HOST"] == "127.0.0.2"
    assert environment["PATH"] == os.environ["PATH"]
    assert environment.keys().isdisjoint({"VODSYNC_PORT", "ALIBABA_CLOUD_ACCESS_KEY_ID"})
