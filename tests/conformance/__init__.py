"""Real Flower apps on a real fleet, compared with Flower itself."""
