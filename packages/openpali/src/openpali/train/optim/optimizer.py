"""The optimizer of a run: which parameters learn, in which groups, and the learning rate schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from openpali.model.layers import in_part
from openpali.train.optim.adafactor import Adafactor
from openpali.train.optim.muon import Muon
from openpali.train.parallel import whole
from openpali.train.recipe import OptimizerSpec, Schedule

# matrices without weight decay, by name, which Muon leaves to AdamW; vectors and scalars have none either
NO_DECAY = {"embed", "positions", "probe", "table", "columns", "rows", "kind"}
AT_THE_ENDS = {"patch_embed", "head"}  # first and last matrices, which Muon leaves to AdamW


def freeze(model: nn.Module, parts: Sequence[str]) -> None:
    for part in parts:
        matched = [p for name, p in model.named_parameters() if in_part(name, part)]
        if not matched:
            raise ValueError(f"model.frozen names {part!r}: name parts of the model ({_parts(model)})")
        for parameter in matched:
            parameter.requires_grad_(False)


def build_optimizer(
    model: nn.Module, spec: OptimizerSpec, dtype: torch.dtype = torch.float32
) -> torch.optim.Optimizer:
    """The optimizer of all parameters that learn; each group has its peak learning rate as ``peak_lr``.

    ``dtype`` is the computing precision, in which Muon orthogonalises.
    """
    settings = group_parameters(model, spec)
    if spec.name == "muon":
        return Muon(settings, spec.lr, spec.betas, dtype=dtype)
    if spec.name == "adafactor":
        return Adafactor(settings, lr=spec.lr)
    return torch.optim.AdamW(settings, lr=spec.lr, betas=spec.betas, fused=True)


def group_parameters(model: nn.Module, spec: OptimizerSpec) -> list[dict[str, Any]]:
    """The parameters that learn, in groups of the same settings."""
    groups: dict[tuple[float, float, bool, bool], list[nn.Parameter]] = {}
    unused = set(spec.lr_scale)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = 1.0
        for part, factor in spec.lr_scale.items():
            if in_part(name, part):
                scale *= factor
                unused.discard(part)
        names = set(name.split("."))
        kernel = parameter.ndim >= 2 and not names & NO_DECAY
        hidden = kernel and parameter.ndim == 2 and not names & AT_THE_ENDS
        decay = spec.weight_decay if kernel else 0.0
        sharded = isinstance(parameter, DTensor)  # fused kernels take either kind, not both
        groups.setdefault((scale, decay, hidden, sharded), []).append(parameter)
    if unused:
        raise ValueError(f"optimizer.lr_scale names {sorted(unused)}: name parts that learn ({_parts(model)})")
    if not groups:
        raise ValueError("every part is frozen: nothing to train")
    return [
        {
            "params": parameters,
            "lr": spec.lr * scale,
            "peak_lr": spec.lr * scale,
            "weight_decay": decay,
            "orthogonal": hidden,
        }
        for (scale, decay, hidden, _), parameters in groups.items()
    ]


def clip_gradients(parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
    """Clip the global norm of gradients to ``limit``, in place; returns the norm before. Collective if sharded.

    If the norm is not finite, neither are the gradients afterwards.
    """
    norms, kinds = [], []
    for sharded in (False, True):
        kind = [p for p in parameters if isinstance(p, DTensor) == sharded]
        gradients = [p.grad for p in kind if p.grad is not None]
        if gradients:
            kinds.append(kind)
            norms.append(whole(torch.nn.utils.get_total_norm(gradients)))
    norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
    for kind in kinds:
        torch.nn.utils.clip_grads_with_norm_(kind, limit, norm)
    return norm


def rate_in(schedules: Sequence[Schedule], peak: float, sample: int) -> float:
    """The factor on the peak learning rate ``peak`` at ``sample`` of a run with these schedules."""
    schedule = next((each for each in schedules if sample < each.end), schedules[-1])
    own = rate(schedule.spec, sample - schedule.begin, schedule.samples)
    return own if schedule.spec.lr == peak else own * schedule.spec.lr / peak


def rate(spec: OptimizerSpec, sample: int, total: int) -> float:
    """The factor, 0..1, on the peak learning rate at ``sample`` of ``total``: warm-up, schedule, cool-down.

    As in big_vision (`utils.py` `create_learning_rate_schedule`): warm-up and cool-down are linear; cosine and
    linear end at zero; the time scale of rsqrt is the length of the warm-up.
    """
    factor = 1.0
    if spec.warmup:
        factor = min(1.0, (sample + 1) / spec.warmup)
    progress = min(1.0, max(0.0, (sample - spec.warmup) / max(1, total - spec.warmup)))
    if spec.schedule == "cosine":
        factor *= 0.5 * (1 + math.cos(math.pi * progress))
    elif spec.schedule == "linear":
        factor *= 1 - progress
    elif spec.schedule == "rsqrt":
        timescale = max(1, spec.warmup)
        factor /= math.sqrt(1 + max(0, sample - spec.warmup) / timescale)
    if spec.cooldown:
        factor *= min(1.0, max(0.0, (total - sample) / spec.cooldown))
    return factor


def _parts(model: nn.Module) -> str:
    return ", ".join(sorted({name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}))
