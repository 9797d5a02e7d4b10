"""What every question to Gemini must be, for an answer as for a count of tokens, and what its path says.

Google reads names in camelCase and in snake_case alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import unquote_plus

from ai_cache_extproc.dialects.openai_chat_request import no_question
from ai_cache_extproc.dialects.window import Turn
from ai_cache_extproc.errors import DialectError
from ai_cache_extproc.meaning import Place, Unfit
from ai_cache_extproc.model import Mode, Reason

GENERATE = ":generateContent"
STREAM = ":streamGenerateContent"
COUNT = ":countTokens"

# How an answer travels; `$alt` is its other spelling.
_ALT = ("alt", "$alt")
# Members that read from what the upstream keeps, or have it keep something: a prompt, a log, an answer begun earlier,
# media in a bucket.
_SIDE_EFFECTS = ("cachedContent", "store", "continuationToken", "outputConfig")
# What the caller runs. All other tools run at the upstream: search, maps, fetching, code, retrieval, MCP.
_OWN_TOOLS = ("functionDeclarations", "computerUse")


def split_path(path: str) -> tuple[str, list[str], list[str]]:
    """A whole `:path` as its part before the query, the values of `alt`, and the other fields of the query."""
    before, _, query = path.partition("?")
    alts, others = [], []
    for field in query.split("&") if query else ():
        name, _, value = field.partition("=")
        if unquote_plus(name) in _ALT:
            alts.append(unquote_plus(value))
        else:
            others.append(field)
    return before, alts, others


def mode_of(path: str) -> Mode:
    """How the answer is to travel. Raises DialectError(NOT_UNDERSTOOD) for a way that is not JSON or its stream."""
    before, alts, _ = split_path(path)
    if before.endswith(STREAM):
        modes = {(): Mode.ARRAY, ("json",): Mode.ARRAY, ("sse",): Mode.STREAM}
    else:
        modes = {(): Mode.JSON, ("json",): Mode.JSON}
    mode = modes.get(tuple(alts))
    if mode is None:
        raise no_question("alt is neither json nor sse")
    return mode


def target_of(path: str) -> str:
    """The path of the same question for one JSON answer."""
    before, _, others = split_path(path)
    if before.endswith(STREAM):
        before = before.removesuffix(STREAM) + GENERATE
    return "?".join((before, "&".join(others))) if others else before


def model_of(path: str) -> str:
    """The model that the path names."""
    return path.partition("?")[0].rpartition("/")[2].partition(":")[0]


def refuse_unknown_contents(body: Mapping[str, object]) -> None:
    """Raises DialectError: NOT_UNDERSTOOD, or REMOTE_MEDIA for files, which are at the upstream or elsewhere.

    What stands there may change, or be gone.
    """
    contents = listed(member(body, "contents"))
    if not contents:
        raise no_question("contents is empty")
    for content in (*contents, *listed(member(body, "systemInstruction"))):
        if not isinstance(content, dict):
            raise no_question("a content is not an object")
        if any(member(part, "fileData") is not None for part in _parts(content)):
            raise DialectError(Reason.REMOTE_MEDIA, "a part names a file")


def refuse_side_effects(body: Mapping[str, object]) -> None:
    """Raises DialectError: SIDE_EFFECT for what is kept at the upstream, before or after the answer; NOT_UNDERSTOOD."""
    for name in _SIDE_EFFECTS:
        if member(body, name) not in (None, False, ""):
            raise DialectError(Reason.SIDE_EFFECT, name)


def refuse_server_tools(body: Mapping[str, object]) -> None:
    """Raises DialectError: SIDE_EFFECT for tools that make the upstream act or look elsewhere; NOT_UNDERSTOOD."""
    for tool in listed(member(body, "tools")):
        if not isinstance(tool, dict):
            raise no_question("a tool is not an object")
        if any(said is not None and camel(name) not in _OWN_TOOLS for name, said in tool.items()):
            raise DialectError(Reason.SIDE_EFFECT, "a tool that the upstream runs")


def candidates_asked(body: Mapping[str, object]) -> int:
    """How many candidates a whole answer has. Raises DialectError(NOT_UNDERSTOOD)."""
    generation = member(body, "generationConfig")
    if generation is None:
        return 1
    if not isinstance(generation, dict):
        raise no_question("generationConfig is not an object")
    count = member(generation, "candidateCount")
    if count is None:
        return 1
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise no_question("candidateCount is not a number of candidates")
    return count


def member(members: Mapping[str, object], name: str) -> object:
    """A member under either spelling of its name, which is given in camelCase. Raises DialectError(NOT_UNDERSTOOD)."""
    spelled = [spelling for spelling in members if spelling == name or ("_" in spelling and camel(spelling) == name)]
    if len(spelled) > 1:
        raise no_question("a member stands under both spellings of its name")
    return members[spelled[0]] if spelled else None


def camel(name: str) -> str:
    """The camelCase spelling of a name."""
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def listed(value: object) -> list[object]:
    """A member that repeats; Google takes one object for a list of it."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def formats_of(body: Mapping[str, object]) -> tuple[object, ...]:
    """What the request says of the answer's form: all of it but plain text is for a program to read."""
    generation = member(body, "generationConfig")
    if not isinstance(generation, dict):
        return ()
    modalities = [value for value in listed(member(generation, "responseModalities")) if value != "TEXT"]
    names = ("responseMimeType", "responseSchema", "responseJsonSchema")
    return (*(member(generation, name) for name in names), *modalities)


def turn_of(content: object, place: Place) -> Turn | Unfit:
    """A content as a message; one without a role is the user's."""
    if not isinstance(content, dict):
        return Unfit.NOT_TEXT
    role, parts = content.get("role", "user"), content.get("parts")
    texts = []
    for index, part in enumerate(listed(parts)):
        if not isinstance(part, dict) or not isinstance(text := part.get("text"), str):
            called = isinstance(part, dict) and any(camel(name).startswith("function") for name in part)
            return Unfit.TOOLS if called else Unfit.NOT_TEXT
        texts.append(((*place, "parts", index, "text") if isinstance(parts, list) else (*place, "parts", "text"), text))
    return Turn(role, tuple(texts)) if isinstance(role, str) else Unfit.NOT_TEXT


def _parts(content: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """The parts of a content, and the media that functions gave back inside of them."""
    for part in listed(member(content, "parts")):
        if not isinstance(part, dict):
            raise no_question("a part is not an object")
        yield part
        given = member(part, "functionResponse")
        if isinstance(given, dict):
            yield from (inner for inner in listed(member(given, "parts")) if isinstance(inner, dict))
