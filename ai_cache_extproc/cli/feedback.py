"""`aicache wrong` and `shadow`: say that an answer was another question's, and see what serving by meaning would have done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from ai_cache_extproc.cli.asking import NoSidecar, Refused, ask, fetch
from ai_cache_extproc.cli.entries import CALL_S_MAX, AdminOption, TokenOption, check_id
from ai_cache_extproc.cli.figures import DEFAULT_ADMIN
from ai_cache_extproc.cli.output import Output, OutputOption, print_json
from ai_cache_extproc.cli.words import table

_REFUSED = frozenset({401, 403})


def wrong(
    id_: Annotated[str, typer.Argument(metavar="ID", help="32 hex digits: the X-AI-Cache-Key of the bad hit.")],
    *,
    admin: AdminOption = DEFAULT_ADMIN,
    token_file: TokenOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say of a hit by meaning that its answer was another question's: the two never match again.

    Both keep their own answers. Exit code 1 if there is no such hit; for an answer that is bad itself: aicache purge --id.

    Example: aicache wrong 0123456789abcdef0123456789abcdef --token-file /run/secrets/aicache-admin
    """
    check_id(id_)
    document = _parted(admin, token_file, id_)
    if output is Output.JSON:
        print_json(document)
    else:
        typer.echo("{} and {} never match again".format(*document["pair"]))


def _parted(admin: str, token_file: Path | None, id_: str) -> dict[str, Any]:
    """What the sidecar says; in a large store one call does not come to the end."""
    path = f"/entries/{id_}/wrong"
    while True:
        try:
            return ask(admin, path, token_file=token_file, body={}, timeout_s=CALL_S_MAX)
        except Refused as error:
            cursor = error.document.get("cursor")
            if not cursor:
                raise
            path = f"/entries/{id_}/wrong?{urlencode({'cursor': cursor})}"


def shadow(
    *,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="A line of JSON for each of the last decisions, for `aicache calibrate`.")
    ] = False,
    admin: AdminOption = DEFAULT_ADMIN,
    token_file: TokenOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show what rules in shadow mode would have served by meaning, and how much of it would have been wrong.

    Example: aicache shadow --pairs --token-file /run/secrets/aicache-admin > shadow.jsonl
    """
    if pairs:
        typer.echo(_lines_at(admin, token_file), nl=False)
        return
    document = ask(admin, "/shadow", token_file=token_file)
    if output is Output.JSON:
        print_json(document)
    elif document["rules"]:
        typer.echo("\n".join(line for rule, found in document["rules"].items() for line in _lines(rule, found)))
    else:
        typer.echo("no rule is in shadow mode; write `semantic: {shadow: {}}` in one whose `layers` have `semantic`")


def _lines_at(admin: str, token_file: Path | None) -> str:
    try:
        status, content = fetch(admin, "/shadow?pairs=true", token_file=token_file)
    except OSError as error:
        raise NoSidecar(f"no sidecar answers at {admin} ({error.strerror or error})") from error
    if status in _REFUSED:
        raise NoSidecar(f"{admin}: this needs the token of admin_access; name its file with --token-file")
    if status != 200:
        raise NoSidecar(f"what answers at {admin} is no sidecar's admin address (/shadow: {status})")
    return content.decode()


def _lines(rule: str, found: Mapping[str, Any]) -> Iterator[str]:
    semantic, exact = found["verdicts"]["semantic"], found["verdicts"]["exact"]
    yield from table(
        [
            ("rule", rule),
            (
                "questions looked up",
                f"{found['sampled']:g}" + (f", {found['dropped']:g} dropped" if found["dropped"] else ""),
            ),
            ("would have hit", _share(found["would_hit"])),
            ("of those", ", ".join(f"{count:g} {verdict}" for verdict, count in semantic.items())),
            ("would have been wrong", _share(found["wrong"])),
            ("the model against itself", _share(found["baseline"])),
            ("of pairs", f"{sum(exact.values()):g}"),
        ]
    )
    yield from _histogram(found["similarities"])


def _share(share: Mapping[str, float] | None) -> str:
    if share is None:
        return "nothing yet"
    spread = f"{share['low']:.1%} to {share['high']:.1%}"
    return f"{share['share']:.1%} ({share['count']:g} of {share['of']:g}; {spread} with 95 %)"


def _histogram(similarities: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """A line for each range of similarity in which something would have hit."""
    bounds = sorted({bound for counts in similarities.values() for bound in counts}, key=float)
    for bound in bounds:
        said = ", ".join(f"{counts[bound]:g} {verdict}" for verdict, counts in similarities.items() if bound in counts)
        yield f"  similarity up to {bound}: {said}"
