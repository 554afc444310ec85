"""Should this model be trained on its own majority: the signals, and the verdict from them."""
