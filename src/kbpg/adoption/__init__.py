"""A cluster that kbpg did not start: what it runs with, whether it is provably this one, and taking it over."""
