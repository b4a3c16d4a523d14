"""Helpers around training: data loading and hooks."""
