"""The OpenVINO engine: the same prompts, ends and files, with OpenVINO GenAI's decoding.

A CPU without int8 dot products decodes some small models faster with it. OpenVINO gets llama.cpp's
ids, one request per path with its own seed, and finds shared prefixes in its prefix cache. It reads
few types; other files get a copy (``fast_copy.py``). Once per file and adapter, llama.cpp's
log-probabilities prove that it computes the same model; the verdict is kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.metadata import version
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import psutil

from lmsi_cli.config import EngineConfig, SamplingConfig
from lmsi_cli.engine.base import Generated, Request, Wanted, Watch
from lmsi_cli.engine.checks import NoMemoryError
from lmsi_cli.engine.cpu_check import recall, remember
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.engine.fast_copy import TEXT, Verdict, logits_along, readable, verdict_file
from lmsi_cli.engine.llama import default_threads
from lmsi_cli.engine.paths import Slot, Writer
from lmsi_cli.errors import LmsiError
from lmsi_cli.run_folder import sha256_file
from lmsi_cli.splits import parts_of, tensors

Merge = Callable[[Path, Path, Path, float], None]  # base, adapter, what is written, scale
KINDS = ("llama", "qwen2", "qwen3")  # architectures that OpenVINO builds from a GGUF file
TYPES = {"F32", "F16", "Q8_0", "Q4_0"}  # tensor types that it reads as they are
WIDTH = 64  # paths side by side
MEMORY_SHARE = 0.5  # of the free memory, for keys and values; a path without room waits
PROOF, PATHS = 32, 4  # of the proof: tokens of its prompt, paths drawn from it
PATH = SamplingConfig(temperature=1, top_k=0, max_tokens=32)  # how they are drawn
# OpenVINO filters after the temperature, lmsi before it; the other settings are llama.cpp's own
PLAIN = {"top_p": 1, "min_p": 0, "kv": "auto", "flash_attn": "auto", "ctx": 0, "gpu_layers": "none"}
LLAMA = "draw with --engine llama"
INSTALL = "type: pip install '.[openvino]' in lmsi's folder"
LESS = "lower --max-tokens or --set parallel, or close other programs"
NUMBERS = count()  # of requests; they must differ within a pipeline


def other_than_plain(config: EngineConfig) -> list[str]:
    """Settings changed from their plain value for which OpenVINO has no counterpart."""
    return [name for name, plain in PLAIN.items() if getattr(config, name, plain) != plain]


class OpenVinoEngine(LlamaEngine):
    """One GGUF file in OpenVINO; llama.cpp maps it too, for its vocabulary and for the proof."""

    def __init__(self, path: Path, config: EngineConfig, merge: Merge) -> None:
        """Load the file and prove the weights; LmsiError says why OpenVINO cannot use it."""
        try:
            self.genai = import_module("openvino_genai")  # before the model: see ``may_repack``
        except ImportError as e:
            raise LmsiError(f"--engine openvino needs openvino-genai: {e}", INSTALL) from e
        for name in other_than_plain(config):
            raise LmsiError(f"{name}: --engine openvino draws without it", LLAMA)
        super().__init__(path, msgspec.structs.replace(config, fast_copy="off"))
        if self.model.architecture not in KINDS or len(parts_of(path)) > 1:
            raise LmsiError(f"{path}: OpenVINO reads only {', '.join(KINDS)} in one file", LLAMA)
        known = {t.tensor_type.name for t in tensors(path)} <= TYPES
        # nor does it read a file that does not name its type
        self.base = path if known and self.model.meta("general.file_type") else readable(path)
        self.weights, self._merge, self._folder = self.base, merge, TemporaryDirectory()
        self._pipe: Any = None
        self._width = 0
        try:
            self._prove()
        except BaseException:  # the caller cannot close what it never got
            self.close()
            raise

    @property
    def settled(self) -> dict[str, int | str]:
        """The values that ``auto`` settled on; empty before the first path."""
        copied = "off" if self.base == self.path else "on"
        found: dict[str, int | str] = {"parallel": self._width, "fast_copy": copied}
        found["openvino"] = version("openvino")
        return found if self._width else {}

    def use_adapter(self, path: str | None, scale: float = 1.0) -> None:
        """Switch an adapter on or off; it is merged into the weights, which are loaded anew.

        OpenVINO's own adapters find no layer of a GGUF file, and its prefix cache confuses them.
        """
        before = self._adapter_name, self._active[1]
        super().use_adapter(path, scale if path else 1.0)
        if (path, self._active[1]) == before:
            return
        self._pipe, self.weights = None, self.base
        if path:
            self.weights = Path(self._folder.name, "merged.gguf")
            self._merge(self.base, Path(path), self.weights, scale)
        self._prove()

    def _draw(
        self,
        requests: Sequence[Request],
        sampling: SamplingConfig,
        trigger: str,
        watch: Watch | None,
    ) -> Iterator[Generated]:
        wanted = [r for r in requests if r.wanted]
        self._width = self.config.parallel or WIDTH
        writer = self.model, sampling, trigger, watch
        yield from _Sampler(self._opened_pipe(), self._width, *writer).run(wanted)

    def close(self) -> None:
        """Free the memory."""
        self._pipe = None
        self._folder.cleanup()
        super().close()

    def _opened_pipe(self) -> Any:  # noqa: ANN401 - an untyped library
        """The pipeline with the adapter on; loading takes seconds, so it is kept."""
        if self._pipe is None:
            free = MEMORY_SHARE * psutil.virtual_memory().available
            plan = self.genai.SchedulerConfig()
            plan.enable_prefix_caching, plan.cache_size = True, max(1, int(free / 2**30))
            threads = {"INFERENCE_NUM_THREADS": self.config.threads or default_threads()}
            pipeline = self.genai.ContinuousBatchingPipeline
            try:
                self._pipe = pipeline(str(self.weights), plan, "CPU", threads)
            except (RuntimeError, IndexError) as e:
                reason = str(e).strip().splitlines()[-1]
                raise LmsiError(f"{self.path}: OpenVINO cannot load it: {reason}", LLAMA) from e
        return self._pipe

    def _prove(self) -> None:
        """Check that OpenVINO computes what llama.cpp computes; LmsiError if it does not."""
        adapter, (_, scale) = self._adapter_name, self._active
        digest = sha256_file(Path(adapter))[:12] if adapter else ""
        kept = verdict_file(self.path, f"-ov{version('openvino')}-{digest}-{scale:g}")
        verdict = recall(kept, Verdict)
        if verdict is None:
            verdict = Verdict(copy=self.base.name, divergence=self._divergence())
            remember(kept, verdict)
        if not verdict.same:
            problem = f"next-token distributions {verdict.divergence:.3f} nats from llama.cpp's"
            raise LmsiError(f"{adapter or self.path}: OpenVINO computes {problem}", LLAMA)

    def _divergence(self) -> float:
        """Half the mean squared difference of log-probabilities over paths that OpenVINO drew.

        To second order this is the Kullback-Leibler divergence in nats.
        """
        from scipy.special import log_softmax

        prompt, apart = tuple(self.encode(TEXT.read_text())[:PROOF]), list[float]()
        request = Request("proof", prompt, tuple(Wanted(i, i) for i in range(PATHS)))
        for path in self.generate([request], PATH, ""):
            ids = [t.id for t in path.drawn]
            whole = logits_along(self.model, (*prompt, *ids), self.config.threads, self._active)
            logits = np.concatenate([some.astype(np.float64) for some in whole])
            theirs = log_softmax(logits[len(prompt) - 1 : -1], axis=1)[np.arange(len(ids)), ids]
            apart += [t.logprob - x for t, x in zip(path.drawn, theirs, strict=True)]
        return float(np.square(apart).mean() / 2)


class _Sampler(Writer):
    """Keeps up to ``width`` requests in a pipeline; iterate ``run()`` for finished paths."""

    def __init__(self, pipe: Any, width: int, *writer: Any) -> None:  # noqa: ANN401 - untyped
        super().__init__(*writer)
        self.genai, self.pipe, self.width = import_module("openvino_genai"), pipe, width
        self.ends = {t for t in range(self.model.n_vocab) if self.model.ends(t)}
        self.running: dict[int, tuple[Any, Slot]] = {}  # by number: the pipeline's handle, the path
        self.opened: list[tuple[Request, deque[int]]] = []  # questions, and their waiting paths
        self.read: set[str] = set()  # questions whose prompts are in the cache

    def run(self, requests: Sequence[Request]) -> Iterator[Generated]:
        """Draw every wanted path of undecided questions; yields each at the step that ends it."""
        self.queue = deque(requests)
        try:
            while self._start_paths():
                self.pipe.step()
                yield from self._take()
        finally:
            for number in list(self.running):
                self._stop_one(number)
            while self.pipe.has_non_finished_requests():  # those that were stopped
                self.pipe.step()

    def _start_paths(self) -> bool:
        """Start waiting paths while there is room; returns whether any path runs."""
        while len(self.running) < self.width and (found := self._next_question()):
            request, waiting = found
            self._start(Slot(request, *request.wanted[waiting.popleft()]))
        self.opened = [(r, waiting) for r, waiting in self.opened if waiting]
        return bool(self.running)

    def _next_question(self) -> tuple[Request, deque[int]] | None:
        """The oldest question with a needed path, a new one, or that with the lowest waiting path.

        OpenVINO looks up shared prefixes when a request is added. So the very first path runs alone
        for a step, and each question's first path runs before its others.
        """
        ready = [found for found in self.opened if found[1] and found[0].question_id in self.read]
        if needed := next((found for found in ready if self.needed(*found)), None):
            return needed
        if self.queue and (self.read or not self.running):
            request = self.queue.popleft()
            self.opened.append((request, deque(range(len(request.wanted)))))
            return self.opened[-1]
        return min(ready, key=lambda found: found[0].wanted[found[1][0]].path, default=None)

    def _start(self, slot: Slot) -> None:
        limit = self.sampling.max_tokens
        how = self.genai.GenerationConfig(max_new_tokens=limit, logprobs=1)
        how.apply_chat_template, how.stop_token_ids = False, self.ends
        if self.sampling.temperature > 0:
            how.do_sample, how.temperature = True, self.sampling.temperature
            how.rng_seed = slot.seed % 2**32  # its generator takes no more bits
            if self.sampling.top_k:
                how.top_k = self.sampling.top_k
        number = next(NUMBERS)
        ids = import_module("openvino").Tensor(np.array([slot.request.prompt], np.int64))
        self.running[number] = self.pipe.add_request(number, ids, how), slot

    def _take(self) -> Iterator[Generated]:
        """Write what a step drew, and end the paths that are complete."""
        ended = list[Generated]()
        for number, (handle, slot) in list(self.running.items()):
            if path := self._written(handle, slot):
                self._stop_one(number)
                ended.append(path)
        yield from self.hand_over(ended)

    def _written(self, handle: Any, slot: Slot) -> Generated | None:  # noqa: ANN401 - untyped
        while handle.can_read():
            for output in handle.read().values():
                self.read.add(slot.request.question_id)
                found = zip(output.generated_ids, output.generated_log_probs, strict=True)
                for token, logprob in found:
                    if path := self.write(slot, token, logprob):
                        return path
        if handle.get_status() != self.genai.GenerationStatus.RUNNING:
            raise NoMemoryError("OpenVINO has no memory left for keys and values", LESS)
        return None

    def cancel(self, decided: set[str]) -> list[Slot]:
        """Drop all running and waiting paths of these questions; returns those that ran."""
        self.opened = [(r, waiting) for r, waiting in self.opened if r.question_id not in decided]
        given_up = [n for n, (_, s) in self.running.items() if s.request.question_id in decided]
        return [self._stop_one(number) for number in given_up]

    def _stop_one(self, number: int) -> Slot:
        handle, slot = self.running.pop(number)
        handle.stop()  # the next step drops it
        return slot
