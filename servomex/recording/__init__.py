"""Samples in sequence: acquired, streamed, recorded in the background, read back."""
