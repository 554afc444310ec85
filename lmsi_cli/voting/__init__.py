"""From ballots to a vote, and from a vote to the paths that may be trained on. Pure functions."""
