"""Trained agents side by side: a GIF of the first evaluation episode of each run, by mean actions.

    python benchmark/strip.py agents.gif runs/Walker2d-v4__reinforce__1 runs/Walker2d-v4__ddpg__1

All start from the same seed and run at the same pace; who has fallen, or reached the time limit,
stands still and pale.
"""

import argparse
import importlib
import json
import sys
from pathlib import Path

import numpy as np
from moviepy import VideoFileClip
from PIL import Image, ImageDraw, ImageFont
from report import COLOURS, number

sys.path.insert(0, str(Path(__file__).parents[1]))


def film(run_dir):
    """Script, environment, return of the filmed episode, and video.

    Plays the run where it has not been filmed here. It plays as many episodes as the evaluation
    that is scored: with fewer rows, sums round otherwise and a walker falls elsewhere.
    """
    script, env_id = (
        json.loads((run_dir / "args.json").read_text())[name] for name in ("script", "env_id")
    )
    video, score = run_dir / "videos" / "rl-video-episode-0.mp4", run_dir / "videos" / "return.txt"
    if not score.exists():
        played = importlib.import_module(script).evaluate(run_dir, capture_video=True)
        score.write_text(str(played["deterministic"]["returns"][0]))
    return script, env_id, float(score.read_text()), video


def panels(run_dir, size, seconds, fps, stride):
    """One image per frame of the GIF: every stride-th frame of the video.

    Above it stand the script's name, task and return.
    """
    script, env_id, score, video = film(run_dir)
    name, colour = COLOURS[script]
    text = f"{name}  {env_id.split('-')[0]}  {number(score)}"
    with VideoFileClip(str(video)) as clip:
        frames = [frame for i, frame in enumerate(clip.iter_frames()) if i % stride == 0][
            : int(seconds * fps)
        ]
    for i in range(int(seconds * fps)):
        picture = Image.fromarray(frames[min(i, len(frames) - 1)]).resize(
            (size, size), Image.LANCZOS
        )
        if i >= len(frames):
            picture = Image.blend(picture, Image.new("RGB", picture.size, "white"), 0.6)
        panel = Image.new("RGB", (size, size + 22), "white")
        panel.paste(picture, (0, 22))
        ImageDraw.Draw(panel).text((4, 4), text, colour, ImageFont.load_default(12))
        yield panel


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("gif", type=Path)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs")
    parser.add_argument("--size", type=int, default=180, help="of a panel, pixels")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--fps", type=float, default=20)
    parser.add_argument(
        "--stride",
        type=int,
        default=6,
        help="frames of the simulation from one to the next: its pace",
    )
    args = parser.parse_args()
    strips = zip(
        *(panels(run, args.size, args.seconds, args.fps, args.stride) for run in args.runs)
    )
    images = [
        Image.fromarray(np.hstack([np.asarray(panel) for panel in strip])) for strip in strips
    ]
    palette = images[len(images) // 2].quantize(
        128, dither=Image.Dither.NONE
    )  # one for all: no flicker, fewer bytes
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    images[0].save(
        args.gif, save_all=True, append_images=images[1:], duration=1000 / args.fps, loop=0
    )
    print(f"{args.gif}: {len(images)} frames, {args.gif.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
