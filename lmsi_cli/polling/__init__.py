"""Holding the votes of a run: question after question, in this process or in several.

``polls`` knows how one question is voted on, ``holding`` what a row of questions leaves behind,
``crew`` the processes. Files are named by the stage.
"""

from lmsi_cli.polling.crew import Sinks, hold_all
from lmsi_cli.polling.polls import Polls

__all__ = ["Polls", "Sinks", "hold_all"]
