"""`docs/metrics.md` from `telemetry/metrics.py`, and `docs/reasons.md` for the words of `model.Reason`."""

from __future__ import annotations

from collections.abc import Mapping

from ai_cache_extproc.model import Reason
from ai_cache_extproc.telemetry.metrics import FAMILIES
from tools.docs.tables import GENERATED, code, table

IN_HEADER = "known when the answer's headers pass, and shown in `X-AI-Cache-Reason`"
LATER = "known later, so not in a header: log line, metrics and dynamic metadata have it"

REASONS: Mapping[str, Mapping[Reason, str]] = {
    f"Why a request is bypassed ({IN_HEADER})": {
        Reason.SKIP_HEADER: "The client sent `x-higress-skip-ai-cache: on`.",
        Reason.NO_STORE: "The client sent `Cache-Control: no-store`, or asked for a lifetime of 0 (`controls.ttl_header`).",
        Reason.NO_RULE: "No rule of the configuration matches.",
        Reason.RULE_DISABLED: "The rule that matches says `enabled: false`.",
        Reason.BYPASS_ON: "A request header has a value that the rule lists under `bypass_on`.",
        Reason.NO_CREDENTIAL: "Nothing in the request says who is calling, and the rule does not say `anonymous: shared`.",
        Reason.NO_IDENTITY: "A part of the caller's identity that the rule requires (`scope.identity`) is missing or empty.",
        Reason.NO_KEY: "The identity key, under which entries are named, has not been read yet.",
        Reason.REQUEST_ENCODED: "The request body is compressed (`Content-Encoding`).",
        Reason.REQUEST_TOO_LARGE: "The request body is longer than `limits.request_bytes_max`.",
        Reason.PARTIAL_BODY: "Envoy showed only the beginning of the request body: it is longer than Envoy's buffer.",
        Reason.NOT_JSON: "The request body is not a JSON object.",
        Reason.BOM: "The request body begins with a byte order mark.",
        Reason.TRAILING_DATA: "Something follows the JSON value in the request body.",
        Reason.DUPLICATE_KEY: "A key stands twice in one object of the request body; parsers disagree on which counts.",
        Reason.NUMBER: "A number in the request body does not survive being read and written again.",
        Reason.TOO_DEEP: "The request body is nested deeper than `limits.json_depth_max`.",
        Reason.TOO_MANY_VALUES: "The request body holds more JSON values than `limits.json_values_max`.",
        Reason.NOT_UNDERSTOOD: "The request body lacks what its API demands, or has it in another shape.",
        Reason.SIDE_EFFECT: "The request asks the API to do something besides answering.",
        Reason.REMOTE_MEDIA: "The request refers to content behind an address, which may change.",
        Reason.SAMPLING: "The question is above the rule's temperature and has no seed.",
        Reason.STORE_ERROR: "The store could not be asked.",
    },
    "Why a lookup was a miss although an entry may exist": {
        Reason.STORE_TIMEOUT: "The store did not answer within `lookup.deadline_ms`.",
    },
    "Why a request is answered with 504 and not forwarded": {
        Reason.ONLY_IF_CACHED: "The client sent `Cache-Control: only-if-cached`, and no answer is kept that suits it.",
    },
    f"Why an answer is not kept ({IN_HEADER})": {
        Reason.STATUS: "The answer's status is not 200.",
        Reason.FALLBACK: "The answer came from another upstream or model than the rule's `pin` names.",
        Reason.CONTENT_TYPE: "The answer is neither JSON nor an event stream.",
        Reason.ANSWER_ENCODED: "The answer is compressed although no compression was asked for.",
        Reason.UPSTREAM_NO_STORE: "The upstream's `Cache-Control` or `Vary` forbids it.",
        Reason.SET_COOKIE: "The answer sets a cookie.",
        Reason.BAD_TAGS: "The answer's own `X-AI-Cache-Tags` are too many, or not tags; a purge could not find it.",
        Reason.ANSWER_TOO_LARGE: "The answer is longer than `limits.answer_bytes_max`, or than the rule's own.",
    },
    f"Why an answer is not kept ({LATER})": {
        Reason.CUT: "The answer, or the client's connection, ended before the API's own end of an answer.",
        Reason.IN_BAND_ERROR: "The answer carries an error although its status is 200.",
        Reason.FINISH_REASON: "The model stopped for a reason that may not repeat, such as `length` or `content_filter`.",
        Reason.EMPTY_ANSWER: "The answer holds nothing.",
        Reason.TOOL_CALLS: "The answer calls tools, and the rule says `keep_tool_calls: false`.",
        Reason.MORE_THAN_TEXT: "A template gives back only text, and the answer holds more: reasoning, a refusal, choices.",
        Reason.ANSWER_NOT_UNDERSTOOD: "The answer does not have the shape that its API describes.",
        Reason.CAPTURE_BUDGET: "All answers being collected together reach `limits.capture_bytes_max`.",
        Reason.QUEUE_FULL: "More answers wait to be stored than `write_queue` allows.",
    },
    "Faults": {
        Reason.PROTOCOL: "Envoy sent what it should not at this point, or a fault in the sidecar was caught.",
    },
}

ONLY_RUNNING = frozenset(
    {Reason.NO_KEY, Reason.PARTIAL_BODY, Reason.STORE_ERROR, Reason.STORE_TIMEOUT, Reason.PROTOCOL}
)
"""What neither a request nor the head of an answer says."""

METRICS_INTRODUCTION = f"""{GENERATED}

# Metrics

`GET /metrics` on the admin address, in Prometheus' text format. Labels are closed sets, apart from the names of
rules and the patterns of models in [`prices`](configuration.md#prices), which are configuration. `reason` takes the words of [reasons.md](reasons.md). How the figures of several worker
processes become one: [workers.md](workers.md#one-admin-address).

Tokens, money and seconds are counted by the models that `prices` names; all others are `other`, since what clients write never
becomes a label. Tokens are those that the upstream reported in its answer; an answer that says none, as a stream without a
usage chunk, counts none. What to look at, dashboard and alerts: [observability.md](observability.md).

```yaml
prices:
  - {{model: "gpt-4o-mini*", input_per_million: 0.15, output_per_million: 0.60, cached_input_per_million: 0.075}}
  - {{model: "qwen-plus*", input_per_million: 0.8, output_per_million: 2, currency: CNY}}
  - {{model: "*"}}   # counts the tokens of all others, and no money
```
"""

REASONS_INTRODUCTION = f"""{GENERATED}

# Reasons

One word says why the cache was not used, or why an answer was not kept. The same words stand in the header
`X-AI-Cache-Reason`, in log lines, in the dynamic metadata `ai_cache`, and in the label `reason` of
`aicache_bypass_total` and `aicache_store_total`.

`aicache explain` gives the same word for the same request, and with `--answer-status` and `--answer-header` for the
same answer. Only a running sidecar knows {", ".join(code(word) for word in sorted(ONLY_RUNNING))}.
"""


def metrics_page() -> str:
    """Every metric with its type, labels and meaning."""
    rows = ((code(family.name), family.kind, ", ".join(map(code, family.labels)), family.help) for family in FAMILIES)
    return f"{METRICS_INTRODUCTION}\n{table(('metric', 'type', 'labels', 'meaning'), rows)}\n"


def reasons_page() -> str:
    """Every reason word with its meaning; raises ValueError if one has none."""
    explained = [reason for group in REASONS.values() for reason in group]
    if sorted(explained) != sorted(Reason):
        raise ValueError(f"explain each of these once: {sorted(set(Reason) ^ set(explained)) or explained}")
    parts = [REASONS_INTRODUCTION]
    for title, group in REASONS.items():
        parts.append(f"## {title}\n")
        parts.append(table(("word", "meaning"), ((code(word), meaning) for word, meaning in group.items())) + "\n")
    return "\n".join(parts)
