"""Metrics, logs and what they may show."""
