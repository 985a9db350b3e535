"""Plots of recordings: curves with gaps, states and alarms, as pictures and as pages."""
