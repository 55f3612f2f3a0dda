"""Real files changed as a stranger would: bytes anywhere, or the content behind a checksum that is made right again."""

from __future__ import annotations

import gzip
import io
import json
import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

# What programs stumble over: the ends of the types of numbers, and what is no number.
_INTEGERS = (0, 1, -1, 2, 7, 255, 256, 65_535, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, -(2**63), 10**12, 10**40)
_FLOATS = (0.0, -0.0, 1e-320, 0.5, 1e308, -1e308, float("nan"), float("inf"), float("-inf"))
_TEXTS = (
    *("", " ", "0", "-1", "none", "None", "null", "nan", "1e999", "true", "../../../etc/passwd", "/dev/zero", "a" * 5000),
    *(
        "\x00",
        "\x1b[31mred\x1b[0m",
        "\u202ecba",
        "\ud800",
        "𝟙",
        "é" * 300,
        "[bold]x[/bold]",
        "<script>alert(1)</script>",
        "%s",
    ),
    *("name:key=value", "repetition:R=3", "repetition:R=999999999999", "x:=,", "(((", "$x^{2$", "{{ 7 * 7 }}", "\r\n# x"),
)
_DEEP = "(deep)"
_LONGEST_ROW = 2000


def any_bytes(content: bytes, chance: Random) -> bytes:
    """Change, cut, repeat, insert or overwrite some bytes."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        place = chance.randrange(len(changed) + 1)
        length = chance.choice((1, 1, 2, 4, 8, 64))
        kind = chance.randrange(7)
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[place : place + length] = chance.randbytes(length)
        elif kind == 2:
            del changed[place : place + length]
        elif kind == 3:
            del changed[place:]
        elif kind == 4:
            changed[place:place] = changed[place : place + length] * chance.choice((1, 2, 50))
        elif kind == 5:
            value = chance.choice(_INTEGERS) % 2**64
            changed[place : place + 8] = value.to_bytes(8, chance.choice(("little", "big")))[-chance.choice((1, 2, 4, 8)) :]
        else:
            source = chance.randrange(len(changed) + 1)
            changed[place : place + length] = changed[source : source + length]
    return bytes(changed)


def any_text(text: str, chance: Random) -> str:
    """Change some characters, or put in pieces that programs stumble over."""
    changed = text
    for _ in range(chance.choice((1, 1, 2, 4))):
        place, length = chance.randrange(len(changed) + 1), chance.choice((0, 1, 1, 2, 8))
        piece = chance.choice(
            ("", chance.choice(_TEXTS), chr(chance.randrange(1, 0x250)), chance.choice(":=,+/()[]{}#\"'\n;. -"))
        )
        if chance.random() < 0.2:
            piece = str(chance.choice(_INTEGERS if chance.random() < 0.7 else _FLOATS))
        changed = changed[:place] + piece + changed[place + length :]
    return changed


def any_value(chance: Random) -> Any:
    """Return a plain value that programs stumble over."""
    kind = chance.randrange(9)
    if kind < 3:
        return chance.choice((_INTEGERS, _FLOATS, _TEXTS)[kind])
    if kind == 3:
        return chance.choice((None, True, False))
    if kind == 4:
        return [any_value(chance) for _ in range(chance.randrange(4))]
    if kind == 5:
        return {chance.choice(_TEXTS): any_value(chance) for _ in range(chance.randrange(3))}
    if kind == 6:
        return [chance.choice(_INTEGERS)] * chance.choice((1, 3, _LONGEST_ROW))
    return chance.choice(([], {}, "x", [[]], [{}], {"type": "none"}, {"type": "repetition", "options": {"R": 3}}))


def any_structure(value: Any, chance: Random) -> Any:
    """Change a few places of plain values: another value, a wrong type, a missing, doubled or foreign entry."""
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        value = _changed_once(value, chance)
    return value


def any_table(content: dict[str, Any], chance: Random) -> dict[str, Any]:
    """Change a few places of a table, which stays one."""
    changed = any_structure(content, chance)
    return changed if isinstance(changed, dict) else {**content, chance.choice(sorted(content)): changed}


def _changed_once(value: Any, chance: Random) -> Any:
    inner = isinstance(value, dict | list) and len(value) > 0 and chance.random() < 0.88
    if not inner:
        return _other(value, chance)
    if isinstance(value, dict):
        key = chance.choice(list(value))
        kind = chance.random()
        if kind < 0.06:
            return {name: item for name, item in value.items() if name != key}
        if kind < 0.1:
            return {**value, chance.choice(_TEXTS): any_value(chance)}
        if kind < 0.14:
            return {**value, key: value[chance.choice(list(value))]}
        return {**value, key: _changed_once(value[key], chance)}
    place, kind = chance.randrange(len(value)), chance.random()
    if kind < 0.06:
        return [*value[:place], *value[place + 1 :]]
    if kind < 0.12:
        return [*value[: place + 1], *value[place:]]
    return [*value[:place], _changed_once(value[place], chance), *value[place + 1 :]]


def _other(value: Any, chance: Random) -> Any:
    """Return another value, often of the same type."""
    if isinstance(value, bool) or chance.random() < 0.4:
        return any_value(chance)
    if isinstance(value, int):
        return chance.choice((value + 1, value - 1, -value, value * 1000, chance.choice(_INTEGERS)))
    if isinstance(value, float):
        return chance.choice((-value, value * 1e300, value / 1e300, value + 1, chance.choice(_FLOATS)))
    if isinstance(value, str):
        return any_text(value, chance)
    return any_value(chance)


def any_json(content: bytes, chance: Random) -> bytes:
    """Change the values of a JSON file; it stays JSON (as Python reads it: with NaN), but may nest deeply."""
    value = any_structure(json.loads(content), chance)
    deep = chance.random() < 0.02
    if deep:
        value = {**value, chance.choice(sorted(value)): _DEEP} if isinstance(value, dict) and value else _DEEP
    changed = json.dumps(value, ensure_ascii=chance.random() < 0.5)
    if deep:
        depth = chance.choice((50, 900, 4000, 100_000))
        nested = "[" * depth + "]" * depth if chance.random() < 0.5 else '{"a":' * depth + "1" + "}" * depth
        changed = changed.replace(json.dumps(_DEEP), nested)
    return changed.encode("utf-8", "surrogatepass")


def any_lines(content: bytes, chance: Random) -> bytes:
    """Change a text of lines and cells: cells replaced, lines doubled, joined or left out."""
    lines = content.split(b"\n")
    for _ in range(chance.choice((1, 1, 2, 6))):
        place = chance.randrange(len(lines))
        kind = chance.randrange(6)
        if kind == 0:
            del lines[place]
            lines = lines or [b""]
        elif kind == 1:
            lines.insert(place, lines[chance.randrange(len(lines))])
        elif kind == 2:
            lines[place] = lines[place] * chance.choice((2, 100))
        else:
            separator = next((mark for mark in (b",", b";", b"\t", b" ") if mark in lines[place]), b" ")
            cells = lines[place].split(separator)
            said = chance.choice((*_INTEGERS, *_FLOATS, *_TEXTS, 0.25, 1, "1.5", '"1"', "0x1", "1_0", "1e5", "٣"))
            cells[chance.randrange(len(cells))] = str(said).encode("utf-8", "surrogatepass")
            lines[place] = separator.join(cells)
    ending = chance.choice((b"\n", b"\n", b"\n", b"\r\n", b"\r", b"\n\n"))
    return chance.choice((b"", b"", b"", b"\xef\xbb\xbf")) + ending.join(lines)


def any_npy(content: bytes, chance: Random) -> bytes:
    """Change the header of a .npy file and write it so that its length is right; or the values behind it."""
    length = struct.unpack("<H", content[8:10])[0]
    header, values = content[10 : 10 + length].decode("latin1"), content[10 + length :]
    kind = chance.randrange(6)
    if kind == 0:
        return content[: 10 + length] + any_bytes(values, chance)
    if kind == 1:
        descr = chance.choice(
            (
                "|O",
                "|u1",
                "|b1",
                "<f2",
                "<f4",
                "<f8",
                ">f8",
                "<i8",
                "<c16",
                "<U4",
                "|S0",
                "|S9",
                "|V8",
                "<M8[s]",
                "|u1junk",
                "<f16",
            )
        )
        header = header.replace("|u1", descr).replace("<f4", descr)
    elif kind == 2:
        sizes = [str(chance.choice((*_INTEGERS, 0, 1, 3, 12, 60))) for _ in range(chance.choice((0, 1, 2, 2, 2, 3, 33, 70)))]
        start = header.index("(")
        header = f"{header[:start]}({', '.join(sizes)},){header[header.index(')') + 1 :]}"
    elif kind == 3:
        header = header.replace("False", chance.choice(("True", "None", "0", "[]", "False")))
    elif kind == 4:
        header = any_text(header, chance)
    else:
        deep = chance.choice((50, 2000))
        header = chance.choice(("(" * deep + ")" * deep, "-" * deep + "1", "[" * deep, header + " " * 9000 + "\n", "{}\n"))
    encoded = header.encode("utf-8", "replace")
    version = chance.choice((b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"))
    size = struct.pack("<H", min(len(encoded), 65_535)) if version == b"\x01\x00" else struct.pack("<I", len(encoded))
    return content[:6] + version + size + encoded + values


def any_idx(content: bytes, chance: Random) -> bytes:
    """Change the header of an IDX file or its content, and often make the one fit the other."""
    dimensions = content[3]
    sizes = list(struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions]))
    values = content[4 + 4 * dimensions :]
    kind = chance.randrange(5)
    magic = bytearray(content[:4])
    if kind == 0:
        sizes[chance.randrange(dimensions)] = abs(chance.choice(_INTEGERS)) % 2**32
    elif kind == 1:
        rows = chance.choice((1, 2, 3, 5, 300))
        sizes[0], values = rows, (values * 20)[: rows * max(1, len(values) // max(1, sizes[0]))]
    elif kind == 2:
        magic[chance.choice((2, 3))] = chance.choice((0, 1, 2, 3, 8, 9, 13, 14, 255))
    elif kind == 3:
        sizes = [chance.choice((1, 2, 4, 28)) for _ in sizes]
        count = 1
        for size in sizes:
            count *= size
        values = chance.randbytes(count)
    else:
        values = any_bytes(values, chance)
        if chance.random() < 0.5:
            sizes = [len(values)] + [1] * (dimensions - 1)
    return bytes(magic) + struct.pack(f">{len(sizes)}I", *sizes) + values


def any_gzip(content: bytes, chance: Random, inner: Callable[[bytes, Random], bytes]) -> bytes:
    """Change what is in a gzip file and pack it again, as one member or several."""
    changed = inner(gzip.decompress(content), chance)
    if chance.random() < 0.3:
        place = chance.randrange(len(changed) + 1)
        return gzip.compress(changed[:place], 1, mtime=0) + gzip.compress(changed[place:], 1, mtime=0)
    return gzip.compress(changed, 1, mtime=0)


def members_of(content: bytes) -> dict[str, bytes]:
    """Return what is in a zip archive, by name."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def zipped(members: Sequence[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return an archive of members whose names may be anything, with right checksums."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members:
            # A name given as text loses what follows a zero byte, and a second one of the same name is warned of.
            info = zipfile.ZipInfo(name)
            info.compress_type = compression
            with archive.open(info, "w") as member:
                member.write(content)
    return buffer.getvalue()


def any_zip(content: bytes, chance: Random, inner: Callable[[str, bytes, Random], bytes]) -> bytes:
    """Change a member, the names or the number of the members, and zip them anew, so that every checksum is right."""
    members = list(members_of(content).items())
    place, kind = chance.randrange(len(members)), chance.random()
    name, held = members[place]
    if kind < 0.8:
        members[place] = (name, inner(name, held, chance))
    elif kind < 0.85:
        del members[place]
    elif kind < 0.9:
        members[place] = (any_text(name, chance).encode("utf-8", "replace").decode() or "x", held)
    elif kind < 0.95:
        other = members[chance.randrange(len(members))]
        members[place] = (name, other[1])
    else:
        folder = name.split("/")[0]
        members.append(
            (chance.choice(("../x.npy", "/tmp/x.npy", f"{folder}/../x", "..\\x", "C:\\x.npy", "a/b.npy", "")), held)
        )
    if chance.random() < 0.3:
        members.sort(key=lambda member: chance.random())
    return zipped(members, chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2)))


def any_pickle(content: bytes, chance: Random) -> bytes:
    """Change a pickle by its opcodes: an argument, an opcode, a global's name, or the order of two of them."""
    ends = [place for _, _, place in pickletools.genops(content) if place is not None]
    pieces = [content[start:end] for start, end in zip(ends, [*ends[1:], len(content)], strict=True)]
    for _ in range(chance.choice((1, 1, 2, 3))):
        place, kind = chance.randrange(len(pieces)), chance.randrange(8)
        if kind == 0:
            del pieces[place]
        elif kind == 1:
            pieces.insert(place, pieces[chance.randrange(len(pieces))])
        elif kind == 2:
            other = chance.randrange(len(pieces))
            pieces[place], pieces[other] = pieces[other], pieces[place]
        elif kind == 3:
            names = (
                b"os\nsystem",
                b"builtins\neval",
                b"torch\nFloatStorage",
                b"collections\nOrderedDict",
                b"torch\nload",
                b"x\ny",
            )
            pieces[place] = b"c" + chance.choice(names) + b"\n"
        elif kind == 4:
            value = chance.choice(_INTEGERS) % 2**64
            number = chance.choice(
                (b"K\xff", b"M\xff\xff", b"J" + struct.pack("<I", value % 2**32), b"\x8a\x08" + struct.pack("<Q", value))
            )
            pieces[place] = number
        elif kind == 5:
            pieces[place] = any_bytes(pieces[place], chance)
        elif kind == 6:
            pieces[place] = chance.choice(
                (b"N", b"]", b"}", b")", b"(", b"t", b"R", b"b", b"u", b"Q", b"0", b".", b"\x88", b"h\x05")
            )
        else:
            text = chance.choice(_TEXTS).encode("utf-8", "replace")
            pieces[place] = b"X" + struct.pack("<I", len(text)) + text
    return b"".join(pieces)


def as_toml(content: Mapping[str, Any]) -> str:
    """Write plain values as TOML; what it has no word for is left out."""
    lines = []
    tables = []
    for name, value in content.items():
        if isinstance(value, dict) and value:
            tables.append((name, value))
        elif (said := _in_toml(value)) is not None:
            lines.append(f"{_quoted(name)} = {said}")
    for name, table in tables:
        lines.append(f"[{_quoted(name)}]")
        lines += [f"{_quoted(key)} = {said}" for key, value in table.items() if (said := _in_toml(value)) is not None]
    return "\n".join(lines) + "\n"


def _in_toml(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return f"[{', '.join(said for item in value if (said := _in_toml(item)) is not None)}]"
    items = ((key, _in_toml(item)) for key, item in value.items())
    return f"{{{', '.join(f'{_quoted(key)} = {said}' for key, said in items if said is not None)}}}"


def _quoted(text: str) -> str:
    """Return a basic string of TOML, which has escapes like JSON's; what cannot be written in UTF-8 is replaced."""
    return json.dumps(text.encode("utf-8", "replace").decode(), ensure_ascii=False).replace("\x7f", "\\u007f")
