"""Fleets: many analysers described by one file, read for months by one process."""
