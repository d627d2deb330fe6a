"""Parse the Match expressions of SearchMedia into conditions (vod-protocol 6.1).

Status in ('Normal','Blocked') and CreationTime = ['2025-11-24T00:00:00Z','2025-11-25T00:00:00Z'] and (CateId='1' or Tags='x')
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Callable
from dataclasses import dataclass
from time import strptime
from typing import NoReturn, Protocol

from worker.emulator.api.api_errors import ApiError

#: Values in one `in (…)`.
MAX_IN_VALUES = 100

#: Names of the media id. A condition on one of them finds its assets without reading any other.
ID_FIELDS = frozenset(("MediaId", "VideoId", "AudioId"))
TIME_FIELDS = frozenset(("CreationTime", "ModificationTime"))
RANGE_FIELDS = TIME_FIELDS | {"Size", "Duration"}
#: Fields that match if they contain the value, also inside `in (…)`; the case is ignored.
FUZZY_FIELDS = frozenset(("Title", "Description", "Tags"))
EXACT_FIELDS = frozenset(
    ("Status", "CateId", "CateName", "AppId", "ReferenceId", "StorageLocation", "StorageClass", "DownloadSwitch", "TemplateGroupId")
)

_TOKEN = re.compile(r"\s*(?:(?P<text>'[^']*')|(?P<word>[A-Za-z0-9_.\-]+)|(?P<sign>[=,()\[\]])|(?P<end>$))")
_CLOSING_SIGNS = {"(": ")", "[": "]"}


class SearchableAsset(Protocol):
    """The fields of one asset that a condition can read."""

    def text(self, name: str) -> str | None:
        """Return a field as text, or None if the asset does not have it."""
        ...

    def number(self, name: str) -> float | None:
        """Return one of RANGE_FIELDS, times in unix seconds, or None if the asset does not have it."""
        ...


@dataclass(frozen=True, slots=True)
class ValueCondition:
    """The field is one of `values`; a fuzzy field contains one of them."""

    name: str
    values: frozenset[str]

    def matches(self, asset: SearchableAsset) -> bool:
        value = asset.text(self.name)
        if value is None:
            return False
        if self.name in FUZZY_FIELDS:
            folded = value.casefold()
            return any(wanted.casefold() in folded for wanted in self.values)
        return value in self.values


@dataclass(frozen=True, slots=True)
class RangeCondition:
    """The field is between two bounds, of which one may be missing. A closed range includes its bounds."""

    name: str
    low: float | None
    high: float | None
    is_closed: bool

    def matches(self, asset: SearchableAsset) -> bool:
        value = asset.number(self.name)
        if value is None:
            return False
        if self.is_closed:
            return (self.low is None or self.low <= value) and (self.high is None or value <= self.high)
        return (self.low is None or self.low < value) and (self.high is None or value < self.high)


@dataclass(frozen=True, slots=True)
class ConditionGroup:
    """Conditions in parentheses that are joined by the same word."""

    conditions: tuple[Condition, ...]
    #: True for `or`, False for `and`.
    is_or: bool

    def matches(self, asset: SearchableAsset) -> bool:
        combine = any if self.is_or else all
        return combine(condition.matches(asset) for condition in self.conditions)


Condition = ValueCondition | RangeCondition | ConditionGroup


def parse(expression: str) -> tuple[Condition, ...]:
    """Return the conditions that an asset must meet; none for an empty expression. Raises ApiError with ErrorMatchSyntax."""
    if not expression.strip():
        return ()
    return _Parser(expression).parse()


class _Parser:
    """A recursive descent parser with one token of lookahead."""

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._position = 0
        self._kind = self._token = ""
        self._advance()

    def parse(self) -> tuple[Condition, ...]:
        group = self._parse_group()
        if self._kind != "end":
            self._raise_unexpected()
        if not group.is_or:
            return group.conditions
        raise _syntax_error("put the conditions that are joined by or into parentheses")

    def _parse_group(self) -> ConditionGroup:
        conditions = [self._parse_condition()]
        words = set()
        while self._token.lower() in ("and", "or"):
            words.add(self._advance().lower())
            conditions.append(self._parse_condition())
        if len(words) > 1:
            raise _syntax_error("and is mixed with or; put the conditions that are joined by or into parentheses")
        return ConditionGroup(tuple(conditions), words == {"or"})

    def _parse_condition(self) -> Condition:
        if self._token == "(":  # noqa: S105 - a token of the expression, not a password
            self._advance()
            group = self._parse_group()
            self._expect(")")
            return group
        if self._kind != "word":
            self._raise_unexpected()
        name = self._advance()
        if name not in ID_FIELDS | RANGE_FIELDS | FUZZY_FIELDS | EXACT_FIELDS:
            raise _syntax_error(f"{name} is not a field that can be matched")
        if self._token.lower() == "in":
            self._advance()
            return self._parse_in(name)
        self._expect("=")
        return self._parse_range(name) if self._token in ("(", "[") else self._make_condition(name, [self._parse_value()])

    def _parse_in(self, name: str) -> Condition:
        self._expect("(")
        values = [self._parse_value()]
        while self._token == ",":  # noqa: S105 - a token of the expression, not a password
            self._advance()
            values.append(self._parse_value())
        self._expect(")")
        if len(values) > MAX_IN_VALUES:
            raise _syntax_error(f"in contains {len(values)} values, {MAX_IN_VALUES} are allowed")
        return self._make_condition(name, values)

    def _make_condition(self, name: str, values: list[str]) -> Condition:
        """Return the condition that the field has one of `values`."""
        if name not in RANGE_FIELDS:
            return ValueCondition(name, frozenset(values))
        convert = _converter(name)
        conditions = tuple(RangeCondition(name, convert(value), convert(value), is_closed=True) for value in values)
        return conditions[0] if len(conditions) == 1 else ConditionGroup(conditions, is_or=True)

    def _parse_range(self, name: str) -> Condition:
        if name not in RANGE_FIELDS:
            raise _syntax_error(f"{name} does not support ranges")
        convert = _converter(name)
        opening = self._advance()
        low = None if self._token == "," else convert(self._parse_value())  # noqa: S105 - a token of the expression, not a password
        self._expect(",")
        high = None if self._token in _CLOSING_SIGNS.values() else convert(self._parse_value())
        # VOD does not document half-open ranges, so clients should not use them.
        self._expect(_CLOSING_SIGNS[opening])
        if low is None and high is None:
            raise _syntax_error(f"the range of {name} has no bounds")
        return RangeCondition(name, low, high, is_closed=opening == "[")

    def _parse_value(self) -> str:
        if self._kind not in ("text", "word"):
            self._raise_unexpected()
        is_quoted = self._kind == "text"
        value = self._advance()
        if is_quoted:
            return value[1:-1]
        if re.fullmatch(r"-?\d+(?:\.\d+)?", value) is None:
            raise _syntax_error(f"put {value} into single quotes")
        return value

    def _expect(self, sign: str) -> None:
        if self._kind != "sign" or self._token != sign:
            self._raise_unexpected()
        self._advance()

    def _advance(self) -> str:
        """Read the next token and return the current one."""
        current = self._token
        match = _TOKEN.match(self._expression, self._position)
        if match is None:
            raise _syntax_error(f"cannot be read from character {self._position + 1} on")
        self._kind = str(match.lastgroup)
        self._token = match[self._kind]
        self._position = match.end()
        return current

    def _raise_unexpected(self) -> NoReturn:
        raise _syntax_error(f"{self._token or 'the end'} is not expected at character {self._position}")


def _converter(name: str) -> Callable[[str], float]:
    return _to_unix_seconds if name in TIME_FIELDS else _to_number


def _to_unix_seconds(text: str) -> float:
    try:
        return timegm(strptime(text, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        raise _syntax_error(f"{text} is not a time like 2025-11-24T00:00:00Z") from None


def _to_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _syntax_error(f"{text} is not a number") from None


def _syntax_error(reason: str) -> ApiError:
    return ApiError("ErrorMatchSyntax", 400, f"The syntax of Match is wrong: {reason}.")
