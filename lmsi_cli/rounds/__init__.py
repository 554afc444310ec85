"""What one round does with another: its settings, whether to go on, which one to keep.

Functions of records; nothing but ``rounds.json`` is read. Knows no engine and no order of work.
"""
