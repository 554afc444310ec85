"""What one round does with another: its settings, its figures, whether to go on, which one to keep.

Pure functions of records; ``kept`` alone reads a file. Knows no engine and no order of work.
"""
