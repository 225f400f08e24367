"""Arguments of a task, typed by its signature: checked when a job is submitted, and made into objects where it runs.

What is stored is JSON. Whole numbers are kept exactly, of any number of digits; NaN and infinity are refused.
"""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pydantic

from allcores.errors import UsageError
from allcores.jobs.errors import ArgumentErrors
from allcores.jobs.json_values import NotJson, plain_json
from allcores.jobs.uploads import UploadedFile
from allcores.sources.text import json_value

#: the name of a first parameter that gets the running job
JOB = "job"
_KINDS = {"integer": "integer", "number": "number", "string": "text", "boolean": "boolean"}
_FORMATS = {"date": "date", "date-time": "datetime", "time": "time"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument, as a form shows it.

    Attributes:
        name: Its name.
        kind: "integer", "number", "text", "boolean", "choice", "date", "datetime", "time", "file", "files", or "json"
            for what is written as JSON text.
        required: It has no default.
        default: Its default as JSON; None if it has none.
        choices: What it may be, for a "choice", as JSON.
        optional: It may be None.
        schema: Its JSON schema.
    """

    name: str
    kind: str
    required: bool
    default: Any
    choices: tuple[Any, ...]
    optional: bool
    schema: dict[str, Any]


class Arguments:
    """What a function takes.

    Args:
        name: Of the task.
        function: With a signature of named parameters. Those without an annotation take any JSON.

    Raises:
        UsageError: If a parameter cannot be given by name, or its type cannot be made from JSON.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name = name
        self._function = function
        parameters = list(inspect.signature(function).parameters.values())
        self.takes_job = bool(parameters) and parameters[0].name == JOB
        """Whether the first parameter gets the running job."""
        self._parameters = parameters[self.takes_job :]
        for each in self._parameters:
            if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD, each.POSITIONAL_ONLY):
                raise UsageError(
                    f"task {name!r} has the parameter {each}: arguments of jobs are given by name, one each"
                )

    @cached_property
    def _model(self) -> type[pydantic.BaseModel]:
        try:
            hints = typing.get_type_hints(self._function, include_extras=True)
            fields: dict[str, Any] = {}
            for number, each in enumerate(self._parameters):
                default = ... if each.default is each.empty else each.default
                # Under names that cannot clash with what models have, such as "json" and "copy".
                fields[f"p{number}"] = (hints.get(each.name, Any), pydantic.Field(default, alias=each.name))
            model: type[pydantic.BaseModel] = pydantic.create_model(
                self._name,
                __config__=pydantic.ConfigDict(
                    extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=False, protected_namespaces=()
                ),
                **fields,
            )
        except (pydantic.PydanticUserError, NameError, TypeError) as error:
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UsageError(f"arguments of task {self._name!r} cannot be made from JSON: {line}") from None
        return model

    def prepare(self) -> None:
        """Build what checks arguments. Raises: UsageError: If the types of the signature cannot be made from JSON."""
        _ = self._model

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments as they are to be stored.

        Args:
            given: By name: JSON values, or Python values that JSON can hold (dates, enums, dataclasses, ...). A text is
                no number here.

        Raises:
            ArgumentErrors: If they do not fit.
        """
        if not isinstance(given, Mapping):
            raise ArgumentErrors(self._name, {"": ["arguments are given as an object, by name"]})
        return self._stored(self._plain(given), strict=True)

    def check_form(
        self, given: Mapping[str, str | list[str] | dict[str, Any] | list[dict[str, Any]]]
    ) -> dict[str, Any]:
        """Arguments as they are to be stored, from the texts of a form.

        Args:
            given: By name: what was typed in; for files what `uploads.keep` returned. An empty text is None where there
                may be None, else the default.

        Raises:
            ArgumentErrors: If they do not fit.
        """
        values: dict[str, Any] = {}
        wrong: dict[str, list[str]] = {}
        for parameter in self.parameters:
            value: Any = given.get(parameter.name)
            if isinstance(value, list) and parameter.kind not in ("files", "json"):
                value = value[-1] if value else None
            if parameter.kind == "boolean" and not parameter.optional:
                # A box that is not ticked is not sent.
                values[parameter.name] = value not in (None, "", "false", "off", "0", False)
            elif value == "" and parameter.optional:
                # Whoever empties a field that has a default, and may have None, does not mean the default.
                if parameter.required or parameter.default is not None:
                    values[parameter.name] = None
            elif value is None or value == "":
                if parameter.required and parameter.kind == "text" and value == "":
                    values[parameter.name] = ""
                elif parameter.optional and parameter.required:
                    values[parameter.name] = None
            elif parameter.kind in ("json", "choice") and isinstance(value, str):
                try:
                    values[parameter.name] = _choice(value, parameter) if parameter.choices else json_value(value)
                except (ValueError, RecursionError) as error:
                    wrong[parameter.name] = [f"it is no JSON: {error}"]
            else:
                values[parameter.name] = value
        for name in sorted(set(given) - {parameter.name for parameter in self.parameters}):
            wrong[name] = ["there is no such argument"]
        if wrong:
            raise ArgumentErrors(self._name, wrong)
        return self._stored(self._plain(values), strict=False)

    def values(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """What the function is called with, made from what is stored.

        Raises:
            ArgumentErrors: If it does not fit, because the signature has changed since.
        """
        model = self._validated(dict(stored), strict=True)
        return {
            each.name: getattr(model, f"p{number}")
            for number, each in enumerate(self._parameters)
            if f"p{number}" in model.model_fields_set
        }

    def schema(self) -> dict[str, Any]:
        """The JSON schema of all arguments together, an object."""
        schema = self._model.model_json_schema(by_alias=True)
        for name, field in schema.get("properties", {}).items():
            field["title"] = name.replace("_", " ")
        return schema

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The arguments one by one, for forms."""
        schema = self.schema()
        definitions = schema.get("$defs", {})
        required = set(schema.get("required", ()))
        return tuple(
            _parameter(name, field, definitions, required=name in required)
            for name, field in schema.get("properties", {}).items()
        )

    def _plain(self, given: Mapping[Any, Any]) -> dict[str, Any]:
        wrong: dict[str, list[str]] = {}
        plain: dict[str, Any] = {}
        for name, value in given.items():
            if not isinstance(name, str):
                wrong[repr(name)] = ["names of arguments are texts"]
                continue
            try:
                plain[name] = plain_json(value, characters=True)
            except NotJson as error:
                wrong[".".join(map(str, (name, *error.path)))] = [f"it {error.reason}"]
        if wrong:
            raise ArgumentErrors(self._name, wrong)
        return plain

    def _validated(self, plain: dict[str, Any], *, strict: bool) -> pydantic.BaseModel:
        try:
            text = json.dumps(plain)
        except (ValueError, RecursionError) as error:
            raise ArgumentErrors(self._name, {"": [f"they cannot be written as JSON: {error}"]}) from None
        try:
            return self._model.model_validate_json(text, strict=strict)
        except pydantic.ValidationError as error:
            wrong: dict[str, list[str]] = {}
            for each in error.errors(include_url=False, include_context=False, include_input=False):
                sentence = each["msg"][:1].lower() + each["msg"][1:]
                if each["type"] == "extra_forbidden" and len(each["loc"]) == 1:
                    names = ", ".join(parameter.name for parameter in self._parameters) or "none"
                    sentence = f"there is no such argument; the task takes {names}"
                elif each["type"] == "missing":
                    sentence = "it is needed"
                wrong.setdefault(".".join(map(str, each["loc"])), []).append(sentence)
            raise ArgumentErrors(self._name, wrong) from None

    def _stored(self, plain: dict[str, Any], *, strict: bool) -> dict[str, Any]:
        model = self._validated(plain, strict=strict)
        wrong = {
            ".".join(map(str, (each.name, *path))): [f"its {before} keys are {after} as what the task takes"]
            for number, each in enumerate(self._parameters)
            if each.name in plain
            for path, before, after in _joined_keys(plain[each.name], getattr(model, f"p{number}"))
        }
        if wrong:
            raise ArgumentErrors(self._name, wrong)
        return model.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _joined_keys(given: Any, made: Any) -> Iterator[tuple[tuple[str | int, ...], int, int]]:
    """Where dicts have fewer keys than before, since texts that differ ("1", "01") may be one number; how many."""
    parts: Iterable[tuple[str | int, Any, Any]] = ()
    if isinstance(given, dict) and isinstance(made, Mapping):
        if len(made) < len(given):
            yield (), len(given), len(made)
            return
        parts = zip(given, given.values(), made.values(), strict=False)
    elif isinstance(given, dict):
        parts = ((key, value, getattr(made, key, None)) for key, value in given.items())
    elif isinstance(given, list) and isinstance(made, (list, tuple)):
        parts = zip(range(len(given)), given, made, strict=False)
    for step, before, after in parts:
        for path, count, left in _joined_keys(before, after):
            yield (step, *path), count, left


def _choice(text: str, parameter: Parameter) -> Any:
    """The choice that is written so: as text, or as JSON."""
    for choice in parameter.choices:
        if text == choice or text == json.dumps(choice):
            return choice
    return text


def _parameter(name: str, field: dict[str, Any], definitions: dict[str, Any], *, required: bool) -> Parameter:
    inner, optional = _without_null(field, definitions)
    choices: tuple[Any, ...] = ()
    if "enum" in inner:
        kind, choices = "choice", tuple(inner["enum"])
    elif "const" in inner:
        kind, choices = "choice", (inner["const"],)
    elif inner.get("title") == UploadedFile.__name__ and "upload" in inner.get("properties", {}):
        kind = "file"
    elif inner.get("type") == "array" and _is_file(inner.get("items", {}), definitions):
        kind = "files"
    elif inner.get("type") == "string":
        kind = _FORMATS.get(inner.get("format", ""), "text")
    else:
        kind = _KINDS.get(str(inner.get("type")), "json")
    return Parameter(name, kind, required, field.get("default"), choices, optional, field)


def _is_file(field: dict[str, Any], definitions: dict[str, Any]) -> bool:
    return _resolved(field, definitions).get("title") == UploadedFile.__name__


def _resolved(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    reference = field.get("$ref")
    return definitions.get(reference.rpartition("/")[2], {}) if isinstance(reference, str) else field


def _without_null(field: dict[str, Any], definitions: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """What a field is besides None, and whether it may be None."""
    field = _resolved(field, definitions)
    options = field.get("anyOf")
    if not isinstance(options, list):
        return field, False
    others = [_resolved(each, definitions) for each in options if each.get("type") != "null"]
    return (others[0] if len(others) == 1 else {}), len(others) < len(options)
