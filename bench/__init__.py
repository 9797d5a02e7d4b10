"""Measurements. Each number in `docs/performance.md` comes from a script here; see `bench/README.md`."""
