"""A test error measured in training mode.

Wrong: BatchNorm takes the statistics of the test batch, and the test changes the running ones: the figures flatter.
Meant: eval mode for whatever is measured, and back to the mode before.
Reported in: sangwoomo/FreezeD, issue 3 (an FID of 98 read 49).
Refused by: harness-eval
"""

import torch
from torch import Tensor, nn


def classify(critic: nn.Module, images: Tensor) -> Tensor:
    was = critic.training
    # cure: critic.eval()
    critic.train()
    with torch.no_grad():
        classes: Tensor = critic(images).argmax(dim=1)
    critic.train(was)
    return classes
