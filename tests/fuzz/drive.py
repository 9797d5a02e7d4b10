"""Runs one target for a while: `python -m tests.fuzz.drive TARGET --seconds 60`.

With atheris, which is guided by coverage; without it, where there is no wheel for an interpreter, by mutation alone.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from tests.support.hostile import MUTATIONS, SEEDS, TOKENS, hostile, spelled

FIXTURES = Path(__file__).parents[1] / "fixtures"
INPUT_BYTES_MAX = 4096
SLOW_S = 5


def corpus() -> list[bytes]:
    """What to begin with: good bodies and answers, each small enough."""
    chance = random.Random(0)
    found = [spelled(seed, chance) for seed in SEEDS for _ in range(3)]
    found += [path.read_bytes() for path in sorted(FIXTURES.rglob("*.json")) + sorted(FIXTURES.rglob("*.sse"))]
    found += [b"[%b]" % b",\n".join(found[:count]) for count in (1, 2, 3)]
    return [bytes([number % 256]) + seed for number, seed in enumerate(found) if len(seed) < INPUT_BYTES_MAX]


def mutate(target: str, *, seconds: float | None = None, count: int | None = None, seed: int = 0) -> int:
    """Run a target on mutations of the corpus until time or count is over; how many inputs it took."""
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - atheris has to be there before what it instruments

    chance, seeds, run = random.Random(seed), corpus(), TARGETS[target]
    ends = None if seconds is None else time.monotonic() + seconds
    done = 0
    while (count is None or done < count) and (ends is None or time.monotonic() < ends):
        if chance.random() < 0.3:
            data = hostile(chance)
        else:
            data = chance.choice(seeds)
            for _ in range(chance.randint(0, 4)):
                data = chance.choice(MUTATIONS)(data, chance)
        run(data)
        done += 1
    return done


def guide(target: str, *, seconds: int, folder: Path) -> None:
    """Run a target under atheris; ends the process, with another code than 0 where it found a fault."""
    import atheris  # noqa: PLC0415 - where there is one

    with atheris.instrument_imports(include=["ai_cache_extproc"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415
    seeds = folder / "corpus"
    seeds.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(corpus()):
        (seeds / f"{number:04}").write_bytes(data)
    words = folder / "words.dict"
    spelled_tokens = ("".join(f"\\x{byte:02x}" for byte in token) for token in TOKENS)
    words.write_text("".join(f'"{token}"\n' for token in spelled_tokens))
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-timeout={SLOW_S}",
        f"-dict={words}",
        f"-artifact_prefix={folder}/",
        "-print_final_stats=1",
        str(seeds),
    ]
    atheris.Setup([sys.argv[0], *options], TARGETS[target])
    atheris.Fuzz()


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--folder", type=Path, required=True, help="for the corpus and what breaks a target")
    asked = parser.parse_args()
    if find_spec("atheris") is not None:
        guide(asked.target, seconds=asked.seconds, folder=asked.folder)
    else:
        done = mutate(asked.target, seconds=asked.seconds)
        print(f"no atheris for this interpreter; {done} mutated inputs")


if __name__ == "__main__":
    main()
