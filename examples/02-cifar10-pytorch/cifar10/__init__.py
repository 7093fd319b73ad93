"""CIFAR-10 with PyTorch: a plain Flower app."""
