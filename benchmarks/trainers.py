"""Let one side train a few steps, in a process of its own: a job in on stdin, figures out.

Every side gets the same weights, token ids, steps, rank and layers. Loading is not timed, nor is
the first step. A job and a measurement:

    {"gguf": "m.gguf", "folder": "hf", "examples": [{"prompt": "Q: ...", ...}], "steps": 3, ...}
    {"trainer": "trl", "step_seconds": [41.2, 39.8], "tokens": 5120, "computed_tokens": 7740,
     "losses": [...], "peak_bytes": 5200000000}
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from lmsi_cli.config import TrainConfig
from lmsi_cli.jsonl import read_records
from lmsi_cli.records import Silent, TrainExample
from lmsi_cli.training import attention, data, devices, load
from lmsi_cli.training.loop import plan

WARM = 1  # steps that are not counted


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A few steps over a run's examples; ``folder`` holds the same weights for transformers."""

    gguf: str
    folder: str
    examples: list[TrainExample]
    config: TrainConfig


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """What one side needed for the counted steps.

    ``tokens`` are the examples' own, without padding and sharing; ``computed_tokens`` are those
    that went through the model. ``detail`` holds figures that only one side has.
    """

    trainer: str
    step_seconds: list[float]
    examples: int
    tokens: int
    computed_tokens: int
    peak_bytes: int
    losses: list[float] = []
    detail: dict[str, Any] = {}


def lmsi(job: Job) -> Measurement:
    """The tool's own training, as the command runs it."""
    from lmsi_cli.training.loop import LOG, LogLine
    from lmsi_cli.training.trainer import train

    with tempfile.TemporaryDirectory() as out, _codec(job) as codec:
        summary, _ = train(job.examples, Path(job.gguf), job.config, Path(out), codec, Silent())
        lines = list(read_records(Path(out) / LOG, LogLine))[WARM:]
    return Measurement(
        trainer="lmsi",
        step_seconds=[line.seconds for line in lines],
        examples=job.config.batch_size * len(lines),
        tokens=sum(line.unpacked_tokens for line in lines),
        computed_tokens=sum(line.tokens for line in lines),
        losses=[line.loss for line in lines],
        peak_bytes=_peak(),
        detail={"dtype": summary.dtype},
    )


def trl(job: Job) -> Measurement:
    """TRL's SFTTrainer with PEFT: its defaults, except where both must do the same work."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    steps, clock = _steps(job), _clock()
    ids = [e for step in steps for e in step]
    rows = [
        {
            "input_ids": e.prompt + e.completion,
            "completion_mask": [0] * len(e.prompt) + [1] * len(e.completion),
        }
        for e in ids
    ]
    c = job.config
    with tempfile.TemporaryDirectory() as out:
        trainer = SFTTrainer(
            job.folder,
            args=SFTConfig(
                output_dir=out,
                max_steps=c.max_steps,
                per_device_train_batch_size=c.batch_size,
                max_length=c.max_length,
                completion_only_loss=True,
                train_sampling_strategy="sequential",
                learning_rate=c.lr,
                use_cpu=True,
                save_strategy="no",
                report_to="none",
                logging_steps=1,
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=_tokenizer(),
            peft_config=LoraConfig(
                r=c.rank, lora_alpha=c.alpha, target_modules=_targets(job), task_type="CAUSAL_LM"
            ),
            callbacks=[clock],
        )
        trainer.train()
    counted = steps[WARM:]
    return Measurement(
        trainer="trl",
        step_seconds=clock.seconds[WARM:],
        examples=sum(map(len, counted)),
        tokens=sum(e.length for step in counted for e in step),
        computed_tokens=sum(len(step) * max(e.length for e in step) for step in counted),
        losses=[x["loss"] for x in trainer.state.log_history if "loss" in x][WARM:],
        peak_bytes=_peak(),
        detail={
            "dtype": str(trainer.model.get_input_embeddings().weight.dtype),
            "bf16": trainer.args.bf16,
            "gradient_checkpointing": trainer.args.gradient_checkpointing,
        },
    )


def floor(job: Job) -> Measurement:
    """No training: the arithmetic of lmsi's rows over the measured rate of the products."""
    from benchmarks import floor as least

    steps, dtype = _steps(job), devices.pick_dtype("auto", "cpu")
    model = load.skeleton(Path(job.gguf))
    longest = max(e.length for step in steps for e in step)
    packs = attention.supports(model.config, longest)
    rows = [data.pack(step, data.MAX_ROW_TOKENS if packs else 0) for step in steps[WARM:]]
    sizes = least.sizes(model, job.config.rank)
    flat = [row for step in rows for row in step]
    rates = least.rates(
        sizes,
        dtype,
        sum(len(r.ids) for r in flat) // len(flat),
        sum(len(r.labels) for r in flat) // len(flat),
    )
    return Measurement(
        trainer="floor",
        step_seconds=least.seconds(rows, sizes, rates),
        examples=sum(map(len, steps[WARM:])),
        tokens=sum(e.length for step in steps[WARM:] for e in step),
        computed_tokens=sum(len(row.ids) for row in flat),
        peak_bytes=_peak(),
        detail={"dtype": dtype, "rates": rates},
    )


@contextmanager
def _codec(job: Job) -> Iterator[data.Codec]:
    from lmsi_cli.engine.encode import Encoder
    from lmsi_cli.engine.llama import vocabulary

    with vocabulary(Path(job.gguf)) as words:
        encoder = Encoder(words)
        yield data.Codec(lambda prompt: encoder.prompt(prompt).ids, encoder.completion)


def _steps(job: Job) -> list[list[data.TokenExample]]:
    """The very examples that lmsi's plan puts into each step."""
    with _codec(job) as codec:
        ids, _ = data.tokenize(job.examples, codec, job.config.max_length)
    return [[ids[i] for i in step] for step in plan(len(ids), job.config)]


def _targets(job: Job) -> list[str]:
    from lmsi_cli.training.adapter import choose

    return choose(load.skeleton(Path(job.gguf)), job.config)[1]["target_modules"]


def _tokenizer() -> Any:  # noqa: ANN401
    """The tokenizer that TRL requires; the ids exist already, so it only names a padding token."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<pad>": 0}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<pad>")


def _clock() -> Any:  # noqa: ANN401
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            self.seconds: list[float] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
            self.begun = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
            self.seconds.append(time.perf_counter() - self.begun)

    return Clock()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


TRAINERS: dict[str, Callable[[Job], Measurement]] = {"lmsi": lmsi, "trl": trl, "floor": floor}


def main() -> None:
    """Run the side named on the command line on the job that is read from stdin."""
    job = msgspec.convert(json.load(sys.stdin), Job)
    print("MEASURED " + msgspec.json.encode(TRAINERS[sys.argv[1]](job)).decode(), flush=True)


if __name__ == "__main__":
    main()
