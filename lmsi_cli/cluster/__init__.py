"""Paths drawn by many workers: what each gets, and how it is reached."""
