"""Puts the hand-written gradients of ``kernels`` in the place of PEFT's and transformers' code.

Acts on modules whose structure says what they compute, and only while gradients are wanted, so
that proofs and saving see the libraries' own code. Before it stays, one step on a few tokens must
agree with that code: a family that computes something else keeps its own. Knows nothing of files
or of training.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lmsi_cli.training import kernels

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

LOG = logging.getLogger(__name__)
ADAPTER = "default"  # PEFT's name of an adapter that was given none
# Two right implementations differ by rounding: in bf16 by a few per cent of the gradient.
SAME = {"bf16": 0.1, "fp32": 1e-3}
HEAD = "lmsi_fused_head"  # set on a model whose loss may take the decoder and the head apart


def install(model: nn.Module, dtype: str, probe: Callable[[], tuple[float, Tensor]]) -> bool:
    """Replace what can be replaced, unless the model then computes something else; says if it is.

    ``probe`` runs a step on a few tokens, the same each time, and gives its loss and its gradient;
    ``dtype`` is that of the matrix products, bf16 or fp32.
    """
    loss, gradient = probe()
    replace(model)
    for head in (_head_is_plain(model), False):  # some families scale their logits
        model.__dict__[HEAD] = head
        ours, own = probe()
        # Written so that a NaN on either side fails.
        near = (own - gradient).norm() <= SAME[dtype] * gradient.norm()
        if abs(ours - loss) <= SAME[dtype] * abs(loss) and bool(near):
            return True
    remove(model)
    LOG.info("fused training code differs on this model; its own code is used")
    return False


def replace(model: nn.Module) -> None:
    """Replace what can be replaced, unproven."""
    for module in model.modules():
        if _is_plain_lora(module):
            _stand_in(module, _lora(module))
        elif _is_rms_norm(module):
            _stand_in(module, _norm(module))
        elif _is_gated(module):
            _stand_in(module, _gate(module))
    model.__dict__[HEAD] = _head_is_plain(model)


def remove(model: nn.Module) -> None:
    """Give every module its own code back."""
    model.__dict__.pop(HEAD, None)
    for module in model.modules():
        vars(module).pop("forward", None)


def head_of(model: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    """The decoder and the output head if the loss may be computed from these, else None."""
    import torch

    if not (vars(model).get(HEAD) and torch.is_grad_enabled()):
        return None
    causal = model.get_base_model()  # type: ignore[operator]
    return causal.get_decoder(), causal.get_output_embeddings()


def _head_is_plain(model: nn.Module) -> bool:
    from torch import nn

    head = model.get_base_model().get_output_embeddings()  # type: ignore[operator]
    return type(head) is nn.Linear and head.bias is None


def _stand_in(module: Any, fused: Callable[[Tensor], Tensor]) -> None:  # noqa: ANN401
    import torch

    own = module.forward

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the module's own
        off = getattr(module, "disable_adapters", False) or getattr(module, "merged", False)
        if args or kwargs or off or not torch.is_grad_enabled():
            return own(x, *args, **kwargs)
        return fused(x)

    module.forward = forward


def _is_plain_lora(module: Any) -> bool:  # noqa: ANN401
    from peft.tuners.lora import Linear
    from torch import nn

    return (
        isinstance(module, Linear)
        and type(module.base_layer) is nn.Linear
        and list(module.lora_A) == [ADAPTER]
        and not module.lora_variant
        and isinstance(module.lora_dropout[ADAPTER], nn.Identity)
        and module.lora_B[ADAPTER].bias is None
    )


def _lora(module: Any) -> Callable[[Tensor], Tensor]:  # noqa: ANN401
    base, a, b = module.base_layer, module.lora_A[ADAPTER], module.lora_B[ADAPTER]
    apply = kernels.lora().apply
    return lambda x: apply(x, base.weight, base.bias, a.weight, b.weight, module.scaling[ADAPTER])


def _is_rms_norm(module: nn.Module) -> bool:
    named = type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon")
    return named and [name for name, _ in module.named_parameters()] == ["weight"]


def _norm(module: Any) -> Callable[[Tensor], Tensor]:  # noqa: ANN401
    apply = kernels.rms_norm().apply
    return lambda x: apply(x, module.weight, module.variance_epsilon, _autocast_type(x))


def _autocast_type(x: Tensor) -> torch.dtype:
    """What the products that follow would make of x anyway."""
    import torch

    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _is_gated(module: Any) -> bool:  # noqa: ANN401
    import torch
    from transformers.activations import SiLUActivation

    parts = [getattr(module, f"{name}_proj", None) for name in ("gate", "up", "down")]
    silu = isinstance(getattr(module, "act_fn", None), torch.nn.SiLU | SiLUActivation)
    return silu and None not in parts


def _gate(module: Any) -> Callable[[Tensor], Tensor]:  # noqa: ANN401
    apply = kernels.gate().apply
    return lambda x: module.down_proj(apply(module.gate_proj(x), module.up_proj(x)))
