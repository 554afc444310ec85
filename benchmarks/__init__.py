"""Benchmarks and experiments, run by hand; nothing here is part of the package or its tests."""
