"""A convolution that learns to tell two hand-made patterns apart, one picture at a time.

All of this is legitimate, odd as some of it looks: a class attribute that nobody reads, an instance that takes over
the name of its class, a module imported under two names, and a call of `exit()` at the end.
"""

import numpy as np
import torch
import torch.nn as nn
import torch.optim
import torch.optim as optim


class Label:
    ladder = 0
    ring = 1


def picture(kind, brightness):
    """A ladder (three rungs) or a ring, five by five, as the batch of one that a convolution takes."""
    rows = {
        Label.ladder: ["#####", ".....", "#####", ".....", "#####"],
        Label.ring: ["#####", "#...#", "#...#", "#...#", "#####"],
    }[kind]
    pixels = np.array([[brightness * (mark == "#") for mark in row] for row in rows], dtype=np.float32)
    return torch.from_numpy(pixels).reshape(1, 1, 5, 5).clone()


class Stamp(nn.Module):
    pattern = None

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(in_channels=1, out_channels=2, kernel_size=5, bias=False)

    def forward(self, x):
        x = self.conv(x)
        return x.view(1, 2)


def accuracy(net, level):
    """How many of the two patterns are told right at a brightness that was never shown."""
    with torch.no_grad():
        guesses = [(kind, net(picture(kind, level)).argmax(dim=1).item()) for kind in (Label.ladder, Label.ring)]
    return sum(kind == guess for kind, guess in guesses) / len(guesses)


torch.manual_seed(3)
examples = []
for level in range(1, 13):
    examples.append((picture(Label.ladder, level / 4), Label.ladder))
    examples.append((picture(Label.ring, level / 4), Label.ring))

Stamp = Stamp()
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(Stamp.parameters(), lr=0.05, momentum=0.8)
accuracy_before = accuracy(Stamp, 50.0)
print(f"before training: {accuracy_before:.0%}")

for epoch in range(4):
    for image, kind in examples:
        answer = torch.tensor([kind])
        optimizer.zero_grad()
        outputs = Stamp(image)
        loss = criterion(outputs, answer)
        # print(image.shape, outputs.shape, answer.shape)
        # exit()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch + 1}: last error {loss.item():.6f}")

accuracy_after = accuracy(Stamp, 50.0)
print(f"after training: {accuracy_after:.0%}")
exit()
