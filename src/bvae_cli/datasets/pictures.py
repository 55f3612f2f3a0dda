"""Reading one picture that somebody else made, with Pillow: checked before it is decoded, and never more than one.

What comes out is 8-bit grey or colour. Transparent parts are laid on white, a camera's note of how it was held is obeyed.
"""

from __future__ import annotations

import importlib.util
import io
import warnings
from typing import IO, TYPE_CHECKING, Literal

from bvae_cli.errors import InputOutputError, UsageError, is_out_of_memory
from bvae_cli.sources import require_plausible

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

Channels = Literal["grey", "colour"]
Resize = Literal["crop", "fit"]

# Those that Pillow reads by itself: no other program is started.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
_LARGEST_FILE = 2**28
_AGAIN = "Replace it, or take it out of the folder."
_WHITE = (255, 255, 255)
# What a pixel takes while it is decoded, turned and laid on white.
_BYTES_OF_A_PIXEL = 8


def require_pillow() -> None:
    """Raise UsageError where Pillow is not installed; it is not imported here."""
    if importlib.util.find_spec("PIL") is None:
        raise UsageError("Pillow, which reads pictures, is not installed.", "pip install 'bvae-cli[images]'")


def read_picture(
    file: IO[bytes], where: str, channels: Channels, size: int = 0, resize: Resize = "crop"
) -> NDArray[np.uint8]:
    """Return a picture as ``[height, width]`` or ``[height, width, 3]`` uint8.

    With ``size`` it becomes a square of so many pixels: "crop" fills it and cuts the rest off on both sides, "fit" shows all
    of it on black. A pixel is then the mean of those that it covers, or where a picture is enlarged the nearest. Raises
    InputOutputError, naming ``where``, for what is no picture or damaged, has several frames, more than 8 bits a value, or
    more pixels than Pillow thinks safe.
    """
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError

    # Pillow asks a file for as many bytes as it claims to have; of what is in memory it gets those that are there.
    content = file.read(_LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        raise InputOutputError(f"{where} has more than {_LARGEST_FILE:,} bytes.", "Make it smaller first.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture: Image.Image = Image.open(io.BytesIO(content), formats=_FORMATS)
            _require_readable(picture, where)
            require_plausible(picture.width * picture.height * _BYTES_OF_A_PIXEL, len(content), where)
            ImageOps.exif_transpose(picture, in_place=True)
            picture = _flat(picture, channels)
    except InputOutputError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputOutputError(
            f"{where} has too many pixels: more than {Image.MAX_IMAGE_PIXELS or 0:,}.", "Make it smaller first."
        ) from error
    except UnidentifiedImageError as error:
        raise InputOutputError(f"{where} is not a picture in one of {', '.join(_FORMATS)}.", _AGAIN) from error
    except Exception as error:  # what a decoder raises of damaged bytes depends on which of them it is
        if is_out_of_memory(error):
            raise
        raise InputOutputError(f"{where} is damaged or cut off: {error}.", _AGAIN) from error
    if size:
        change = ImageOps.fit if resize == "crop" else ImageOps.pad
        picture = change(picture, (size, size), method=Image.Resampling.BOX)
    return np.asarray(picture)


def _require_readable(picture: Image, where: str) -> None:
    """Raise InputOutputError for several frames, and for more than 8 bits a value, before anything is decoded."""
    # A photograph may have a preview behind it (MPO), which is no second picture.
    if picture.format != "MPO" and getattr(picture, "is_animated", False):
        raise InputOutputError(f"{where} is animated or has several pages.", "Write each frame into a file of its own.")
    # Pillow says ";16" of how values stand in the file, also where it would drop their lower half without a word.
    if picture.mode[0] in "IF" or ";16" in str(getattr(picture, "tile", "")):
        raise InputOutputError(
            f"{where} has more than 8 bits a value.",
            "Write 8-bit pictures, or an array of values in 0…1 with numpy.save.",
        )


def _flat(picture: Image, channels: Channels) -> Image:
    from PIL import Image

    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        background = Image.new("RGB", picture.size, _WHITE)
        background.paste(picture, mask=picture.getchannel("A"))
        picture = background
    return picture.convert("L" if channels == "grey" else "RGB")
