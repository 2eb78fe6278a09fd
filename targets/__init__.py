"""Stores under test: one file, or one folder, each."""
