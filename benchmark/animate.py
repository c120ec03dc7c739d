"""Trained agents side by side: a GIF of the first deterministic evaluation episode of each run.

    python benchmark/animate.py agents.gif runs/Walker2d-v4__reinforce__1 runs/Walker2d-v4__ddpg__1

All start from the same seed and run at the same pace. An agent that has fallen, or reached the time
limit, stands still and pale.
"""

import argparse
import importlib
import json
import sys
from pathlib import Path

import numpy as np
from common import COLORS, NAMES, ROOT
from moviepy import VideoFileClip
from PIL import Image, ImageDraw, ImageFont
from tables import number

sys.path.insert(0, str(ROOT))
HEADING = 22  # pixels above a picture


def record(script, run_dir):
    """Video and return of a run's first evaluation episode, which is recorded if it is not yet.

    With it go all episodes of the evaluation that is scored: in a smaller batch sums round
    otherwise, and a walker falls elsewhere.
    """
    video = run_dir / "videos" / "rl-video-episode-0.mp4"
    score = run_dir / "videos" / "return.txt"
    if not score.exists():
        result = importlib.import_module(script).evaluate(run_dir, capture_video=True)
        score.write_text(str(result["deterministic"]["returns"][0]))
    return video, float(score.read_text())


def read_frames(video, stride, num_frames):
    """Every stride-th frame of a video, at most so many."""
    with VideoFileClip(str(video)) as clip:
        frames = [frame for i, frame in enumerate(clip.iter_frames()) if i % stride == 0]
    return frames[:num_frames]


def draw_panel(frame, size, text, color, is_over):
    """A frame below a line of text; pale if the episode is over."""
    picture = Image.fromarray(frame).resize((size, size), Image.LANCZOS)
    if is_over:
        picture = Image.blend(picture, Image.new("RGB", picture.size, "white"), 0.6)
    panel = Image.new("RGB", (size, size + HEADING), "white")
    panel.paste(picture, (0, HEADING))
    ImageDraw.Draw(panel).text((4, 4), text, color, ImageFont.load_default(12))
    return panel


def panels(run_dir, size, stride, num_frames):
    """The panels of one run, headed by its algorithm, task and return."""
    args = json.loads((run_dir / "args.json").read_text())
    script, task = args["script"], args["env_id"].split("-")[0]
    video, score = record(script, run_dir)
    frames = read_frames(video, stride, num_frames)
    text = f"{NAMES[script]}  {task}  {number(score)}"
    for i in range(num_frames):
        is_over = i >= len(frames)
        frame = frames[-1] if is_over else frames[i]
        yield draw_panel(frame, size, text, COLORS[script], is_over)


def save(path, images, fps):
    """Writes a GIF with one palette for all images: no flicker, fewer bytes."""
    palette = images[len(images) // 2].quantize(128, dither=Image.Dither.NONE)
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    first, *others = images
    first.save(path, save_all=True, append_images=others, duration=1000 / fps, loop=0)


def parse_options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("gif", type=Path)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs")
    parser.add_argument("--size", type=int, default=180, help="width of a panel, pixels")
    parser.add_argument("--seconds", type=float, default=8, help="length of the GIF")
    parser.add_argument("--fps", type=float, default=20, help="frames of the GIF per second")
    parser.add_argument(
        "--stride", type=int, default=6, help="frames of the simulation per frame of the GIF"
    )
    return parser.parse_args()


def main():
    options = parse_options()
    num_frames = int(options.seconds * options.fps)
    columns = [panels(run, options.size, options.stride, num_frames) for run in options.runs]
    images = []
    for row in zip(*columns):
        images.append(Image.fromarray(np.hstack([np.asarray(panel) for panel in row])))
    save(options.gif, images, options.fps)
    print(f"{options.gif}: {len(images)} frames, {options.gif.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
