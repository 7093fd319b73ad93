"""The network of the original: 62,006 parameters, 248 KB."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from cifar10.images import Images


class Net(nn.Module):
    """Two convolutions and three layers, as in PyTorch's tutorial on CIFAR-10."""

    def __init__(self) -> None:
        """Draw the weights from torch's global source."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    @override
    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(functional.relu(self.conv1(x)))
        x = self.pool(functional.relu(self.conv2(x)))
        x = functional.relu(self.fc1(torch.flatten(x, 1)))
        return self.fc3(functional.relu(self.fc2(x)))


def tensors(images: Images) -> tuple[Tensor, Tensor]:
    """Return pixels from -1 to 1, colours first, and labels."""
    pixels = torch.from_numpy(images.pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    return pixels.contiguous(), torch.from_numpy(images.labels)


def train(net: Net, images: Images, *, epochs: int, batch_size: int, learning_rate: float) -> float:
    """Train by SGD with momentum; return the mean loss of the last epoch."""
    pixels, labels = tensors(images)
    optimizer = torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=0.9)
    total = 0.0
    for _ in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(labels)).split(batch_size):
            optimizer.zero_grad()
            loss = functional.cross_entropy(net(pixels[batch]), labels[batch])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
    return total / len(labels)


@torch.no_grad()
def evaluate(net: Net, images: Images) -> tuple[float, float]:
    """Return mean loss and accuracy."""
    pixels, labels = tensors(images)
    outputs = net(pixels)
    accuracy = (outputs.argmax(dim=1) == labels).float().mean()
    return functional.cross_entropy(outputs, labels).item(), accuracy.item()
