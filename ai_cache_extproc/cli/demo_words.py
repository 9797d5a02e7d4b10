"""What the demo prints: the table, what went wrong, and what to try next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from ai_cache_extproc.cli.demo_client import PATH, Answer

BODY_CHARS_MAX = 300
STYLES = {"HIT": "bold green", "MISS": "yellow"}


@dataclass(frozen=True, slots=True)
class Row:
    """One question and its answer. mode: `JSON` or `stream`."""

    question: str
    mode: str
    answer: Answer


def table_of(rows: Sequence[Row]) -> Table:
    """What happened, one line for each answer; narrow enough for 80 columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in ("question", "mode", "status", "age", "key"):
        table.add_column(column, no_wrap=True)
    for column in ("first byte", "total"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        headers = row.answer.headers
        status = row.answer.cache_status or "-"
        table.add_row(
            row.question,
            row.mode,
            Text(status, STYLES.get(status, "red")),
            headers.get("x-ai-cache-age", ""),
            headers.get("x-ai-cache-key", "")[:8],
            f"{row.answer.first_byte_ms:.0f} ms",
            f"{row.answer.total_ms:.0f} ms",
        )
    table.caption = "status, age and key are the headers X-AI-Cache-Status, -Age and -Key"
    table.caption_justify = "left"
    return table


def failure(mode: str, first: Answer, second: Answer, *, real: bool) -> str | None:
    """Why a pair of answers does not show a hit; None if it does."""
    for answer in (first, second):
        if answer.status != 200:
            return _refused(mode, answer, real=real)
    if second.cache_status == "HIT":
        return None if second.body == first.body else f"{mode}: the hit is not what the miss was, byte for byte"
    reasons = [answer.headers.get("x-ai-cache-reason", "") for answer in (first, second)]
    why = " and ".join(reason for reason in reasons if reason) or "no reason was given"
    return f"{mode}: the second answer was no hit but {second.cache_status or 'not seen by the sidecar'} ({why})"


def _refused(mode: str, answer: Answer, *, real: bool) -> str:
    who = "the provider" if real else "the demo upstream"
    said = answer.body[:BODY_CHARS_MAX].decode(errors="replace").strip()
    way_out = ""
    if real and answer.status in {401, 403}:
        way_out = "; set OPENAI_API_KEY to a key that it takes"
    elif answer.status == 404:
        way_out = "; choose another --model, or check the URL"
    elif answer.status == 503:
        who, way_out = "Envoy", "; it does not reach the upstream: check the URL, the network and the certificate"
    return f"{mode}: {who} answered {answer.status}{way_out}\n{said}"


def to_try(port: int, admin: int, *, model: str, real: bool) -> str:
    """Lines to paste."""
    url = f"http://127.0.0.1:{port}"
    key = ' -H "Authorization: Bearer $OPENAI_API_KEY"' if real else ""
    common = f"{url}{PATH} -H 'content-type: application/json'{key}"
    content = f'"model": "{model}", "messages": [{{"role": "user", "content": "Hello?"}}]'
    # What OpenAI(...) reads from the environment by itself.
    argument = "" if real else ', api_key="any"'
    return f"""
Try it, twice each:

curl -si {common} -d '{{{content}}}'
curl -sN {common} -d '{{{content}, "stream": true}}'

from openai import OpenAI
client = OpenAI(base_url="{url}/v1"{argument})
question = {{"role": "user", "content": "Hello?"}}
print(client.chat.completions.create(model="{model}", messages=[question]).choices[0].message.content)

Figures: http://127.0.0.1:{admin}/stats and /metrics. Ctrl-C stops everything."""
