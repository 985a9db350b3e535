"""The search for analysers on all ports and at all baud rates."""
