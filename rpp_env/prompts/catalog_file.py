"""Reads a `PromptCatalog` from a YAML file, checks it, and writes one.

Raises `CatalogError`, which names file and entry, for an unknown key, a missing pattern, a repeated
sentence, or an unknown placeholder.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any, Final, get_args

import yaml

from rpp_env.errors import CatalogError, did_you_mean
from rpp_env.paths import expand_path
from rpp_env.prompts.catalog import HistoryRecords, OutputFormat, PromptCatalog
from rpp_env.prompts.item_text import KNOWN_OF_ALL_ITEMS, ItemTemplates
from rpp_env.prompts.placeholders import placeholders, split_at_placeholders
from rpp_env.prompts.titles import Marks

_CANDIDATE_PLACEHOLDERS: Final = frozenset({"candidates", "num_candidates"}) | KNOWN_OF_ALL_ITEMS
_PLACEHOLDERS: Final[Mapping[str, frozenset[str]]] = {
    "role_playing": _CANDIDATE_PLACEHOLDERS,
    "answer_prefix": frozenset(),
    "history_records": frozenset({"history", "num_records"}) | KNOWN_OF_ALL_ITEMS,
    "reasoning_guidance": _CANDIDATE_PLACEHOLDERS,
    "output_format": _CANDIDATE_PLACEHOLDERS,
}


def known_catalogs() -> tuple[str, ...]:
    """Returns the names of the catalogs that ship with rpp-env."""
    folder = resources.files("rpp_env.prompts") / "catalogs"
    return tuple(sorted(Path(entry.name).stem for entry in folder.iterdir()))


def load_catalog(name_or_path: str | Path) -> PromptCatalog:
    """Reads a catalog that ships with rpp-env, such as ``movies``, or your own YAML file.

    Raises:
        CatalogError: There is no such catalog, or the file is malformed.
    """
    name = str(name_or_path)
    if name in known_catalogs():
        text = (resources.files("rpp_env.prompts") / "catalogs" / f"{name}.yaml").read_text("utf-8")
        return parse_catalog(text, where=name)
    path = expand_path(name)
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
    """Makes a catalog from YAML text. Errors call the text `where`."""
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
            f"{where}: candidate_marks={marks!r} is unknown. {did_you_mean(marks, get_args(Marks))}"
        )
    catalog = PromptCatalog(
        name=fields.get("name", str),
        role_playing=_read_sentences(fields, "role_playing"),
        history_records=_read_history_records(history, mode),
        reasoning_guidance=_read_sentences(fields, "reasoning_guidance"),
        output_format=_read_output_formats(formats),
        history_mode=mode,
        history_start=history.get("start", int, default=0),
        history_separator=history.get("separator", str, default=", "),
        title_years=fields.get("title_years", bool, default=True),
        candidate_marks=marks,
        item=_read_item(fields),
        source=text,
    )
    for each in (fields, history, formats):
        each.check_all_read()
    if catalog.title_years and "year" in catalog.item.names:
        raise CatalogError(
            f"{where}: item has {{year}}, and titles have their years too; set title_years: false"
        )
    if catalog.history_start < 0:
        raise CatalogError(f"{where}: history_records.start={catalog.history_start} is negative")
    return catalog


def catalog_text(catalog: PromptCatalog) -> str:
    """Returns the YAML text that the catalog was read from, or else an equivalent one.

    Raises:
        CatalogError: No YAML text gives this catalog, for example one with spaces around a
            sentence.
    """
    for text in filter(None, (catalog.source, catalog_to_yaml(catalog))):
        try:
            if parse_catalog(text, where=catalog.name) == catalog:
                return text
        except CatalogError:
            continue
    raise CatalogError(
        f"catalog {catalog.name!r} cannot be written as a catalog file: a sentence begins or ends "
        "with a space or is repeated, a placeholder is unknown, a number of records is below 1, or "
        "history_records has more than one text"
    )


def catalog_to_yaml(catalog: PromptCatalog) -> str:
    """Returns the catalog as YAML. Use `catalog_text` to be sure that it reads back as it was."""
    history = catalog.history_records
    document = {
        "name": catalog.name,
        "title_years": catalog.title_years,
        "candidate_marks": catalog.candidate_marks,
        **({} if catalog.item == ItemTemplates() else {"item": asdict(catalog.item)}),
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


def _read_sentences(fields: "_Fields", pattern: str) -> tuple[str, ...]:
    texts = tuple(
        _text(entry, pattern, f"{fields.where}: {pattern}[{i}]")
        for i, entry in enumerate(fields.choices(pattern))
    )
    if len(set(texts)) < len(texts):
        raise CatalogError(f"{fields.where}: {pattern} has the same sentence twice; remove one")
    return texts


def _read_item(fields: "_Fields") -> ItemTemplates:
    """Reads one template for the history and the list, or one for each place."""
    if not fields.has("item"):
        return ItemTemplates()
    given = fields.get("item", (str, dict))
    if isinstance(given, str):
        given = {"history": given, "candidates": given}
    each = _Fields(given, where=f"{fields.where}: item")
    places = {
        name: _template(each.get(name, str, default="{title}"), f"{each.where}.{name}")
        for name in ("history", "candidates", "answer")
    }
    each.check_all_read()
    for name in ("candidates", "answer"):
        if "rating" in placeholders(places[name]):
            raise CatalogError(
                f"{each.where}.{name} has {{rating}}, which is known of the history alone"
            )
    return ItemTemplates(**places)


def _template(value: str, where: str) -> str:
    names = _names(value, where)
    if "title" not in names:
        raise CatalogError(f"{where} has no {{title}}: {value!r}")
    for name in sorted(names):
        if not name.isidentifier():
            raise CatalogError(f"{where}: {{{name}}} is not the name of an attribute: {value!r}")
    return value.strip()


def _read_history_records(history: "_Fields", mode: str) -> tuple[HistoryRecords, ...]:
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


def _read_output_formats(formats: "_Fields") -> tuple[OutputFormat, ...]:
    chat_default = formats.get("chat_template", bool, default=False)
    parsed = []
    for i, entry in enumerate(formats.choices("sentences")):
        each = _Fields(entry, where=f"{formats.where}.sentences[{i}]")
        parsed.append(
            OutputFormat(
                instruction=_text(each.get("instruction", str), "output_format", each.where),
                answer_prefix=_text_without_placeholders(
                    each.get("answer_prefix", str), "answer_prefix", f"{each.where}.answer_prefix"
                ),
                chat_template=each.get("chat_template", bool, default=chat_default),
            )
        )
        each.check_all_read()
    if len(set(parsed)) < len(parsed):
        raise CatalogError(f"{formats.where} has the same sentence twice; remove one")
    return tuple(parsed)


def _text(value: Any, pattern: str, where: str) -> str:
    if not isinstance(value, str):
        raise CatalogError(f"{where} must be text, not {value!r}")
    unknown = _names(value, where) - _PLACEHOLDERS[pattern]
    if unknown:
        allowed = ", ".join(f"{{{name}}}" for name in sorted(_PLACEHOLDERS[pattern])) or "none"
        raise CatalogError(
            f"{where}: no placeholder {{{min(unknown)}}} exists for {pattern} "
            f"(there is: {allowed}): {value!r}"
        )
    return value.strip()


def _names(value: str, where: str) -> set[str]:
    """The placeholders of a text, each of which must be a name alone."""
    try:
        names = placeholders(value)
        decorated = any(
            spec or conversion for _, _, spec, conversion in split_at_placeholders(value)
        )
    except ValueError as error:
        raise CatalogError(
            f"{where}: {error}; a literal brace is written twice: {value!r}"
        ) from error
    if decorated:
        raise CatalogError(f"{where}: a placeholder is a name alone, without ':' or '!': {value!r}")
    return names


class _Fields:
    """A YAML mapping. Each key is read with its type; a key that is never read is an error."""

    def __init__(self, document: Any, *, where: str) -> None:
        if not isinstance(document, dict):
            raise CatalogError(f"{where} must be a mapping, not {type(document).__name__}")
        self.where = where
        self._document: dict[Any, Any] = document
        self._read: set[str] = set()

    def has(self, key: str) -> bool:
        return key in self._document

    def get(self, key: str, kind: type | tuple[type, ...], *, default: Any = None) -> Any:
        self._read.add(key)
        value = self._document.get(key, default)
        if value is None:
            raise CatalogError(f"{self.where} has no {key!r}")
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            expected = " or ".join(each.__name__ for each in kinds)
            raise CatalogError(f"{self.where}: {key} must be {expected}, not {value!r}")
        return value

    def choices(self, key: str) -> Sequence[Any]:
        values: list[Any] = self.get(key, list)
        if not values:
            raise CatalogError(f"{self.where}: {key} needs at least one entry")
        return values

    def check_all_read(self) -> None:
        for key in self._document:
            if key not in self._read:
                raise CatalogError(
                    f"{self.where} has an unknown key. {did_you_mean(str(key), self._read)}"
                    f" Given: {key!r}"
                )


def _text_without_placeholders(value: Any, pattern: str, where: str) -> str:
    """Returns a text in which no placeholder is allowed, with doubled braces made single."""
    return _text(value, pattern, where).format()


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that raises for a repeated key; YAML would silently keep the last one."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f"the key {key!r} is given twice, {node.start_mark}")
        return super().construct_mapping(node, deep=deep)
