"""The seam with Flower: the only room that imports flwr.

A run executes the user's ServerApp with our Grid; a device's worker calls the user's ClientApp.
Nothing else of Flower runs.
"""
