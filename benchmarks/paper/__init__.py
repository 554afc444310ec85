"""The experiments of the paper at laptop scale; `python -m benchmarks.paper --help`."""
