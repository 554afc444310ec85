"""The public question sets, where they lie beside the project or LMSI_SETS says."""

import os
from pathlib import Path

import pytest

VARIABLE = "LMSI_SETS"
SETS = Path(os.environ.get(VARIABLE) or Path(__file__).parents[2] / "shared" / "data")
REASON = f"no public question sets at ../shared/data; {VARIABLE} may name their folder"
needs_sets = [pytest.mark.shared, pytest.mark.skipif(not SETS.is_dir(), reason=REASON)]
