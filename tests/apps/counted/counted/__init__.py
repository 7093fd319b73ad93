"""Averages a model while it counts who trained for nothing."""
