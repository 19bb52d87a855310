"""A folder with a file or a folder per client: text, arrays, images.

Free to change: how kinds are told apart. With care: names to client ids, and that nothing outside the folder is read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from .._federated import Examples, FederatedDataset, num_examples
from ._client_folder import ClientFiles, client_names, found_suffixes, list_client, summary
from ._image_files import ImageFiles
from ._npz_files import NpzFiles
from ._text_files import TextFiles

_KINDS: dict[str, type[TextFiles] | type[NpzFiles] | type[ImageFiles]] = {"images": ImageFiles, "npz": NpzFiles, "text": TextFiles}
_LAYOUTS = "; ".join(f"{kind}: {files.layout}" for kind, files in _KINDS.items())


def from_folder(
    path: str | os.PathLike[str],
    *,
    kind: Literal["images", "npz", "text"] | None = None,
    example: Literal["line", "paragraph", "file"] = "line",
    encoding: str = "utf-8",
    resize: tuple[int, int] | None = None,
    mode: Literal["RGB", "L"] = "RGB",
    classes: Sequence[str] | Literal["sorted"] | None = None,
    ignore: Sequence[str] = (),
    name: str | None = None,
) -> FederatedDataset:
    r"""A file or a folder per client, whose id is its name, without the suffix if it is a file; clients sorted by id.

    | kind | files | columns |
    | --- | --- | --- |
    | "text" | `ada.txt` or `ada/*.txt` | `text`, `str` |
    | "npz" | `ada.npz` or `ada/*.npz` | the arrays by name; the dtypes of all clients the same |
    | "images" | `ada/*.png`, `.jpg` or `.jpeg` | `image`, uint8 (n, height, width, channels) |
    | | `ada/LABEL/*.png`, likewise | `image` and `label`, the name of the folder |

    A client's files come one after the other, sorted by name. An empty folder is a client without examples. Hidden files, `__MACOSX`,
    `Thumbs.db` and `desktop.ini` are left out; anything else that is not of the kind is an error, and so is a link.

    Opening looks at names, at the headers of arrays, and counts lines, for which it reads the text; images are counted by name.

    Args:
        path: The folder.
        kind: What the files are; None finds out by their suffixes.
        example: Of text, what an example is: a line, a paragraph (lines up to an empty one) or a whole file. Empty lines are no examples. A
            line ends with a line feed, a carriage return or both.
        encoding: Of text. A mark of byte order before UTF-8 is left out.
        resize: Of images, height and width to bring each to, by bilinear interpolation; None leaves them; all of a client must be equal.
        mode: Of images, "RGB" (3 channels) or "L" (grey, 1 channel). Transparency is dropped, and the orientation that a camera notes is
            not applied.
        classes: Of labelled images: names of labels, whose places make `label` int32; "sorted" takes all that are in the folder, sorted.
            None leaves `label` a `str`.
        ignore: Names to leave out, files or folders at any level; `*` and `?` as in a shell.
        name: What error messages call the data set; None takes the folder's name.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: Two clients have the same id, something in the folder is not of the kind, or a file is not what it should be. On reading
            a client: its text is in another encoding, an image is damaged, or files came or went since the data set was opened.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "ada.txt").write_text("one line\nanother\n"), (folder / "bob.txt").write_text("hello")
        >>> data = from_folder(folder)
        >>> dict(data.sizes), data["ada"]["text"].tolist()
        ({'ada': 2, 'bob': 1}, ['one line', 'another'])
    """
    root = str(Path(path).expanduser().absolute())
    if not os.path.isdir(root):
        got = "a file" if os.path.exists(root) else "nothing"
        raise FileNotFoundError(f"path must be a folder with a file or a folder per client, got {got} at {root}. Give its path.")
    if isinstance(ignore, str):
        raise TypeError(f"ignore must be a list of names, got the text {ignore!r}. Write [{ignore!r}].")
    ignore = tuple(ignore)
    names = client_names(root, ignore)
    if not names:
        raise ValueError(f"{root} must hold a file or a folder per client ({_LAYOUTS}), got nothing in it. Give another path.")
    files = _make(kind or _kind(root, names, ignore), example=example, encoding=encoding, resize=resize, mode=mode, classes=classes)
    sizes = {client: files.count(client, list_client(root, file, files, ignore)) for client, file in names.items()}
    if not files.knows_columns:
        raise ValueError(f"{root} must hold one file at least, for the columns to be known, got {len(sizes)} clients without any. Add one.")
    return FederatedDataset(sizes, _Reader(root, names, sizes, files, ignore), name=name or os.path.basename(root))


@dataclass(frozen=True)
class _Reader:
    """Lists and reads a client's files at each look-up."""

    root: str
    names: Mapping[str, str]
    sizes: Mapping[str, int]
    files: ClientFiles
    ignore: tuple[str, ...]

    def __call__(self, client: str) -> Examples:
        columns = self.files.read(client, list_client(self.root, self.names[client], self.files, self.ignore))
        if (count := num_examples(columns, client=client)) != self.sizes[client]:
            raise ValueError(
                f"Client {client!r} of {self.root} must have {self.sizes[client]} examples as when the folder was opened, got {count}. "
                "Its files have changed; open the folder anew."
            )
        return columns


def _kind(root: str, names: Mapping[str, str], ignore: Sequence[str]) -> str:
    """That of the first file whose suffix is known. What does not go with it is an error later on, which names it."""
    by_suffix = {suffix: kind for kind, files in _KINDS.items() for suffix in files.suffixes}
    for suffix in found_suffixes(root, names, ignore):
        if suffix in by_suffix:
            return by_suffix[suffix]
    found = summary(found_suffixes(root, names, ignore))
    raise ValueError(f"{root} must hold a file or a folder per client ({_LAYOUTS}), got {found}. For empty clients alone, pass `kind=`.")


def _make(kind: str, **options: Any) -> TextFiles | NpzFiles | ImageFiles:
    """The files of a kind, with its options; those of the others must have been left as they are."""
    if kind not in _KINDS:
        raise ValueError(f"kind must be one of {sorted(_KINDS)}, or None to find out, got {kind!r}.")
    defaults = {field.name: (field.default, other) for other, files in _KINDS.items() for field in fields(files) if field.init}
    own = {field.name for field in fields(_KINDS[kind])}
    for option, value in options.items():
        default, other = defaults[option]
        if option not in own and value != default:
            raise ValueError(f"{option} must be left out for kind={kind!r}, got {value!r}. It is for kind={other!r}.")
    return _KINDS[kind](**{option: value for option, value in options.items() if option in own})
