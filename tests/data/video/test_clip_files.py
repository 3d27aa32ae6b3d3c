"""The user's clips: what is read is what was written, in order; what cannot be used is named."""

import numpy as np
import pytest
from PIL import Image

from research.data.video import clip_files
from research.data.video.clip_files import ClipFile
from research.util.errors import UserError

SHAPE = (6, 8, 3)
PIXELS = np.random.default_rng(0).integers(0, 256, (5, *SHAPE), np.uint8)
GREY = PIXELS[..., :1].repeat(3, -1)  # of up to 48 greys a frame: a GIF has them without loss
FORMATS = {".gif": {}, ".png": {}, ".webp": {"lossless": True}}


def save(path, pixels=GREY):
    first, *rest = map(Image.fromarray, pixels)
    path.parent.mkdir(parents=True, exist_ok=True)
    first.save(path, save_all=True, append_images=rest, duration=40, **FORMATS[path.suffix])
    return path


def clip(path, frames=()):
    return ClipFile(path, tuple(frames), path.name, "", "")


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_animated_file_is_read_frame_by_frame(tmp_path, suffix):
    file = clip(save(tmp_path / f"a{suffix}"))
    np.testing.assert_array_equal(np.stack(list(clip_files.frames(file, SHAPE))), GREY)
    np.testing.assert_array_equal(clip_files.take(file, np.array([3, 0, 3]), SHAPE), GREY[[3, 0, 3]])
    assert clip_files.count(file, SHAPE) == 5
    assert next(clip_files.animated(file.path, (3, 3, 1))).shape == (3, 3, 1)


def test_a_gif_of_greys_has_its_frames_whatever_their_palettes(tmp_path):
    """Pillow writes the first frame here without a palette and the next with one."""
    ramp = np.arange(3 * 64, dtype=np.uint8).reshape(3, 8, 8, 1)
    file = save(tmp_path / "ramp.gif", ramp.repeat(3, -1))
    np.testing.assert_array_equal(np.stack(list(clip_files.stream(file, (8, 8, 1)))), ramp)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_that_is_cut_anywhere_is_found_out(tmp_path, suffix):
    whole = save(tmp_path / f"a{suffix}", PIXELS).read_bytes()
    file = tmp_path / f"cut{suffix}"
    for size in range(1, len(whole) - 20, 13):
        file.write_bytes(whole[:size])
        with pytest.raises(UserError, match=f"clip {file} "):
            list(clip_files.stream(file, SHAPE))


def test_a_gif_that_ends_after_a_whole_frame_is_found_out(tmp_path):
    file = save(tmp_path / "a.gif")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match="it is cut short"):
        list(clip_files.stream(file, SHAPE))


def test_frames_of_a_folder_are_ordered_by_number_and_named(tmp_path):
    for i, pixels in zip((2, 10, 1), PIXELS, strict=False):
        save(tmp_path / "a" / "one" / f"frame{i}.png", pixels[None])
        save(tmp_path / "a" / "two" / f"{i}.png", pixels[None])
        save(tmp_path / "a" / "three" / f"{i}.png", pixels[None])
    save(tmp_path / "a" / "two" / "02.png", PIXELS[:1])
    save(tmp_path / "a" / "three" / "cover.png", PIXELS[:1])
    save(tmp_path / "a" / "still.png", PIXELS[:1])
    save(tmp_path / "loose.gif")
    listed = clip_files.listed(tmp_path)
    assert [(each.name, each.label) for each in listed.clips] == [("a/still.png", "a"), ("a/one", "a")]
    np.testing.assert_array_equal(np.stack(list(clip_files.frames(listed.clips[1], SHAPE))), PIXELS[[2, 0, 1]])
    assert sorted(listed.faults) == [
        "a/three: cover.png has no number in its name",
        "a/two: 02.png and 2.png have the same number",
        "loose.gif: not in a class folder",
    ]


def test_what_is_no_clip_is_named_and_counted(tmp_path):
    save(tmp_path / "still.png", PIXELS[:1])
    (tmp_path / "text.gif").write_text("no picture")
    for name, size in (("1.png", 8), ("2.png", 7)):
        save(tmp_path / name, PIXELS[:1, :, :size])
    clips = [clip(tmp_path / "still.png"), clip(tmp_path / "text.gif"), clip(save(tmp_path / "good.gif"))]
    clips.append(clip(tmp_path, [tmp_path / "1.png", tmp_path / "2.png"]))
    kept, lengths, faults = clip_files.readable(clips, SHAPE)
    assert (kept, lengths) == ([clips[2]], [5])
    assert [fault.partition(": ")[2][:40] for fault in faults] == [
        "one frame; a clip has two or more",
        f"cannot identify image file {str(tmp_path / 'text.gif')!r}"[:40],
        "frames of different sizes: 1.png has 8 x",
    ]
    with pytest.raises(UserError, match="has one frame"):
        list(clip_files.stream(tmp_path / "still.png", SHAPE))
    with pytest.raises(UserError, match="No such file"):
        list(clip_files.stream(tmp_path / "nowhere.gif", SHAPE))


def test_clips_in_memory_are_those_of_the_files(tmp_path):
    files = [clip(save(tmp_path / "a.png", PIXELS)), clip(save(tmp_path / "b.webp", PIXELS[:3]))]
    sources = [clip_files.ClipFiles(files, [5, 3], np.array([1, 0]), SHAPE, limit) for limit in (0, 1 << 20)]
    (tmp_path / "a.png").unlink()
    np.testing.assert_array_equal(sources[1].frames(0, np.array([4, 1])), PIXELS[[4, 1]])
    with pytest.raises(UserError, match="a.png cannot be read"):
        sources[0].frames(0, np.array([4, 1]))
    assert [source.length(1) for source in sources] == [3, 3]
