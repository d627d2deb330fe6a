"""Imports point inward: entry points to use cases, use cases to store and vod, those to core."""

from __future__ import annotations

import ast
from pathlib import Path

import worker

ROOT = Path(worker.__file__).parent

#: What each package may import of ours, and which third parties it may not.
MAY = {
    "core": {"core"},
    "store": {"store", "core"},
    "vod": {"vod", "core", "settings"},
    "sync": {"sync", "store", "vod", "core", "logs"},
    "emulator": {"emulator", "core"},
}
#: The modules of the core that the emulator may import: types and constants, no code that could hide a mistake of the client.
EMULATOR_MAY_FROM_CORE = {"media"}
#: What each part of the emulator may import of the emulator.
EMULATOR_MAY = {
    "library": {"library"},
    "api": {"api", "library"},
    "smq": {"smq", "api", "library"},
    "server": {"server", "smq", "api", "library"},
}
MAY_NOT = {
    "core": {"sqlalchemy", "celery", "kombu", "starlette", "httpx", "os", "socket", "pathlib", "logging", "time"},
    "store": {"celery", "kombu", "starlette", "httpx"},
    "vod": {"celery", "kombu", "starlette", "sqlalchemy"},
    "sync": {"celery", "kombu", "starlette", "os", "httpx"},
    "emulator": {"sqlalchemy", "celery", "kombu", "alibabacloud_vod20170321", "alibabacloud_tea_openapi"},
}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_migrations_import_nothing_of_ours() -> None:
    # What a migration creates must not change when the code does.
    migrations = sorted((ROOT.parent / "migrations" / "versions").glob("*.py"))

    wrong = [f"{path.name} imports {name}" for path in migrations for name in imported(path) if name.split(".")[0] == "worker"]

    assert migrations
    assert wrong == []


def test_the_emulator_imports_only_types_from_the_core() -> None:
    wrong = []
    for path in (ROOT / "emulator").rglob("*.py"):
        for name in imported(path):
            parts = name.split(".")
            if parts[:2] == ["worker", "core"] and not EMULATOR_MAY_FROM_CORE.intersection(parts[2:3]):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")

    assert wrong == []


def test_the_parts_of_the_emulator_import_inward() -> None:
    wrong = []
    for part, allowed in EMULATOR_MAY.items():
        for path in (ROOT / "emulator" / part).rglob("*.py"):
            for name in imported(path):
                parts = name.split(".")
                if parts[:2] == ["worker", "emulator"] and not allowed.intersection(parts[2:3]):
                    wrong.append(f"{path.relative_to(ROOT)} imports {name}")

    assert wrong == []
    assert {path.parent.name for path in (ROOT / "emulator").glob("*/__init__.py")} == EMULATOR_MAY.keys()


def test_every_package_keeps_to_its_neighbours() -> None:
    wrong = []
    for package, allowed in MAY.items():
        for path in (ROOT / package).rglob("*.py"):
            for name in imported(path):
                parts = name.split(".")
                if parts[0] == "worker" and len(parts) > 1 and parts[1] not in allowed and parts[1] != "__version__":
                    wrong.append(f"{path.relative_to(ROOT)} imports {name}")
                if parts[0] in MAY_NOT[package]:
                    wrong.append(f"{path.relative_to(ROOT)} imports {name}")

    assert wrong == []
