"""Python imports this when it begins, wherever this folder is in PYTHONPATH."""

import simulated_windows  # type: ignore[import-not-found]

simulated_windows.install()
