"""Run any Flower app, unchanged, on a fleet of devices that are reached over MQTT."""

__version__ = "0.1.0.dev0"
