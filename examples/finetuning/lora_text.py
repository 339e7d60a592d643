"""Finetune a Hugging Face language model with LoRA (peft) under `finetune.run`.

Without ``--model`` a tiny random one is trained on sums, to try the machinery; with a
name or a folder, that one. Put your own questions and answers in the place of `pairs`.

    python examples/finetuning/lora_text.py --minutes 2 --out runs/lora_text
"""

import functools
from pathlib import Path

import numpy as np
import peft
import torch
import transformers
import tyro

import finetune
from finetune import Categorical, Float, Ordinal

SPACE = finetune.SearchSpace(
    (
        Ordinal("rank", (2.0, 8.0, 32.0), log=True),
        Ordinal("alpha_over_rank", (1.0, 2.0)),
        Categorical("targets", ("attention", "all")),
        Float("learning_rate", 1e-5, 3e-2, log=True),
        Ordinal("batch", (8.0, 32.0), log=True),
    )
)
TARGETS = {"attention": ["q_proj", "v_proj"], "all": "all-linear"}
ALPHABET = "0123456789+= ."


def pairs(num: int, seed: int) -> list[str]:
    """Questions with answers."""
    numbers = np.random.default_rng(seed).integers(0, 50, (num, 2))
    return [f"{a}+{b}={a + b}." for a, b in numbers]


def tokens(texts: list[str], name: str | None) -> torch.Tensor:
    """Token numbers ``[n, length]``; -1 after the end."""
    if name is None:
        rows = [[ALPHABET.index(c) for c in text] for text in texts]
    else:
        rows = transformers.AutoTokenizer.from_pretrained(name)(texts)["input_ids"]
    length = max(map(len, rows))
    return torch.tensor([row + [-1] * (length - len(row)) for row in rows])


def base_model(name: str | None) -> torch.nn.Module:
    """The pretrained model, or a tiny random one."""
    if name is not None:
        return transformers.AutoModelForCausalLM.from_pretrained(name)
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "vocab_size": len(ALPHABET)}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))


def loss_of(model, rows):
    """Mean cross-entropy of the next token."""
    labels = rows.masked_fill(rows < 0, -100)
    return model(input_ids=rows.clamp(min=0), labels=labels).loss


def train_epoch(epoch: finetune.Epoch, name: str | None) -> float:
    """One pass over the questions; returns the loss on held-out ones."""
    c, rank = epoch.config, int(epoch.config["rank"])
    settings = {"r": rank, "lora_alpha": rank * c["alpha_over_rank"]}
    settings["target_modules"] = TARGETS[c["targets"]]
    model = peft.get_peft_model(base_model(name), peft.LoraConfig(**settings))
    torch.manual_seed(epoch.seed + epoch.number)
    optimizer = torch.optim.AdamW(model.parameters(), lr=c["learning_rate"])
    if epoch.previous is not None:
        state = torch.load(epoch.previous / "state.pth", weights_only=True)
        peft.set_peft_model_state_dict(model, state[0])
        optimizer.load_state_dict(state[1])
    train, valid = tokens(pairs(512, 0), name), tokens(pairs(128, 1), name)
    model.train()
    for rows in train[torch.randperm(len(train))].split(int(c["batch"])):
        optimizer.zero_grad()
        loss_of(model, rows).backward()
        optimizer.step()
    both = peft.get_peft_model_state_dict(model), optimizer.state_dict()
    torch.save(both, epoch.folder / "state.pth")
    with torch.no_grad():
        return float(loss_of(model.eval(), valid))


def main(out: Path, minutes: float = 2.0, model: str | None = None) -> None:
    """Run the job and say what it found."""
    train, settings = functools.partial(train_epoch, name=model), {"num_epochs": 9}
    settings |= {"direction": "minimize", "budget": 60 * minutes, "out": out}
    result = finetune.run(train, SPACE, **settings)
    print(f"loss {result.score} after epoch {result.epoch}, {result.config}")


if __name__ == "__main__":
    tyro.cli(main)
