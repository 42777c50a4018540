"""Reasoning distillation: harvest traces from a teacher, filter them, fine-tune a student, prove what came over.

Every verb of the command line is a function of the same name here:

    import r1distill
    recipe, run = r1distill.open_run(Path("recipe.toml"))
    summary = r1distill.harvest(recipe, run)

Each takes a Recipe and a Run and returns its summary, a frozen msgspec struct; every error that a user can meet is
an r1distill.errors.R1DistillError. The functions stand in front of the modules of the same name: what else is in
such a module comes by `from r1distill.harvest import HarvestSummary`.
"""

from r1distill import starting as starting  # first: from here on Ctrl-C shows no traceback
from r1distill.evaluate import evaluate
from r1distill.export import export
from r1distill.filter import filter, filter_files
from r1distill.harvest import harvest
from r1distill.recipe import Recipe, load_recipe
from r1distill.report import report
from r1distill.run import Run, open_run
from r1distill.status import status
from r1distill.train import train
from r1distill.version import __version__

__all__ = [
    "Recipe",
    "Run",
    "__version__",
    "evaluate",
    "export",
    "filter",
    "filter_files",
    "harvest",
    "load_recipe",
    "open_run",
    "report",
    "status",
    "train",
]
