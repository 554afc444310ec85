"""Train the tokenizer: byte-level BPE in which every digit stays a token of its own.

Single digits let the model work on numbers place by place. It is the splitting that llama.cpp
calls ``smollm``, so the GGUF needs nothing special.

This file does not know the model. It reads the generated text of stage one and nothing else.

How to run it, about ten seconds::

    python models/tinymath/recipe/train_tokenizer.py --out build/tinymath/tokenizer.json

One record, an entry of the vocabulary: ``"Ġdollars": 286`` (Ġ stands for a space).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from random import Random

from solutions import END_OF_TEXT, FIRST_STAGE, document
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SEED = 0
SMOKE_DOCUMENTS = 200


def make_tokenizer(documents: int, vocabulary: int) -> Tokenizer:
    """Learn the merges from freshly written documents.

    Args:
        documents: how many to write.
        vocabulary: most entries; fewer are learned once every word is one token.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rng = Random(SEED)
    texts = (document(rng, FIRST_STAGE) for _ in range(documents))
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Write beside the target, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".tmp")
    tokenizer.save(str(part))
    part.replace(path)


def main() -> None:
    """Train, save, and say how large it became."""
    parser = argparse.ArgumentParser(
        description="Train the tokenizer on generated text.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="the tokenizer.json to write")
    parser.add_argument("--documents", type=int, default=20_000, help="documents to learn from")
    parser.add_argument("--vocabulary", type=int, default=4_096, help="most entries")
    parser.add_argument("--smoke", action="store_true", help=f"{SMOKE_DOCUMENTS} documents")
    chosen = parser.parse_args()
    documents = SMOKE_DOCUMENTS if chosen.smoke else chosen.documents
    tokenizer = make_tokenizer(documents, chosen.vocabulary)
    save_tokenizer(tokenizer, chosen.out)
    print(f"{chosen.out}: {tokenizer.get_vocab_size()} entries")


if __name__ == "__main__":
    main()
