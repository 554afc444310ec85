"""Speed and memory against peers, run by hand; nothing here is part of the package or its tests."""
