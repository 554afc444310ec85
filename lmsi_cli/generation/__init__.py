"""Questions that a model writes itself: its drafts, what is a question among them, how varied.

Knows texts and counts; nothing of models, tokens or files. ``stages/questions.py`` brings them
together with an engine and a run folder.
"""
