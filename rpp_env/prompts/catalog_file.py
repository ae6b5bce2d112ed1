"""Reads a `PromptCatalog` from a YAML file and checks it, and writes one.

An unknown key, a missing pattern, a sentence twice or a placeholder that does not exist is a
`CatalogError` that names the file and the entry.
"""

from collections.abc import Hashable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final, get_args

import yaml

from rpp_env.errors import CatalogError, did_you_mean
from rpp_env.prompts.catalog import (
    HistoryRecords,
    OutputFormat,
    PromptCatalog,
    parts,
    placeholders,
)
from rpp_env.prompts.titles import Marks

_OF_CANDIDATES: Final = frozenset({"candidates", "num_candidates"})
_PLACEHOLDERS: Final[Mapping[str, frozenset[str]]] = {
    "role_playing": _OF_CANDIDATES,
    "answer_prefix": frozenset(),
    "history_records": frozenset({"history", "num_records"}),
    "reasoning_guidance": _OF_CANDIDATES,
    "output_format": _OF_CANDIDATES,
}


def known_catalogs() -> tuple[str, ...]:
    """Names of the catalogs that ship with rpp-env."""
    folder = resources.files("rpp_env.prompts") / "catalogs"
    return tuple(sorted(Path(entry.name).stem for entry in folder.iterdir()))


def load_catalog(name_or_path: str | Path) -> PromptCatalog:
    """Reads a catalog that ships with rpp-env (``movies``) or a YAML file of one's own.

    Raises:
        CatalogError: There is no such catalog, or the file is malformed.
    """
    name = str(name_or_path)
    if name in known_catalogs():
        text = (resources.files("rpp_env.prompts") / "catalogs" / f"{name}.yaml").read_text("utf-8")
        return parse_catalog(text, where=name)
    path = Path(name)
    if not path.is_file():
        raise CatalogError(
            f"catalog={name!r} is neither a file nor a catalog of rpp-env. "
            f"{did_you_mean(name, known_catalogs())}"
        )
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise CatalogError(f"{path} is not UTF-8: {error}") from error
    return parse_catalog(text, where=str(path))


def parse_catalog(text: str, *, where: str) -> PromptCatalog:
    """Makes a catalog of a YAML text; `where` names it in errors."""
    try:
        document = yaml.load(text, Loader=_UniqueKeyLoader)
    except (yaml.YAMLError, ValueError) as error:
        raise CatalogError(f"{where} is not valid YAML: {error}") from error
    fields = _Fields(document, where=where)
    history = _Fields(fields.get("history_records", dict), where=f"{where}: history_records")
    mode = history.get("mode", str)
    if mode not in ("set", "add"):
        raise CatalogError(f"{where}: history_records.mode={mode!r} must be 'set' or 'add'")
    formats = _Fields(fields.get("output_format", dict), where=f"{where}: output_format")
    marks = fields.get("candidate_marks", str, default="bullets")
    if marks not in get_args(Marks):
        raise CatalogError(
            f"{where}: candidate_marks={marks!r} is no kind. {did_you_mean(marks, get_args(Marks))}"
        )
    catalog = PromptCatalog(
        name=fields.get("name", str),
        role_playing=_texts(fields, "role_playing"),
        history_records=_history_choices(history, mode),
        reasoning_guidance=_texts(fields, "reasoning_guidance"),
        output_format=_output_formats(formats),
        history_mode=mode,
        history_start=history.get("start", int, default=0),
        history_separator=history.get("separator", str, default=", "),
        title_years=fields.get("title_years", bool, default=True),
        candidate_marks=marks,
        source=text,
    )
    for each in (fields, history, formats):
        each.check_all_read()
    if catalog.history_start < 0:
        raise CatalogError(f"{where}: history_records.start={catalog.history_start} is negative")
    return catalog


def catalog_text(catalog: PromptCatalog) -> str:
    """The YAML text that the catalog was read from, or one that says the same if it has none.

    Raises:
        CatalogError: No YAML says what the catalog says, such as one with spaces around a sentence.
    """
    for text in filter(None, (catalog.source, catalog_to_yaml(catalog))):
        try:
            if parse_catalog(text, where=catalog.name) == catalog:
                return text
        except CatalogError:
            continue
    raise CatalogError(
        f"catalog {catalog.name!r} says what no catalog file can: a sentence that begins or ends "
        "with a space or is there twice, an unknown placeholder, a number of records below 1, or "
        "history_records with more than one text"
    )


def catalog_to_yaml(catalog: PromptCatalog) -> str:
    """The catalog as YAML; `parse_catalog` reads it back if a file can say what it says."""
    history = catalog.history_records
    document = {
        "name": catalog.name,
        "title_years": catalog.title_years,
        "candidate_marks": catalog.candidate_marks,
        "role_playing": list(catalog.role_playing),
        "history_records": {
            "mode": catalog.history_mode,
            "start": catalog.history_start,
            "text": history[0].text if history else "",
            "separator": catalog.history_separator,
            "records": [entry.records for entry in history],
        },
        "reasoning_guidance": list(catalog.reasoning_guidance),
        "output_format": {
            "sentences": [
                {
                    "instruction": entry.instruction,
                    "answer_prefix": entry.answer_prefix.replace("{", "{{").replace("}", "}}"),
                    "chat_template": entry.chat_template,
                }
                for entry in catalog.output_format
            ],
        },
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _texts(fields: "_Fields", pattern: str) -> tuple[str, ...]:
    texts = tuple(
        _text(entry, pattern, f"{fields.where}: {pattern}[{i}]")
        for i, entry in enumerate(fields.choices(pattern))
    )
    if len(set(texts)) < len(texts):
        raise CatalogError(f"{fields.where}: {pattern} has the same sentence twice")
    return texts


def _history_choices(history: "_Fields", mode: str) -> tuple[HistoryRecords, ...]:
    text = _text(history.get("text", str), "history_records", f"{history.where}.text")
    if "history" not in placeholders(text):
        raise CatalogError(f"{history.where}.text has no {{history}}: {text!r}")
    records = history.choices("records")
    for i, value in enumerate(records):
        if not isinstance(value, int) or isinstance(value, bool) or value < (mode == "set"):
            raise CatalogError(
                f"{history.where}.records[{i}]={value!r} must be a whole number of records, "
                f"{'1' if mode == 'set' else '0'} or more"
            )
    if len(set(records)) < len(records):
        raise CatalogError(f"{history.where}.records has the same number twice: {records}")
    return tuple(HistoryRecords(records=value, text=text) for value in records)


def _output_formats(formats: "_Fields") -> tuple[OutputFormat, ...]:
    chat_default = formats.get("chat_template", bool, default=False)
    parsed = []
    for i, entry in enumerate(formats.choices("sentences")):
        each = _Fields(entry, where=f"{formats.where}.sentences[{i}]")
        parsed.append(
            OutputFormat(
                instruction=_text(each.get("instruction", str), "output_format", each.where),
                answer_prefix=_plain(
                    each.get("answer_prefix", str), "answer_prefix", f"{each.where}.answer_prefix"
                ),
                chat_template=each.get("chat_template", bool, default=chat_default),
            )
        )
        each.check_all_read()
    if len(set(parsed)) < len(parsed):
        raise CatalogError(f"{formats.where} has the same sentence twice")
    return tuple(parsed)


def _text(value: Any, pattern: str, where: str) -> str:
    if not isinstance(value, str):
        raise CatalogError(f"{where} must be text, not {value!r}")
    try:
        unknown = placeholders(value) - _PLACEHOLDERS[pattern]
        decorated = any(spec or conversion for _, _, spec, conversion in parts(value))
    except ValueError as error:
        raise CatalogError(
            f"{where}: {error}; a literal brace is written twice: {value!r}"
        ) from error
    if decorated:
        raise CatalogError(f"{where}: a placeholder is a name alone, without ':' or '!': {value!r}")
    if unknown:
        allowed = ", ".join(f"{{{name}}}" for name in sorted(_PLACEHOLDERS[pattern])) or "none"
        raise CatalogError(
            f"{where}: no placeholder {{{min(unknown)}}} exists for {pattern} "
            f"(there is: {allowed}): {value!r}"
        )
    return value.strip()


class _Fields:
    """A YAML mapping whose keys are read with a type, and must all be read."""

    def __init__(self, document: Any, *, where: str) -> None:
        if not isinstance(document, dict):
            raise CatalogError(f"{where} must be a mapping, not {type(document).__name__}")
        self.where = where
        self._document: dict[Any, Any] = document
        self._read: set[str] = set()

    def get(self, key: str, kind: type, *, default: Any = None) -> Any:
        self._read.add(key)
        value = self._document.get(key, default)
        if value is None:
            raise CatalogError(f"{self.where} has no {key!r}")
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise CatalogError(f"{self.where}: {key} must be {kind.__name__}, not {value!r}")
        return value

    def choices(self, key: str) -> Sequence[Any]:
        values: list[Any] = self.get(key, list)
        if not values:
            raise CatalogError(f"{self.where}: {key} needs one entry at least")
        return values

    def check_all_read(self) -> None:
        for key in self._document:
            if key not in self._read:
                raise CatalogError(
                    f"{self.where} has an unknown key. {did_you_mean(str(key), self._read)}"
                    f" Given: {key!r}"
                )


def _plain(value: Any, pattern: str, where: str) -> str:
    """A text in which no placeholder is allowed, with its doubled braces made single."""
    return _text(value, pattern, where).format()


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, which YAML would silently overwrite."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f"the key {key!r} is given twice, {node.start_mark}")
        return super().construct_mapping(node, deep=deep)
