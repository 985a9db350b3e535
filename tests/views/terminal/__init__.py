"""The view of the terminal."""
