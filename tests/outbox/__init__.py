"""Tests of the queue on disk between readings and sinks."""
