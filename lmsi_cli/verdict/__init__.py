"""Whether a model should be trained on its own majority: the signals, and the verdict."""
