"""Makes weights of a miniature: `python scripts/make_weights.py text --world gallery`.

The names are those of the modules in tinyworld/make; docs/developers.md says in which order. The
gallery's judges are made by `gallery.judge`. Each says more with --help.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))


def main() -> None:
    asked = sys.argv[1] if len(sys.argv) > 1 else ""
    world, name = asked.split(".") if "." in asked else ("tinyworld", asked)
    makers = sorted(path.stem for path in (ROOT / world / "make").glob("*.py"))
    if name not in makers:
        raise SystemExit(f"{__doc__}\nGot {asked!r}, expected one of {', '.join(makers)}.")
    from benchmarks.pack import NAME, import_pack

    import_pack()
    import_module(f"{NAME}.{world}.make.{name}").main(sys.argv[2:])


if __name__ == "__main__":
    main()
