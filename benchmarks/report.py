"""Measures, their thresholds, and the table of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Wanted:
    """A threshold. `at_most` is true for an upper limit and false for a lower limit."""

    threshold: float
    at_most: bool = False

    def met_by(self, value: float) -> bool:
        return value <= self.threshold if self.at_most else value >= self.threshold

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {_number(self.threshold)}"


def at_least(threshold: float) -> Wanted:
    return Wanted(threshold)


def at_most(threshold: float) -> Wanted:
    return Wanted(threshold, at_most=True)


@dataclass(frozen=True, slots=True)
class Measure:
    """One row of the table; its value is the median of `values`. Without values, `note` has the reason."""

    part: str
    name: str
    values: Sequence[float] = ()
    unit: str = ""
    wanted: Wanted | None = None
    note: str = ""

    @property
    def value(self) -> float | None:
        return median(self.values) if self.values else None

    @property
    def met(self) -> bool | None:
        """Whether the threshold is met, or None without a threshold. A measure without values does not meet it."""
        if self.wanted is None:
            return None
        return self.value is not None and self.wanted.met_by(self.value)

    def as_dict(self) -> dict[str, Any]:
        return {
            "part": self.part,
            "measure": self.name,
            "value": self.value,
            "unit": self.unit,
            "low": min(self.values, default=None),
            "high": max(self.values, default=None),
            "passes": len(self.values),
            "wanted": str(self.wanted) if self.wanted else None,
            "met": self.met,
            "note": self.note,
        }


def print_table(measures: Sequence[Measure]) -> None:
    table = Table(title="vodsync on this machine: the median and the range of all passes in one run")
    for heading in ("part", "measure", "median", "range", "required", "met", "note"):
        table.add_column(
            heading, justify="right" if heading in ("median", "range", "required") else "left", no_wrap=heading != "note"
        )
    for previous, measure in zip([None, *measures], measures, strict=False):
        if previous is not None and previous.part != measure.part:
            table.add_section()
        table.add_row(*_cells(measure), style=None if measure.met is not False else "red")
    Console(width=None if Console().is_terminal else 150, highlight=False).print(table)


def print_json(measures: Sequence[Measure]) -> None:
    print(msgspec.json.format(msgspec.json.encode([measure.as_dict() for measure in measures]), indent=2).decode())


def _cells(measure: Measure) -> tuple[str, ...]:
    value, spread = "not measured", ""
    if measure.value is not None:
        value = f"{_number(measure.value)} {measure.unit}".rstrip()
    if len(measure.values) > 1:
        spread = f"{_number(min(measure.values))}–{_number(max(measure.values))}"
    met = {True: "yes", False: "no", None: ""}[measure.met]
    return measure.part, measure.name, value, spread, str(measure.wanted or ""), met, measure.note


def _number(value: float) -> str:
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
