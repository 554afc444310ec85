"""Make the recipe's modules importable, as Python does when one of them is run as a script."""

import sys
from pathlib import Path

TINYMATH = Path(__file__).parents[2] / "models" / "tinymath"

sys.path.insert(0, str(TINYMATH / "recipe"))
