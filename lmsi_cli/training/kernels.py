"""Gradients written by hand: a LoRA layer, a norm, a gate, attention, and the head with its loss.

PEFT and transformers write each of these as a chain of small operations, and under autocast nearly
every one casts its input and keeps the cast copy for the backward pass. Here each is one function
that keeps only what its gradient needs; frozen weights get no gradient. Each docstring has the
formula. Shapes: T tokens of a row, C of them predicted, ``width`` of the model, V words.

``install`` puts all but attention and ``Words`` (for ``load_base``) in place of the libraries'
code, in modules whose structure shows what they compute. They run only while gradients are enabled,
so proofs and saving use the libraries' own code. They stay only if one step on a few tokens agrees
with that code: a family that computes something else keeps its own.
"""

# ruff: noqa: ANN401, D102, PLR0913 - the interface of torch.autograd.Function
# ruff: noqa: TID253 - this file is imported only where torch is about to compute
from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

LOG = logging.getLogger(__name__)
ADAPTER = "default"  # PEFT's name of an adapter that was given none
# Two right implementations differ by rounding: in bf16 by a few per cent of the gradient.
SAME = {"bf16": 0.1, "fp32": 1e-3}
HEAD = "lmsi_fused_head"  # on a model: decoder and head, if the loss may call them separately
# Rows of logits that are held at once, with their gradient.
HEAD_ROWS = 128
# Rows of them that stay in the processor's cache from one small operation to the next: measured,
# with 151,936 words the head is a tenth faster.
CACHED_ROWS = 16


class Lora(torch.autograd.Function):
    """``y = W x + bias + scale B A x`` for a frozen W; all products in W's type.

    Arguments: x (..., in), W (out, in), bias (out,) or None, A (rank, in), B (out, rank), scale.
    A and B are fp32 and get fp32 gradients; W and bias get none.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        flat = x.reshape(-1, x.shape[-1]).to(w.dtype)
        y = linear(flat, w, None if bias is None else bias.to(w.dtype))
        low = flat @ a.t().to(w.dtype)  # (T, rank)
        y.addmm_(low, b.t().to(w.dtype), alpha=scale)
        ctx.save_for_backward(flat, low, w, a, b)
        ctx.scale, ctx.shape = scale, x.shape
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        flat, low, w, a, b = ctx.saved_tensors
        g = grad.reshape(-1, grad.shape[-1]).to(w.dtype)
        g_low = (g @ b.to(w.dtype)).mul_(ctx.scale)  # (T, rank)
        g_a = (g_low.t() @ flat).to(a.dtype)
        g_b = (low.t() @ g).t().to(b.dtype).mul_(ctx.scale)
        g_x = None
        if ctx.needs_input_grad[0]:
            g_x = (g @ w).addmm_(g_low, a.to(w.dtype)).view(ctx.shape)
        return g_x, None, None, g_a, g_b, None


class RmsNorm(torch.autograd.Function):
    """``y = weight x / sqrt(mean(x^2) + eps)``, computed in fp32 and returned in ``dtype``.

    Arguments: x (..., width), weight (width,) frozen, eps, dtype.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        wide = x.float()
        size = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        inverse = (size.square_().div_(x.shape[-1]) + eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        y: Tensor = (wide * inverse).mul_(weight).to(dtype)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, inverse = ctx.saved_tensors
        wide = x.float()
        g = grad * weight.float()
        along = torch.linalg.vecdot(g, wide).unsqueeze(-1)
        along.mul_(inverse.pow(3)).div_(x.shape[-1])
        return g.mul_(inverse).sub_(wide * along).to(x.dtype), None, None, None


class Gate(torch.autograd.Function):
    """``y = silu(g) u``; keeps g and u, and recomputes the sigmoid in the backward pass.

    Arguments: g and u, (..., wide) each.
    """

    @staticmethod
    def forward(ctx: Any, g: Tensor, u: Tensor) -> Tensor:
        ctx.save_for_backward(g, u)
        return silu(g).mul_(u)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        g, u = ctx.saved_tensors
        return torch.ops.aten.silu_backward(grad * u, g), silu(g).mul_(grad)


class HeadLosses(torch.autograd.Function):
    """The cross-entropy of ``W h`` with each label, (C,) in nats, a few rows of logits at a time.

    The gradient is computed in the forward pass, while the logits exist; all C x V logits are never
    held at once. Arguments: h (C, width), W (V, width) frozen, labels (C,), dtype of the product.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, w: Tensor, labels: Tensor, dtype: torch.dtype) -> Tensor:
        narrow = w.to(dtype)
        losses, grads = [], []
        rows = zip(torch.split(h, HEAD_ROWS), torch.split(labels, HEAD_ROWS), strict=True)
        for part, wanted in rows:
            logits = part.to(dtype) @ narrow.t()
            hit = logits.gather(1, wanted[:, None]).float()
            totals = []
            cached = (torch.split(x, CACHED_ROWS) for x in (logits, hit))
            for few, near in zip(*cached, strict=True):
                top = few.amax(1, keepdim=True).float()
                weights = few.float().sub_(top).exp_()  # of the words, not yet summing to one
                totals.append(weights.sum(1, keepdim=True))
                losses.append(totals[-1].log() + top - near)
                few.copy_(weights)
            mean = (logits @ narrow).float().div_(torch.cat(totals))
            grads.append(mean.sub_(narrow[wanted]))
        ctx.save_for_backward(torch.cat(grads).to(h.dtype))
        return torch.cat(losses).squeeze(1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (g_h,) = ctx.saved_tensors
        return (g_h * grad[:, None]).to(g_h.dtype), None, None, None


class Attention(torch.autograd.Function):
    """``softmax(scale q k' + mask) v``, with key heads shared by groups of query heads.

    Scores are fp32, as in fused kernels: in bf16 they are a quarter faster, but scores in the
    hundreds, which some families have, would be off by a half. The gradient's products run in the
    values' type. Arguments: q (1, heads, L, size), k and v (1, key heads, S, size), mask (L, S),
    scale.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
        groups = (k.shape[1], -1, *q.shape[2:])  # (key heads, queries of each, L, size)
        flat = (k.shape[1], -1, q.shape[-1])
        with torch.autocast(q.device.type, enabled=False):
            scores = (q.float() * scale).reshape(flat) @ k[0].float().transpose(1, 2)
            scores.view(*scores.shape[:1], -1, *mask.shape).add_(mask)
            shares = scores.softmax(-1).to(v.dtype)  # (key heads, groups x L, S)
            out = shares @ v[0]
        ctx.save_for_backward(q.to(v.dtype), k.to(v.dtype), v, shares, out)
        ctx.scale, ctx.types = scale, (q.dtype, k.dtype)
        return out.view(groups).reshape(q.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, shares, out = ctx.saved_tensors
        g = grad.to(v.dtype).reshape(out.shape)
        g_v = shares.transpose(1, 2) @ g
        along = (g.float() * out).sum(-1, keepdim=True)
        g_s = (g @ v[0].transpose(1, 2)).sub_(along).mul_(shares).mul_(ctx.scale)
        g_q = (g_s @ k[0]).reshape(q.shape)
        g_k = g_s.transpose(1, 2) @ q.reshape(out.shape)
        return g_q.to(ctx.types[0]), g_k[None].to(ctx.types[1]), g_v[None], None, None


class Words(nn.Module):
    """A table of embeddings kept in bf16; its rows are looked up as fp32, as blocks add to them.

    The table's own code runs on those rows alone: some families scale what they look up.
    """

    def __init__(self, table: nn.Module) -> None:
        super().__init__()
        self.table = table

    @property
    def weight(self) -> Any:
        return self.table.weight

    def forward(self, ids: Tensor) -> Any:
        rows = {"weight": self.weight[ids.flatten()].float()}
        places = torch.arange(ids.numel(), device=ids.device).view(ids.shape)
        return torch.func.functional_call(self.table, rows, (places,))


def install(model: nn.Module, dtype: str, probe: Callable[[], tuple[float, Tensor]]) -> bool:
    """Replace what can be replaced, unless the result then differs; returns whether it is.

    ``probe`` runs a step on a few tokens, the same each time, and returns its loss and gradient;
    ``dtype`` is that of the matrix products, bf16 or fp32.
    """
    loss, gradient = probe()
    for module in model.modules():
        if fused := _fused(module):
            _stand_in(module, fused)
    causal: Any = model.get_base_model()  # type: ignore[operator]
    head = causal.get_output_embeddings()
    plain = type(head) is nn.Linear and head.bias is None
    for parts in ((causal.get_decoder(), head) if plain else None, None):
        model.__dict__[HEAD] = parts  # None the second time: some families scale their logits
        ours, own = probe()
        # Written so that a NaN on either side fails.
        near = (own - gradient).norm() <= SAME[dtype] * gradient.norm()
        if abs(ours - loss) <= SAME[dtype] * abs(loss) and bool(near):
            return True
    remove(model)
    LOG.info("fused training code differs on this model; its own code is used")
    return False


def remove(model: nn.Module) -> None:
    """Give every module its own code back."""
    model.__dict__.pop(HEAD, None)
    for module in model.modules():
        vars(module).pop("forward", None)


def head_of(model: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    """The decoder and the output head if the loss may call them separately, else None."""
    return vars(model).get(HEAD) if torch.is_grad_enabled() else None


def _stand_in(module: Any, fused: Callable[[Tensor], Tensor]) -> None:
    own = module.forward

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        off = getattr(module, "disable_adapters", False) or getattr(module, "merged", False)
        if args or kwargs or off or not torch.is_grad_enabled():
            return own(x, *args, **kwargs)
        return fused(x)

    module.forward = forward


def _fused(module: Any) -> Callable[[Tensor], Tensor] | None:
    """The function above that computes what a module does, as its structure shows, or None."""
    from transformers.activations import SiLUActivation

    if _is_plain_lora(module):
        base, a, b = module.base_layer, module.lora_A[ADAPTER], module.lora_B[ADAPTER]
        return lambda x: Lora.apply(  # type: ignore[no-untyped-call]
            x, base.weight, base.bias, a.weight, b.weight, module.scaling[ADAPTER]
        )
    if type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
        if [name for name, _ in module.named_parameters()] != ["weight"]:
            return None
        return lambda x: RmsNorm.apply(  # type: ignore[no-untyped-call]
            x, module.weight, module.variance_epsilon, _autocast_type(x)
        )
    parts = [getattr(module, f"{name}_proj", None) for name in ("gate", "up", "down")]
    if isinstance(getattr(module, "act_fn", None), nn.SiLU | SiLUActivation) and None not in parts:
        return lambda x: module.down_proj(  # as it is when it runs: an adapter wraps it
            Gate.apply(module.gate_proj(x), module.up_proj(x))  # type: ignore[no-untyped-call]
        )
    return None


def _is_plain_lora(module: Any) -> bool:
    from peft.tuners.lora import Linear

    return (
        isinstance(module, Linear)
        and type(module.base_layer) is nn.Linear
        and list(module.lora_A) == [ADAPTER]
        and not module.lora_variant
        and isinstance(module.lora_dropout[ADAPTER], nn.Identity)
        and module.lora_B[ADAPTER].bias is None
    )


def _autocast_type(x: Tensor) -> torch.dtype:
    """The type that the products that follow would cast x to anyway."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
