"""Cross entropy behind a frozen output head, for CPUs: labelled positions only, logits never all in memory.

trl 1.16 scores every position off Triton devices (trl/trainer/utils.py, add_fused_lm_head) and projects a second
time in the backward pass. Here the hidden states' gradient is made in the forward pass, chunk by chunk, as in Liger
Kernel's fused linear cross entropy (Hsu et al. 2024, https://arxiv.org/abs/2410.10989); the head gets none.
Shapes: N labelled positions, H hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_POSITIONS = 128
"""Positions whose logits exist at the same time: 25 MB at V = 49,152, 78 MB at V = 151,936."""
UNUSUAL_HEADS = (
    "final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling",
    "output_router_logits",
)  # fmt: skip
"""Configuration keys of models whose loss is more than a plain projection: trl's own loss is used for them."""


class _FrozenHead(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(
        ctx: Any, hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, targets_N: Tensor
    ) -> Tensor:
        total = hidden_NH.new_zeros(())
        gradient_NH = torch.empty_like(hidden_NH) if ctx.needs_input_grad[0] else None
        for start in range(0, len(targets_N), CHUNK_POSITIONS):
            part = slice(start, start + CHUNK_POSITIONS)
            logits = torch.nn.functional.linear(hidden_NH[part], weight_VH, bias_V)
            target = targets_N[part].unsqueeze(1)
            log_z = logits.logsumexp(1, keepdim=True)
            total += (log_z - logits.gather(1, target)).sum()
            if gradient_NH is not None:
                error = logits.sub_(log_z).exp_()  # softmax, in place
                error.scatter_add_(1, target, torch.full_like(log_z, -1.0))
                gradient_NH[part] = error @ weight_VH
        ctx.save_for_backward(gradient_NH)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient_NH,) = ctx.saved_tensors
        return gradient_NH * gradients[0], None, None, None


def summed_loss(model: Any, inputs: dict[str, Any]) -> Tensor:
    """Negative log likelihood in nats, summed over the labelled positions of a batch (labels shifted here)."""
    rest = {key: value for key, value in inputs.items() if key not in ("labels", "use_cache")}
    hidden_BTH = model.base_model(**rest, use_cache=False).last_hidden_state[:, :-1]
    labels_BT = inputs["labels"][:, 1:]
    labelled_BT = labels_BT != -100
    head = model.get_output_embeddings()
    loss: Tensor = _FrozenHead.apply(hidden_BTH[labelled_BT], head.weight, head.bias, labels_BT[labelled_BT])
    return loss


def usable(model: Any, args: Any) -> bool:
    """Whether `summed_loss` equals trl's loss for this model and SFTConfig: one process, CPU, float32, frozen plain head."""
    config, head = model.config.get_text_config(), model.get_output_embeddings()
    plain = all(getattr(config, key, None) in (None, False) for key in UNUSUAL_HEADS)
    frozen = type(head) is torch.nn.Linear and not head.weight.requires_grad
    single = args.world_size == 1 and args.device.type == "cpu" and not (args.bf16 or args.fp16)
    return plain and frozen and single and args.loss_type == "nll" and args.label_smoothing_factor == 0
