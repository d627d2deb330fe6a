"""Imports point inward: from entry points to use cases, from there to store and vod, and from those to core."""

from __future__ import annotations

import ast
from pathlib import Path

import worker

ROOT = Path(worker.__file__).parent

#: The packages of vodsync that each package may import.
ALLOWED = {
    "core": {"core"},
    "store": {"store", "core"},
    "vod": {"vod", "core", "settings"},
    "sync": {"sync", "store", "vod", "core", "logs", "outage"},
    "emulator": {"emulator", "core"},
}
#: The modules of core that the emulator may import: types and constants. Shared code could hide a mistake of the client.
ALLOWED_FROM_CORE_IN_EMULATOR = {"media"}
#: The parts of the emulator that each of its parts may import.
ALLOWED_IN_EMULATOR = {
    "library": {"library"},
    "api": {"api", "library"},
    "smq": {"smq", "api", "library"},
    "server": {"server", "smq", "api", "library"},
}
#: The libraries that each package must not import.
FORBIDDEN = {
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
    migrations = [ROOT.parent / "migrations" / "repeatable.py", *sorted((ROOT.parent / "migrations" / "versions").glob("*.py"))]

    violations = [f"{path.name} imports {name}" for path in migrations for name in imported(path) if name.split(".")[0] == "worker"]

    assert migrations
    assert violations == []


def test_the_emulator_imports_only_types_from_the_core() -> None:
    violations = []
    for path in (ROOT / "emulator").rglob("*.py"):
        for name in imported(path):
            parts = name.split(".")
            if parts[:2] == ["worker", "core"] and not ALLOWED_FROM_CORE_IN_EMULATOR.intersection(parts[2:3]):
                violations.append(f"{path.relative_to(ROOT)} imports {name}")

    assert violations == []


def test_the_parts_of_the_emulator_import_inward() -> None:
    violations = []
    for part, allowed in ALLOWED_IN_EMULATOR.items():
        for path in (ROOT / "emulator" / part).rglob("*.py"):
            for name in imported(path):
                parts = name.split(".")
                if parts[:2] == ["worker", "emulator"] and not allowed.intersection(parts[2:3]):
                    violations.append(f"{path.relative_to(ROOT)} imports {name}")

    assert violations == []
    assert {path.parent.name for path in (ROOT / "emulator").glob("*/__init__.py")} == ALLOWED_IN_EMULATOR.keys()


def test_every_package_imports_only_what_it_may() -> None:
    violations = []
    for package, allowed in ALLOWED.items():
        for path in (ROOT / package).rglob("*.py"):
            for name in imported(path):
                parts = name.split(".")
                if parts[0] == "worker" and len(parts) > 1 and parts[1] not in allowed and parts[1] != "__version__":
                    violations.append(f"{path.relative_to(ROOT)} imports {name}")
                if parts[0] in FORBIDDEN[package]:
                    violations.append(f"{path.relative_to(ROOT)} imports {name}")

    assert violations == []
