"""Questions that a model writes itself: its drafts, what is a question among them, how varied.

Knows texts and counts; nothing of models, tokens or files. ``stages/questions.py`` brings them
together with an engine and a run folder.
"""

from lmsi_cli.generation.drafting import Draft, draft_prompt
from lmsi_cli.generation.outcome import Generation, Selected, choose
from lmsi_cli.generation.sieve import Sieve

__all__ = ["Draft", "Generation", "Selected", "Sieve", "choose", "draft_prompt"]
