"""`aicache inspect` and `purge`: what a running sidecar keeps, and how to be rid of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from ai_cache_extproc.cli.asking import Refused, ask
from ai_cache_extproc.cli.figures import DEFAULT_ADMIN
from ai_cache_extproc.cli.output import Output, OutputOption, print_json
from ai_cache_extproc.cli.words import size, table

CALL_S_MAX = 30.0
"""For one step of a walk; over several workers it takes longer than a look."""
_SUMS = ("matched", "scanned", "removed")
_ID = re.compile(r"[0-9a-f]{32}")

AdminOption = Annotated[str, typer.Option("--admin", metavar="ADDR", help="Of the sidecar: HOST:PORT or unix:PATH.")]
TokenOption = Annotated[
    Path | None, typer.Option("--token-file", metavar="FILE", help="A file that holds the token of `admin_access`.")
]


def inspect(
    id_: Annotated[str, typer.Argument(metavar="ID", help="32 hex digits, as in X-AI-Cache-Key.")],
    *,
    content: Annotated[bool, typer.Option("--content", help="With the answers themselves; needs the token.")] = False,
    admin: AdminOption = DEFAULT_ADMIN,
    token_file: TokenOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show one entry of a running sidecar: what is known of it, and sizes and hashes of its answers.

    Exit code 1 if there is none.

    Example: aicache inspect 0123456789abcdef0123456789abcdef --token-file /run/secrets/aicache-admin
    """
    check_id(id_)
    entry = _inspected(admin, token_file, id_, {"content": "true"} if content else {})
    if output is Output.JSON:
        print_json(entry)
    else:
        typer.echo("\n".join(_lines(entry)))


def _inspected(admin: str, token_file: Path | None, id_: str, query: Mapping[str, str]) -> dict[str, Any]:
    """The entry; in a large store one call does not come to the end."""
    while True:
        try:
            return ask(admin, f"/entries/{id_}?{urlencode(query)}", token_file=token_file, timeout_s=CALL_S_MAX)
        except Refused as error:
            cursor = error.document.get("cursor")
            if not cursor:
                raise
            query = {**query, "cursor": cursor}


def purge(  # noqa: PLR0913 - a filter each
    *,
    id_: Annotated[str | None, typer.Option("--id", metavar="ID", help="32 hex digits, as in X-AI-Cache-Key.")] = None,
    scope: Annotated[
        str | None, typer.Option("--scope", help="Of one caller: 16 hex digits, as in entries' keys.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="As the client named it.")] = None,
    rule: Annotated[str | None, typer.Option("--rule", help="That kept the entry.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="That the entry has.")] = None,
    older_than_s: Annotated[float | None, typer.Option("--older-than", metavar="SECONDS")] = None,
    younger_than_s: Annotated[float | None, typer.Option("--younger-than", metavar="SECONDS")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Whatever it is.")] = False,
    flush: Annotated[
        bool, typer.Option("--flush", help="Put everything out of reach at once, by a new epoch.")
    ] = False,
    foreign: Annotated[
        bool, typer.Option("--foreign", help="Of another program's layout; with --id or --all.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without this, only say what would go.")] = False,
    admin: AdminOption = DEFAULT_ADMIN,
    token_file: TokenOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Remove entries that all filters mean, from the store and from every sidecar that shares it.

    Without --yes nothing is removed. Answers on their way into the cache are purged with what is there.

    Example: aicache purge --model gpt-4o --older-than 3600 --token-file /run/secrets/aicache-admin --yes
    """
    words = {"id": id_, "scope": scope, "model": model, "rule": rule, "tag": tag}
    ages = {"older_than_s": older_than_s, "younger_than_s": younger_than_s}
    filters: dict[str, object] = {name: value for name, value in (words | ages).items() if value is not None}
    filters |= {name: True for name, wanted in (("all", everything), ("foreign", foreign)) if wanted}
    if flush:
        if filters:
            raise typer.BadParameter("is of everything; leave the filters out", param_hint="--flush")
        _tell(_flush(admin, token_file, yes=yes), output)
        return
    if not filters.keys() - {"foreign"}:
        raise typer.BadParameter("name a filter, or everything with --all", param_hint="--id, --model, ...")
    if id_ is not None:
        check_id(id_)
    _tell(_purge(admin, token_file, filters, yes=yes), output)


def _flush(admin: str, token_file: Path | None, *, yes: bool) -> dict[str, Any]:
    if not yes:
        return {"dry_run": True, "flush": True}
    return {
        "dry_run": False,
        "flush": True,
        **ask(admin, "/flush", token_file=token_file, body={}, timeout_s=CALL_S_MAX),
    }


def _purge(admin: str, token_file: Path | None, filters: Mapping[str, object], *, yes: bool) -> dict[str, Any]:
    """Call until the walk is over; what all calls said together."""
    document: dict[str, Any] = {"cursor": None}
    sums = dict.fromkeys(_SUMS, 0)
    entries: list[object] = []
    while True:
        body = {"filter": filters, "dry_run": not yes, "cursor": document["cursor"]}
        document = ask(admin, "/purge", token_file=token_file, body=body, timeout_s=CALL_S_MAX)
        sums = {name: total + document[name] for name, total in sums.items()}
        entries = entries or document["entries"]
        if document["cursor"] is None:
            return document | sums | {"entries": entries}


def _tell(document: Mapping[str, Any], output: Output) -> None:
    if output is Output.JSON:
        print_json(document)
    elif "flush" in document:
        said = "would put every entry out of reach" if document["dry_run"] else f"epoch {document['epoch']} begins"
        typer.echo(_with_way(said, document))
    else:
        typer.echo("\n".join(_purged(document)))


def _purged(document: Mapping[str, Any]) -> Iterator[str]:
    entries: Sequence[Mapping[str, Any]] = document["entries"]
    for entry in entries:
        tags = " ".join(entry["tags"])
        yield "  ".join(filter(None, (entry["id"], entry["model"], entry["rule"], _time(entry["created_s"]), tags)))
    more = document["matched"] - len(entries)
    if more > 0:
        yield f"and {more} more"
    count = document["matched"] if document["dry_run"] else document["removed"]
    said = f"{count} of {document['scanned']} keys " + ("would go" if document["dry_run"] else "are gone")
    yield _with_way(said, document)


def _with_way(said: str, document: Mapping[str, Any]) -> str:
    return f"{said}; nothing is done without --yes" if document["dry_run"] else said


def _lines(entry: Mapping[str, Any]) -> Iterator[str]:
    yield from table(
        [
            ("id", entry["id"]),
            ("scope", entry["scope"]),
            ("dialect", entry["dialect"]),
            ("model", entry["model"] or "-"),
            ("rule", entry["rule"]),
            ("tags", " ".join(entry["tags"]) or "-"),
            ("created", _time(entry["created_s"])),
            ("expires", "never" if entry["expires_s"] is None else _time(entry["expires_s"])),
        ]
    )
    for capture in entry["captures"]:
        facts = f"{size(capture['bytes'])}, {capture['content_type']}, took {capture['elapsed_s']:.3g} s"
        yield f"{capture['mode']}: {facts}, sha256 {capture['sha256']}"
        if "content" in capture:
            yield capture["content"]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if seconds else ""


def check_id(id_: str) -> None:
    """Refuse what is no id."""
    if not _ID.fullmatch(id_):
        raise typer.BadParameter(f"{id_!r} is not 32 hex digits, as in X-AI-Cache-Key", param_hint="ID")
