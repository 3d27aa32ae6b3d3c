from PIL import Image, ImageColor

from research.data.boxes import drawing


def test_the_sides_are_drawn_in_the_colour_of_the_class_and_the_picture_stays():
    image = Image.new("L", (100, 80))
    out = drawing.boxes(image, [[10, 30, 60, 70], [-5, -5, 200, 200]], ["cat 0.9", "dog"], [1, 12])
    assert (out.mode, out.size) == ("RGB", (100, 80))
    for place in ((10, 50), (60, 50), (30, 70)):
        assert out.getpixel(place) == ImageColor.getrgb(drawing.COLOURS[1])
    assert out.getpixel((30, 50)) == (0, 0, 0)
    assert image.getextrema() == (0, 0)
