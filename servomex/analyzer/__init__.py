"""An analyser: opened, its mode found, read and commanded by one class."""
