"""Where the files that travel with the package lie: prompts/ and data/.

In a wheel they are inside the package; in a checkout (editable install) they are the top-level folders.
"""

from __future__ import annotations

from pathlib import Path

from r1distill.errors import InputError


def shipped_folder(name: str) -> Path:
    """The folder "prompts" or "data". Raises InputError when the installation is broken."""
    here = Path(__file__).resolve().parent
    for folder in (here / name, here.parent.parent / name):
        if folder.is_dir():
            return folder
    raise InputError(f"This installation of r1distill lacks its folder {name}; install it again.")
