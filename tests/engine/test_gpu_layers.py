"""GPU layers: asked for and possible, or refused with the line that makes it possible."""

from types import SimpleNamespace

import pytest

from lmsi_cli.engine import builds
from lmsi_cli.engine.llama import library
from lmsi_cli.errors import LmsiError


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Play a build of llama.cpp: its libraries by name, and whether it finds a card."""

    def play(*kinds, card):
        monkeypatch.delenv(builds.NAMED, raising=False)  # else that folder would be looked at
        (tmp_path / "lib").mkdir()
        for kind in ("base", "cpu", *kinds):
            (tmp_path / "lib" / f"libggml-{kind}.so.0.25").touch()
        file = str(tmp_path / "__init__.py")
        return SimpleNamespace(__file__=file, llama_supports_gpu_offload=lambda: card)

    return play


def test_with_a_card_layers_go_to_it(build):
    lib = build("cuda", card=True)
    assert [builds.gpu_layers(n, lib) for n in ("all", 7, 0, "none")] == [-1, 7, 0, 0]
    assert builds.gpu(lib) == (True, "available (cuda)", "")


@pytest.mark.parametrize("asked", ["all", 1])
@pytest.mark.parametrize(
    ("kinds", "told", "hint"),
    [(("blas", "cpu-haswell"), "not built in", "pip install"), (("vulkan",), "(vulkan)", "driver")],
)
def test_without_a_card_that_can_be_used_the_way_to_one_is_told(build, asked, kinds, told, hint):
    lib = build(*kinds, card=False)
    with pytest.raises(LmsiError) as e:
        builds.gpu_layers(asked, lib)
    assert f"--gpu-layers {asked}" in str(e.value) and told in str(e.value)
    assert hint in e.value.hint and (hint == "driver") is ("pip" not in e.value.hint)
    assert builds.gpu_layers("none", lib) == builds.gpu_layers(0, lib) == 0


@pytest.mark.parametrize(
    ("platform", "kinds"), [("linux", ["CUDA", "VULKAN"]), ("darwin", ["METAL"])]
)
def test_each_platform_has_its_lines(platform, kinds):
    lines = builds.rebuild_lines(platform)
    assert [f"-DGGML_{kind}=on" in line for kind, line in zip(kinds, lines, strict=True)]


@pytest.mark.model
def test_this_build_answers():
    assert builds.gpu(library()).words
