"""The acceptance list: what a cluster must show before anybody relies on it, each point with its evidence."""
