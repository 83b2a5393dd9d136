"""Small video files made with PyAV, whose pictures say when they are shown."""

from fractions import Fraction

import av
import numpy as np

TICKS = 1000  # of a second


def grey(number, size):
    """A picture of level 10 k."""
    return np.full((*size, 3), 10 * number, np.uint8)


def numbered(number, size):
    """A picture that says its number: 8 columns, white where the number's bit is 1, the lowest bit on the left."""
    bits = (number >> (np.arange(size[1]) * 8 // size[1])) & 1
    return np.broadcast_to(255 * bits[None, :, None], (*size, 3)).astype(np.uint8)


def write_video(path, times, sound=None, first=0.0, size=(32, 48), pixel_format="yuv420p", codec="mpeg4", picture=grey):
    """A video whose picture at `times[k]` is `picture(k, size)`; `sound` is (start, samples of 48 kHz)."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=25)
        stream.height, stream.width = size
        stream.pix_fmt, stream.codec_context.time_base = pixel_format, Fraction(1, TICKS)
        audio = file.add_stream("pcm_s16le", rate=48_000, layout="mono") if sound else None
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number, size), format="rgb24")
            frame.pts, frame.time_base = round((first + time) * TICKS), Fraction(1, TICKS)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
        if audio:
            begins, samples = sound
            for at in range(0, len(samples), 1024):
                part = (samples[None, at : at + 1024] * 32767).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
                frame.sample_rate, frame.time_base = 48_000, Fraction(1, 48_000)
                frame.pts = round((first + begins) * 48_000) + at
                file.mux(audio.encode(frame))
            file.mux(audio.encode())
    return path


def tone(seconds, rate=48_000):
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
