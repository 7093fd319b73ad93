"""One machine or many on a network of your own: MQTT, files, SQLite, an HTTP endpoint for blobs."""
