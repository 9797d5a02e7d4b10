"""Patterns with stars: what they match, and that no pattern is slow."""

from __future__ import annotations

import pytest

from ai_cache_extproc.config.patterns import AnyOf, Hosts, Wildcard


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("/v1/chat", "/v1/chat", True),
        ("/v1/chat", "/v1/chat/", False),
        ("*", "", True),
        ("*", "anything", True),
        ("/v1/*", "/v1/", True),
        ("/v1/*", "/v1", False),
        ("*/chat", "/v1/chat", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "acb", False),
        ("a*bb*b", "abb", False),
        ("a*bb*b", "abbb", True),
        ("*ab*b*", "ab", False),
        ("*ab*b*", "abb", True),
        ("**", "x", True),
        ("[a-z]?", "b?", False),
        ("[a-z]?", "[a-z]?", True),
    ],
)
def test_a_star_stands_for_any_run_and_all_else_for_itself(pattern: str, text: str, expected: bool) -> None:
    """Only the star has a meaning; the whole text has to match."""
    assert expected is Wildcard.of(pattern).matches(text)


@pytest.mark.parametrize(
    ("pattern", "authority", "expected"),
    [
        ("api.example.com", "API.Example.com", True),
        ("API.example.com", "api.example.com:8443", True),
        ("api.example.com:443", "api.example.com", False),
        ("api.example.com:443", "api.example.com:443", True),
        ("api.example.com:443", "api.example.com:8443", False),
        ("api.example.com:*", "api.example.com:8443", True),
        ("api.example.com:*", "api.example.com", False),
        ("*.example.com", "api.example.com:8443", True),
        ("*.example.com", "example.com", False),
        ("*:8443", "api.example.com:8443", True),
        ("[::1]", "[::1]:8080", True),
        ("[::1]", "[::1]", True),
        ("[::1]:8080", "[::1]:8080", True),
    ],
)
def test_a_host_pattern_without_a_port_matches_any_port(pattern: str, authority: str, expected: bool) -> None:
    """Hosts are compared without case; a port counts only where the pattern has one."""
    assert expected is Hosts.of([pattern]).matches(authority)


def test_any_of_several_is_enough() -> None:
    """Plain patterns and patterns with stars stand in one list."""
    patterns = AnyOf.of(["/a", "/b*"])
    assert [True, True, False] == [patterns.matches(text) for text in ("/a", "/bc", "/ab")]
    assert [False, True] == [patterns.empty, AnyOf.of([]).empty]
    assert [False, False, True] == [Hosts.of(["a"]).empty, Hosts.of(["a:1"]).empty, Hosts.of([]).empty]


def test_no_pattern_is_tried_twice() -> None:
    """What is exponential for a careless expression ends at once here."""
    assert not Wildcard.of("a*" * 2000 + "b").matches("a" * 50_000)
