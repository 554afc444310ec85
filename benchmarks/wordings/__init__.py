"""Wordings, measured: which words make a published model show what it can do."""
