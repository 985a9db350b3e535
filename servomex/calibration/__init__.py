"""Autocalibration: its pulse, its course, its end and its report."""
