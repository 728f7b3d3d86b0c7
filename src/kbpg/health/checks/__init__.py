"""The checks, by what they are about: pure functions from a snapshot to what is seen."""
