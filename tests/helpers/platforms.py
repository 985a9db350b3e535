"""Marks of tests that a platform cannot run."""

import sys

import pytest

needs_pty = pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals on Windows")
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signal to a program")
needs_groups = pytest.mark.skipif(sys.platform == "win32", reason="no port belongs to a group on Windows")
