"""Problem + template -> messages.

In: a Prompt and a Jinja template. Out: the chat messages to send. A template is one user message, or several messages when lines
that hold only `<|system|>`, `<|user|>` or `<|assistant|>` part it; the markers are read before the template is
rendered, so that no question can forge one.
"""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from r1distill.errors import RecipeError
from r1distill.recipe import Recipe
from r1distill.records import Message, Prompt
from r1distill.shipped import shipped_folder

MARKER = re.compile(r"^<\|(system|user|assistant)\|>[ \t]*(?:\r?\n|\Z)", re.MULTILINE)
RENDER_ERRORS = (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError)
"""What the expressions of a template can raise when they meet a problem's values."""


class Template:
    """A parsed template: `messages(prompt)` renders it."""

    def __init__(self, source: str, name: str) -> None:
        self.name, self.source = name, source
        environment = ImmutableSandboxedEnvironment(
            undefined=jinja2.StrictUndefined, keep_trailing_newline=False
        )
        self._parts = [(role, _parsed(environment, text, line, name)) for role, text, line in _parts(source)]

    def messages(self, prompt: Prompt, **more: str) -> list[Message]:
        """The chat messages for one problem, each stripped of outer white space; `more` are further variables of the
        template (reference and answer for a judge). Raises RecipeError.
        """
        try:
            return [Message(role, self._render(part, prompt, more)) for role, part in self._parts]
        except RENDER_ERRORS as error:
            names = ", ".join(["question", "tags", "tests", *more])
            raise RecipeError(
                f"{self.name}: {str(error).rstrip('.')} (problem {prompt.id}); a template may use {names}."
            ) from None

    def without_examples(self) -> Template:
        """The same template with its system messages and its last user message only. Raises RecipeError."""
        parts = _parts(self.source)
        asked = [text for role, text, _ in parts if role == "user"]
        if not asked:
            raise RecipeError(f"{self.name} has no user message, so it asks nothing.")
        keep = [f"<|system|>\n{text}" for role, text, _ in parts if role == "system"]
        return Template("\n".join([*keep, f"<|user|>\n{asked[-1]}"]), self.name)

    @staticmethod
    def _render(part: jinja2.Template, prompt: Prompt, more: dict[str, str]) -> str:
        return part.render(question=prompt.question, tags=prompt.tags, tests=prompt.tests, **more).strip()


def _parsed(environment: jinja2.Environment, text: str, line: int, name: str) -> jinja2.Template:
    try:
        return environment.from_string(text)
    except jinja2.TemplateSyntaxError as error:
        raise RecipeError(f"{name}:{line + error.lineno - 1}: {str(error.message).rstrip('.')}.") from None


def _parts(source: str) -> list[tuple[str, str, int]]:
    """(role, text, line in the file) of each message; a text without markers is one user message."""
    found = list(MARKER.finditer(source))
    ends = [match.start() for match in found[1:]] + [len(source)]
    parts = [
        (match[1], source[match.end() : end], source.count("\n", 0, match.end()) + 1)
        for match, end in zip(found, ends, strict=False)
    ]
    before = source[: found[0].start()] if found else source
    return [("user", before, 1), *parts] if before.strip() or not parts else parts


def load_template(name: str, recipe: Recipe) -> Template:
    """A template by file (relative to the recipe) or by shipped name. Raises RecipeError naming what exists."""
    path = recipe.path(name)
    shipped = shipped_folder("prompts") / f"{name.removesuffix('.jinja')}.jinja"
    for candidate in (path, shipped if str(Path(name).parent) in (".", "prompts") else path):
        if candidate.is_file():
            return Template(_template_text(candidate), name)
    names = ", ".join(sorted(p.stem for p in shipped_folder("prompts").glob("*.jinja")))
    raise RecipeError(f"There is no template {path}, and none shipped by that name (there are {names}).")


def _template_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise RecipeError(f"The template {path} is no UTF-8 text.") from None
    if not text.strip():
        raise RecipeError(f"The template {path} is empty, so it asks nothing.")
    return text


def student_template(recipe: Recipe) -> Template:
    """The template that the student is trained and asked with: its own, or prompts.template without its examples."""
    if recipe.student is not None and recipe.student.template is not None:
        return load_template(recipe.student.template, recipe)
    if recipe.prompts is None:
        raise RecipeError("The student needs words: set student.template or prompts.template.")
    return load_template(recipe.prompts.template, recipe).without_examples()
