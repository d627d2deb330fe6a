"""Read setting values from environment variables and TOML files, before they are validated."""

from __future__ import annotations

import difflib
import tomllib
import unicodedata
from collections.abc import Collection, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream

from worker.core.errors import ConfigurationError

#: Values by field. Any: the models in settings.py check the types.
Values = dict[str, Any]

PREFIX = "VODSYNC_"

#: Names that are not settings: the path of the settings file, and the variables of the test suite.
CONFIG_VARIABLE = "VODSYNC_CONFIG"
_TEST_PREFIX = "VODSYNC_TEST_"

#: The section [sources.default] is the same as the top of the file.
DEFAULT_SOURCE = "default"


#: Quotes that a shell or an editor may leave around a value.
_QUOTES = frozenset("\"'`\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb")


def clean(value: str, *, allowed: str = "") -> str:
    """Return `value` without the blanks, line breaks and byte order marks around it.

    Nobody sees these, and a signature or a login with them fails. Raises ValueError if there are quotes around the value, or
    invisible characters other than `allowed` inside it: which text is meant then is not certain.
    """
    value = strip_blanks(value)
    if len(value) > 1 and value[0] in _QUOTES and value[-1] in _QUOTES:
        raise ValueError("has quotes around its value; remove them")
    for character in value:
        if _is_invisible(character) and character not in allowed:
            raise ValueError(f"contains the invisible character U+{ord(character):04X}; write the value again without it")
    return value


def strip_blanks(value: str) -> str:
    visible = [index for index, character in enumerate(value) if not (character.isspace() or _is_invisible(character))]
    return value[visible[0] : visible[-1] + 1] if visible else ""


def _is_invisible(character: str) -> bool:
    return not character.isprintable() and unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")


def read_dotenv(path: Path) -> dict[str, str]:
    """Return the variables in a file `.env`; none if there is no such file. `$` has no special meaning in it.

    Raises ConfigurationError if the file cannot be read, and if a line is not an assignment: a setting in it would be lost.
    """
    try:
        # The parser of the library: its other functions skip such lines, and replace ${ in passwords.
        bindings = list(parse_stream(StringIO(path.read_text(encoding="utf-8-sig"))))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read {path}: {_reason(error)}") from None
    values = {}
    for binding in bindings:
        if binding.error or (binding.key is not None and binding.value is None):
            raise ConfigurationError(
                f"line {binding.original.line} of {path} is not an assignment NAME=VALUE, or lacks a closing quote; correct it"
            )
        if binding.key is not None and binding.value is not None:
            values[binding.key] = binding.value
    return values


def read_variables(layer: Mapping[str, str], known: Mapping[str, str], origin: str) -> Values:
    """Return the values of environment variables by field. `known` has the field of each variable, `origin` is for messages.

    Empty and blank values count as not set. Raises ConfigurationError for an unknown VODSYNC_ name, and for a secret that cannot be
    read.
    """
    values: Values = {}
    layer = {name: value for name, value in layer.items() if strip_blanks(value)}
    for name, value in layer.items():
        without_file = name.removesuffix("_FILE")
        if name in known:
            values[known[name]] = value
        elif without_file in known:
            if without_file in layer:
                raise ConfigurationError(f"{name} and {without_file} in {origin} set the same setting; remove one of them")
            values[known[without_file]] = _read_secret(name, value)
        elif name.startswith(PREFIX) and name != CONFIG_VARIABLE and not name.startswith(_TEST_PREFIX):
            raise ConfigurationError(f"{name} in {origin} is not a setting of vodsync; {_suggestion(name, known)}")
    return values


def _suggestion(name: str, known: Collection[str]) -> str:
    similar = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {similar[0]}?" if similar else "the README lists all settings"


def _read_secret(name: str, path: str) -> str:
    try:
        path = clean(path)
        value = strip_blanks(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{name}: cannot read {path}: {_reason(error)}") from None
    except ValueError as error:
        raise ConfigurationError(f"{name}: {error}") from None
    if not value:
        raise ConfigurationError(f"{name}: {path} is empty; write the value into it, or remove the setting")
    return value


def _reason(error: Exception) -> str:
    """Return why a file cannot be read, without its content."""
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "it is not UTF-8 text"


def read_file(path: Path, fields: set[str], source_fields: set[str]) -> Values:
    """Return the values in a settings file by field; `sources` has those of each section [sources.NAME].

    Raises ConfigurationError if the file cannot be read, or has an unknown key.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"cannot read the settings file {path}: {_reason(error)}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from None
    sources = document.pop("sources", {})
    values = _read_section(document, fields, f"{path}")
    if not isinstance(sources, dict) or not all(isinstance(section, dict) for section in sources.values()):
        raise ConfigurationError(f"{path}: describe each source in a section of its own, [sources.NAME]")
    if DEFAULT_SOURCE in sources:
        # The same settings as those at the top of the file, so the environment wins over them too.
        values |= _read_section(sources.pop(DEFAULT_SOURCE), source_fields, f"{path}, [sources.{DEFAULT_SOURCE}]")
    if sources:
        values["sources"] = {
            name: _read_section(section, source_fields, f"{path}, [sources.{name}]") for name, section in sources.items()
        }
    return values


def _read_section(section: Mapping[str, Any], known: set[str], place: str) -> Values:
    """Return the values of a TOML section by field. A prefix `vodsync_` or `alibaba_cloud_` of a key is ignored."""
    values = {}
    for key, value in section.items():
        field = key.lower().removeprefix("vodsync_").removeprefix("alibaba_cloud_")
        if field.removesuffix("_file") in known and field not in known:
            field, value = field.removesuffix("_file"), _read_secret(f"{key} in {place}", str(value))
        if field not in known:
            raise ConfigurationError(f"{key} in {place} is not a setting of vodsync; {_suggestion(field, known)}")
        values[field] = value
    return values
