"""A cluster that kbpg did not start: what it runs with, whether it is provably the inventory's, and taking it over."""
