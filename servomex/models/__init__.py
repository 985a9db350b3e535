"""What is read: readings, frames, samples, their states, names, tags and columns. Frozen."""
