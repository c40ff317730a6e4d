"""Thresholds for a stated risk, on the package and engine that will run."""
