"""How does the page read in another language? Its English sentences are the keys; stable words stay as they are."""


class Words:
    """Says a sentence of the page in a language; what has no translation stays English."""

    def __init__(self, language: str) -> None:
        self._table = CHINESE if language == "zh" else {}

    def __call__(self, sentence: str) -> str:
        """The sentence, its gaps ({person} ...) as they are."""
        return self._table.get(sentence, sentence)


CHINESE: dict[str, str] = {}
