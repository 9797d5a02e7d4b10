# ruff: noqa: RUF001  # Chinese text has Chinese punctuation
"""The decision rule: how two questions differ, and how alike they have to be for that."""

from __future__ import annotations

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_cache_extproc.cache.guards.classes import CLASSES, TEXT_CHARS_MAX, WORDS_MAX, classify
from ai_cache_extproc.cache.guards.rule import Mode, decide

CALLS_MAX = 200_000

CLASSED = [
    ("0", "How do I delete my account?", "How can I remove my account?"),
    ("0", "What is Kubernetes?", "Explain what Kubernetes is"),
    ("0", "Whats the colour of the tyre?", "what is the color of the tire"),
    ("0", "How do I reset my pasword?", "How do I reset my password?"),
    ("0", "How do I reset my passwrod?", "How do I reset my password?"),
    ("0", "How do I organise my wardrobe?", "How to organize my wardrobe?"),
    ("0", "Difference between TCP and UDP?", "Difference between UDP and TCP?"),
    ("0", "Who saw what?", "What saw who?"),
    ("0", "How much does a taxi cost?", "What is the price of a taxi?"),
    ("1", "How much is a taxi to the airport?", "What does a taxi to the airport cost?"),
    (
        "0",
        "How does a crocodile differ from an alligator?",
        "What is the diffrence between a crocodile and an alligator?",
    ),
    ("0", "My oven is broken", "my oven does not work"),
    ("0q", "How much tea should I drink?", "What tea should I drink?"),
    ("1", "How do I learn chess?", "What is a good way to learn chess?"),
    ("1", "How much is a stay of 2 weeks?", "How much is a stay of 14 days?"),
    ("0q", "Why did the empire fall?", "What was the fall of the empire?"),
    ("1q", "Why do people swim?", "What is a reason to swim?"),
    ("0f", "Is honey healthy?", "What is healthy about honey?"),
    ("0f", "Should I drink milk?", "Can I drink milk?"),
    ("1f", "Is chess easy?", "What is chess?"),
    ("R", "How do I bake soft bread at home?", "How do I grill bread at a cosy house?"),
    ("R", "Bake fresh bread at home", "Home cooking: rice, fresh"),
    ("P", "How do I bake bread at home?", "How do I quickly bake soft bread at home overnight?"),
    ("Iv", "How do I learn chess?", "How do I properly learn chess?"),
    ("I", "How do I renew a passport?", "How do I renew an Irish passport?"),
    ("I", "How do I apply for a visa?", "How do I apply for a student visa?"),
    ("E", "How do I bake soft bread in Oslo?", "How do I grill bread in the town of Bergen?"),
    ("E", "How do I bake bread at home?", "How do I bake Irish bread at home in Cork?"),
    ("S", "How long should I boil an egg?", "How long should I boil a potato?"),
    ("Sx", "Why do cats purr?", "When do cats purr?"),
    ("Sx", "How do I apply for a loan?", "Where do I apply for a loan?"),
    ("S", "How do I charge my plan?", "How do I change my plan?"),
    ("Sx", "What is the capital of Peru?", "What is the capital of Chile?"),
    ("Sx", "How do I install NumPy?", "How do I install SciPy?"),
    ("V", "How do I enable ssh?", "How do I disable ssh?"),
    ("0", "星星是什么", "什么是星星"),
    ("0", "请问怎么修改密码", "如何更改密码？"),
    ("1", "星星是什么", "星星到底是什么问题"),
    ("0r", "怎么开发票下载软件", "软件怎么下载开发票"),
    ("1r", "怎么修改密码账号", "账号怎么修改密码问题"),
    ("0q", "为什么会失眠", "会失眠吗"),
    ("1q", "为什么会失眠", "失眠问题吗"),
    ("0qr", "谁下载软件密码", "密码软件下载吗"),
    ("1qr", "谁下载软件密码", "问题密码软件下载吗"),
    ("I", "感冒吃什么药", "孕妇感冒吃什么药"),
    ("P", "怎么修改密码", "孕妇怎么修改登录密码"),
    ("R", "怎么修改密码登录手机", "怎么下载密码注册手机"),
    ("S", "绿茶有什么好处", "牛奶有什么好处"),
    ("Sx", "猫什么时候叫", "猫为什么叫"),
    ("V", "怎么打开更新", "怎么关闭更新"),
]

FORBIDDEN = [
    ("roles", "Trains from Leeds to York", "Trains from York to Leeds"),
    ("roles", "How do I convert a Word document to PDF?", "How do I convert a PDF to a Word document?"),
    ("roles", "Is Python faster than Go?", "Is Go faster than Python?"),
    ("roles", "Do cats chase dogs?", "Do dogs chase cats?"),
    ("roles", "I came from Leeds by train", "A train goes to Leeds"),
    ("roles", "Can my boss sue me?", "Can I sue my boss?"),
    ("roles", "北京到上海的火车", "上海到北京的火车"),
    ("roles", "如何把中文翻译成英文", "如何把英文翻译成中文"),
    ("roles", "猫为什么追狗", "狗为什么追猫"),
    ("roles", "密码转账号手机", "手机密码转账号"),
    ("reversal", "Should I water my cactus?", "Should I stop my watering of my cactus?"),
    ("reversal", "怎么预约挂号", "怎么取消预约挂号"),
    ("negation", "Why is my card working?", "Why is my card not working?"),
    ("contrast", "Eat with running", "Eat with running afterwards until dark"),
]


@pytest.mark.parametrize(("name", "a", "b"), CLASSED, ids=lambda text: text)
def test_a_pair_has_its_class(name: str, a: str, b: str) -> None:
    """How they differ decides, and it does not matter which was stored."""
    assert classify(a, b).name == name
    assert classify(b, a).name == name


def test_every_class_is_shown() -> None:
    """No class is without an example above."""
    assert set(CLASSES) == {name for name, _, _ in CLASSED}


@pytest.mark.parametrize(("guard", "a", "b"), FORBIDDEN, ids=lambda text: text)
def test_what_makes_a_pair_never_the_same_is_named(guard: str, a: str, b: str) -> None:
    """No similarity is enough, in any mode."""
    for mode in Mode:
        verdict = decide(a, b, 1.0, threshold=0.97, mode=mode, shift=-0.5)
        assert (verdict.serve, verdict.klass, verdict.guard, verdict.needed) == (False, "V", guard, math.inf)


@pytest.mark.parametrize(
    ("mode", "shift", "needed"),
    [
        (Mode.STRICT, 0.0, 0.97),
        (Mode.STRICT, -0.01, 0.97),
        (Mode.STRICT, 0.04, 0.975),
        (Mode.BALANCED, 0.0, 0.935),
        (Mode.BALANCED, -0.005, 0.93),
        (Mode.LOOSE, 0.0, 0.91),
        (Mode.LOOSE, 0.01, 0.92),
    ],
    ids=["strict", "strict-looser", "strict-stricter", "balanced", "balanced-looser", "loose", "loose-stricter"],
)
def test_a_mode_and_the_shift_move_what_is_needed(mode: Mode, shift: float, needed: float) -> None:
    """Equal content asks for .035 less than the threshold, but strict never for less than the threshold itself."""
    asked, stored = "How do I delete my account?", "How can I remove my account?"
    verdict = decide(asked, stored, needed, threshold=0.97, mode=mode, shift=shift)
    assert verdict.needed == pytest.approx(needed)
    assert decide(asked, stored, needed + 1e-9, threshold=0.97, mode=mode, shift=shift).serve
    assert not decide(asked, stored, needed - 1e-9, threshold=0.97, mode=mode, shift=shift).serve


@pytest.mark.parametrize(
    ("a", "b", "shift"),
    [
        ("How do I delete my account?", "How can I remove my account?", 0.025),
        ("怎么修改密码", "如何更改密码", 0.01),
        ("How do I apply for a visa?", "How do I apply for a student visa?", 0.0),
        ("What is the capital of Peru?", "What is the capital of Chile?", 0.0),
        ("How do I delete my account? " + "very " * 20, "How can I remove my account? " + "very " * 20, 0.0),
    ],
    ids=["equal", "zh-equal", "inserted", "name", "long"],
)
def test_loose_is_looser_only_where_traps_are_few(a: str, b: str, shift: float) -> None:
    """What asks for more than the threshold asks for as much as in balanced."""
    balanced, loose = (decide(a, b, 1.0, threshold=0.97, mode=mode).needed for mode in (Mode.BALANCED, Mode.LOOSE))
    assert balanced - loose == pytest.approx(shift)


@pytest.mark.parametrize(
    ("a", "b", "needed"),
    [
        ("What is the capital of Peru?", "What is the capital of Chile?", 0.992),
        ("How long should I boil an egg?", "How long should I boil a potato?", 0.985),
        ("星星是什么", "什么是星星", 0.962),
        ("星星是什么", "星星通常指什么", 0.975),
    ],
    ids=["name", "swap", "zh-equal", "zh-inserted"],
)
def test_each_class_asks_for_its_own_similarity(a: str, b: str, needed: float) -> None:
    """As measured, relative to the embedder's threshold."""
    assert decide(a, b, 1.0, threshold=0.97, mode=Mode.BALANCED).needed == pytest.approx(needed, abs=0.0081)
    shifted = decide(a, b, 1.0, threshold=0.93, mode=Mode.BALANCED).needed
    assert shifted == pytest.approx(decide(a, b, 1.0, threshold=0.97, mode=Mode.BALANCED).needed - 0.04)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (
            "How do I delete my account " + "very " * 20 + "today?",
            "How can I remove my account " + "very " * 20 + "today?",
        ),
        ("花草" * 25 + "怎么修改密码", "花草" * 25 + "如何更改密码"),
        ("Comment supprimer mon compte", "comment supprimer mon compte, merci merci"),
    ],
    ids=["long", "long-zh", "unknown-language"],
)
def test_long_questions_and_unknown_languages_need_the_threshold(a: str, b: str) -> None:
    """Where the lists say little, no class is relaxed."""
    assert decide(a, b, 1.0, threshold=0.97, mode=Mode.BALANCED).needed >= 0.97


def test_what_is_no_number_is_never_served() -> None:
    """A similarity that is not a number is above nothing."""
    assert not decide("a", "a", math.nan, threshold=0.97, mode=Mode.LOOSE).serve


def test_too_long_texts_are_equal_or_different() -> None:
    """Nobody looks into them."""
    long = "a" * (TEXT_CHARS_MAX + 1)
    many = "a b " * (WORDS_MAX // 2 + 1)
    assert classify(long, long).name == "0"
    assert classify(long, long + "b").guard == "length"
    assert classify(many, many).name == "0"
    assert classify(many, many + "b").guard == "length"


def test_many_unmatched_words_are_not_searched_for_typing_errors() -> None:
    """Every pair of them would be compared."""
    left = " ".join(f"alpha{letter}xx" for letter in "bcdefghij")
    right = " ".join(f"gamma{letter}yy" for letter in "bcdefghij")
    assert classify(left, right).name == "S"


TEXTS = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from(
            [
                "how",
                "do",
                "i",
                "not",
                "stop",
                "cancel",
                "from",
                "to",
                "leeds",
                "york",
                "2",
                "three",
                "weeks",
                "days",
                "C++",
                "MX492",
                "may",
                "last",
                "monday",
                "why",
                "when",
                "me",
                "sue",
                "怎么",
                "不",
                "没有",
                "取消",
                "二十",
                "三天",
                "周六",
                "上个月",
                "密码",
                "账号",
                "大",
                "小",
                "转",
                "到",
                "北京",
                "上海",
                "中文",
                "什么",
                "QQ",
                "?",
                "，",
                "和",
            ]
        ),
        max_size=12,
    ).map(" ".join),
)


@given(TEXTS, TEXTS)
def test_any_two_texts_are_classed_the_same_both_ways(a: str, b: str) -> None:
    """Whatever the texts are, nothing is raised and their order is of no matter."""
    assert classify(a, b) == classify(b, a)
    assert classify(a, b).name in CLASSES


@given(TEXTS)
def test_a_text_is_the_same_as_itself(text: str) -> None:
    """Class 0, without a guard."""
    assert (classify(text, text).name, classify(text, text).guard) == ("0", None)


@given(TEXTS, TEXTS, st.floats(-1, 1))
def test_a_looser_mode_serves_what_a_stricter_one_does(a: str, b: str, similarity: float) -> None:
    """Modes are nested."""
    serves = [decide(a, b, similarity, threshold=0.97, mode=mode).serve for mode in Mode]
    assert serves == sorted(serves)


@pytest.mark.parametrize(
    "unit",
    [
        "a ",
        "的",
        "不",
        "一",
        "9",
        "1,",
        "from a to b ",
        "'s ",
        "花",
        "大小",
        "how ",
        "not ",
        ".",
        "é",
        "\ud800",
        "能不能",
    ],
    ids=ascii,
)
def test_work_on_long_texts_is_bounded(unit: str) -> None:
    """Repetition of anything takes few calls: nothing grows with the square of a text."""
    longest = (unit * TEXT_CHARS_MAX)[: TEXT_CHARS_MAX - 1]
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        classify(longest, longest[:-1] + "b")
        classify(longest, "b" + longest[1:])
    finally:
        sys.setprofile(None)
    assert calls < CALLS_MAX
