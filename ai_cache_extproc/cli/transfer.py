"""`aicache export` and `import`: entries of a running sidecar into a file, and back."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

import typer

from ai_cache_extproc import __version__
from ai_cache_extproc.cli.asking import ask
from ai_cache_extproc.cli.entries import CALL_S_MAX, AdminOption, TokenOption
from ai_cache_extproc.cli.figures import DEFAULT_ADMIN
from ai_cache_extproc.cli.output import Output, OutputOption, print_json
from ai_cache_extproc.cli.progress import progress
from ai_cache_extproc.cli.transfer_file import Writer, check_whole, entries_of, reading, writing
from ai_cache_extproc.cli.words import size, table

BATCH_BYTES = 256 * 1024
"""Of values in one call: what a sidecar reads or writes between two requests of others."""
BATCH_ENTRIES = 100
_PAGE = 500

Item = TypeVar("Item")
_WORDS = {
    "alias": "aliases, which come again by themselves",
    "done": "kept",
    "known": "there already, as new or newer",
    "expired": "expired",
    "purged": "purged",
    "gone": "gone meanwhile, or another epoch's",
    "too_large": "too large for one call",
    "unreadable": "not readable",
}


def export(  # noqa: PLR0913 - a filter each
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Is written, for its owner alone (mode 0600).")],
    *,
    id_: Annotated[str | None, typer.Option("--id", metavar="ID", help="32 hex digits, as in X-AI-Cache-Key.")] = None,
    scope: Annotated[str | None, typer.Option("--scope", help="Of one caller: 16 hex digits.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="As the client named it.")] = None,
    rule: Annotated[str | None, typer.Option("--rule", help="That kept the entry.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="That the entry has.")] = None,
    older_than_s: Annotated[float | None, typer.Option("--older-than", metavar="SECONDS")] = None,
    younger_than_s: Annotated[float | None, typer.Option("--younger-than", metavar="SECONDS")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over FILE.")] = False,
    admin: AdminOption = DEFAULT_ADMIN,
    token_file: TokenOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Write entries that all filters mean, everything without one, into FILE.

    It holds what callers were told, and what they asked where a rule matches by meaning.

    The sidecar keeps what it has. Entries that expired or were purged are left out, and those of another program's layout.

    Example: aicache export answers.jsonl --model gpt-4o --token-file /run/secrets/aicache-admin
    """
    words = {"id": id_, "scope": scope, "model": model, "rule": rule, "tag": tag}
    ages = {"older_than_s": older_than_s, "younger_than_s": younger_than_s}
    filters = {name: value for name, value in (words | ages).items() if value is not None}
    origin = ask(admin, "/export", token_file=token_file)
    head = {
        "version": __version__,
        "made_s": round(time.time(), 3),
        **{name: origin[name] for name in ("mark", "prefix", "sealed")},
        "filter": filters,
    }
    left_out: Counter[str] = Counter()
    with writing(file, replace=force) as sink, progress("entries") as advance:
        writer = Writer(sink, head)
        for batch in _batches(_listed(admin, token_file, filters)):
            keys = batch
            while keys:
                given = _post(admin, token_file, "/export", {"keys": keys})
                for entry in given["entries"]:
                    writer.add(entry)
                keys = [key for key, reason in given["left_out"].items() if reason == "later"]
                left_out.update(reason for reason in given["left_out"].values() if reason != "later")
                advance(len(given["entries"]))
        writer.end()
        size_bytes = sink.tell()
    document = {"file": str(file), "entries": writer.entries, "bytes": size_bytes, "left_out": left_out}
    if output is Output.JSON:
        print_json(document | {"sealed": origin["sealed"]})
        return
    clear = "their answers are encrypted" if origin["sealed"] else "their answers stand there in clear"
    typer.echo(f"{writer.entries} entries in {file} ({size(size_bytes)}); {clear}")
    _tell_counts(left_out, "left out")


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="As `aicache export` wrote it.")],
    *,
    admin: AdminOption = DEFAULT_ADMIN,
    token_file: TokenOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Put the entries of FILE into the store of a running sidecar that has the same identity key and key_prefix.

    What expired is left out, what is there already and as new stays, and what was purged there stays away.
    Exit code 1 if the file was cut or changed, or belongs to another key: then nothing is written; and if an entry cannot be read.

    Example: aicache import answers.jsonl --token-file /run/secrets/aicache-admin
    """
    counts: Counter[str] = Counter()
    with reading(file) as source:
        head, entries = check_whole(source, file)
        origin = {name: head.get(name) for name in ("format", "mark", "prefix", "sealed")}
        # Before anything else, whether they may come in at all.
        _post(admin, token_file, "/import", origin | {"entries": []})
        with progress("entries", total=entries) as advance:
            for batch in _batches(entries_of(source, file)):
                taken = _post(admin, token_file, "/import", origin | {"entries": batch})
                counts.update(taken["counts"])
                advance(len(batch))
    if output is Output.JSON:
        print_json({"file": str(file), "entries": entries, "counts": counts})
    else:
        typer.echo(f"{counts['done']} of {entries} entries of {file} are kept")
        _tell_counts(counts, "")
    if counts["unreadable"]:
        raise typer.Exit(1)


def _tell_counts(counts: Mapping[str, int], label: str) -> None:
    rows = [(str(count), f"{label} {_WORDS[word]}".strip()) for word, count in counts.items() if word != "done"]
    typer.echo("\n".join(table(rows, indent="  ")), nl=bool(rows))


def _listed(admin: str, token_file: Path | None, filters: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Keys of the entries that the filters mean, each once, with what their values weigh."""
    seen: set[str] = set()
    query = {**filters, "limit": _PAGE}
    while True:
        page = ask(admin, f"/entries?{urlencode(query)}", token_file=token_file, timeout_s=CALL_S_MAX)
        for entry in page["entries"]:
            if entry["key"] is not None and entry["key"] not in seen:
                seen.add(entry["key"])
                yield entry["key"], entry["bytes"]
        if page["cursor"] is None:
            return
        query["cursor"] = page["cursor"]


def _batches(items: Iterator[tuple[Item, int]]) -> Iterator[list[Item]]:
    """So many as go into one call. items: with what they weigh."""
    batch: list[Item] = []
    weight = 0
    for item, bytes_ in items:
        if batch and (weight + bytes_ > BATCH_BYTES or len(batch) >= BATCH_ENTRIES):
            yield batch
            batch, weight = [], 0
        batch.append(item)
        weight += bytes_
    if batch:
        yield batch


def _post(admin: str, token_file: Path | None, path: str, body: object) -> dict[str, Any]:
    return ask(admin, path, token_file=token_file, body=body, timeout_s=CALL_S_MAX)
