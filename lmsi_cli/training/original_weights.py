"""What a training starts from: the file's own weights or its originals, and an earlier adapter.

The file's weights are checked against llama.cpp's logits before a step is taken. Originals are a
local folder in Hugging Face's format (``--base``): safetensors only, no network, no code of the
folder. They are run by the file's own configuration, and every tensor must lie within what its
type loses, so folder and file are shown to be one model. What was found of a
folder:

    Original(folder="Qwen2.5-0.5B", file_type="Q4_K", weights=0.0782, worst="blk.3.ffn_up.weight",
             logits=0.047)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from lmsi_cli.config import TrainConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_object
from lmsi_cli.records import Record
from lmsi_cli.resume import check_base
from lmsi_cli.run_folder import ORIGIN, sha256_file
from lmsi_cli.splits import tensors
from lmsi_cli.training import adapter, verify
from lmsi_cli.training.adapter import CONFIG, WEIGHTS
from lmsi_cli.training.header import GgufMeta, read_meta
from lmsi_cli.training.load import Dtype, configuration, load_base, narrow_names, quiet, scale_rope
from lmsi_cli.training.weights import part, places, slabs

if TYPE_CHECKING:
    from torch import nn

GGUF = "adapter.gguf"  # need not be there: settings of an adapter are found by this name
FINISHED = "give the `adapter` folder of a run whose training is finished"
# The largest share of a tensor's norm that a type may have lost. Measured on tinymath with
# llama.cpp's quantiser: half to two thirds of these (docs/models.md); what is not here was
# not measured.
LOSS = {
    "F32": 0.0005,  # rounding of a file that was made by way of F16
    "F16": 0.001,
    "BF16": 0.004,
    "Q8_0": 0.01,
    "Q6_K": 0.03,
    "Q5_K": 0.06,
    "Q5_0": 0.07,
    "Q5_1": 0.07,
    "Q4_K": 0.12,
    "Q4_0": 0.15,
    "Q4_1": 0.13,
    "IQ4_NL": 0.13,
    "IQ4_XS": 0.13,
    "Q3_K": 0.25,
    "IQ3_S": 0.27,
    "Q2_K": 0.45,
}
UNMEASURED = 0.9
# Logits that lie this far apart by rounding alone, and how much more they may than the weights:
# measured up to 0.6 times as far on tinymath and 3.5 times on two random layers.
ROUNDING, AMPLIFIED = 0.03, 4.5


class Original(Record, frozen=True, kw_only=True):
    """The folder that was trained on, and how far the file's weights lie from it.

    ``weights`` is the largest relative distance of a tensor (``worst``); ``logits`` that of
    llama.cpp on the file from PyTorch on the folder, relative to the latter.
    """

    folder: str
    file_type: str
    weights: float
    worst: str
    logits: float = 0.0


def load_proven(
    gguf: Path,
    folder: str,
    dtype: Dtype,
    witness: verify.Witness | None,
    say: Callable[[str], None],
) -> tuple[nn.Module, Original | None]:
    """Load the weights to train over, frozen, on the CPU, and compare them with llama.cpp.

    Args:
        gguf: The file that will run the adapter.
        folder: Of the originals; empty for the file's own weights.
        dtype: Of the matrix products.
        witness: What llama.cpp computes from the file; without one that comparison is left out.
        say: Told what was found of a folder.

    Returns:
        The model, and what is known of the folder.

    Raises:
        LmsiError: They cannot be loaded, or are another model; says what differs.
    """
    if not folder:
        model = load_base(gguf, dtype)
        if witness is not None:
            ours = verify.torch_logits(model, dtype)(witness.prompts, True)
            verify.check_base(ours, witness.logits)
        return model, None
    place = Path(folder).expanduser()
    model, original = load_original(place, gguf, dtype)
    if witness is not None:
        ours = verify.torch_logits(model, dtype)(witness.prompts, True)
        apart = verify.gap(witness.logits, ours)
        if not apart <= (limit := ROUNDING + AMPLIFIED * original.weights):
            why = f"the logits lie {apart:.1%} apart, and its weights explain {limit:.1%}"
            raise _stranger(place, why)
        original = msgspec.structs.replace(original, logits=apart)
    say(
        f"{original.folder} is the model of the GGUF file: {original.file_type} lies up to "
        f"{original.weights:.2%} from its weights ({original.worst}), {original.logits:.2%} from "
        "its logits"
    )
    return model, original


def load_original(folder: Path, gguf: Path, dtype: Dtype) -> tuple[nn.Module, Original]:
    """Load the folder's weights as ``load.load_base`` does, once it is proven to be this model.

    Args:
        folder: Safetensors; of config.json nothing is used.
        gguf: The file that was sampled and will run the adapter.
        dtype: Of the matrix products.

    Raises:
        LmsiError: The folder cannot be read safely, or holds another model; says what differs.
    """
    import torch

    if (folder / CONFIG).exists() or not any(folder.glob("*.safetensors")):
        raise LmsiError(
            f"{folder}: no model in safetensors here",  # a pickle can run code
            hint="--base takes a model's local folder in Hugging Face's format, not an adapter's",
        )
    meta = read_meta(gguf)
    model = _read(folder, meta)
    if meta.rope_factors is not None:
        scale_rope(model, meta.rope_factors)
    model.requires_grad_(False)
    found = _compare(model, gguf, meta, folder)
    for name in narrow_names(model) if dtype == "bf16" else ():
        parameter = model.get_parameter(name)
        parameter.data = parameter.data.to(torch.bfloat16)
    return model.eval(), found


def _read(folder: Path, meta: GgufMeta) -> nn.Module:
    """The folder's weights in the model that the file describes."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with quiet():
            model, info = AutoModelForCausalLM.from_pretrained(
                folder,
                config=configuration(meta),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except (OSError, RuntimeError, ValueError) as e:
        raise _stranger(folder, str(e).strip().splitlines()[0]) from e
    odd = [*info["missing_keys"], *info["unexpected_keys"]]
    if odd := sorted(name for name in odd if name.endswith((".weight", ".bias"))):
        raise _stranger(folder, f"only one of them has {odd[0]}, and {len(odd) - 1} more")
    return cast("nn.Module", model)


def _compare(model: nn.Module, gguf: Path, meta: GgufMeta, folder: Path) -> Original:
    """Compare every tensor of the file with the folder's, each against what its type may lose."""
    found, worst = places(model, meta), ("", -1.0)
    for tensor in tensors(gguf):
        name = "token_embd.weight" if tensor.name == "output.weight" else tensor.name
        place = found.get(tensor.name) or found.get(name)
        if place is None:
            continue
        kind = meta.types[tensor.name]
        limit = LOSS.get(kind, UNMEASURED)
        apart = _distance(tensor, part(model, model.get_parameter(place.parameter), place), meta)
        if not apart <= limit:
            why = f"{tensor.name} lies {apart:.1%} apart; {kind} loses under {limit:.1%}"
            raise _stranger(folder, why)
        worst = max(worst, (tensor.name, apart), key=lambda pair: pair[1])
    return Original(folder=folder.name, file_type=meta.file_type, worst=worst[0], weights=worst[1])


def _distance(tensor: Any, ours: Any, meta: GgufMeta) -> float:  # noqa: ANN401 - untyped
    """The relative distance of a tensor of the file from the folder's."""
    apart = whole = 0.0
    for where, values in slabs(tensor, ours.shape, meta):
        apart += float((values - ours[where]).norm()) ** 2
        whole += float(ours[where].norm()) ** 2
    return float((apart / whole) ** 0.5) if whole else float(apart > 0)


def _stranger(folder: Path, what: str) -> LmsiError:
    return LmsiError(
        f"{folder} is not the model of the GGUF file: {what}",
        hint="take the folder that the file was made from, or train without --base",
    )


def check_adapter(config: TrainConfig, base_sha256: str) -> None:
    """Refuse an adapter that this training cannot start from, before anything is loaded.

    Args:
        config: ``init`` names the folder; empty passes.
        base_sha256: Hash of the base's bytes.

    Raises:
        LmsiError: It is no finished adapter of `lmsi train`, or has another base, rank or alpha;
            says which.
    """
    if not config.init:
        return
    folder = Path(config.init)
    for name in (CONFIG, WEIGHTS, ORIGIN):
        if not (folder / name).is_file():
            inner = folder / "adapter"
            hint = f"--set init={inner}" if (inner / CONFIG).is_file() else FINISHED
            raise LmsiError(f"--set init={folder}: no finished adapter (no {name})", hint=hint)
    check_base(folder / GGUF, base_sha256)
    saved = read_object(folder / CONFIG)
    # Weights of another rank do not fit, and of another alpha they act otherwise.
    for flag, name in (("rank", "r"), ("alpha", "lora_alpha"), ("rslora", "use_rslora")):
        if saved.get(name) != (now := getattr(config, flag)):
            raise LmsiError(
                f"--set init={folder}: this adapter has {flag} {saved.get(name)}, {now} now",
                hint=f"train with its {flag}, or start afresh without `init`",
            )


def fingerprint(config: TrainConfig) -> str:
    """Name the weights that a training starts from; empty: afresh."""
    return sha256_file(Path(config.init) / WEIGHTS) if config.init else ""


def fill_adapter(model: nn.Module, config: TrainConfig) -> None:
    """Give a fresh adapter the weights of the one to start from; without one, leave it as it is.

    Args:
        model: From ``adapter.add_lora``, with the same settings.
        config: ``init`` names the folder, which ``check_adapter`` has passed.

    Raises:
        LmsiError: That adapter acts on other matrices.
    """
    if not config.init:
        return
    import torch
    from safetensors.torch import load_file

    folder = Path(config.init)
    saved = load_file(folder / WEIGHTS)
    fresh = {n.replace(".default.", "."): p for n, p in adapter.trainable(model).items()}
    if {n: p.shape for n, p in fresh.items()} != {n: t.shape for n, t in saved.items()}:
        raise LmsiError(
            f"--set init={folder}: this adapter acts on other matrices than target={config.target} "
            f"--layers {config.layers}",
            hint="train with its target and --layers, or start afresh without `init`",
        )
    with torch.no_grad():
        for name, parameter in fresh.items():
            parameter.copy_(saved[name])
