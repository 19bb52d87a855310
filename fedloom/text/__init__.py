"""Text: vocabulary, windows and sequences of characters or tokens, generation, pre-training."""

from ._generate import generate as generate
from ._next_character import next_character_model as next_character_model
from ._pretrain import Epoch as Epoch
from ._pretrain import PretrainConfig as PretrainConfig
from ._pretrain import pretrain as pretrain
from ._sequences import ShakespeareSequences as ShakespeareSequences
from ._tokens import TokenWindows as TokenWindows
from ._vocabulary import TUTORIAL_VOCAB as TUTORIAL_VOCAB
from ._vocabulary import decode as decode
from ._vocabulary import encode as encode
from ._windows import CharWindows as CharWindows

__all__ = [
    "CharWindows",
    "Epoch",
    "PretrainConfig",
    "ShakespeareSequences",
    "TUTORIAL_VOCAB",
    "TokenWindows",
    "decode",
    "encode",
    "generate",
    "next_character_model",
    "pretrain",
]
