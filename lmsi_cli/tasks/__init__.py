"""Question readers, exemplars and answer kinds."""
