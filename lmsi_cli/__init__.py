"""lmsi: a language model on a laptop improves itself on questions without answers.

From Python there are six functions, documented in ``api.py`` and loaded on first use:

    import lmsi_cli
    lmsi_cli.sample("questions.jsonl", "runs/first", model="model.gguf", paths=8)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmsi_cli.api import compare, evaluate, report, sample, train, vote

__all__ = ["compare", "evaluate", "report", "sample", "train", "vote"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attributes may be anything
    """Load a function on first use, so that `import lmsi_cli` itself stays fast."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lmsi_cli import api

    return getattr(api, name)


def __dir__() -> list[str]:
    """List the functions for name completion before they are loaded."""
    return [*globals(), *__all__]
