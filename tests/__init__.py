"""The tests. What several of them share lives in `tests.support`."""
