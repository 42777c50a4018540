"""Packing that never cuts a trace and never lets two documents see each other, proved on the student itself.

trl packs by best fit decreasing (Ding et al. 2024, https://arxiv.org/abs/2404.10830) and lays the documents of a batch
end to end with position ids that start again at 0. From these, transformers builds a block-diagonal mask for sdpa and
eager attention, and variable-length kernels for FlashAttention; models with other layers (state space, short
convolutions) may ignore them. So before the first step a few real rows are scored apart and packed, and must score the same.
Shapes: T tokens of all documents, N labelled ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from r1distill.errors import RecipeError
from r1distill.objectives.render import IGNORED, Rendered

DOCUMENTS = 3
"""Rows scored apart and together: the shortest there are."""
TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Mean difference in nats per labelled token that rounding may make. Documents that see each other differ by tenths and more
in the toy models of the tests; in bfloat16 only gross faults show."""


class Proof(NamedTuple):
    """Loss of the same documents, in nats per labelled token."""

    apart: float
    packed: float
    difference: float
    """Mean over the tokens of how far the two are apart, so that nothing cancels."""


def prove(model: Any, rows: Sequence[Rendered], pad_id: int) -> Proof:
    """Score a few rows apart and packed. Raises RecipeError when the student lets packed documents see each other."""
    few = sorted(rows, key=lambda row: len(row.input_ids))[:DOCUMENTS][::-1]  # the longest of them first
    if len(few) < 2:
        return Proof(0.0, 0.0, 0.0)
    training = model.training
    model.eval()
    try:
        apart_N = torch.cat([_scores(model, [row], pad_id) for row in few])
        packed_N = _scores(model, few, pad_id)
    finally:
        model.train(training)
    proof = Proof(float(apart_N.mean()), float(packed_N.mean()), float((apart_N - packed_N).abs().mean()))
    dtype = torch.bfloat16 if _half_precision(model) else next(model.parameters()).dtype
    allowed = TOLERANCE.get(dtype, TOLERANCE[torch.bfloat16])
    if not proof.difference <= allowed:
        raise RecipeError(
            f"train.sft.packing: packed traces see each other in this student (loss {proof.apart:.4f} apart, "
            f"{proof.packed:.4f} packed), so it would learn from its neighbours: remove packing; rows of similar length are "
            "then put together."
        )
    return proof


def _scores(model: Any, rows: Sequence[Rendered], pad_id: int) -> torch.Tensor:
    """Negative log likelihood in nats of every labelled token of the rows, laid end to end as in training."""
    collate = DataCollatorForLanguageModeling(pad_token_id=pad_id, padding_free=True)
    batch = collate([{"input_ids": row.input_ids, "labels": row.labels} for row in rows])
    device = next(model.parameters()).device
    moved = {key: value.to(device) if torch.is_tensor(value) else value for key, value in batch.items()}
    targets_T = moved.pop("labels")[0, 1:]
    # FlashAttention takes no float32; training runs under the same autocast.
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=_half_precision(model)):
        logits_TV = model(**moved, use_cache=False).logits[0, :-1].float()
    nats_T = torch.nn.functional.cross_entropy(logits_TV, targets_T, ignore_index=IGNORED, reduction="none")
    return nats_T[targets_T != IGNORED]


def _half_precision(model: Any) -> bool:
    """Whether the student computes in bfloat16: on a GPU always, as SFTConfig's default has it."""
    return bool(next(model.parameters()).device.type == "cuda")
