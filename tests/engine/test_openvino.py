"""The OpenVINO engine on the embedded model: paths, ends and run folders as llama.cpp has them."""

from importlib import import_module
from importlib.util import find_spec

import broken_models
import pytest
from builders import refused
from test_batched import TRIGGER, Watch, drawn, requests

from lmsi_cli.config import EngineConfig, SampleConfig, SamplingConfig
from lmsi_cli.engine import openvino as module
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.jsonl import read_records
from lmsi_cli.records import Path, Question
from lmsi_cli.run_folder import RunDir, locked
from lmsi_cli.stages.engines import open_file
from lmsi_cli.stages.pipeline import draw_paths, job_of

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(find_spec("openvino_genai") is None, reason="needs openvino-genai"),
]
GREEDY = {"temperature": 0, "max_tokens": 60}
HOT = {"temperature": 1, "max_tokens": 60}
PRECISIONS = "INFERENCE_PRECISION_HINT", "KV_CACHE_PRECISION"


@pytest.fixture(autouse=True, scope="module")
def exact():
    """A CPU with BF16 computes in that, where the last bits depend on what else is in a step."""
    genai = import_module("openvino_genai")
    pipeline, f32 = genai.ContinuousBatchingPipeline, {n: "f32" for n in PRECISIONS}

    def opened(file, plan, device, settings):
        return pipeline(file, plan, device, settings | f32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(genai, "ContinuousBatchingPipeline", opened)
        yield


def opened(file, **settings):
    return open_file(file, EngineConfig(threads=1, **settings), "openvino")


@pytest.fixture(scope="module")
def engine(gguf, exact):
    with opened(gguf) as loaded:
        yield loaded


def test_a_greedy_path_is_llama_cpps_with_its_ids_end_and_log_probabilities(engine, gguf):
    ours = drawn(engine, 4, **GREEDY)
    with LlamaEngine(gguf, EngineConfig(threads=1, fast_copy="off")) as llama:
        theirs = drawn(llama, 4, **GREEDY)
    assert ours.keys() == theirs.keys() and len(ours) == 12
    for key, path in theirs.items():
        mine = ours[key]
        assert (mine.text, mine.stop_reason) == (path.text, path.stop_reason)
        assert [(t.id, t.start) for t in mine.drawn] == [(t.id, t.start) for t in path.drawn]
        assert mine.logprob == pytest.approx(path.logprob, abs=0.01)


def test_a_path_is_a_function_of_its_seed_and_ends_at_its_answer(engine):
    first, again = drawn(engine, 4, **HOT), drawn(engine, 4, **HOT)
    assert {k: g.text for k, g in first.items()} == {k: g.text for k, g in again.items()}
    assert len({g.text for g in first.values()}) > 6
    assert "answer" in {g.stop_reason for g in first.values()}


def test_a_decided_question_is_left_and_an_interrupted_call_leaves_nothing_behind(engine):
    watch = Watch({"q0": 1})
    found = drawn(engine, 8, watch, **HOT)
    assert watch.seen["q1"] == watch.seen["q2"] == set(range(8))
    assert {q for q, _, _ in watch.lost} == {"q0"}
    assert not {(q, p) for q, p, _ in watch.lost} & found.keys()
    unfinished = engine.generate(requests(engine, 8), SamplingConfig(**GREEDY), TRIGGER)
    next(unfinished)
    unfinished.close()
    assert len(drawn(engine, 4, **GREEDY)) == 12


def test_a_run_goes_on_with_openvino_alone(gguf, tmp_path, watcher):
    run, questions = RunDir(tmp_path), [Question(id=i, question=f"{i} pens?") for i in "ab"]

    def draw(**settings):
        job = job_of(SampleConfig(model=str(gguf), threads=1, **settings), questions)
        with locked(run):
            draw_paths(job, run, watcher)
        return list(read_records(run.paths, Path))

    before, after = draw(engine="openvino", paths=2), draw(engine="openvino", paths=4)
    assert after[:4] == before
    assert len({(p.question_id, p.path) for p in after}) == len(after) == 8
    refused(draw, paths=4, told="... engine")


def test_an_adapter_is_on_until_it_is_off(one_block, tmp_path):
    adapter = str(broken_models.adapter(tmp_path / "a.gguf", 512, value=0.05))

    def first(engine, adapter):
        engine.use_adapter(adapter)
        return drawn(engine, 1, **GREEDY)["q0", 0].drawn[0].logprob

    with opened(one_block) as engine:
        base, changed, again = (first(engine, given) for given in (None, adapter, None))
    with LlamaEngine(one_block, EngineConfig(threads=1)) as llama:
        theirs, with_it = first(llama, None), first(llama, adapter)
    near = abs(with_it - theirs) / 4
    assert (base, changed) == (pytest.approx(theirs, abs=near), pytest.approx(with_it, abs=near))
    assert again == base


def test_weights_that_openvino_does_not_compute_are_refused(gguf, one_block, monkeypatch):
    other = module.readable(gguf)
    monkeypatch.setattr(module, "readable", lambda _: other)
    monkeypatch.setattr(module, "recall", lambda *_: None)
    monkeypatch.setattr(module, "remember", lambda *_: None)
    refused(opened, one_block, told="... nats from")


@pytest.mark.parametrize(
    ("arch", "settings", "told"),
    [
        ("llama", {"kv": "split"}, "kv: "),
        ("llama", {"ctx": 512}, "ctx: "),
        ("internlm2", {}, "... llama, qwen2, qwen3"),
    ],
)
def test_what_it_lacks_is_refused_in_one_line(gguf, tmp_path, arch, settings, told):
    other = broken_models.relabelled(gguf, tmp_path / "other.gguf", arch=arch)
    refused(opened, other, **settings, told=told, hint="--engine llama")
