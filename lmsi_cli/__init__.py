"""lmsi: a language model on a laptop improves itself on questions without answers."""
