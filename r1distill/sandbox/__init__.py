"""Running a program that nobody trusts: an answer's code, against one test.

In: a program (Python source), what it is given, limits, and a `Box`: the way of shutting it in that works on this machine.
Out: a `Ran`: its output or its return value, or why it was stopped. Nothing is compared here, and nothing that a test
expects goes in, so that a program can't read what it should find (assert statements excepted, which name it).

    box.py        a Box and its Limits
    levels.py     which isolation works here: bubblewrap, namespaces, or limits only (which is not a sandbox)
    commands.py   the command line of each level
    execute.py    one program, run once (watched.py: seen from outside, watch.py: what its tree uses)
    inside.py     the first process inside: sets its limits and its filter, then becomes the program
    seccomp.py    the filter of system calls (calls.py: which ones, by their numbers)
    supervise.py  for limits only: ends what the program leaves behind
"""

from r1distill.sandbox.box import Box, Level, Limits
from r1distill.sandbox.execute import Program, Ran, execute
from r1distill.sandbox.levels import find_box, works

__all__ = ["Box", "Level", "Limits", "Program", "Ran", "execute", "find_box", "works"]
