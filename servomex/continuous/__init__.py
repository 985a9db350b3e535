"""The mode in which the analyser broadcasts by itself: receiving, and what may be believed."""
