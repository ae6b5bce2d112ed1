"""Wheels that pip accepts, made on the spot."""

import zipfile


def write_wheel(folder, name, contents):
    """Writes version 1.0 of a pure Python wheel. Returns its path.

    Args:
        folder: Where it is written; made if it is not there.
        name: Of the package, with underscores.
        contents: Text or bytes by the path inside the wheel.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info/"
    about = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0",
        "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any",
        "RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in (contents | {info + key: text for key, text in about.items()}).items():
            archive.writestr(member, data)
    return path
