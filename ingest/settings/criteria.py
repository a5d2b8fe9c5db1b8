"""Settings of the checks of replies."""

from typing import Any, Literal

from pydantic import Field

from ingest.settings.section import Section


class CriterionSettings(Section):
    """A check of a reply. It gives each reply a score from 0 (bad) to 1 (good); the gate counts 0.5 and more as passed."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Name, as in reports and metrics.")
    type: Literal["word_limit", "regex", "json_schema", "python", "judge"] = Field(
        description="What kind of check. The gate leaves judges out: it looks at single replies."
    )
    max_words: int | None = Field(None, ge=1, description="word_limit: most words, the same for every prompt.")
    limit_pattern: str | None = Field(
        None, description="word_limit: regular expression whose first group is the limit that the prompt states."
    )
    pattern: str | None = Field(None, description="regex: what a good reply matches somewhere.")
    json_schema: dict[str, Any] | None = Field(
        None, description="json_schema: the schema, as a table, that a good reply keeps to."
    )
    function: str | None = Field(
        None, description="python: MODULE:FUNCTION, called with (prompt_text, reply_text), returns True, False or a score."
    )
    judge_url: str | None = Field(
        None, pattern="^https?://", description="judge: base URL of an OpenAI-compatible API, such as https://HOST/v1."
    )
    judge_model: str | None = Field(None, min_length=1, description="judge: model that is asked.")
    judge_key_env: str | None = Field(
        None, min_length=1, description="judge: name of the environment variable that holds the API's key."
    )
    instruction: str | None = Field(None, min_length=1, description="judge: what makes a reply the better one, in words.")
    max_drop: float = Field(
        0.05, ge=0, le=1, description="The gate refuses a candidate whose share of passed replies is lower by more."
    )
    weight: float = Field(1, gt=0, description="Scores: what a point counts where several criteria are added up.")
    min_margin: float = Field(0, ge=0, description="Scores: a smaller difference between two replies makes no pair.")
