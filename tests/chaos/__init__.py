"""Chaos: real processes, a real broker, and weather between them.

`relay` is bad weather that understands MQTT, `tunnel` is a bad link that understands nothing, and
`scenario` kills what is left. `python -m chaos` (with `PYTHONPATH=src:tests`) runs each by hand.
"""
