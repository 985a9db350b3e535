"""Several analysers on one or more ports."""
