"""Rows as text and tables, and back."""
