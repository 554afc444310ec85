"""Training on the original weights of a GGUF file, from a local folder in Hugging Face's format.

Proves that file and folder are one model before a step is taken: architecture, settings, sizes,
vocabulary, and every tensor within what its type loses. Reads safetensors only; no network, no
pickle, no code of the folder. Does not know llama.cpp or adapters. What it found:

    Original(folder="Qwen2.5-0.5B", file_type="Q4_K", weights=0.0782, worst="blk.3.ffn_up.weight",
             logits=0.047)
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Record
from lmsi_cli.splits import tensors
from lmsi_cli.training.architectures import family
from lmsi_cli.training.header import GgufMeta, read_meta, words
from lmsi_cli.training.load import Dtype, configuration, narrow_names, quiet, skeleton
from lmsi_cli.training.weights import part, places, slabs

if TYPE_CHECKING:
    from torch import nn

# The largest share of a tensor's norm that a type may have lost. Measured on tinymath with
# llama.cpp's quantiser: half to two thirds of these (docs/architectures.md); what is not here was
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
# Model types of transformers that llama.cpp runs as one architecture.
ALSO = {"llama": {"mistral"}}
# What may differ in the settings: sizes of tables that training does not reach, and what follows
# from the tensors, which are compared one by one.
LOOSE = frozenset(
    {
        "max_position_embeddings",
        "original_max_position_embeddings",
        "tie_word_embeddings",
        "attention_bias",
        "mlp_bias",
        "use_bias",
        "sliding_window",
        "layer_types",
        "use_sliding_window",
        "max_window_layers",
        "initializer_range",
    }
)


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


def load_original(
    folder: Path, gguf: Path, dtype: Dtype, say: Callable[[str], None]
) -> tuple[nn.Module, Original]:
    """Load the folder's weights as ``load.load_base`` does, once it is proven to be this model.

    Args:
        folder: config.json and safetensors.
        gguf: The file that was sampled and will run the adapter.
        dtype: From ``load.pick_dtype``.
        say: Told what was found.

    Raises:
        LmsiError: The folder cannot be read safely, or holds another model; says what differs.
    """
    import torch
    from transformers import AutoModelForCausalLM

    meta = read_meta(gguf)
    check_files(folder)
    config = _config(folder, meta)
    _compare_words(folder, gguf, say)
    _compare_sizes(skeleton(gguf), config)
    with quiet():
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    if missing := sorted(info["missing_keys"]):
        raise LmsiError(f"{folder}: no weights for {missing[0]} and {len(missing) - 1} more")
    model.requires_grad_(False)
    found = _compare_weights(model, gguf, meta, folder)
    for name in narrow_names(model) if dtype == "bf16" else ():
        parameter = model.get_parameter(name)
        parameter.data = parameter.data.to(torch.bfloat16)
    return cast("nn.Module", model.eval()), found


def check_files(folder: Path) -> None:
    """Refuse a folder that would need the network, a pickle or code of its own.

    Raises:
        LmsiError: Says what is missing or not allowed.
    """
    if not (folder / "config.json").is_file():
        raise LmsiError(
            f"{folder}: no config.json here",
            hint="--base takes a local folder in Hugging Face's format",
        )
    if (folder / "adapter_config.json").exists():
        raise LmsiError(f"{folder} holds an adapter", hint="--base takes the model without one")
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(p.name for kind in ("*.bin", "*.pt", "*.pth") for p in folder.glob(kind))
        why = f"{pickles[0]} is a pickle, which can run code" if pickles else "no weights"
        raise LmsiError(f"{folder}: {why}", hint="take the same model in safetensors")


def _config(folder: Path, meta: GgufMeta) -> Any:  # noqa: ANN401 - transformers is untyped
    """The folder's configuration without dropout, if it is that of the file."""
    from transformers import AutoConfig

    told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if "auto_map" in told:
        raise LmsiError(f"{folder}: config.json asks for code of its own, which lmsi does not run")
    kind, wanted = str(told.get("model_type")), family(meta).model_type
    if kind not in {wanted, *ALSO.get(meta.architecture, ())}:
        raise _stranger(folder, f"architecture {kind}, in the file {wanted}")
    with quiet():
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    for name in config.to_dict():
        if name.endswith(("dropout", "pdrop")):
            setattr(config, name, 0.0)
    config.use_cache = False
    theirs, ours = _numbers(config.to_dict()), _numbers(configuration(meta).to_dict())
    if meta.rope_factors is not None and theirs["rope_type"] == "llama3":
        ours |= {"rope_type": "llama3", "factor": theirs["factor"]}  # a tensor in the file
    for name in sorted((set(theirs) & set(ours)) - LOOSE):
        if not _alike(theirs[name], ours[name]):
            raise _stranger(folder, f"{name} is {theirs[name]}, in the file {ours[name]}")
    return config


def _numbers(config: dict[str, Any]) -> dict[str, Any]:
    """What a configuration says of the arithmetic: numbers, activations, and how positions turn."""
    rope = config.get("rope_parameters") or {}
    rope = {"partial_rotary_factor": 1.0, "factor": 1.0, **rope.get("full_attention", rope)}
    names = ("rope_theta", "rope_type", "partial_rotary_factor", "factor")
    told = config | {name: rope.get(name) for name in names}
    words = ("hidden_act", "hidden_activation", "activation_function", "rope_type")
    return {k: v for k, v in told.items() if isinstance(v, int | float) or k in words}


def _alike(a: object, b: object) -> bool:
    if isinstance(a, int | float) and isinstance(b, int | float):
        return abs(a - b) <= 1e-5 * max(abs(a), abs(b))
    # gelu, gelu_new and gelu_pytorch_tanh lie a thousandth apart, and llama.cpp has only one.
    return str(a).partition("_")[0] == str(b).partition("_")[0]


def _stranger(folder: Path, what: str) -> LmsiError:
    return LmsiError(
        f"{folder} is not the model of the GGUF file: {what}",
        hint="take the folder that the file was made from, or train without --base",
    )


def _compare_sizes(ours: nn.Module, config: Any) -> None:  # noqa: ANN401 - untyped
    """Compare names and sizes of all parameters before any weight is read."""
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    with quiet(), init_empty_weights(include_buffers=False):
        theirs = AutoModelForCausalLM.from_config(config)
    theirs.tie_weights()
    mine, other = (
        {n: tuple(p.shape) for n, p in m.named_parameters() if n != "lm_head.weight"}
        for m in (ours, theirs)
    )
    for name in sorted(set(mine) | set(other)):
        a, b = other.get(name), mine.get(name)
        if a != b:
            raise _stranger(Path(config.name_or_path), f"{name} is {a}, in the file {b}")


def _compare_words(folder: Path, gguf: Path, say: Callable[[str], None]) -> None:
    """Compare the vocabularies word by word; ids must mean the same on both sides."""
    tokens, types = words(gguf)
    theirs = _vocabulary(folder)
    if not theirs or not tokens:
        say("no vocabulary to compare in the folder: the rows of the embedding decide")
        return
    odd = [
        i
        for i, word in sorted(theirs.items())
        if i >= len(tokens) or word.replace("▁", " ") != tokens[i].replace("▁", " ")
    ]
    # The converter may spell control and added tokens anew; ordinary ones it copies.
    wrong = [i for i in odd if i >= len(tokens) or types[i] == 1]
    if wrong:
        i = wrong[0]
        mine = repr(tokens[i]) if i < len(tokens) else "nothing"
        raise _stranger(
            folder, f"token {i} is {theirs[i]!r}, in the file {mine} ({len(wrong)} differ)"
        )
    more = f", {len(odd)} special ones spelled differently" if odd else ""
    say(f"vocabularies agree: {len(theirs)} tokens{more}")


def _vocabulary(folder: Path) -> dict[int, str]:
    """Token numbers and words of tokenizer.json or vocab.json, without running a tokenizer."""
    whole, plain = folder / "tokenizer.json", folder / "vocab.json"
    if whole.is_file():
        told = json.loads(whole.read_text(encoding="utf-8"))
        found = told["model"].get("vocab", {})
        if isinstance(found, list):  # a unigram model: word and score, by number
            found = {word: i for i, (word, _) in enumerate(found)}
        added = {int(t["id"]): str(t["content"]) for t in told.get("added_tokens", ())}
        return {int(i): str(word) for word, i in found.items()} | added
    if plain.is_file():
        return {int(i): str(w) for w, i in json.loads(plain.read_text(encoding="utf-8")).items()}
    return {}


def _compare_weights(model: nn.Module, gguf: Path, meta: GgufMeta, folder: Path) -> Original:
    """Compare every tensor of the file with the folder's, each against what its type may lose."""
    told, worst = places(model, meta), ("", -1.0)
    for tensor in tensors(gguf):
        name = "token_embd.weight" if tensor.name == "output.weight" else tensor.name
        place = told.get(tensor.name) or told.get(name)
        if place is None:
            continue
        kind = meta.types[tensor.name]
        apart = _distance(tensor, part(model, model.get_parameter(place.parameter), place), meta)
        if not apart <= LOSS.get(kind, UNMEASURED):
            raise _stranger(
                folder,
                f"{tensor.name} lies {apart:.1%} apart; {kind} loses under "
                f"{LOSS.get(kind, UNMEASURED):.1%}",
            )
        worst = max(worst, (tensor.name, apart), key=lambda pair: pair[1])
    return Original(folder=folder.name, file_type=meta.file_type, worst=worst[0], weights=worst[1])


def _distance(tensor: Any, ours: Any, meta: GgufMeta) -> float:  # noqa: ANN401 - untyped
    """The relative distance of a tensor of the file from the folder's."""
    apart = whole = 0.0
    for where, values in slabs(tensor, ours.shape, meta):
        apart += float((values - ours[where]).norm()) ** 2
        whole += float(ours[where].norm()) ** 2
    if not whole:
        return float(apart > 0)
    return float((apart / whole) ** 0.5)
