"""PyTorch's time for the gradient of the paper's CNN: gradient.c's other half.

Prints "ready", then for each line with a number n on standard input does n gradients
of a batch of 32 with one thread, and prints the median in milliseconds.
"""

import statistics
import sys
import time

import torch
from torch import nn

BATCH = 32

torch.set_num_threads(1)
torch.manual_seed(1)
model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(1568, 512),
    nn.ReLU(),
    nn.Dropout(0.25),
    nn.Linear(512, 10),
)
loss_of = nn.CrossEntropyLoss()
inputs = torch.rand(BATCH, 1, 28, 28) * 2 - 1
labels = torch.arange(BATCH) % 10


def gradient_ms():
    start = time.perf_counter()
    model.zero_grad()
    loss_of(model(inputs), labels).backward()
    return (time.perf_counter() - start) * 1e3


for _ in range(20):
    gradient_ms()
print("ready", flush=True)
for line in sys.stdin:
    print(statistics.median(gradient_ms() for _ in range(int(line))), flush=True)
