"""A variational autoencoder of handwritten digits, which then draws digits of its own.

    python examples/vae.py --checkpoint vae.pt --plot vae.png

Kingma and Welling, 2013, "Auto-Encoding Variational Bayes" (arxiv.org/abs/1312.6114), on the 8 x 8
scans of scikit-learn. The loss is the negative evidence lower bound in nats a digit.
"""

from __future__ import annotations

from collections.abc import Sequence

from common import Options, Training
from sklearn.datasets import load_digits

import lazytorch as torch

nn, data = torch.nn, torch.utils.data
functional = torch.nn.functional
LATENT = 8


class VAE(nn.Module):
    """An encoder to the mean and log-variance of a normal distribution, and a decoder from it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, 2 * LATENT),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(LATENT, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, 64),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mean, log_variance = self.encoder(images).chunk(2, 1)
        drawn = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return self.decoder(drawn), mean, log_variance


def bound(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The negative evidence lower bound: what the pixels cost, and the way from the prior."""
    logits, mean, log_variance = model(images)
    pixels = functional.binary_cross_entropy_with_logits(logits, images, reduction="sum")
    divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
    return (pixels + divergence) / len(images)


def main(arguments: Sequence[str] | None = None) -> float:
    """Train, and return the bound of digits that were not seen before."""
    options = Options("a variational autoencoder of digits", epochs=40, rate=0.003).read(arguments)
    torch.manual_seed(options.seed)
    images = torch.tensor(load_digits().data / 16, dtype=torch.float32)
    training = data.TensorDataset(images[:-360][: options.examples])
    test = images[-360:]
    loader = data.DataLoader(training, batch_size=options.batch, shuffle=True, drop_last=True)
    model = VAE(options.width or 256)
    optimizer = torch.optim.Adam(model.parameters(), options.rate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, T_max=options.epochs * len(loader)
    )

    run = Training(options, model, optimizer, scheduler)
    for _ in run.epochs():
        for (batch,) in run.progress(loader):
            run.step(bound(model, batch), len(batch))
        model.eval()
        with torch.no_grad():
            run.note(test=bound(model, test).item())
    with torch.no_grad():
        drawn = torch.sigmoid(model.decoder(torch.randn(36, LATENT)))
    sheet = drawn.reshape(6, 6, 8, 8).transpose(1, 2).reshape(48, 48)
    run.finish("test", picture=sheet.numpy())
    return run.curves["test"][-1]


if __name__ == "__main__":
    main()
