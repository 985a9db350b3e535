"""How fast the driver is, how exact and how frugal: ``python -m tests.benchmarks``, see the manual."""
