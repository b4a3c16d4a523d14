"""A character GPT: learns twenty lines by heart and goes on in their manner.

    python examples/gpt.py --checkpoint gpt.pt --plot gpt.png

A decoder-only transformer (Radford et al., 2018, "Improving Language Understanding by Generative
Pre-Training") of four blocks over the last 64 characters.
"""

from __future__ import annotations

from collections.abc import Sequence

from common import Options, Training

import lazytorch as torch

nn = torch.nn
functional = torch.nn.functional
CONTEXT = 64
TEXT = """\
The lighthouse keeper counts the ships that come and go.
A ship that comes is a light; a ship that goes is a shadow.
In the morning he writes the number of lights in his book.
In the evening he writes the number of shadows below.
When the two are the same, the sea has kept nothing.
When there are more lights than shadows, the harbour is full.
When there are more shadows than lights, he looks at the water.
He has looked at the water on nine days in thirty years.
On the first of them the fog had hidden the harbour from him.
On the second a child had moved the numbers for a joke.
On the third a ship came back that nobody had seen leave.
The captain said that he had been asleep for a week.
The keeper wrote a light for him and closed the book.
There is a drawer for what the book cannot say.
In the drawer lie a shell, a key and a letter without a name.
The shell is from the fourth day, and the key from the fifth.
The letter says that the sea counts the lighthouses too.
A lighthouse that burns is a star; one that fails is a stone.
So the keeper cleans the lamp each night before he counts.
And each night the sea writes one star in a book of its own.
"""


class Block(nn.Module):
    """Attention to what came before, then two linear layers, each added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.think = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(0.1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        parts = self.project(self.norm1(x)).view(batch, length, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.join(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.think(self.norm2(x))


class GPT(nn.Module):
    """Characters and their places, the blocks, and scores for the next character."""

    def __init__(self, letters: int, width: int, blocks: int) -> None:
        super().__init__()
        self.letters = nn.Embedding(letters, width)
        self.places = nn.Embedding(CONTEXT, width)
        self.blocks = nn.Sequential(*(Block(width, 4) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width)
        self.scores = nn.Linear(width, letters, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.05)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        x = self.letters(codes) + self.places(torch.arange(codes.shape[1]))
        return self.scores(self.norm(self.blocks(x)))


def continued(model: nn.Module, beginning: torch.Tensor, length: int) -> list[int]:
    """``length`` more characters, each drawn from what the model expects.

    ``beginning`` fills the context, so that all steps have one shape.
    """
    model.eval()
    codes = beginning.unsqueeze(0)
    drawn = []
    with torch.no_grad():
        for _ in range(length):
            chances = torch.softmax(model(codes)[:, -1] / 0.5, -1)
            following = torch.multinomial(chances, 1)
            codes = torch.cat([codes[:, 1:], following], 1)
            drawn.append(following)
    return torch.cat(drawn, 1)[0].tolist() if drawn else []


def main(arguments: Sequence[str] | None = None) -> float:
    """Train, print what the model writes, and return the last epoch's loss a character."""
    choices = Options("a character GPT", epochs=10, rate=0.003)
    choices.add_argument("--write", type=int, default=200, help="characters to write at the end")
    choices.add_argument("--blocks", type=int, default=4, help="how deep the model is")
    options = choices.read(arguments)
    torch.manual_seed(options.seed)
    letters = sorted(set(TEXT))
    codes = torch.tensor([letters.index(letter) for letter in TEXT])
    windows = codes.unfold(0, CONTEXT + 1, 1)[: options.examples]
    steps = len(windows) // options.batch
    model = GPT(len(letters), options.width or 128, options.blocks)
    optimizer = torch.optim.AdamW(model.parameters(), options.rate, betas=(0.9, 0.95))
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.rate, total_steps=options.epochs * steps
    )

    run = Training(options, model, optimizer, scheduler)
    for _ in run.epochs():
        order = torch.randperm(len(windows))[: steps * options.batch]
        for chosen in run.progress(order.split(options.batch)):
            batch = windows[chosen]
            scores = model(batch[:, :-1])
            loss = functional.cross_entropy(scores.flatten(0, 1), batch[:, 1:].flatten())
            run.step(loss, len(batch))
        run.note()
    run.finish("loss")
    if options.write:
        written = continued(model, codes[:CONTEXT], options.write)
        print("".join(letters[code] for code in written))
    return run.curves["loss"][-1]


if __name__ == "__main__":
    main()
