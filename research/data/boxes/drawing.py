"""Boxes on a picture."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#bcbd22", "#7f7f7f")


def boxes(
    image: Image.Image, boxes: Sequence[Sequence[float]], words: Sequence[str], colours: Sequence[int]
) -> Image.Image:
    """A copy in RGB with boxes (x1, y1, x2, y2), each with its words above it, or in it at the upper edge; the first on top."""
    out = image.convert("RGB")
    pen, font = ImageDraw.Draw(out), ImageFont.load_default()
    width = max(1, round(min(image.size) / 240))
    for box, word, colour in reversed(list(zip(boxes, words, colours, strict=True))):
        ink = COLOURS[colour % len(COLOURS)]
        pen.rectangle([round(side) for side in box], outline=ink, width=width)
        left, top, right, bottom = pen.textbbox((box[0], box[1]), word, font=font, anchor="lb")
        down = max(0, -top)
        pen.rectangle((left, top + down, right + 1, bottom + down), fill=ink)
        pen.text((box[0], box[1] + down), word, fill="white", font=font, anchor="lb")
    return out
