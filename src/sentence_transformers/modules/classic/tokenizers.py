"""Word tokenizers: a text into the numbers of its words.

They serve the parts that work on whole words (`WordEmbeddings`, `BoW`). The vocabulary is a list, and the
number of a word is its place in it; words that are not in the list are left out. Nothing here knows about
embeddings.
"""

from __future__ import annotations

import json
import string
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import Self

from sentence_transformers.storage.folder import read_json, write_text
from sentence_transformers.storage.module_types import SPELLINGS, class_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STOP_WORDS_TEXT = """
    ! " '' `` # $ % & ' ( ) * + , - . / : ; < = > ? @ [ \\ ] ^ _ ` { | } ~
    a about above across after afterwards again against ain all almost alone along already also although
    always am among amongst amoungst amount an and another any anyhow anyone anything anyway anywhere are
    aren around as at back be became because become becomes becoming been before beforehand behind being
    below beside besides between beyond bill both bottom but by call can cannot cant co con could couldn
    couldnt cry d de describe detail did didn do does doesn doing don done down due during each eg eight
    either eleven else elsewhere empty enough etc even ever every everyone everything everywhere except
    few fifteen fifty fill find fire first five for former formerly forty found four from front full
    further get give go had hadn has hasn hasnt have haven having he hence her here hereafter hereby
    herein hereupon hers herself him himself his how however hundred i ie if in inc indeed interest into
    is isn it its itself just keep last latter latterly least less ll ltd m ma made many may me meanwhile
    might mightn mill mine more moreover most mostly move much must mustn my myself name namely needn
    neither never nevertheless next nine no nobody none noone nor not nothing now nowhere o of off often
    on once one only onto or other others otherwise our ours ourselves out over own part per perhaps
    please put rather re s same see seem seemed seeming seems serious several shan she should shouldn show
    side since sincere six sixty so some somehow someone something sometime sometimes somewhere still such
    system t take ten than that the their theirs them themselves then thence there thereafter thereby
    therefore therein thereupon these they thick thin third this those though three through throughout
    thru thus to together too top toward towards twelve twenty two un under until up upon us ve very via
    was wasn we well were weren what whatever when whence whenever where whereafter whereas whereby
    wherein whereupon wherever whether which while whither who whoever whole whom whose why will with
    within without won would wouldn y yet you your yours yourself yourselves
"""
ENGLISH_STOP_WORDS: list[str] = STOP_WORDS_TEXT.split()
"""Words and marks that say little about what an English text is about; the default to leave out."""


class WordTokenizer(ABC):
    """Turns a text into the numbers of its words."""

    @abstractmethod
    def set_vocab(self, vocab: Iterable[str]) -> None:
        """Set the words that are known; each gets its place in the list as number."""

    @abstractmethod
    def get_vocab(self, vocab: Iterable[str] | None = None) -> Iterable[str]:
        """The words that are known, by number. The argument is part of the older signature and ignored."""

    @abstractmethod
    def tokenize(self, text: str, **kwargs: Any) -> list[int]:
        """Numbers of the known words of a text, in order."""

    @abstractmethod
    def save(self, output_path: str) -> None:
        """Write what is needed to load the tokenizer again into a folder."""

    @classmethod
    @abstractmethod
    def load(cls, input_path: str) -> Self:
        """Load the tokenizer from the folder it was saved into."""


class ListedWordsTokenizer(WordTokenizer):
    """A tokenizer with a list of words and one of stop words.

    Args:
        vocab: The words that are known. A word that occurs twice has the number of its last place.
        stop_words: Words to leave out, even if they are known.
        do_lower_case: Whether to lower-case texts first.
    """

    config_file_name: ClassVar[str]
    config_keys: ClassVar[tuple[str, ...]] = ("vocab", "stop_words", "do_lower_case")

    def __init__(
        self,
        vocab: Iterable[str] = [],
        stop_words: Iterable[str] = ENGLISH_STOP_WORDS,
        do_lower_case: bool = False,
    ) -> None:
        self.stop_words = set(stop_words)
        self.do_lower_case = do_lower_case
        self.set_vocab(vocab)

    def set_vocab(self, vocab: Iterable[str]) -> None:
        self.vocab = list(vocab)
        self.word2idx = {word: number for number, word in enumerate(self.vocab)}

    def get_vocab(self, vocab: Iterable[str] | None = None) -> list[str]:
        del vocab
        return self.vocab

    def save(self, output_path: str) -> None:
        config = {key: getattr(self, key) for key in self.config_keys}
        config["stop_words"] = sorted(self.stop_words)
        # On one line: a vocabulary has hundreds of thousands of entries.
        write_text(Path(output_path) / self.config_file_name, json.dumps(config, ensure_ascii=False))

    @classmethod
    def load(cls, input_path: str) -> Self:
        return cls(**read_json(Path(input_path) / cls.config_file_name))

    def numbers_of(self, words: Iterable[tuple[str, ...]]) -> list[int]:
        """Numbers of words that each come in several forms, of which the first one that is known counts.

        A word is left out when a stop word comes first among its forms, or when no form is known.
        """
        numbers = []
        for forms in words:
            for form in forms:
                if form in self.stop_words:
                    break
                if form in self.word2idx:
                    numbers.append(self.word2idx[form])
                    break
        return numbers


class WhitespaceTokenizer(ListedWordsTokenizer):
    """Splits a text at white space.

    A word is looked up as it stands, then without punctuation at its ends, then that in lower case.

    Args:
        vocab: The words that are known. A word that occurs twice has the number of its last place.
        stop_words: Words to leave out, even if they are known.
        do_lower_case: Whether to lower-case texts first.
    """

    config_file_name: ClassVar[str] = "whitespacetokenizer_config.json"

    def tokenize(self, text: str, **kwargs: Any) -> list[int]:
        """Numbers of the known words of a text, in order; `kwargs` are ignored."""
        del kwargs
        if self.do_lower_case:
            text = text.lower()
        bare = ((word, word.strip(string.punctuation)) for word in text.split())
        return self.numbers_of((word, stripped, stripped.lower()) for word, stripped in bare)


class PhraseTokenizer(ListedWordsTokenizer):
    """Splits a text into words and finds known phrases among them.

    A phrase is an entry of the vocabulary made of several words joined by a separator, as `new_york`. Longer
    phrases are looked for before shorter ones, from left to right, as the words stand and in lower case.
    Every other word is looked up as it stands, then in lower case, then that without punctuation at its ends.

    Words are split by the tokenizer of nltk (which has to be installed), in the way of the Penn Treebank.

    Args:
        vocab: The words and phrases that are known. One that occurs twice has the number of its last place.
        stop_words: Words to leave out, even if they are known; words inside a phrase stay.
        do_lower_case: Without effect, as everything is looked up in lower case too; kept and saved.
        ngram_separator: What joins the words of a phrase.
        max_ngram_length: Words of the longest phrase to look for.
    """

    config_file_name: ClassVar[str] = "phrasetokenizer_config.json"
    config_keys: ClassVar[tuple[str, ...]] = (
        "vocab",
        "stop_words",
        "do_lower_case",
        "ngram_separator",
        "max_ngram_length",
    )

    def __init__(
        self,
        vocab: Iterable[str] = [],
        stop_words: Iterable[str] = ENGLISH_STOP_WORDS,
        do_lower_case: bool = False,
        ngram_separator: str = "_",
        max_ngram_length: int = 5,
    ) -> None:
        if not ngram_separator:
            raise ValueError(
                "ngram_separator='' cannot tell the words of a phrase apart. Pass for example '_'."
            )
        self.ngram_separator = ngram_separator
        self.max_ngram_length = max_ngram_length
        super().__init__(vocab, stop_words, do_lower_case)

    def set_vocab(self, vocab: Iterable[str]) -> None:
        super().set_vocab(vocab)
        self.ngram_lookup: set[str] = set()
        self.ngram_lengths: set[int] = set()
        for entry in self.vocab:
            words = entry.count(self.ngram_separator) + 1
            # A doubled separator would stand for an empty word, which no text has.
            if 1 < words <= self.max_ngram_length and self.ngram_separator * 2 not in entry:
                self.ngram_lookup.add(entry)
                self.ngram_lengths.add(words)

    def tokenize(self, text: str, **kwargs: Any) -> list[int]:
        """Numbers of the known words and phrases of a text, in order; `kwargs` are ignored.

        Raises:
            ImportError: If nltk is not installed.
        """
        del kwargs
        words = self._joined(treebank_words(text))
        lowered = ((word, word.lower()) for word in words)
        forms = ((word, lower, lower.strip(string.punctuation)) for word, lower in lowered)
        return self.numbers_of(tuple(form for form in word if form) for word in forms)

    def _joined(self, words: list[str]) -> list[str]:
        """Join the words of each known phrase into one."""
        for length in sorted(self.ngram_lengths, reverse=True):
            start = 0
            while start + length <= len(words):
                phrase = self.ngram_separator.join(words[start : start + length])
                known = next((form for form in (phrase, phrase.lower()) if form in self.ngram_lookup), None)
                if known is not None:
                    words = [*words[:start], known, *words[start + length :]]
                start += 1
        return words


class TransformersTokenizerWrapper(WordTokenizer):
    """A tokenizer of transformers where a word tokenizer is asked for.

    Args:
        tokenizer: The tokenizer. Its special tokens are part of what it gives.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def set_vocab(self, vocab: Iterable[str]) -> None:
        """Not possible: the tokenizer brings its own vocabulary.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "The vocabulary of a transformers tokenizer cannot be replaced. Use a "
            "WhitespaceTokenizer, or make the embeddings fit the tokenizer's own vocabulary."
        )

    def get_vocab(self, vocab: Iterable[str] | None = None) -> dict[str, int]:
        """Number by token, as the tokenizer gives it."""
        del vocab
        return self.tokenizer.get_vocab()

    def tokenize(self, sentence: str, **kwargs: Any) -> list[int]:
        """Ids of the tokens of a text, special tokens included; `kwargs` are ignored."""
        del kwargs
        return list(self.tokenizer(sentence)["input_ids"])

    def save(self, output_path: str) -> None:
        self.tokenizer.save_pretrained(output_path)

    @classmethod
    def load(cls, input_path: str) -> Self:
        from transformers import AutoTokenizer

        return cls(AutoTokenizer.from_pretrained(input_path))


def treebank_words(text: str) -> list[str]:
    """Split a text into words and punctuation with nltk.

    Raises:
        ImportError: If nltk is not installed.
    """
    try:
        from nltk.tokenize import word_tokenize
    except ImportError as error:
        raise ImportError(
            "PhraseTokenizer needs nltk, which is not installed. Install it: pip install nltk"
        ) from error
    # Splitting into sentences first would need nltk's data files, and would change nothing but final periods.
    return word_tokenize(text, preserve_line=True)


SAVED_NAMES: dict[type[WordTokenizer], str] = {
    WhitespaceTokenizer: "sentence_transformers.models.tokenizer.WhitespaceTokenizer.WhitespaceTokenizer",
    PhraseTokenizer: "sentence_transformers.models.tokenizer.PhraseTokenizer.PhraseTokenizer",
    TransformersTokenizerWrapper: (
        "sentence_transformers.sentence_transformer.modules.tokenizer.word.TransformersTokenizerWrapper"
    ),
}
"""The name to save for each class, which is the one that every release with that class reads."""


def saved_name(tokenizer: WordTokenizer) -> str:
    """The name to save for a tokenizer's class."""
    kind = type(tokenizer)
    return SAVED_NAMES.get(kind, f"{kind.__module__}.{kind.__qualname__}")


def tokenizer_class(name: str) -> type[WordTokenizer]:
    """The class that a saved name stands for.

    Raises:
        ValueError: If the name is none of ours and the class has not been imported by the caller.
    """
    module, _, attribute = name.rpartition(".")
    kind: Any = class_of(name) if name in SPELLINGS else getattr(sys.modules.get(module), attribute, None)
    if not (isinstance(kind, type) and issubclass(kind, WordTokenizer)):
        raise ValueError(
            f"The model names the word tokenizer {name!r}, which is not one of this library's and "
            "is not imported. "
            "If it is your own class, derived from WordTokenizer, import its module before loading the model."
        )
    return kind
