"""On the device: listen, fetch, work, store, reply. Needs no flwr, no numpy and no open port."""
