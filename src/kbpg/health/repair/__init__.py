"""Mending what a diagnosis found, one finding at a time."""
