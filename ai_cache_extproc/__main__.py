"""`python -m ai_cache_extproc` is `aicache`."""

from __future__ import annotations

from ai_cache_extproc.cli import main

if __name__ == "__main__":
    main()
