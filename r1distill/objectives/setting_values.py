"""What the values of `train.sft` and `train.lora` must be, so that a wrong one is named before anything is loaded.

The libraries take most values as they come and fail with them late, or train nothing. Without a package the numbers that
matter are checked (NUMBERS of trl and peft); with trl, also whether every other number or yes-or-no of its is one.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple

from r1distill.errors import RecipeError

PLAIN = {int: "a whole number", float: "a number", bool: "true or false"}
MOST = float("inf")


class Number(NamedTuple):
    """A range of numbers."""

    low: float
    high: float = MOST
    whole: bool = False
    above: bool = False
    """Whether `low` itself is too low."""
    unset: int | None = None
    """Outside of the range, but means that nothing is set."""

    def holds(self, value: Any) -> bool:
        """Whether `value` is a number of this kind."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        inside = self.low < value if self.above else self.low <= value
        return value == self.unset or (inside and value <= self.high)

    def __str__(self) -> str:
        kind = PLAIN[int if self.whole else float]
        unset = "" if self.unset is None else f" ({self.unset} leaves it open)"
        if self.high < MOST:
            return f"{kind} from {self.low} to {self.high}{unset}"
        return f"{kind} above {self.low}{unset}" if self.above else f"{kind} of at least {self.low}{unset}"


COUNT = Number(1, whole=True)
NUMBERS = {
    "train.sft": {
        "per_device_train_batch_size": COUNT,
        "per_device_eval_batch_size": COUNT,
        "gradient_accumulation_steps": COUNT,
        "num_train_epochs": Number(0, above=True),
        "max_steps": Number(1, whole=True, unset=-1),
        "max_length": COUNT,
        "learning_rate": Number(0),
        "weight_decay": Number(0),
        "max_grad_norm": Number(0),
        "warmup_steps": Number(0),
        "adam_beta1": Number(0, 1),
        "adam_beta2": Number(0, 1),
        "adam_epsilon": Number(0),
        "label_smoothing_factor": Number(0, 1),
        "logging_steps": Number(0, above=True),
        "save_steps": Number(0, above=True),
        "dataloader_num_workers": Number(0, whole=True),
    },
    "train.lora": {"r": COUNT, "lora_alpha": Number(0, above=True), "lora_dropout": Number(0, 1)},
}
"""A learning rate of 0 is allowed: it measures the loss and nothing else."""


def check_numbers(where: str, settings: Mapping[str, Any]) -> None:
    """Raises RecipeError naming the key of `where` ("train.sft" or "train.lora") that is no number of its range."""
    for key, value in settings.items():
        number = NUMBERS[where].get(key)
        if number is not None and not number.holds(value):
            raise RecipeError(f"{where}.{key} must be {number}, not {value!r}.")


def check_types(where: str, settings: Mapping[str, Any], config: type) -> None:
    """The same for the other keys, by the types that a dataclass declares; those that it declares otherwise pass."""
    declared = {field.name: field.type for field in dataclasses.fields(config)}
    for key, value in settings.items():
        kinds = [] if key in NUMBERS[where] else _kinds(declared.get(key))
        if kinds and not any(_is(value, kind) for kind in kinds):
            said = " or ".join(PLAIN[kind] for kind in kinds if kind in PLAIN)
            raise RecipeError(f"{where}.{key} must be {said}, not {value!r}.")


def _kinds(declared: Any) -> list[type]:
    """The plain types of an annotation; empty when it takes anything else, too."""
    union = isinstance(declared, types.UnionType) or typing.get_origin(declared) is typing.Union
    kinds = list(typing.get_args(declared)) if union else [declared]
    return kinds if all(kind in PLAIN or kind is types.NoneType for kind in kinds) else []


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
