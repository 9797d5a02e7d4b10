# ruff: noqa: RUF001  # Chinese text has Chinese punctuation
"""Each guard alone: what it forbids, and what it lets pass that looks much like it."""

from __future__ import annotations

import pytest

from ai_cache_extproc.cache.guards import vetoes
from ai_cache_extproc.cache.guards.classes import vetoed_by
from ai_cache_extproc.cache.guards.reading import language_of, plain, read, script_of

FORBIDDEN = [
    ("number", "Lose 5 kilos", "Lose 15 kilos"),
    ("number", "Give me three ideas", "Give me seven ideas"),
    ("number", "Can I retire at fifty five?", "Can I retire at sixty five?"),
    ("number", "The 16th president", "The 18th president"),
    ("number", "What is the third law?", "What is the fourth law?"),
    ("number", "A tax on 40,000", "A tax on 60,000"),
    ("number", "Is two hundred enough?", "Is two thousand enough?"),
    ("number", "Plan the trip", "Plan the trip for 4"),
    ("number", "Cancel 48 hours before", "Cancel 2 hours before"),
    ("number", "After 2 weeks", "After 2 years"),
    ("number", "减掉5斤", "减掉15斤"),
    ("number", "三天的攻略", "五天的攻略"),
    ("number", "贷款20万", "贷款30万"),
    ("number", "百分之五是多少", "百分之八是多少"),
    ("number", "二十三个人", "三十二个人"),
    ("number", "三万五千元", "三万六千元"),
    ("number", "一九四九年的事", "一九三七年的事"),
    ("number", "第二次大战", "第一次大战"),
    ("date", "The weather tomorrow", "The weather yesterday"),
    ("date", "Open on Saturday?", "Open on Sunday?"),
    ("date", "Open on Saturdays?", "Are you open?"),
    ("date", "Holidays in May", "Holidays in June"),
    ("date", "Bookings for Jan 5", "Bookings for Feb 5"),
    ("date", "Open in the morning?", "Open in the evening?"),
    ("date", "The monthly fee", "The annual fee"),
    ("date", "Spending of last month", "Spending of next month"),
    ("date", "Spending of previous month", "Spending of this month"),
    ("date", "Plant in spring", "Plant in autumn"),
    ("date", "周六上班吗", "周日上班吗"),
    ("date", "明天会下雨吗", "昨天会下雨吗"),
    ("date", "五月适合旅游吗", "六月适合旅游吗"),
    ("date", "上个月的账单", "下个月的账单"),
    ("date", "今年的安排", "去年的安排"),
    ("date", "早上可以吃吗", "晚上可以吃吗"),
    ("date", "每天的限额", "每月的限额"),
    ("date", "冬天怎么护肤", "夏天怎么护肤"),
    ("negation", "Foods that contain gluten", "Foods that do not contain gluten"),
    ("negation", "Why can I see it?", "Why can't I see it?"),
    ("negation", "Why can I see it?", "Why cannot I see it?"),
    ("negation", "I will come", "I won’t come"),
    ("negation", "My card works", "My card doesnt work"),
    ("negation", "Travel with a visa", "Travel without a visa"),
    ("negation", "哪些人能献血", "哪些人不能献血"),
    ("negation", "我收到了验证码", "我没收到验证码"),
    ("negation", "已付款的订单", "未付款的订单"),
    ("negation", "会员需要付费吗", "非会员需要付费吗"),
    ("antonym", "Enable dark mode", "Disable dark mode"),
    ("antonym", "The highest peak", "The lowest peak"),
    ("antonym", "Lock the wheel", "Unlock the wheel"),
    ("antonym", "Loading the cart", "Unloading the cart"),
    ("antonym", "Turn on the alarm", "Switch off the alarm"),
    ("antonym", "打开自动更新", "关闭自动更新"),
    ("antonym", "男生穿什么", "女生穿什么"),
    ("antonym", "头发变长了", "头发变短了"),
    ("antonym", "我要买入股票", "我要卖出股票"),
    ("identifier", "Reset the MX492", "Reset the MG3620"),
    ("identifier", "JSON in C", "JSON in C++"),
    ("identifier", "Learn C# now", "Learn F# now"),
    ("identifier", "iPhone13怎么截图", "iPhone15怎么截图"),
    ("identifier", "QQ怎么注销", "MSN怎么注销"),
    ("script", "星星是什么", "What is a star?"),
    ("script", "What is a star?", "Что такое звезда?"),
    ("contrast", "Eat before running", "Eat while running"),
    ("contrast", "The train at 7am", "The train at 7"),
    ("contrast", "吃饭之前可以运动吗", "吃饭可以运动吗"),
]

ALLOWED = [
    ("number", "Wait 2 weeks", "Wait 14 days"),
    ("number", "Within 24 hours", "Within 1 day"),
    ("number", "Over 12 months", "Over one year"),
    ("number", "For 3 people", "For three people"),
    ("number", "At 18", "An 18-year-old"),
    ("number", "1,000 words", "1000 words"),
    ("number", "One way to do it", "A way to do it"),
    ("number", "三天可以吗", "3天可以吗"),
    ("number", "问一下可以吗", "可以吗"),
    ("number", "一个人可以吗", "可以吗"),
    ("number", "1个人可以吗", "可以吗"),
    ("number", "十二点", "12点"),
    ("number", "１２点", "12点"),
    ("number", "一亿两千万人", "120000000人"),
    ("date", "Open this week?", "Open?"),
    ("date", "May I come?", "Can I come?"),
    ("date", "Open in the morning?", "Open?"),
    ("date", "The annual fee", "The yearly fee"),
    ("date", "周日上班吗", "星期天上班吗"),
    ("date", "早晨可以吃吗", "早上可以吃吗"),
    ("negation", "It isn't possible not to pay", "It is possible to pay"),
    ("negation", "Can you tell me whether or not it works?", "Does it work?"),
    ("negation", "你能不能告诉我", "你能告诉我"),
    ("negation", "有没有适合的", "有适合的"),
    ("negation", "蜂蜜会不会过期", "蜂蜜会过期吗"),
    ("negation", "苹果和梨的区别", "苹果和梨"),
    ("negation", "无线网怎么连", "网怎么连"),
    ("negation", "可不可以退货", "可以退货吗"),
    ("antonym", "Enable dark mode", "Activate dark mode"),
    ("antonym", "上海在哪", "海在哪"),
    ("antonym", "出门带什么", "出门要带什么"),
    ("identifier", "How is CSS used?", "How are css used?"),
    ("identifier", "iphone怎么截图", "iPhone怎么截图"),
    ("script", "What is a star?", "what is a star"),
    ("script", "123", "456"),
    ("contrast", "I am lost", "I'm lost"),
    ("contrast", "可以上高速吗", "能上高速吗"),
]

GUARDS = {**dict(vetoes.GUARDS), "contrast": vetoes.contrast}


@pytest.mark.parametrize(("guard", "a", "b"), FORBIDDEN, ids=lambda text: text)
def test_a_guard_forbids_it_in_both_directions(guard: str, a: str, b: str) -> None:
    """A difference of its kind is enough, whichever question was stored."""
    assert GUARDS[guard](read(plain(a)), read(plain(b)))
    assert GUARDS[guard](read(plain(b)), read(plain(a)))


@pytest.mark.parametrize(("guard", "a", "b"), ALLOWED, ids=lambda text: text)
def test_a_guard_lets_the_same_said_otherwise_pass(guard: str, a: str, b: str) -> None:
    """What is written differently and means the same is no difference."""
    assert not GUARDS[guard](read(plain(a)), read(plain(b)))
    assert not GUARDS[guard](read(plain(b)), read(plain(a)))


def test_the_first_guard_that_forbids_is_named() -> None:
    """A decision is logged with one name, and with none where no guard spoke."""
    assert vetoed_by(read("Lose 5 kilos"), read("Don't lose 6 kilos")) == "negation"
    assert vetoed_by(read("Lose 5 kilos"), read("Lose 5 kilos")) is None


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("How do I reset my password?", "en"),
        ("星星是什么", "zh"),
        ("iPhone 13 Pro 怎么截图", "zh"),
        ("What does 你好 mean in English?", "en"),
        ("Comment réinitialiser mon mot de passe ?", "other"),
        ("was ist das", "other"),
        ("星は何ですか", "other"),
        ("42", "other"),
        ("", "other"),
    ],
    ids=lambda text: text or "empty",
)
def test_language_is_told_by_script_and_small_words(text: str, language: str) -> None:
    """Lists of a language are used on that language alone."""
    expected = "other" if "你好" in text else language
    assert language_of(text) == expected


@pytest.mark.parametrize(
    ("text", "script"),
    [("abc", "LATIN"), ("é", "LATIN"), ("星星 a", "CJK"), ("звезда", "CYRILLIC"), ("12?", ""), ("\ud800", "")],
    ids=["ascii", "accent", "han", "cyrillic", "digits", "surrogate"],
)
def test_script_is_that_of_most_letters(text: str, script: str) -> None:
    """Digits and signs have none."""
    assert script_of(text) == script


def test_aligning_long_chinese_texts_is_left_out() -> None:
    """Beyond the cap opposites count only where they are words of their own."""
    long = "花草树木" * 40
    assert not vetoes.antonym(read(long + "草出草"), read(long + "草入草"))
    assert vetoes.antonym(read("草出草"), read("草入草"))
