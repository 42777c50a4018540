"""A harvest in a process of its own, as the command line does it: FOLDER/recipe.json -> FOLDER/runs/r.

Usage: harvest_json.py FOLDER [MOST_FILE_BYTES]; with a number, no file may grow beyond it: writing fails as on a full disk.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from pathlib import Path

from r1distill.errors import R1DistillError
from r1distill.harvest import harvest
from r1distill.recipe import parse_recipe
from r1distill.run import Run
from r1distill.show import Show


def main(folder: Path, most_bytes: int | None) -> int:
    recipe = parse_recipe(json.loads((folder / "recipe.json").read_text()), folder=folder)
    if most_bytes is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    try:
        summary = harvest(recipe, Run(folder / "runs" / "r"), show=Show(1))
    except R1DistillError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    return 130 if summary.interrupted else 3 if summary.still_owed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None))
