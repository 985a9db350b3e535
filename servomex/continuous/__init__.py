"""Continuous mode: receiving the analyser's broadcasts, and judging which may be believed."""
