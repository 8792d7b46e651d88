"""The shipped table: what three models did with each of 1,785 prompts.

Every outcome of every model is known, so what would have happened otherwise is known too, and any rule of routing
can be compared with any other. Where it comes from: ``data/ATTRIBUTION.md``.
"""

from __future__ import annotations

import csv
import gzip
import io
from importlib.resources import files
from typing import Final, NamedTuple

#: The models, as the spec names its options and in its order.
MODELS: Final = ("llama31_8b", "mistral_large", "gemini25_pro")

_DATA = files("capsa.demo") / "data"


class Prompt(NamedTuple):
    """What is known of one prompt; `quality` and `cost_usd` hold one value for each model.

    Attributes:
        task: The benchmark that it is from.
        prompt_chars: Its length.
        quality: How good a judge found each model's answer, 0 to 1.
        cost_usd: The price of each model's call.
    """

    task: str
    prompt_chars: int
    quality: tuple[float, ...]
    cost_usd: tuple[float, ...]


def prompts() -> list[Prompt]:
    """The table, in the order of its source."""
    text = gzip.decompress((_DATA / "llm-routing.csv.gz").read_bytes()).decode()
    return [
        Prompt(
            task=row["task"],
            prompt_chars=int(row["prompt_chars"]),
            quality=tuple(float(row[f"quality_{model}"]) for model in MODELS),
            cost_usd=tuple(float(row[f"cost_usd_{model}"]) for model in MODELS),
        )
        for row in csv.DictReader(io.StringIO(text))
    ]


def spec(name: str) -> str:
    """The text of a shipped spec, such as ``llm-router``."""
    return (_DATA / f"{name}.yaml").read_text(encoding="utf-8")
