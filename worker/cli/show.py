"""`vodsync show`: show one asset as it is stored, or compare it with VOD."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from worker.cli.context import open_installation
from worker.cli.options import AsJson, SourceName
from worker.cli.output import Exit, print_error, print_info, print_json, printable
from worker.cli.table import Table
from worker.core.ids import invalid_key, reference_key
from worker.logs import redactor
from worker.runtime import Runtime
from worker.settings import DEFAULT_SOURCE
from worker.store.catalogue import media_view
from worker.store.catalogue.assets import FORBIDDEN, OK

#: Parts of an asset that are shown as one table each, and as one column per row.
_SINGLE_PARTS = ("mezzanine", "video_info", "sync_request")
_LISTS = ("video_streams", "audio_streams", "play_infos")

#: Any: the columns have several types.
_Row = dict[str, Any]


def show(
    media_id: Annotated[str, typer.Argument(help="The media id at VOD.")],
    source: SourceName = DEFAULT_SOURCE,
    live: Annotated[
        bool, typer.Option("--live", help="Fetch the asset from VOD now and show only what differs; exit 1 if something does.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show one media asset with its streams and its history.

    --live calls BatchGetMediaInfos and GetVideoInfo once each and compares the answers with the stored rows: streams by their key,
    URLs without their signatures. Exit codes: 0 no difference, 1 a difference or VOD refused, 3 VOD refuses the credentials, 4 VOD
    or the database is unreachable. It writes no row of an asset; `vodsync sync MEDIA_ID` does.
    """
    installation = open_installation(source)
    if live:
        _show_live(installation, source, media_id, as_json=as_json)
        return
    with installation.store.reading() as connection:
        keys = media_id, reference_key(media_id), invalid_key(media_id)
        record = next(filter(None, (media_view.find(connection, source, key) for key in keys)), None)
    if record is None:
        message = f"nothing is stored for {printable(media_id)}; fetch it with: vodsync sync {printable(media_id)}"
        raise typer.Exit(print_error(message, Exit.FAILED))
    if as_json:
        print_json(record)
    else:
        _print_record(record)


def _print_record(record: _Row) -> None:
    """Print one table for each part of an asset. Fields without a value are left out."""
    notifications = record.pop("notifications")
    lists = {name: record.pop(name) for name in _LISTS}
    parts = {name.replace("_", " "): record.pop(name) for name in _SINGLE_PARTS}
    for title, values in {"media": record, **parts}.items():
        if values:
            fields = Table("field", "value", title=title)
            for name, value in values.items():
                if value not in (None, [], ""):
                    fields.add(name, value)
            fields.print()
    for title, rows in lists.items():
        if rows:
            streams = Table("field", *(str(number) for number in range(1, len(rows) + 1)), title=title.replace("_", " "))
            for name in _used_columns(rows):
                streams.add(name, *(row[name] for row in rows))
            streams.print()
    if notifications:
        columns = _used_columns(notifications)
        history = Table(*columns, title="notifications")
        for row in notifications:
            history.add(*(row[column] for column in columns))
        history.print()


def _used_columns(rows: list[_Row]) -> list[str]:
    return [name for name in rows[0] if any(row[name] is not None for row in rows)]


def _show_live(installation: Runtime, source: str, media_id: str, *, as_json: bool) -> None:
    installation.require_credentials(source)
    # The SDK takes half a second to import, and other verbs do not need it.
    from worker.sync.source_context import SourceContext
    from worker.sync.verify import compare_with_vod
    from worker.vod.client import Client

    context = SourceContext(source, Client(installation.sources[source]), installation.sync_settings(source))
    comparison = compare_with_vod(installation.store, context, media_id)
    error = comparison.error and redactor.text(comparison.error)
    if as_json:
        print_json(asdict(comparison) | {"error": error})
    elif comparison.differences:
        differences = Table("field", "stored", "at VOD", title=f"{printable(media_id)} of source {source}")
        for difference in comparison.differences:
            differences.add(difference.field, _side(difference.stored), _side(difference.at_vod))
        differences.print()
    elif comparison.stored is not None:
        print(f"no difference; the state is {comparison.stored}")
    if error is not None:
        print_info(f"fields of GetVideoInfo were not compared: {error}")
    elif comparison.not_kept and not as_json:
        fields = ", ".join(f"{name} {printable(value)}" for name, value in comparison.not_kept.items())
        print_info(f"VOD also has these fields, which are stored only with VODSYNC_VIDEO_INFO=on: {fields}")
    if comparison.stored is None:
        raise typer.Exit(print_error(_nothing_stored(media_id, comparison.at_vod), Exit.FAILED))
    if comparison.differences:
        raise typer.Exit(Exit.FAILED)


def _nothing_stored(media_id: str, at_vod: str | None) -> str:
    shown = printable(media_id)
    if at_vod == OK:
        return f"nothing is stored for {shown}, and VOD has it; fetch it with: vodsync sync {shown}"
    if at_vod == FORBIDDEN:
        return f"nothing is stored for {shown}, and VOD does not show it to this account"
    return f"nothing is stored for {shown}, and VOD does not know this id"


def _side(value: object) -> object:
    """Return one side of a difference. If a whole row is missing on the other side, it is a dict of the row's fields."""
    return ", ".join(f"{name} {field}" for name, field in value.items()) if isinstance(value, dict) else value
