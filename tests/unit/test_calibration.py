"""What a threshold serves of labelled pairs, and which threshold keeps an error budget."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ai_cache_extproc.cache.guards.classes import Classed
from ai_cache_extproc.cache.guards.rule import Mode, decide
from ai_cache_extproc.cli import pairs
from ai_cache_extproc.cli.calibration import Curve, groups_of, limit, thresholds_for
from ai_cache_extproc.cli.pairs import BadPairs, Pair, Sample, fow, ours, read_pairs
from ai_cache_extproc.telemetry.share import Share

SWAPPED = Classed("S", None, "en", is_long=False)
FORBIDDEN = Classed("V", "number", "en", is_long=False)


def samples(same: list[float], different: list[float], *, classed: Classed = SWAPPED) -> list[Sample]:
    """Pairs of one meaning and others, by their cosines; without guards a limit is a cosine."""
    return [Sample(each, True, classed) for each in same] + [Sample(each, False, classed) for each in different]


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [(0, 159, 0.0, 0.0236), (139, 300, 0.4077, 0.5198), (300, 300, 0.9874, 1.0), (0, 0, 0.0, 1.0)],
    ids=["none", "half", "all", "no-pairs"],
)
def test_a_share_comes_with_its_wilson_interval(count: int, of: int, low: float, high: float) -> None:
    """As the textbook has it, and never beyond 0 and 1."""
    share = Share(count, of)
    assert share.low == pytest.approx(low, abs=1e-4)
    assert share.high == pytest.approx(high, abs=1e-4)


@pytest.mark.parametrize("mode", Mode)
def test_a_limit_is_where_the_rule_stops_serving(mode: Mode) -> None:
    """Just below it a pair is served, just above it is not."""
    asked, stored = "How do I delete my account?", "How can I remove my account?"
    found = limit(Sample(0.98, True, Classed("0", None, "en", is_long=False)), mode)
    assert decide(asked, stored, 0.98, threshold=found - 1e-6, mode=mode).serve
    assert not decide(asked, stored, 0.98, threshold=found + 1e-6, mode=mode).serve


def test_what_guards_forbid_is_served_at_no_threshold() -> None:
    """However low."""
    curve = Curve(samples([0.9], [0.99], classed=FORBIDDEN), Mode.LOOSE)
    assert curve.at(-1.0).hits == Share(0, 1)
    assert curve.at(-1.0).wrong == Share(0, 1)
    found = curve.lowest(0.02).found
    assert found is not None
    assert found.hits == Share(0, 1)


def test_the_lowest_threshold_within_a_budget_is_found() -> None:
    """One of a hundred may be served at 1 %, two at 2 %."""
    curve = Curve(samples([0.7, 0.8, 0.95], [0.9, 0.8, 0.6, *[0.5] * 97]), None)
    found = [curve.lowest(budget).found for budget in (0.005, 0.01, 0.02)]
    assert [each and each.threshold for each in found] == [0.901, 0.801, 0.601]
    assert [each and each.hits.count for each in found] == [1, 1, 3]


def test_a_budget_that_all_pairs_keep_asks_for_no_more_than_the_hits_do() -> None:
    """Where even every pair served is within it, the threshold is that of the least similar hit."""
    found = Curve(samples([0.72, 0.9], [0.9] + [0.95] * 2), None).lowest(0.5)
    assert found.found is not None
    assert found.found.threshold == 0.951
    everything = Curve([*samples([0.72, 0.9], []), *samples([], [0.5], classed=FORBIDDEN)], None).lowest(0.5).found
    assert everything is not None
    assert everything.hits == Share(2, 2)


def test_a_promise_needs_enough_pairs() -> None:
    """At 2 % that is 189 pairs of different meaning without a wrong hit among them."""
    few = Curve(samples([0.9], [0.5] * 100), None).lowest(0.02)
    assert few.promised is None
    assert few.different_needed == 189
    many = Curve(samples([0.9], [0.5] * 300 + [0.8]), None).lowest(0.02)
    assert many.promised is not None
    assert (many.promised.threshold, many.promised.wrong.count) == (0.501, 1)


def test_no_threshold_helps_where_wrong_pairs_are_as_similar_as_can_be() -> None:
    """A cosine of 1 is served at any threshold."""
    advice = Curve(samples([0.9], [1.0, 1.0]), None).lowest(0.02)
    assert (advice.found, advice.promised) == (None, None)
    assert Curve(samples([0.9], []), None).lowest(0.02).found is None


def test_a_table_shows_the_default_among_a_few_thresholds() -> None:
    """Whatever scale an embedder has."""
    for lowest, default in ((0.9, 0.97), (0.3, 0.4), (0.99, None)):
        found = thresholds_for(samples([lowest] * 9 + [1.0] * 9, []), default)
        assert default is None or default in found
        assert found == sorted(found)
        assert len(found) <= 16
        assert found[0] <= lowest


def test_languages_are_shown_apart_where_there_are_several() -> None:
    """Of some size; together they are shown always."""
    chinese = samples([0.9] * 20, [], classed=Classed("0", None, "zh", is_long=False))
    assert list(groups_of(chinese)) == ["all"]
    english = samples([0.9] * 20, [])
    assert list(groups_of([*chinese, *english])) == ["all", "en", "zh"]
    assert list(groups_of([*chinese, *english[:19]])) == ["all"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_our_pairs_are_enough_of_every_kind(language: str) -> None:
    """At least 300, none twice, with traps of ten kinds in both halves."""
    found = ours(language)
    assert len(found) >= 300
    assert len({frozenset(pair[:2]) for pair in found}) == len(found)
    for half in (found[::2], found[1::2]):
        assert {pair.kind for pair in half if pair.is_same} == {"near_repeat", "paraphrase"}
        assert {pair.kind for pair in half if not pair.is_same} == {
            "antonym", "date", "direction", "entity", "identifier", "intent", "negation", "number", "scope"
        }  # fmt: skip


def test_the_pairs_of_fow_cache_are_read_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """And asked for where it is not."""
    found = fow()
    assert (len(found), sum(pair.is_same for pair in found)) == (600, 300)
    assert read_pairs(["zh", "fow-cache"]).pairs == [*ours("zh"), *found]
    monkeypatch.setattr(pairs, "find_spec", lambda _: None)
    with pytest.raises(BadPairs, match=r"pip install fow-cache==0\.1\.0"):
        fow()


def test_a_file_of_pairs_is_read_as_people_write_it(tmp_path: Path) -> None:
    """With a line of names, comments, empty lines, Windows' line ends, a mark at its start, and kinds or none."""
    path = tmp_path / "mine.tsv"
    text = "label\tquestion\tquestion\r\n# mine\r\n\r\nsame\ta b\tc\r\n0\t 星\u2028星 \te\tentity\r\n"
    path.write_text(text, encoding="utf-8-sig", newline="")
    read = read_pairs([str(path)])
    assert read.pairs == [Pair("a b", "c", True, ""), Pair("星\u2028星", "e", False, "entity")]


BAD_LINES = [
    ("maybe\ta\tb", '"maybe" is no label; write same or different'),
    ("same\ta", "has 2 columns; write LABEL, QUESTION, QUESTION"),
    ("same\ta\t ", "lacks a question; write both"),
    ("same\ta\t" + "b" * 20_000, "at most 20000 are read"),
    ('{"similarity": 2, "verdict": "same", "class": "0"}', '"similarity" is 2; write the cosine'),
    ('{"similarity": true, "verdict": "same", "class": "0"}', '"similarity" is True; write the cosine'),
    ('{"similarity": 1, "verdict": "right", "class": "0"}', '"verdict" is right; write same, alike, different, unsure'),
    ('{"similarity": 1, "verdict": "same", "class": "Q"}', '"class" is Q; write one of 0, 1'),
    ('{"similarity": 1, "verdict": "same", "class": "0", "language": "fr"}', '"language" is fr; write one of en, zh'),
    ("{nonsense", "is no JSON object; write"),
    ("{" * 9_000, "is no JSON object; write"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES, ids=[reason[:24] for _, reason in BAD_LINES[:-1]] + ["deep"])
def test_a_line_that_cannot_be_read_is_named_with_its_way_out(tmp_path: Path, line: str, reason: str) -> None:
    """By file and number."""
    path = tmp_path / "mine"
    first = '{"similarity": 0.9, "verdict": "same", "class": "0"}' if line.startswith("{") else "same\ta\tb"
    path.write_text(f"{first}\n\n{line}\n")
    with pytest.raises(BadPairs) as raised:
        read_pairs([str(path)])
    assert str(raised.value).startswith(f"{path}:3: ")
    assert reason in str(raised.value)


def test_of_many_faults_a_few_are_shown(tmp_path: Path) -> None:
    """And how many there are beside them."""
    path = tmp_path / "mine.tsv"
    path.write_text("x\n" * 8)
    with pytest.raises(BadPairs) as raised:
        read_pairs([str(path)])
    lines = str(raised.value).splitlines()
    assert (len(lines), lines[-1]) == (6, f"{path}: and 3 more")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be read"), (b"\xff\xfe", "is no UTF-8"), (b"# nothing\n", "there are no labelled pairs in")],
    ids=["missing", "not-utf-8", "empty"],
)
def test_a_file_without_pairs_is_said_to_be_so(tmp_path: Path, content: bytes | None, reason: str) -> None:
    """With what may be named instead."""
    path = tmp_path / "mine.tsv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadPairs, match=reason):
        read_pairs([str(path)])


def test_verdicts_of_shadow_mode_are_labels(tmp_path: Path) -> None:
    """`alike` counts as the same, and what it is not sure of is left out."""
    path = tmp_path / "shadow.jsonl"
    lines = [{"similarity": 0.97, "verdict": verdict, "class": "R"} for verdict in pairs.VERDICTS]
    path.write_text("\n".join(json.dumps(line | {"language": "zh", "asked_chars": 7}) for line in lines))
    read = read_pairs([str(path)])
    assert [sample.is_same for sample in read.samples] == [True, True, False]
    assert read.samples[0].classed == Classed("R", None, "zh", is_long=False)
    assert read.unsure == 1
