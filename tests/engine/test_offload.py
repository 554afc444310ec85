"""GPU layers: asked for and possible, or refused with the line that makes it possible."""

from types import SimpleNamespace

import pytest

from lmsi_cli.engine import offload
from lmsi_cli.engine.builds import NAMED
from lmsi_cli.errors import LmsiError

LINE = (
    'CMAKE_ARGS="-DGGML_CUDA=on" pip install llama-cpp-python '
    "--no-binary llama-cpp-python --force-reinstall --no-cache-dir"
)


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Play a build of llama.cpp: its libraries by name, and whether it finds a card."""

    def play(*kinds, card):
        monkeypatch.delenv(NAMED, raising=False)  # else that folder would be looked at
        (tmp_path / "lib").mkdir()
        for kind in ("base", "cpu", *kinds):
            (tmp_path / "lib" / f"libggml-{kind}.so.0.25").touch()
        lib = SimpleNamespace(
            __file__=str(tmp_path / "__init__.py"), llama_supports_gpu_offload=lambda: card
        )
        monkeypatch.setattr(offload, "library", lambda: lib)

    return play


def test_with_a_card_layers_go_to_it(build):
    build("cuda", card=True)
    assert [offload.to_layers(n) for n in ("all", 7, 0, "none")] == [-1, 7, 0, 0]
    assert offload.state() == (True, "available (cuda)", "")


@pytest.mark.parametrize("asked", ["all", 1])
def test_a_build_without_gpu_code_is_an_error_with_the_line_to_rebuild_it(build, asked):
    build("blas", "cpu-haswell", card=False)
    with pytest.raises(LmsiError) as e:
        offload.to_layers(asked)
    assert str(e.value) == f"--gpu-layers {asked}: GPU offload is not built in"
    assert e.value.hint.startswith("leave --gpu-layers out, or ")
    assert offload.to_layers("none") == offload.to_layers(0) == 0


def test_a_build_that_finds_no_card_is_told_apart(build):
    build("vulkan", card=False)
    with pytest.raises(LmsiError, match=r"built in \(vulkan\), but no card is found") as e:
        offload.to_layers("all")
    assert "driver" in e.value.hint and "pip" not in e.value.hint


def test_each_platform_has_its_lines():
    assert offload.rebuild_lines("linux")[0] == f"with an NVIDIA card: {LINE}"
    assert "-DGGML_VULKAN=on" in offload.rebuild_lines("linux")[1]
    assert [line.count("-DGGML_METAL=on") for line in offload.rebuild_lines("darwin")] == [1]


@pytest.mark.model
def test_this_build_answers():
    assert offload.state().told
