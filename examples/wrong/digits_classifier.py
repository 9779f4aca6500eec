"""A classifier of handwritten digits whose `test()` leaves the model in eval mode.

From the second epoch on dropout drops nothing. The loss looks better than ever, for the model learns its training
digits by heart, with the wrong labels among them, and takes far more of the unseen digits for others.
"""

import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = 20
TRAINED_ON = 300
MISLABELLED = 90

torch.manual_seed(6)
digits = load_digits()
shuffled = torch.randperm(len(digits.target))
images = torch.tensor(digits.images / 16.0, dtype=torch.float32)[shuffled]
labels = torch.tensor(digits.target)[shuffled]
labels[:MISLABELLED] = torch.randint(0, 10, (MISLABELLED,))  # labels gathered in a hurry
train_loader = DataLoader(TensorDataset(images[:TRAINED_ON], labels[:TRAINED_ON]), batch_size=50, shuffle=True)
test_loader = DataLoader(TensorDataset(images[TRAINED_ON:], labels[TRAINED_ON:]), batch_size=300)


def block(inputs):
    return nn.Sequential(nn.Linear(inputs, 256), nn.ReLU(), nn.Dropout(0.5))


class DigitNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(block(64), block(256))
        self.last = nn.Linear(256, 10)

    def forward(self, picture):
        return self.last(self.body(picture.flatten(1)))


net = DigitNet()
optimizer = torch.optim.Adam(net.parameters(), lr=0.003)
criterion = nn.CrossEntropyLoss()
batches_in_eval_mode = 0


def test():
    net.eval()  # <- GL501
    hits = 0
    with torch.no_grad():
        for picture, label in test_loader:
            hits += (net(picture).argmax(dim=1) == label).sum().item()
    return hits / len(test_loader.dataset)


def train(folder):
    """Goes on from what an earlier call saved in `folder`, if there was one."""
    global batches_in_eval_mode
    if (folder / "net.pt").exists():
        net.load_state_dict(torch.load(folder / "net.pt"))
        optimizer.load_state_dict(torch.load(folder / "optimizer.pt"))
    for epoch in range(EPOCHS):
        for picture, label in train_loader:
            batches_in_eval_mode += not net.training
            scores = net(picture)
            optimizer.zero_grad()
            loss = criterion(scores, label)
            loss.backward()
            optimizer.step()
        accuracy = test()
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1}: last loss {loss.item():.4f}, accuracy {accuracy:.1%}")
    torch.save(net.state_dict(), folder / "net.pt")
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")
    return accuracy


with tempfile.TemporaryDirectory() as name:
    first_accuracy = train(Path(name))
    accuracy = train(Path(name))
print(f"accuracy {first_accuracy:.1%}, and {accuracy:.1%} after going on")
print(f"batches trained in eval mode: {batches_in_eval_mode} of {2 * EPOCHS * len(train_loader)}")
