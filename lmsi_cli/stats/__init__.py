"""Every figure with an interval: accuracies, comparisons, votes over paths, confidence.

Pure functions from numbers to records. Knows nothing of models, files or what a question is, and
is the only place that makes an interval or a p-value, so that the terminal, the JSON and the
report show the same ones. All intervals are 95%, all values fractions of one.
``docs/evaluation.md`` explains each choice and its measured coverage.
"""
