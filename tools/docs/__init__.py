"""The parts of `docs/` that follow from the code: each generator returns text, `__main__` writes or compares it."""
