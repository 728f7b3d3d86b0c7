"""Fault drills: a cluster with a client workload is broken on purpose, watched, mended, and its rows are counted."""
