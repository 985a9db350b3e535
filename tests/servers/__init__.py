"""Tests against real servers, which they start. ``python -m tox -e servers`` lets none be skipped."""
